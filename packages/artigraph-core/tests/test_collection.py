"""Collecting: what no artifact names goes, and nothing else, whoever dies, stalls or works."""

import asyncio
import hashlib
import json
import re
import sqlite3
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from observing import cancelled_after, statements, turns_of
from sqlalchemy import Engine, delete, event, select, text, update

import artigraph
from artigraph import (
    ArtifactModel,
    ArtifactSequence,
    CorruptRowError,
    DatabaseError,
    LeaseExpiredError,
    NodeNotFoundError,
    Storage,
    StorageError,
    UnsupportedValueError,
    blobs,
    set_database,
    use_database,
)
from artigraph.collection import Collected
from artigraph.database import current_database
from artigraph.dialects import FromNow
from artigraph.ids import new_id
from artigraph.spec import Data, new_location
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table, node_table

BLOB = blob_table.c
SIZE = 70_000
"""Of a picture: too large for a row, in a database with a storage."""

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

numbers = count()


@dataclass
class Album(ArtifactModel, version=1, name="collection.Album"):
    pictures: ArtifactSequence[bytes]


@dataclass
class Streamed(ArtifactModel, version=1, name="collection.Streamed"):
    picture: Any


def album(length: int) -> Album:
    """A model of as many blobs, with data like no other's."""
    pictures = (next(numbers).to_bytes(4) * (SIZE // 4) for _ in range(length))
    return Album(ArtifactSequence(pictures))


class Unreliable(FileSystem):
    """A directory in which a call fails, the n-th of its kind."""

    def __init__(self, directory: Path, **fails_at: int) -> None:
        super().__init__(directory)
        self.fails_at = fails_at
        self.error: Exception = StorageError(self.name, "be reached", "it is away")

    def count(self, operation: str) -> None:
        if operation in self.fails_at:
            self.fails_at[operation] -= 1
            if self.fails_at[operation] == 0:
                raise self.error

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.count("create")
        return await super().create(data, location=location)

    async def read_up_to(self, location: str, size: int) -> bytes:
        self.count("read")
        return await super().read_up_to(location, size)

    async def delete(self, location: str) -> None:
        self.count("delete")
        await super().delete(location)

    async def discard(self, location: str) -> None:
        self.count("discard")
        await super().discard(location)


class Gated(FileSystem):
    """A directory on a disk that writes nothing until somebody opens the gate."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.reached.set()
        await self.opened.wait()
        return await super().create(data, location=location)


class Watched(FileSystem):
    """A directory from which nothing is removed, and which knows what should be."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.seen: list[tuple[str, str]] = []

    async def delete(self, location: str) -> None:
        self.seen.append(("delete", location))

    async def discard(self, location: str) -> None:
        self.seen.append(("discard", location))


@pytest.fixture
def files(database_url: str, tmp_path: Path) -> Path:
    """The directory of the large values of the database."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    return tmp_path / "files"


# What goes, and when


async def test_deleted_data_is_removed_after_the_grace(files: Path) -> None:
    """Until then it is kept, for those who load it, and for a database that goes back in time."""
    kept = album(1)
    kept_id = await kept.save("kept")
    await artigraph.delete(await album(2).save("album"))

    assert await artigraph.collect() == Collected(waiting=2)
    await put_back("unused", 3_500)
    assert await artigraph.collect() == Collected(waiting=2)
    assert len(objects(files)) == 3
    await put_back("unused", 3_700)
    collected = await artigraph.collect()

    assert collected == Collected(removed=2, removed_size=2 * SIZE)
    assert await Album.load(kept_id) == kept
    assert objects(files) == await live_locations()
    assert await artigraph.collect() == Collected()


async def test_a_grace_is_counted_in_seconds(files: Path) -> None:
    """It may be a part of one, or none, or more than any database reckons with."""
    await artigraph.delete(await album(2).save("album"))
    await put_back("unused", 600)

    for grace in (900.5, 1e15, float("inf")):
        assert await artigraph.collect(grace=grace) == Collected(waiting=2)
        assert await artigraph.collect(grace=grace, dry_run=True) == Collected(waiting=2)
    assert (await artigraph.collect(grace=599.5)).removed == 2
    await artigraph.delete(await album(1).save("another"))
    assert (await artigraph.collect(grace=0)).removed == 1
    assert objects(files) == set()


async def test_data_whose_rows_were_deleted_by_hand_is_given_up(files: Path) -> None:
    """The grace begins when it is found."""
    await album(2).save("album")
    await delete_nodes()

    assert await artigraph.collect() == Collected(unused=2, waiting=2)
    assert len(objects(files)) == 2
    assert await artigraph.collect() == Collected(waiting=2)
    assert (await artigraph.collect(grace=0)).removed == 2
    assert objects(files) == set()


async def test_what_a_failed_save_has_written_goes_when_its_lease_is_over(
    database_url: str, tmp_path: Path
) -> None:
    """Not before: its writer may be at work. The rows stay for a lease more, as it may stall."""
    storage = Unreliable(tmp_path / "files", create=3)
    set_database(database_url, storage=storage)
    with pytest.raises(StorageError, match="it is away"):
        await album(3).save("album")

    assert await artigraph.collect(grace=0) == Collected()
    await expire("pending")
    assert await artigraph.collect() == Collected(abandoned=3, waiting=3)
    assert objects(storage.directory) != set()
    assert await artigraph.collect(grace=0) == Collected(waiting=3)
    assert objects(storage.directory) == set()
    await put_back("abandoned", blobs.LEASE - 60)
    assert await artigraph.collect(grace=0) == Collected(waiting=3)
    await put_back("abandoned", blobs.LEASE + 60)
    assert await artigraph.collect(grace=0) == Collected(removed=3, removed_size=3 * SIZE)
    assert await states() == []


@pytest.mark.usefixtures("files")
async def test_when_a_blob_was_made_does_not_matter() -> None:
    """F16: that is told by the clock of a client, which may be wrong by years."""
    saved = album(2)
    saved_id = await saved.save("album")

    for moment in (LONG_AGO, datetime(2100, 1, 1, tzinfo=UTC)):
        await execute(update(blob_table).values(blob_created_at=moment))
        await execute(update(node_table).values(node_created_at=moment))
        assert await artigraph.collect(grace=0) == Collected()

    assert await Album.load(saved_id) == saved


@pytest.mark.parametrize("grace", [0, 3_600])
async def test_a_dry_run_tells_what_would_be_done_and_does_nothing(
    files: Path, grace: float
) -> None:
    """Of every state in which a blob can be."""
    await album(1).save("live")
    states_and_ages = [
        *[("live", 60)] * 2,
        ("pending", -60),
        *[("pending", 60)] * 3,
        *[("unused", 60)] * 4,
        *[("unused", 3_700)] * 5,
        *[("abandoned", 60)] * 6,
        *[("abandoned", 3_700)] * 7,
    ]
    for state, age in states_and_ages:
        await plant(state=state, age=age)
    before = await everything(files)

    told = await artigraph.collect(grace=grace, dry_run=True)

    assert await everything(files) == before
    assert (told.abandoned, told.unused) == (3, 2)
    assert told.removed == (4 + 5 + 7 + 2 if grace == 0 else 5 + 7)
    assert told == await artigraph.collect(grace=grace)
    assert told.waiting == len(await states()) - 2


# What stays


async def test_what_is_not_recorded_is_not_touched(files: Path) -> None:
    """Whatever lies in the directory: others may keep things there."""
    await artigraph.delete(await album(1).save("album"))
    location = next(iter(objects(files)))
    foreign = [
        files / new_location(),
        files / f"{location}.backup",
        files / "tmp" / f"{new_id().hex}.part",
        files / "tmp" / "notes.txt",
        files / "README",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("theirs")

    assert (await artigraph.collect(grace=0)).removed == 1

    assert {files / name for name in objects(files)} == set(foreign)


async def test_databases_that_share_a_storage_do_not_meet(
    new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    """Live, pending or given up: what the one has recorded the other does not touch."""
    one, other = new_database_url(), new_database_url()
    storage = Unreliable(tmp_path / "files", create=4)
    with use_database(other, storage=storage):
        saved = album(1)
        saved_id = await saved.save("album")
        await artigraph.delete(await album(1).save("deleted"))
        with suppress(StorageError):
            await album(2).save("failed")
        theirs = objects(storage.directory)
        await artigraph.close()

    with use_database(one, storage=storage):
        await artigraph.delete(await album(3).save("album"))
        assert (await artigraph.collect(grace=0)).removed == 3
        await artigraph.close()

    assert objects(storage.directory) == theirs
    with use_database(other, storage=storage):
        assert await Album.load(saved_id) == saved
        await artigraph.close()


HOSTILE = ("../victim", "victim", "", "a/b", "%2e%2e/victim", "..", ".", "ab/../victim")


@pytest.mark.parametrize("state", ["unused", "abandoned"])
async def test_a_location_that_is_none_is_told_and_not_touched(
    database_url: str, tmp_path: Path, state: str
) -> None:
    """H1: the rest is removed; whoever can write rows removes no file of his choice."""
    storage = Watched(tmp_path / "files")
    set_database(database_url, storage=storage)
    await artigraph.delete(await album(len(HOSTILE) + 1).save("album"))
    victims = [tmp_path / "victim", storage.directory / "victim"]
    for victim in victims:
        victim.write_text("mine")
    blob_ids = await scalars(select(BLOB.blob_id))
    (intact,) = await scalars(select(BLOB.blob_location).where(BLOB.blob_id == blob_ids[-1]))
    for blob_id, location in zip(blob_ids, HOSTILE, strict=False):
        await set_blob(blob_id, blob_location=location, blob_state=state)
    await expire(state)

    collected = await artigraph.collect(grace=0)

    assert (collected.removed, collected.waiting) == (1, len(HOSTILE))
    (failure,) = collected.failures
    assert failure.startswith(f"storage 'default': {len(HOSTILE)} objects could not be removed")
    assert any(f"at {location!r}: " in failure for location in HOSTILE)
    assert "not a location that Artigraph makes" in failure
    assert storage.seen == [("delete", intact)]
    assert [victim.read_text() for victim in victims] == ["mine"] * 2


@pytest.mark.sqlite
async def test_a_row_of_another_type_is_told(tmp_path: Path) -> None:
    """SQLite keeps any value in any column."""
    set_database(f"sqlite:///{tmp_path / 'graph.db'}", storage=FileSystem(tmp_path / "files"))
    await artigraph.delete(await album(3).save("album"))
    blob_ids = await scalars(select(BLOB.blob_id))
    for blob_id, column in zip(blob_ids, ("blob_location", "blob_storage"), strict=False):
        statement = text(f"UPDATE artigraph_blob SET {column} = X'00' WHERE blob_id = :id")
        await execute(statement.bindparams(id=blob_id.bytes))

    collected = await artigraph.collect(grace=0)

    assert (collected.removed, collected.waiting, len(collected.failures)) == (1, 2, 2)
    assert all("is no text" in failure for failure in collected.failures)
    await artigraph.close()


async def test_a_grace_that_is_no_time_is_refused(database_url: str) -> None:
    """Before anything is done."""
    set_database(database_url)

    with pytest.raises(UnsupportedValueError, match=r"collect\(grace=...\): nan is no time"):
        await artigraph.collect(grace=float("nan"))


# What can't be removed


class Mute(FileSystem):
    """A directory that removes nothing, and says why by the place, or by the next excuse."""

    def __init__(self, directory: Path, excuses: Iterator[int] | None = None) -> None:
        super().__init__(directory)
        self.excuses = excuses

    async def delete(self, location: str) -> None:
        reason = f"it is mute: /{location}" if self.excuses is None else f"{next(self.excuses)}"
        raise StorageError(self.name, f"delete {location!r}", reason, "Wait.")


async def test_data_in_an_unknown_storage_waits_until_it_is_known(
    database_url: str, tmp_path: Path
) -> None:
    """The failure names the storage, and what to do; everything else is removed."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    await artigraph.delete(await album(2).save("album"))
    storage = FileSystem(tmp_path / "files", name="lake")
    blob_id = (await scalars(select(BLOB.blob_id)))[0]
    await set_blob(blob_id, blob_storage="lake")

    collected = await artigraph.collect(grace=0)

    (failure,) = collected.failures
    (location,) = await scalars(select(BLOB.blob_location))
    assert f"storage 'lake': 1 object could not be removed, at {location!r}: " in failure
    assert "no storage is registered as 'lake'" in failure
    assert ".register()" in failure
    assert (collected.removed, collected.removed_size, collected.waiting) == (1, SIZE, 1)
    storage.register()
    assert await artigraph.collect(grace=0) == Collected(removed=1, removed_size=SIZE)
    assert objects(tmp_path / "files") == set()


async def test_the_storage_of_the_database_has_to_be_set(database_url: str, tmp_path: Path) -> None:
    """Rows call it `default`: which it is, only the caller knows."""
    with use_database(database_url, storage=FileSystem(tmp_path / "files")):
        await artigraph.delete(await album(1).save("album"))
        await artigraph.close()
    set_database(database_url)

    collected = await artigraph.collect(grace=0)

    (failure,) = collected.failures
    assert "set_database(url, storage=...)" in failure
    assert collected.waiting == 1


async def test_a_failure_is_told_once_for_all_objects(database_url: str, tmp_path: Path) -> None:
    """By its storage and reason, over all pages, whatever of an object is in the reason."""
    storage = Mute(tmp_path / "files")
    set_database(database_url, storage=storage)
    await artigraph.delete(await album(4).save("album"))
    blob_ids = await scalars(select(BLOB.blob_id))
    await set_blob(blob_ids[0], blob_storage="lake")
    await set_blob(blob_ids[1], blob_storage="sea")

    told = (await artigraph.collect(grace=0)).failures

    assert len(told) == 3
    location = "'[0-9a-f]{2}/[0-9a-f]{32}'"
    (failure,) = (each for each in told if "default" in each)
    start = rf"storage 'default', which is {re.escape(repr(storage.name))}: 2 objects could not be"
    assert re.match(
        rf"{start} removed, such as that at {location}: it is mute: /{location[1:-1]}", failure
    )
    assert failure.endswith(". Wait.")


async def test_there_is_an_end_to_reasons(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that finds another for every object is told in a bounded number of lines."""
    monkeypatch.setattr("artigraph.collection._MOST_REASONS", 3)
    monkeypatch.setattr("artigraph.collection._PAGE", 2)
    set_database(database_url, storage=Mute(tmp_path / "files", excuses=count()))
    await artigraph.delete(await album(9).save("album"))

    told = (await artigraph.collect(grace=0)).failures

    assert len(told) == 4
    assert told[-1].startswith("storages, for other reasons: 6 objects could not be removed")


async def test_files_that_can_not_be_removed_are_told_at_once(
    database_url: str, tmp_path: Path
) -> None:
    """Each is in a folder of its own, which its reason names; a folder is in the place of each."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    await artigraph.delete(await album(5).save("album"))
    for path in (tmp_path / "files").glob("??/*"):
        path.unlink()
        path.mkdir()

    (failure,) = (await artigraph.collect(grace=0)).failures

    assert ": 5 objects could not be removed, such as that at " in failure
    assert "directory" in failure


@pytest.mark.parametrize(
    "error", [StorageError("x", "be reached", "it is away"), OSError(5, "secret"), KeyError("x")]
)
async def test_a_storage_that_fails_once_stops_nothing(
    database_url: str, tmp_path: Path, error: Exception
) -> None:
    """F4: at whichever object, and with whatever it raises, as a stranger's may; it is told."""
    storage = Unreliable(tmp_path / "files")
    storage.error = error
    set_database(database_url, storage=storage)
    for n in range(1, 6):
        await artigraph.delete(await album(5).save("album"))
        storage.fails_at = {"delete": n}

        collected = await artigraph.collect(grace=0)

        (failure,) = collected.failures
        assert "it is away" in failure or type(error).__name__ in failure
        assert "secret" not in failure
        assert (collected.removed, collected.removed_size) == (4, 4 * SIZE)
        assert collected.waiting == len(objects(storage.directory)) == 1
        assert await artigraph.collect(grace=0) == Collected(removed=1, removed_size=SIZE)


async def test_data_that_is_gone_already_is_removed(files: Path) -> None:
    """As by a collection that died before it could say so."""
    await artigraph.delete(await album(2).save("album"))
    for path in files.glob("??/*"):
        path.unlink()

    assert await artigraph.collect(grace=0) == Collected(removed=2, removed_size=2 * SIZE)


@pytest.mark.parametrize(
    "option", [{}, {"dry_run": True}, {"grace": 0}, {"grace": 0, "dry_run": True}], ids=str
)
async def test_a_database_with_nothing_in_it_has_nothing_to_collect(
    database_url: str, option: dict[str, Any]
) -> None:
    """Neither a storage nor a blob is needed."""
    set_database(database_url)

    assert await artigraph.collect(**option) == Collected()


# What a storage discards


class Kept(Storage):
    """A stranger's storage, which has never heard of unfinished data."""

    name = "kept"

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = location or new_location()
        self.data[location] = bytes(data)
        return location

    async def read(self, location: str) -> bytes:
        return self.data[location]

    async def update(self, location: str, data: Data) -> None:
        self.data[location] = bytes(data)

    async def delete(self, location: str) -> None:
        self.data.pop(location, None)

    async def exists(self, location: str) -> bool:
        return location in self.data


async def test_a_storage_without_unfinished_data_deletes(database_url: str) -> None:
    """Five methods are enough for everything here."""
    storage = Kept()
    set_database(database_url, storage=storage)
    kept = album(1)
    kept_id = await kept.save("kept")
    await artigraph.delete(await album(1).save("album"))
    await plant(state="pending", age=60)

    collected = await artigraph.collect(grace=0)

    assert (collected.abandoned, collected.removed, collected.failures) == (1, 1, [])
    assert storage.data.keys() == await live_locations()
    assert await Album.load(kept_id) == kept


async def test_only_what_was_never_published_is_discarded(
    database_url: str, tmp_path: Path
) -> None:
    """It may take more than a deletion, as with parts in S3."""
    storage = Watched(tmp_path / "files")
    set_database(database_url, storage=storage)
    await plant(state="live", age=60)
    (live,) = await live_locations()
    await plant(state="pending", age=60)
    pending = next(iter(objects(storage.directory) - {live}))

    await artigraph.collect(grace=0)

    assert sorted(storage.seen) == [("delete", live), ("discard", pending)]


async def test_a_directory_discards_what_was_finished_and_what_was_not(tmp_path: Path) -> None:
    """Of one location: whatever is written for another goes on."""
    storage = FileSystem(tmp_path / "files")
    location, other = await storage.create(b"data"), await storage.create(b"other")
    for name in (f"{location[3:]}.1", f"{location[3:]}.2", f"{other[3:]}.1", "notes"):
        (storage.directory / "tmp" / name).write_bytes(b"unfinished")

    await storage.discard(location)
    await storage.discard(location)

    assert objects(storage.directory) == {other, f"tmp/{other[3:]}.1", "tmp/notes"}


async def test_there_may_be_nothing_to_discard(tmp_path: Path) -> None:
    """Not even a directory, which is not made."""
    storage = FileSystem(tmp_path / "files")

    await storage.discard(new_location())

    assert not storage.directory.exists()


@pytest.mark.parametrize("location", [*HOSTILE, "*", "ab/*", "ab/ab*"])
async def test_what_is_no_location_is_not_discarded(tmp_path: Path, location: str) -> None:
    """Nothing is matched with it."""
    storage = FileSystem(tmp_path / "files")
    await storage.create(b"data")
    (storage.directory / "tmp" / "ab.1").write_bytes(b"unfinished")

    with pytest.raises(CorruptRowError, match="not a location that Artigraph makes"):
        await storage.discard(location)

    assert len(objects(storage.directory)) == 2


# Many


async def test_more_than_a_page_is_collected(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is to be given up, and of what is to be removed, with failures in between."""
    monkeypatch.setattr("artigraph.collection._PAGE", 3)
    await album(8).save("album")
    await delete_nodes()
    unknown = (await scalars(select(BLOB.blob_id).order_by(BLOB.blob_id)))[2]
    await set_blob(unknown, blob_storage="nowhere")

    told = await artigraph.collect(grace=0, dry_run=True)
    collected = await artigraph.collect(grace=0)

    assert (told.unused, told.removed) == (8, 8)
    assert (collected.unused, collected.removed, collected.waiting) == (8, 7, 1)
    assert await scalars(select(BLOB.blob_id)) == [unknown]
    assert len(objects(files)) == 1


@pytest.mark.usefixtures("files")
async def test_a_collection_takes_as_many_statements_for_one_as_for_fifty() -> None:
    """They are counted by the page."""
    lengths: list[int] = []
    for length in (1, 50):
        await artigraph.delete(await album(length).save("album"))
        with statements() as seen:
            assert (await artigraph.collect(grace=0)).removed == length
        lengths.append(len(seen))

    assert lengths[0] == lengths[1] <= 10


# Interrupted


@pytest.mark.parametrize("n", [1, 3, 5])
async def test_a_collection_that_was_killed_goes_on(
    database_url: str, tmp_path: Path, n: int
) -> None:
    """F2: wherever it was: what is gone has a row still, and is removed again."""
    directory = tmp_path / "files"
    set_database(database_url, storage=FileSystem(directory))
    saved = album(2)
    saved_id = await saved.save("kept")
    await artigraph.delete(await album(5).save("album"))
    program = """
class Stopping(FileSystem):
    left = int(sys.argv[3])

    async def delete(self, location):
        self.left -= 1
        if self.left == 0:
            tell("reached")
            await asyncio.Event().wait()
        await super().delete(location)

artigraph.set_database(sys.argv[1], storage=Stopping(sys.argv[2]))
asyncio.run(artigraph.collect(grace=0))
"""

    async with working(program, database_url, directory, n) as collector:
        assert await collector.told() == "reached"

    assert (await states()).count("unused") == 5
    collected = await artigraph.collect(grace=0)
    assert (collected.removed, collected.failures) == (5, [])
    assert await Album.load(saved_id) == saved
    assert objects(directory) == await live_locations()


async def test_a_cancelled_collection_goes_on(files: Path) -> None:
    """F12: wherever it is hit; no connection stays behind."""
    await artigraph.delete(await album(3).save("album"))
    turns = await turns_of(artigraph.collect(grace=0))

    for turn in range(0, turns, max(1, turns // 20)):
        await album(2).save("deleted by hand")
        await delete_nodes()
        await cancelled_after(turn, artigraph.collect(grace=0))

    collected = await artigraph.collect(grace=0)
    assert (collected.failures, collected.waiting) == ([], 0)
    assert objects(files) == await live_locations() == set()
    pool: Any = (await current_database()._get()).engine.pool
    assert pool.checkedout() == 0


async def test_a_writer_that_was_killed_leaves_nothing_behind(
    database_url: str, tmp_path: Path
) -> None:
    """F1: neither what was finished nor what was not, once its lease is over."""
    directory = tmp_path / "files"
    set_database(database_url, storage=FileSystem(directory))
    saved = album(1)
    saved_id = await saved.save("kept")
    program = """
from artigraph.storage import file

give_name, calls = file._give_name, itertools.count(1)

def stop(*arguments):
    if next(calls) == 2:
        tell("reached")
        time.sleep(1000)
    give_name(*arguments)

file._give_name = stop
artigraph.set_database(sys.argv[1], storage=FileSystem(sys.argv[2]))
asyncio.run(Album(ArtifactSequence(bytes([n]) * SIZE for n in range(3))).save("killed"))
"""
    async with working(program, database_url, directory) as writer:
        assert await writer.told() == "reached"

    assert await artigraph.collect(grace=0) == Collected()
    assert any(name.startswith("tmp/") for name in objects(directory))
    await expire("pending")
    assert (await artigraph.collect(grace=0)).abandoned == 3
    assert objects(directory) == await live_locations()
    assert await Album.load(saved_id) == saved


# Leases


async def test_a_writer_that_comes_back_after_its_lease_is_told(
    database_url: str, tmp_path: Path
) -> None:
    """B1: nothing is saved, saving works again, and what it wrote late is collected later."""
    storage = Gated(tmp_path / "files")
    set_database(database_url, storage=storage)
    late = album(2)
    saving = asyncio.create_task(late.save("album"))
    await storage.reached.wait()
    await expire("pending")
    assert await artigraph.collect(grace=0) == Collected(abandoned=2, waiting=2)

    storage.opened.set()
    with pytest.raises(LeaseExpiredError, match="was given up by a collection") as caught:
        await saving

    assert "Nothing was saved. Save the same object again" in str(caught.value)
    assert isinstance(caught.value, TimeoutError)
    assert current_database().name in str(caught.value)
    assert len(objects(storage.directory)) == 2
    album_id = await late.save("album")
    assert (await artigraph.collect(grace=0)).failures == []
    assert objects(storage.directory) == await live_locations()
    assert await Album.load(album_id) == late
    await put_back("abandoned", blobs.LEASE + 60)
    assert (await artigraph.collect(grace=0)).removed == 2
    assert await states() == ["live"] * 2


@pytest.mark.parametrize("make", [lambda: album(1), lambda: Streamed(iter([bytes(SIZE)] * 2))])
async def test_a_writer_whose_unfinished_data_is_discarded_is_told(
    files: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    """It is between writing a file and giving it its name; nothing is saved, and nothing left."""
    from artigraph.storage import file

    give_name, reached, opened = file._give_name, threading.Event(), threading.Event()

    def stop(*arguments: Any) -> None:
        reached.set()
        assert opened.wait(60)
        give_name(*arguments)

    monkeypatch.setattr(file, "_give_name", stop)
    late = make()
    saving = asyncio.create_task(late.save("album"))
    await asyncio.to_thread(reached.wait, 60)
    await expire("pending")

    await artigraph.collect(grace=0)
    opened.set()

    with pytest.raises(LeaseExpiredError, match="was given up by a collection") as caught:
        await saving
    assert isinstance(caught.value.__cause__, StorageError)
    assert objects(files) == set()
    assert await states() == ["abandoned"]


async def test_a_refusal_is_told_as_it_is_where_the_lease_can_not_be_asked_for(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where the lease is held."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", create=1))

    def fail(*arguments: Any) -> None:
        raise DatabaseError("x", "it is away")

    monkeypatch.setattr(blobs, "are_kept", fail)

    with pytest.raises(StorageError):
        await album(1).save("album")


async def test_a_slow_storage_keeps_its_lease(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renewed while data is written, with one statement for all of it."""
    monkeypatch.setattr(blobs, "LEASE", 0.03)
    storage = Gated(tmp_path / "files")
    set_database(database_url, storage=storage)
    saved = album(3)
    with renewals() as renewed:
        saving = asyncio.create_task(saved.save("album"))
        await storage.reached.wait()
        await renewed(3)
        await expire("pending")
        await renewed(2)

        assert await artigraph.collect(grace=0) == Collected()
        storage.opened.set()
        album_id = await saving

    assert await Album.load(album_id) == saved
    assert await states() == ["live"] * 3


async def test_no_renewal_brings_back_what_was_given_up(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data may be gone already."""
    monkeypatch.setattr(blobs, "LEASE", 0.03)
    storage = Gated(tmp_path / "files")
    set_database(database_url, storage=storage)
    saving = asyncio.create_task(album(2).save("album"))
    with renewals() as renewed:
        await storage.reached.wait()
        await current_database().write(give_up)
        await renewed(2)

    assert await states() == ["abandoned"] * 2
    storage.opened.set()
    with pytest.raises(LeaseExpiredError, match="was given up"):
        await saving


async def test_a_renewal_that_fails_fails_no_save(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease may be long enough all the same: publishing finds that out."""
    monkeypatch.setattr(blobs, "LEASE", 0.03)
    storage = Gated(tmp_path / "files")
    set_database(database_url, storage=storage)
    saved = album(1)
    tried = asyncio.Semaphore(0)

    def fail(connection: Any, blob_ids: Any) -> None:
        tried.release()
        raise DatabaseError("x", "it is away")

    monkeypatch.setattr(blobs, "renew_leases", fail)
    saving = asyncio.create_task(saved.save("album"))
    for _ in range(3):
        await tried.acquire()
    storage.opened.set()

    assert await Album.load(await saving) == saved


async def test_a_save_that_fails_stops_renewing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes on after the error, so that a collection finds what was written."""
    monkeypatch.setattr(blobs, "LEASE", 0.03)
    storage = Unreliable(tmp_path / "files", create=2)
    set_database(database_url, storage=storage)
    before = asyncio.all_tasks()

    with pytest.raises(StorageError):
        await album(3).save("album")

    assert asyncio.all_tasks() == before


# Beside others


async def test_several_collections_at_once_do_the_work_once(files: Path) -> None:
    """What each tells adds up."""
    kept = album(2)
    kept_id = await kept.save("kept")
    for _ in range(5):
        await artigraph.delete(await album(8).save("album"))
        await album(8).save("deleted by hand")
        await delete_nodes(node_table.c.artifact_tree_id != kept_id)

        collected = await asyncio.gather(*(artigraph.collect(grace=0) for _ in range(4)))

        assert sum(each.unused for each in collected) == 8
        assert sum(each.removed for each in collected) == 16
        assert sum(each.removed_size for each in collected) == 16 * SIZE
        assert [failure for each in collected for failure in each.failures] == []
        assert objects(files) == await live_locations()
    assert await Album.load(kept_id) == kept


async def test_saves_deletions_and_collections_at_once_lose_nothing(
    database_url: str, tmp_path: Path
) -> None:
    """L10: in several processes, while leases run out: what was acknowledged is there."""
    directory = tmp_path / "files"
    set_database(database_url, storage=FileSystem(directory))
    await album(0).save("first use")
    saving = """
async def main():
    chance, saved, deleted = random.Random(sys.argv[3]), {}, []
    for number in range(int(sys.argv[4])):
        value = Album(ArtifactSequence(chance.randbytes(SIZE) for _ in range(chance.randrange(3))))
        try:
            saved[str(await value.save(f"album {number}"))] = digest_of(value)
        except artigraph.ArtigraphError as error:
            assert "given up" in str(error) or "No such file" in str(error), error
            saved[str(await again(value, f"album {number}"))] = digest_of(value)
        if chance.random() < 0.4:
            album_id = chance.choice(list(saved))
            await artigraph.delete(album_id)
            del saved[album_id]
            deleted.append(album_id)
    tell(json.dumps([saved, deleted]))

async def again(value, label):
    while True:
        try:
            return await value.save(label)
        except artigraph.ArtigraphError as error:
            assert "given up" in str(error) or "No such file" in str(error), error

artigraph.set_database(sys.argv[1], storage=FileSystem(sys.argv[2]))
asyncio.run(main())
"""
    collecting = """
async def main():
    chance = random.Random(sys.argv[3])
    while not stopped():
        if chance.random() < 0.5:
            await expire()
        collected = await artigraph.collect(grace=0)
        assert collected.failures == [], collected.failures
    tell("stopped")

async def expire():
    await current_database().write(lambda connection: connection.execute(
        update(blob_table).where(blob_table.c.blob_state == "pending")
        .values(blob_lease_until=datetime(2000, 1, 1, tzinfo=UTC))
    ))

artigraph.set_database(sys.argv[1], storage=FileSystem(sys.argv[2]))
asyncio.run(main())
"""
    saved: dict[str, str] = {}
    deleted: list[str] = []
    async with (
        working(collecting, database_url, directory, 1) as one,
        working(collecting, database_url, directory, 2) as other,
        working(saving, database_url, directory, 3, 50) as writer,
        working(saving, database_url, directory, 4, 50) as another,
    ):
        for each in (writer, another):
            told = json.loads(await each.told())
            saved |= told[0]
            deleted += told[1]
        for each in (one, other):
            each.stop()
            assert await each.told() == "stopped"

    assert saved
    assert deleted
    for album_id, digest in saved.items():
        assert digest_of(await Album.load(album_id)) == digest
    for album_id in deleted:
        with pytest.raises(NodeNotFoundError):
            await Album.load(album_id)
    await settle()
    assert objects(directory) == await live_locations()


async def test_everything_works_in_memory_too(tmp_path: Path) -> None:
    """Where there is one connection for all that goes on at once."""
    set_database("sqlite://", storage=FileSystem(tmp_path / "files"))
    ids = [await album(2).save(f"{number}") for number in range(4)]

    await asyncio.gather(
        *map(artigraph.delete, ids[:2]),
        *(artigraph.collect(grace=0) for _ in range(3)),
        *(artigraph.check(deep=True) for _ in range(3)),
    )
    await settle()

    assert (await artigraph.check(deep=True)).artifacts == 2
    assert objects(tmp_path / "files") == await live_locations()


# Any order of things


class Lifecycle(RuleBasedStateMachine):
    """Saves, deletions, collections and faults in any order, against a dict of what is saved."""

    saved = Bundle("saved")
    failed = Bundle("failed")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.storage = Unreliable(self.path / "files")
        self.runner = asyncio.Runner()
        self.values: dict[UUID, Album] = {}
        self.labels = count()
        self.failures: dict[str, Album] = {}
        set_database(f"sqlite:///{self.path / 'graph.db'}", storage=self.storage)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def make_tables(self) -> None:
        self.run(artigraph.collect())

    @rule(target=saved, length=st.integers(0, 3))
    def save(self, length: int) -> Any:
        return self.try_to_save(album(length), f"{next(self.labels)}")

    @rule(target=saved, length=st.integers(0, 2), parent=saved)
    def save_below(self, length: int, parent: Any) -> Any:
        if parent not in self.values:
            return None
        return self.try_to_save(album(length), f"{next(self.labels)}", parent)

    @rule(target=saved)
    @precondition(lambda self: self.failures)
    def save_again(self) -> Any:
        label, value = self.failures.popitem()
        return self.try_to_save(value, label)

    def try_to_save(self, value: Album, label: str, parent_id: UUID | None = None) -> UUID | None:
        try:
            album_id = self.run(value.save(label, parent_id))
        except StorageError:
            if parent_id is None:
                self.failures[label] = value
            return None
        self.values[album_id] = value
        return album_id

    @rule(album_id=saved)
    def load(self, album_id: Any) -> None:
        try:
            assert self.run(Album.load(album_id)) == self.values[album_id]
        except StorageError:
            pass
        except (NodeNotFoundError, KeyError):
            assert album_id not in self.values

    @rule(album_id=saved)
    def delete(self, album_id: Any) -> None:
        if album_id not in self.values:
            return
        parents = self.run(parents_of())
        deletion = self.run(artigraph.delete(album_id))
        gone = {each for each in self.values if album_id in above(each, parents)}
        assert deletion.artifacts == len(gone)
        for each in gone:
            del self.values[each]

    @rule(operation=st.sampled_from(["create", "read", "delete", "discard"]), n=st.integers(1, 3))
    def break_storage(self, operation: str, n: int) -> None:
        self.storage.fails_at = {operation: n}

    @rule(state=st.sampled_from(["pending", "abandoned", "unused"]))
    def let_time_pass(self, state: str) -> None:
        self.run(expire(state))

    @rule(grace=st.sampled_from([0, 3_600]))
    def collect(self, grace: float) -> None:
        told = self.run(artigraph.collect(grace=grace, dry_run=True))
        collected = self.run(artigraph.collect(grace=grace))
        assert (told.abandoned, told.unused) == (collected.abandoned, collected.unused)
        assert told.removed - collected.removed in (0, len(collected.failures))

    @rule(deep=st.booleans())
    def check(self, deep: bool) -> None:
        checked = self.run(artigraph.check(deep=deep))
        assert checked.artifacts == len(self.values)
        assert {finding.damage for finding in checked.findings} <= {"unreachable"}

    @invariant()
    def all_that_was_acknowledged_is_there_and_nothing_else(self) -> None:
        """By the rows and the files themselves."""
        with closing(sqlite3.connect(self.path / "graph.db")) as connection:
            rows = connection.execute(_NODES_AND_BLOBS).fetchall()
            locations = connection.execute("SELECT blob_location FROM artigraph_blob").fetchall()
        assert {UUID(bytes=tree_id) for tree_id, *_ in rows} == self.values.keys()
        for _, location, state, size, sha256 in rows:
            if location is not None:
                data = (self.storage.directory / location).read_bytes()
                assert state == "live"
                assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)
        assert objects(self.storage.directory) <= {location for (location,) in locations}

    def teardown(self) -> None:
        self.storage.fails_at = {}
        for album_id, value in self.values.items():
            assert self.run(Album.load(album_id)) == value
        self.run(settle())
        assert objects(self.storage.directory) == self.run(live_locations())
        self.run(artigraph.close())
        self.runner.close()
        set_database(None)
        self.folder.cleanup()


_NODES_AND_BLOBS = """
SELECT artifact_tree_id, blob_location, blob_state, blob_size, blob_sha256
FROM artigraph_node LEFT JOIN artigraph_blob ON blob_id = artifact_blob_id
"""


async def parents_of() -> dict[UUID, UUID | None]:
    query = select(node_table.c.node_id, node_table.c.node_parent_id)
    rows = await current_database().read(lambda each: each.execute(query).all())
    return {row.node_id: row.node_parent_id for row in rows}


def above(node_id: UUID | None, parents: dict[UUID, UUID | None]) -> set[UUID]:
    """A node, and all that it is below."""
    found: set[UUID] = set()
    while node_id is not None:
        found.add(node_id)
        node_id = parents[node_id]
    return found


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=60, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow]
)


# The rows, the files, and what is done to them


async def execute(statement: Any) -> None:
    await current_database().write(lambda connection: connection.execute(statement))


async def scalars(query: Any) -> list[Any]:
    return list(await current_database().read(lambda each: each.scalars(query).all()))


async def states() -> list[str]:
    """Of all blobs."""
    return sorted(await scalars(select(BLOB.blob_state)))


async def live_locations() -> set[str]:
    return set(await scalars(select(BLOB.blob_location).where(BLOB.blob_state == "live")))


def objects(directory: Path) -> set[str]:
    """All files, finished or not, by their paths."""
    return {f"{path.relative_to(directory)}" for path in directory.rglob("*") if path.is_file()}


async def everything(directory: Path) -> tuple[Any, ...]:
    def read(connection: Any) -> list[tuple[Any, ...]]:
        return [
            tuple(row)
            for table in (node_table, blob_table)
            for row in connection.execute(select(table).order_by(*table.primary_key))
        ]

    return await current_database().read(read), objects(directory)


async def delete_nodes(*conditions: Any) -> None:
    """By hand, so that nothing is said of their blobs."""
    parents = update(node_table).where(*conditions).values(node_parent_id=None)
    nodes = delete(node_table).where(*conditions)
    await current_database().write(
        lambda connection: [connection.execute(each) for each in (parents, nodes)]
    )


async def set_blob(blob_id: UUID, **columns: Any) -> None:
    await execute(update(blob_table).where(BLOB.blob_id == blob_id).values(**columns))


async def put_back(state: str, seconds: float) -> None:
    """Let it be as many seconds ago that blobs came into this state, by the database's clock."""
    moment = FromNow(-seconds)
    await execute(
        update(blob_table).where(BLOB.blob_state == state).values(blob_lease_until=moment)
    )


async def expire(state: str) -> None:
    """Let the leases of blobs run out."""
    await put_back(state, 10 * blobs.LEASE)


def give_up(connection: Any) -> None:
    """Let the leases of pending blobs run out, and be found by a collection, before a renewal."""
    connection.execute(
        update(blob_table).where(BLOB.blob_state == "pending").values(blob_lease_until=LONG_AGO)
    )
    blobs.condemn_abandoned(connection)


async def settle() -> None:
    """Wait until all leases are over, and collect."""
    for state in ("pending", "abandoned"):
        await expire(state)
        collected = await artigraph.collect(grace=0)
        assert collected.failures == []
    assert set(await states()) <= {"live"}


async def plant(*, state: str, age: float) -> None:
    """A blob that came into a state some seconds ago, with its data."""
    storage: Any = current_database().storage
    location = await storage.create(bytes(10))
    now = datetime.now(UTC)
    intent = blobs.Blob(new_id(), "default", location, 10, hashlib.sha256(bytes(10)).hexdigest())
    await current_database().write(
        lambda connection: blobs.insert_intents(connection, [intent], now)
    )
    await set_blob(intent.blob_id, blob_state=state, blob_lease_until=FromNow(-age))


def digest_of(value: Album) -> str:
    return hashlib.sha256(b"".join(value.pictures)).hexdigest()


# Others at work


@contextmanager
def renewals() -> Iterator[Callable[[int], Any]]:
    """A function that waits for as many renewals of leases, from its call on."""
    seen = asyncio.Semaphore(0)

    def execute(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if "SET blob_lease_until" in statement and "blob_id IN" in statement:
            seen.release()

    async def renewed(number: int) -> None:
        while not seen.locked():
            await seen.acquire()
        async with asyncio.timeout(60):
            for _ in range(number):
                await seen.acquire()

    event.listen(Engine, "after_cursor_execute", execute)
    try:
        yield renewed
    finally:
        event.remove(Engine, "after_cursor_execute", execute)


PRELUDE = f"""
import asyncio, hashlib, itertools, json, random, select, sys, time
from dataclasses import dataclass
from datetime import UTC, datetime
from sqlalchemy import update
import artigraph
from artigraph import ArtifactModel, ArtifactSequence
from artigraph.database import current_database
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table

SIZE = {SIZE}

@dataclass
class Album(ArtifactModel, version=1, name="collection.Album"):
    pictures: ArtifactSequence[bytes]

def tell(text):
    print(text, flush=True)

def stopped():
    return bool(select.select([sys.stdin], [], [], 0)[0])

def digest_of(value):
    return hashlib.sha256(b"".join(value.pictures)).hexdigest()
"""


class Worker:
    """A process that does something until it is killed, and tells how far it is."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def told(self) -> str:
        """The next line, without its end."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        async with asyncio.timeout(60):
            line = await self._process.stdout.readline()
            assert line, (await self._process.stderr.read()).decode()
        return line.decode().strip()

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


@asynccontextmanager
async def working(program: str, *arguments: object) -> AsyncGenerator[Worker]:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-c", PRELUDE + program, *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=2**24
    )
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
