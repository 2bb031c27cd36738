"""Runs. Tests that begin with r and a number hold that promise of the first README."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert

import artigraph
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    ConflictError,
    LabelError,
    LimitError,
    NoCurrentRunError,
    NodeNotFoundError,
    Run,
    RunManager,
    RunStateError,
    UnsupportedValueError,
    run_manager,
)
from artigraph.database import current_database
from artigraph.tables import node_table


@dataclass
class Point(ArtifactModel, version=1):
    some_value: int
    another_value: str = "a"


def test_r1_a_run_is_made_with_or_without_a_parent() -> None:
    """By position, by name, or not at all: its id is there from the start."""
    parent_id = uuid4()

    assert Run(None).node_parent_id is None
    assert Run().node_parent_id is None
    assert Run(parent_id).node_parent_id == Run(node_parent_id=parent_id).node_parent_id
    assert Run().node_id != Run().node_id


async def test_r2_a_run_begins_and_ends_in_the_database(database_url: str) -> None:
    """Its row is there inside the block, and says afterwards how it ended."""
    artigraph.set_database(database_url)
    before = datetime.now(UTC)
    async with RunManager(Run(label="nightly", attributes={"lr": 0.1, "tags": ("a",)})) as manager:
        running = await Run.load(manager.run.node_id)
    ended = await Run.load(manager.run.node_id)

    assert (running.status, running.finished_at) == ("running", None)
    assert ended == manager.run
    assert (ended.label, ended.attributes) == ("nightly", {"lr": 0.1, "tags": ("a",)})
    assert ended.status == "succeeded"
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert before <= ended.started_at <= ended.finished_at <= datetime.now(UTC)
    assert ended.started_at.tzinfo is UTC


async def test_r2_an_exception_is_recorded_and_goes_on(database_url: str) -> None:
    """F14: type and message are in the row, and the body's own exception arrives."""
    artigraph.set_database(database_url)
    manager = RunManager(Run())

    with pytest.raises(ZeroDivisionError) as caught:
        async with manager:
            raise ZeroDivisionError("x\0\ud800" + "y" * 10_000)

    assert not hasattr(caught.value, "__notes__")
    failed = await Run.load(manager.run.node_id)
    assert (failed.status, failed.error_type) == ("failed", "builtins.ZeroDivisionError")
    assert failed.error_message is not None
    assert failed.error_message.startswith(r"x\0\ud800yyy")
    assert len(failed.error_message) < 5000
    assert failed == manager.run


async def test_r2_a_cancelled_run_says_so(database_url: str) -> None:
    """F14: a cancellation is no failure."""
    artigraph.set_database(database_url)
    manager, begun = RunManager(Run()), asyncio.Event()

    async def work() -> None:
        async with manager:
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await Run.load(manager.run.node_id)).status == "cancelled"


async def test_r3_save_artifact_returns_the_id(database_url: str) -> None:
    """What is saved in a run is also found by its id alone."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        artifact_id = await manager.save_artifact("a", Point(1))

    assert await Point.load(artifact_id) == Point(1)


async def test_r3_a_label_is_taken_once_in_a_run(database_url: str) -> None:
    """B1: the error names the label, the run, and the artifact that has it."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        first_id = await manager.save_artifact("a", Point(1))
        with pytest.raises(ConflictError, match=f"label 'a': .*{manager.run.node_id}.*{first_id}"):
            await manager.save_artifact("a", Point(2))
        with pytest.raises(ConflictError, match="label 'a'"):
            await manager.save_artifacts({"b": Point(3), "a": Point(4)})

        assert await manager.load_artifacts() == {"a": Point(1)}


async def test_r3_a_label_is_needed_in_a_run(database_url: str) -> None:
    """Without one nothing could be loaded from it again."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        with pytest.raises(LabelError, match="an artifact in a run needs one"):
            await manager.save_artifact(None, Point(1))  # type: ignore[arg-type]


async def test_r4_run_manager_finds_the_current_run(database_url: str) -> None:
    """In functions, tasks, and threads that `asyncio.to_thread` starts."""
    artigraph.set_database(database_url)

    async def deep() -> RunManager:
        return run_manager()

    async with RunManager(Run()) as manager:
        assert await deep() is manager
        assert await asyncio.create_task(deep()) is manager
        assert await asyncio.to_thread(run_manager) is manager


def test_r4_outside_a_run_there_is_none() -> None:
    """B1: an error that says what to do, or None for who asks for it."""
    with pytest.raises(NoCurrentRunError, match=r"async with RunManager\(Run\(\)\):"):
        run_manager()
    assert run_manager(allow_none=True) is None


async def test_r4_an_ended_run_is_current_no_more(database_url: str) -> None:
    """Also after an exception in the inner one of two."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as outer:
        with pytest.raises(KeyError):
            async with RunManager(Run()):
                raise KeyError
        assert run_manager() is outer
    assert run_manager(allow_none=True) is None


