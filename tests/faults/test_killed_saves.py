"""Processes that are killed in the middle of a save: it is there as a whole, or not at all."""

import asyncio
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from crashing import Nursery, Place, Told
from invariants import Store, roots
from sqlalchemy import select
from torture import Tally, scaled

from artigraph import Run, RunManager, RunQuery, delete
from artigraph.tables import node_table

KILLED = -signal.SIGKILL

KILLS = scaled(8, 60)
"""At random, of each kind and in each place."""

RUNS = select(node_table.c.node_id).where(node_table.c.node_type == "run")

# A point, how often it is passed before it is the last, and whether the save was done then.
ANYWHERE = [
    ("intents begun", 1, False),
    ("intents inserted", 1, False),
    ("commit of intents begun", 1, False),
    ("intents committed", 1, False),
    ("data begun", 1, False),
    ("all data kept", 1, False),
    ("publishing begun", 1, False),
    ("blobs published", 1, False),
    ("nodes inserted", 1, False),
    ("commit of nodes begun", 1, False),
    ("nodes committed", 1, True),
]
ON_SERVERS = [
    ("commit of intents sent", 1, False),
    ("commit of nodes sent", 1, None),  # the server may have done it, or not
]
IN_FILES = [
    ("folder made", 1, False),
    ("file opened", 1, False),
    ("file half written", 2, False),
    ("file to be synced", 3, False),
    ("file synced", 1, False),
    ("file to be linked", 2, False),
    ("file linked", 2, False),
    ("folder synced", 2, False),
    ("temporary file to be removed", 3, False),
    ("temporary file removed", 3, False),
]
IN_S3 = [
    ("PutObject to be sent", 2, False),
    ("body half sent", 1, False),
    ("PutObject answered", 2, False),
]
IN_S3_IN_PARTS = [
    ("CreateMultipartUpload answered", 1, False),
    ("body half sent", 1, False),
    ("UploadPart answered", 1, False),
    ("CompleteMultipartUpload to be sent", 1, False),
    ("CompleteMultipartUpload answered", 1, False),
]

in_s3 = pytest.mark.parametrize("store", [pytest.param("s3", marks=pytest.mark.s3)], indirect=True)


@pytest.mark.parametrize(("point", "times", "is_saved"), ANYWHERE)
async def test_f1_a_save_killed_at_a_point(
    store: Store, nursery: Nursery, point: str, times: int, is_saved: bool | None
) -> None:
    """F1: until its commit it is absent, from then on whole."""
    await assert_killed(store, nursery, "it", point, times, is_saved)


@pytest.mark.parametrize(
    "url_of_session",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
    indirect=True,
)
@pytest.mark.parametrize(("point", "times", "is_saved"), ON_SERVERS)
async def test_f1_a_save_killed_when_its_commit_is_sent(
    store: Store, nursery: Nursery, point: str, times: int, is_saved: bool | None
) -> None:
    """F1: the server commits what nobody waits for any more, or nothing."""
    await assert_killed(store, nursery, "it", point, times, is_saved)


@pytest.mark.parametrize("store", ["files"], indirect=True)
@pytest.mark.parametrize(("point", "times", "is_saved"), IN_FILES)
async def test_f1_a_save_killed_at_a_file(
    store: Store, nursery: Nursery, point: str, times: int, is_saved: bool
) -> None:
    """F1: what it wrote is found, with what it had not finished, and removed."""
    await assert_killed(store, nursery, "it", point, times, is_saved)


@in_s3
@pytest.mark.parametrize(("point", "times", "is_saved"), IN_S3)
async def test_f1_a_save_killed_at_a_request(
    store: Store, nursery: Nursery, point: str, times: int, is_saved: bool
) -> None:
    """F1: objects that were put are found and removed."""
    await assert_killed(store, nursery, "it", point, times, is_saved)


@in_s3
@pytest.mark.parametrize(
    "url_of_session", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)
