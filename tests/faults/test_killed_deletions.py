"""Processes that are killed in the middle of a deletion or a collection: the next one ends it."""

import signal

import pytest
from crashing import Album, Nursery, album
from invariants import Store, expire_leases, roots
from sqlalchemy import Connection, select, update

from artigraph import ArtifactQuery, check, delete, repair
from artigraph.tables import blob_table

KILLED = -signal.SIGKILL

on_servers = pytest.mark.parametrize(
    "url_of_session",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
    indirect=True,
)

# A point, and whether the deletion was done then.
OF_A_DELETION = [
    ("deletion begun", False),
    ("links deleted", False),
    ("nodes deleted", False),
    ("unused given up", False),
    ("commit of unused begun", False),
    ("unused committed", True),
]

# A point, and how often it is passed before it is the last.
OF_A_COLLECTION = [
    ("abandoned given up", 1),
    ("abandoned committed", 1),
    ("unused committed", 1),
    ("data removed", 4),
    ("forgetting begun", 1),
    ("blobs forgotten", 1),
    ("forgotten committed", 1),
]


@pytest.mark.parametrize(("point", "is_deleted"), OF_A_DELETION)
async def test_f2_a_deletion_killed_at_a_point(
    store: Store, nursery: Nursery, point: str, is_deleted: bool
) -> None:
    """F2: until its commit all of it is there, from then on nothing of it."""
    assert await killed_deletion(store, nursery, point) is is_deleted


@on_servers
async def test_f2_a_deletion_killed_when_its_commit_is_sent(store: Store, nursery: Nursery) -> None:
    """F2: the server commits what nobody waits for any more, or nothing."""
    await killed_deletion(store, nursery, "commit of unused sent")


async def killed_deletion(store: Store, nursery: Nursery, point: str) -> bool:
    """Whether it was done: all or nothing, and nothing else was touched."""
    told = nursery.run(
        store.place,
        ["save", "kept"],
        ["save_in_run", "run", "one", "two"],
        ["arm", point],
        ["delete_run", "run", "one", "two"],
    )

    assert told.exit_code == KILLED
    async with store.reopened():
        is_there = set(await roots())
    await store.assert_sound(told)
    assert is_there in ({"kept"}, {"kept", "one", "two"})
    return is_there == {"kept"}


@pytest.mark.parametrize(("point", "times"), OF_A_COLLECTION)
async def test_f2_a_collection_killed_at_a_point(
    store: Store, nursery: Nursery, point: str, times: int
) -> None:
    """F2: what it has not done the next one does, and no artifact misses anything."""
    await kill_collection(store, nursery, point, times)


@on_servers
@pytest.mark.parametrize("what", ["abandoned", "unused", "forgotten"])
async def test_f2_a_collection_killed_when_a_commit_is_sent(
    store: Store, nursery: Nursery, what: str
) -> None:
    """F2: that of what it gives up, and that of what it forgets."""
    await kill_collection(store, nursery, f"commit of {what} sent", 1)


async def kill_collection(store: Store, nursery: Nursery, point: str, times: int) -> None:
    told = nursery.run(
        store.place,
        ["save", "kept"],
        ["save", "gone"],
        ["arm", "all data kept"],
        ["save", "it"],
    )
    assert told.exit_code == KILLED
    async with store.reopened() as database:
        await database.write(make_one_live)
        await expire_leases()

    nursery.run(store.place, ["delete", "gone"], ["arm", point, times], ["collect"], told=told)

    assert told.exit_code == KILLED
    await store.assert_sound(told)


def make_one_live(connection: Connection) -> None:
    """Nothing ends like this; rows that somebody has deleted by SQL leave it."""
    pending = select(blob_table.c.blob_id).where(blob_table.c.blob_state == "pending")
    first = connection.scalars(pending.order_by(blob_table.c.blob_id)).first()
    connection.execute(
        update(blob_table).where(blob_table.c.blob_id == first).values(blob_state="live")
    )


@pytest.mark.parametrize(
    ("store", "label", "left_at", "point"),
    [
        ("files", "it", "file half written", "temporary file removed"),
        ("files", "it", "file linked", "temporary file removed"),
        pytest.param(
            "s3",
            "film",
            "UploadPart answered",
            "AbortMultipartUpload answered",
            marks=pytest.mark.s3,
        ),
    ],
    indirect=["store"],
)
async def test_f2_a_collection_killed_at_what_is_unfinished(
    store: Store, nursery: Nursery, label: str, left_at: str, point: str
) -> None:
    """F2: a temporary file, or an upload in parts, and what is finished beside it."""
    told = nursery.run(store.place, ["save", "kept"], ["arm", left_at], ["save", label])
    async with store.reopened():
        await expire_leases()

    nursery.run(store.place, ["arm", point], ["collect"], told=told)

    assert told.exit_code == KILLED
    await store.assert_sound(told)


@pytest.mark.parametrize("store", ["files"], indirect=True)
@pytest.mark.parametrize("point", ["file opened", "file half written", "file synced"])
async def test_f2_a_repair_killed_at_a_file(store: Store, nursery: Nursery, point: str) -> None:
    """F2: it is done again; what the first one has not finished goes with the artifact."""
    told = nursery.run(store.place, ["save", "one"], ["save", "two"])
    of_both = album("one").pictures[1]
    damaged, _ = (path for path in store.paths() if path.read_bytes() == of_both)
    damaged.write_bytes(b"damaged")

    nursery.run(store.place, ["arm", point], ["repair"], told=told)

    assert told.exit_code == KILLED
    async with store.reopened():
        findings = (await check(deep=True)).findings
        assert [each.damage for each in findings] == ["truncated"]
        assert (await repair(findings)).mended == findings
        assert await Album.load(told.saved["one"]) == album("one")
        await delete(ArtifactQuery())
    told.deleting |= {"one", "two"}
    told.deleted |= {"one", "two"}
    await store.assert_sound(told)