async def test_r4_a_run_may_be_left_in_another_context(database_url: str) -> None:
    """As asynchronous fixtures do."""
    artigraph.set_database(database_url)
    manager = RunManager(Run())

    await asyncio.create_task(manager.__aenter__())
    await asyncio.create_task(manager.__aexit__(None, None, None))

    assert manager.run.status == "succeeded"


async def test_r6_a_nested_run_inherits_its_parent(database_url: str) -> None:
    """An explicit parent wins over the current run."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as other:
        pass
    async with RunManager(Run()) as m1:
        async with RunManager(Run(None)) as m2:
            assert m2.run.node_parent_id == m1.run.node_id
        async with RunManager(Run(other.run.node_id)) as m3:
            assert m3.run.node_parent_id == other.run.node_id

    assert (await Run.load(m2.run.node_id)).node_parent_id == m1.run.node_id
    assert (await Run.load(m3.run.node_id)).node_parent_id == other.run.node_id
    assert [run.node_id for run in await m1.load_descendant_runs()] == [m2.run.node_id]


async def test_r6_an_unknown_parent_is_an_error(database_url: str) -> None:
    """The run does not begin."""
    artigraph.set_database(database_url)
    nobody = uuid4()

    with pytest.raises(NodeNotFoundError, match=f"no parent node {nobody}"):
        async with RunManager(Run(nobody)):
            pytest.fail("it began")
    assert run_manager(allow_none=True) is None


async def test_r8_descendant_artifacts_by_run_and_label(database_url: str) -> None:
    """All runs below at any depth, empty ones too, and not the run itself."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as m1:
        await m1.save_artifact("own", Point(0))
        async with RunManager(Run()) as m2:
            await m2.save_artifacts({"a": Point(1), "b": ArtifactMapping(x=Point(2))})
            async with RunManager(Run()) as m3:
                await m3.save_artifact("a", 3.5)
        async with RunManager(Run()) as m4:
            pass

    assert await m1.load_descendant_artifacts() == {
        m2.run.node_id: {"a": Point(1), "b": ArtifactMapping(x=Point(2))},
        m3.run.node_id: {"a": 3.5},
        m4.run.node_id: {},
    }
    assert await m4.load_descendant_artifacts() == {}
    assert [run.node_id for run in await m1.load_descendant_runs()] == [
        manager.run.node_id for manager in (m2, m3, m4)
    ]


async def test_r9_artifacts_are_loaded_by_label(database_url: str) -> None:
    """One, all, or none where there are none; also long after the run."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        assert await manager.load_artifacts() == {}
        await manager.save_artifacts({"z": Point(1), "a": [1, (2,)], "none": None})
        with pytest.raises(NodeNotFoundError, match="artifact labelled 'b' in run"):
            await manager.load_artifact("b")

    later = RunManager(await Run.load(manager.run.node_id))
    assert await later.load_artifact("a") == [1, (2,)]
    assert list((await later.load_artifacts()).items()) == [
        ("z", Point(1)),
        ("a", [1, (2,)]),
        ("none", None),
    ]


async def test_r9_artifacts_come_in_the_order_of_saving(database_url: str) -> None:
    """Whether or not they have data that is fetched; those of later saves come later."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        await manager.save_artifacts(
            {"plain": Point(1), "data": b"1", "mixed": Point(2, "b" * 9000)}
        )
        await manager.save_artifacts(
            {"again plain": Point(3), "a mapping": ArtifactMapping(a=b"2")}
        )
        await manager.save_artifact("a tuple", (1, 2))

    artifacts = await manager.load_artifacts()

    assert [*artifacts.items()] == [
        ("plain", Point(1)),
        ("data", b"1"),
        ("mixed", Point(2, "b" * 9000)),
        ("again plain", Point(3)),
        ("a mapping", ArtifactMapping(a=b"2")),
        ("a tuple", (1, 2)),
    ]