@pytest.mark.parametrize(("point", "times", "is_saved"), IN_S3_IN_PARTS)
async def test_f1_a_save_killed_at_a_part(
    store: Store, nursery: Nursery, point: str, times: int, is_saved: bool
) -> None:
    """F1: so is an upload in parts, which no database has any part in."""
    await assert_killed(store, nursery, "film", point, times, is_saved)


async def assert_killed(
    store: Store, nursery: Nursery, label: str, point: str, times: int, is_saved: bool | None
) -> None:
    told = nursery.run(store.place, ["save", "before"], ["arm", point, times], ["save", label])

    assert told.exit_code == KILLED
    assert told.begun - set(told.saved) == {label}
    async with store.reopened():
        is_there = label in await roots()
        await store.save("after", told)
    assert is_there is is_saved or is_saved is None
    await store.assert_sound(told)


@pytest.mark.parametrize("store", ["files"], indirect=True)
async def test_f15_a_run_whose_process_is_killed(store: Store, nursery: Nursery) -> None:
    """F15: it has crashed, what was saved in it is there, and it can be deleted as any other."""
    told = nursery.run(
        store.place, ["arm", "nodes inserted", 2], ["save_in_run", "run", "one", "two"]
    )

    assert told.exit_code == KILLED
    await store.assert_sound(told)
    async with store.reopened() as database:
        (run_id,) = await database.read(lambda each: each.scalars(RUNS).all())
        run = await Run.load(run_id)
        assert run.status == "crashed"
        assert list(await RunManager(run).load_artifacts()) == ["one"]
        assert (await delete(RunQuery(label="run"))).artifacts == 1
    told.deleting.add("one")
    told.deleted.add("one")
    await store.assert_sound(told)


@pytest.mark.parametrize("number", [1, 5, 9])
async def test_f1_a_first_use_killed_at_a_table(
    new_database_url: Callable[[], str], tmp_path: Path, nursery: Nursery, number: int
) -> None:
    """F1: the next one makes what is missing, or all of it."""
    store = Store(Place(new_database_url(), str(tmp_path / "files")))
    told = nursery.run(store.place, ["arm", "table or index made", number], ["save", "it"])

    assert told.exit_code == KILLED
    async with store.reopened():
        await store.save("after", told)
    await store.assert_sound(told)


async def test_f3_one_that_is_killed_is_in_nobody_s_way(
    store: Store, nursery: Nursery, another_nursery: Nursery
) -> None:
    """F3: another process goes on, although what was killed had begun to write."""
    told = Told()
    await asyncio.gather(
        asyncio.to_thread(another_nursery.run, store.place, ["save_some", "on", 10], told=told),
        asyncio.to_thread(nursery.run, store.place, ["save_for_ever", ""], kill_after=3, told=told),
    )

    assert {f"on.{number}" for number in range(10)} <= told.saved.keys()
    await store.assert_sound(told)


async def test_f3_saves_killed_from_outside(store: Store, nursery: Nursery, tally: Tally) -> None:
    """F3: three at once, and the kill comes after as many acknowledgements as chance will have."""
    chance = random.Random(1)
    for number in range(KILLS):
        told = nursery.run(
            store.place, ["save_for_ever", str(number)], kill_after=chance.randint(1, 3)
        )

        assert told.exit_code == KILLED
        tally["random kills"] += 1
        tally["saves before them"] += len(told.saved)
        await store.assert_sound(told, then_empty=True)


async def test_f3_work_killed_at_any_point(store: Store, nursery: Nursery, tally: Tally) -> None:
    """F3: saves, deletions and collections at once, and the kill comes at a point of chance.

    Half of the processes keep equal data once, while they find what the others have left.
    """
    chance = random.Random(2)
    for number in range(KILLS):
        told = nursery.run(
            replace(store.place, share_data=number % 2 == 0),
            ["arm_any", chance.randint(1, 120)],
            ["work_for_ever", str(number)],
        )

        assert told.exit_code == KILLED
        tally["random kills"] += 1
        tally["saves before them"] += len(told.saved)
        await store.assert_sound(told, then_empty=True)