async def test_r9_saving_nothing_is_nothing(database_url: str) -> None:
    """An empty mapping saves nothing and returns nothing."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        assert await manager.save_artifacts({}) == {}


async def test_r10_runs_nest_to_any_depth(database_url: str) -> None:
    """Deeper than the thousand levels at which one database stops by default."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        ids = [manager.run.node_id, *(Run().node_id for _ in range(1100))]
    now = datetime.now(UTC)
    rows = [
        {
            "node_id": node_id,
            "node_type": "run",
            "node_parent_id": parent_id,
            "node_created_at": now,
            "node_updated_at": now,
            "run_status": "running",
        }
        for parent_id, node_id in pairwise(ids)
    ]
    await current_database().write(lambda connection: connection.execute(insert(node_table), rows))

    assert [run.node_id for run in await manager.load_descendant_runs()] == ids[1:]


async def test_a_run_begins_once(database_url: str) -> None:
    """A second beginning is an error."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        pass

    with pytest.raises(RunStateError, match="was begun before: make a new Run"):
        async with manager:
            pytest.fail("it began again")


async def test_a_run_that_is_not_running_refuses_saves(database_url: str) -> None:
    """B1: before it begins, and after it ended."""
    artigraph.set_database(database_url)
    manager = RunManager(Run())

    with pytest.raises(RunStateError, match="has not begun"):
        await manager.save_artifact("early", 1)
    async with manager:
        pass
    with pytest.raises(RunStateError, match="has succeeded"):
        await manager.save_artifact("late", 1)


async def test_an_exception_without_a_text_ends_its_run_too(database_url: str) -> None:
    """F14: a stranger's class may fail at that, or in its own way; it arrives, and is recorded."""

    class Speechless(Exception):
        def __str__(self) -> str:
            raise LookupError("secret")

    artigraph.set_database(database_url)
    manager = RunManager(Run())

    with pytest.raises(Speechless):
        async with manager:
            raise Speechless

    failed = await Run.load(manager.run.node_id)
    assert failed.status == "failed"
    assert failed.error_message == "its text can't be had (LookupError)"


@pytest.mark.parametrize("label", ["", "a\0b", "\ud800", 5, None])
async def test_what_can_not_be_a_label_is_not_looked_for(database_url: str, label: Any) -> None:
    """It is a slip, and said in the same words everywhere."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        with pytest.raises(LabelError, match="can't be a label"):
            await manager.load_artifact(label)


async def test_an_unknown_run_is_an_error(database_url: str) -> None:
    """So is the id of an artifact."""
    artigraph.set_database(database_url)
    artifact_id = await Point(1).save("x")

    for node_id in (uuid4(), artifact_id, "nonsense"):
        with pytest.raises(NodeNotFoundError, match="there is no run"):
            await Run.load(node_id)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"label": ""}, LabelError, "0 characters"),
        ({"attributes": {"x": object()}}, UnsupportedValueError, r"Run\.attributes\['x'\]"),
        ({"attributes": {"x": "y" * 70_000}}, LimitError, "the limit is 65,536"),
        ({"attributes": ["x"]}, UnsupportedValueError, r"Run\.attributes: a list .*a dict"),
        ({"attributes": None}, UnsupportedValueError, r"Run\.attributes: a NoneType .*a dict"),
    ],
)
async def test_a_run_that_can_not_be_kept_does_not_begin(
    database_url: str, arguments: Any, error: type[Exception], words: str
) -> None:
    """Nothing is written."""
    artigraph.set_database(database_url)

    with pytest.raises(error, match=words):
        async with RunManager(Run(**arguments)):
            pytest.fail("it began")


async def test_many_tasks_save_in_one_run(database_url: str) -> None:
    """At once, each its own."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        async with asyncio.TaskGroup() as group:
            for n in range(40):
                group.create_task(manager.save_artifact(f"{n}", Point(n)))

        assert await manager.load_artifacts() == {f"{n}": Point(n) for n in range(40)}


async def test_a_run_keeps_to_the_database_in_which_it_began(
    database_url: str, tmp_path: Any
) -> None:
    """Whatever is set meanwhile."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        artigraph.set_database(f"sqlite:///{tmp_path}/other.db")
        await manager.save_artifact("a", 1)
    artigraph.set_database(database_url)

    assert (await Run.load(manager.run.node_id)).status == "succeeded"
    assert await manager.load_artifacts() == {"a": 1}
