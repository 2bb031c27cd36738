"""The tests of storages, tested: a storage without a flaw passes, each flaw is found."""

import asyncio
import inspect
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pytest
from hypothesis import Phase, settings

from artigraph.errors import BlobMissingError, CorruptRowError, StorageError
from artigraph.loop import to_the_end
from artigraph.spec import Data, Storage, StreamingStorage, check_location, new_location
from artigraph.testing import StorageTests, StreamingStorageTests
from artigraph.testing import storage as storage_tests

MIB = 2**20

Write: TypeAlias = Callable[[BinaryIO], object]


class Shelf(Storage):
    """A storage without a flaw: a dict, which several may share."""

    name = "shelf:a"

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        self.kept = {} if kept is None else kept

    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        copy = bytes(data)
        await asyncio.sleep(0)
        self.put(location, copy)
        return location

    async def read(self, location: str) -> Data:
        check_location(location)
        await asyncio.sleep(0)
        return self.found(location)

    async def update(self, location: str, data: Data) -> None:
        check_location(location)
        copy = bytes(data)
        await asyncio.sleep(0)
        self.found(location)
        self.kept[location] = copy

    async def delete(self, location: str) -> None:
        check_location(location)
        await asyncio.sleep(0)
        self.kept.pop(location, None)

    async def exists(self, location: str) -> bool:
        check_location(location)
        await asyncio.sleep(0)
        return location in self.kept

    def put(self, location: str, data: bytes) -> None:
        """Keep data where there is none; what is equal is there already."""
        if self.kept.setdefault(location, data) != data:
            raise self.taken(location)

    def found(self, location: str) -> bytes:
        """What is at a location."""
        if location not in self.kept:
            raise BlobMissingError(f"the data at {location!r}", "there is none")
        return self.kept[location]

    def taken(self, location: str) -> StorageError:
        return StorageError(self.name, f"create {location!r}", "other data is there")


class ShelfTests(StorageTests):
    @pytest.fixture
    def storage(self) -> Shelf:
        return Shelf()

    def plant(self, storage: Shelf, location: str, data: bytes) -> None:
        storage.kept[location] = data

    def inspect(self, storage: Shelf, location: str) -> bytes | None:
        return storage.kept.get(location)

    def another(self, storage: Shelf) -> Shelf:
        return type(storage)(storage.kept)


class TestShelf(ShelfTests):
    """The tests pass for a storage that keeps its promises."""


class WriteOnce(Shelf):
    async def update(self, location: str, data: Data) -> None:
        await super().read(location)
        raise StorageError(self.name, f"update {location!r}", "nothing is ever replaced")


class TestWriteOnce(ShelfTests):
    """They pass for one that says that it replaces nothing."""

    can_update = False

    @pytest.fixture
    def storage(self) -> Shelf:
        return WriteOnce()


class StreamingShelf(Shelf, StreamingStorage):
    """One that takes data while it is made, and has no flaw either."""

    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        file = self.file()
        await to_the_end(self.written(write, file))
        self.put(location, bytes(file.getbuffer()))
        return location

    async def fetch(self, location: str, folder: Path) -> Path:
        check_location(location)
        await asyncio.sleep(0)
        data = self.found(location)
        path = folder / "data"
        try:
            await to_the_end(asyncio.to_thread(path.write_bytes, data))
        except asyncio.CancelledError:
            path.unlink(missing_ok=True)
            raise
        return path

    async def written(self, write: Write, file: io.BytesIO) -> None:
        """Let it write, in a thread of its own."""
        with ThreadPoolExecutor(1) as thread:
            await asyncio.get_running_loop().run_in_executor(thread, write, file)

    def file(self) -> io.BytesIO:
        return io.BytesIO()


class StreamingShelfTests(ShelfTests, StreamingStorageTests):
    @pytest.fixture
    def storage(self) -> Shelf:
        return StreamingShelf()


class TestStreamingShelf(StreamingShelfTests):
    """They pass for one that takes data while it is made."""


class KeepsTheBeginning(Shelf):
    def put(self, location: str, data: bytes) -> None:
        super().put(location, data[:65_536])


class KeepsNothingOfNothing(Shelf):
    def put(self, location: str, data: bytes) -> None:
        if data:
            super().put(location, data)


class ReturnsBeforeItIsDone(Shelf):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        self.task = asyncio.ensure_future(super().create(data, location=location))
        return location


class ReadsTheBeginning(Shelf):
    async def read(self, location: str) -> Data:
        return (await super().read(location))[: 5 * MIB]


class ReadsLess(Shelf):
    async def read_up_to(self, location: str, size: int) -> Data:
        return (await self.read(location))[: size - 1]


class ReadsMore(Shelf):
    async def read_up_to(self, location: str, size: int) -> Data:
        return (await self.read(location))[: size + 1]


class ReadsLessToWrite(Shelf):
    async def read_writable(self, location: str, size: int) -> Data:
        return (await self.read_up_to(location, size))[: size - 1]


class MissingHasNothingToWrite(Shelf):
    async def read_writable(self, location: str, size: int) -> Data:
        return self.kept.get(location, b"")[:size]


class MissingHasNoBeginning(Shelf):
    async def read_up_to(self, location: str, size: int) -> Data:
        return self.kept.get(location, b"")[:size]


class KeepsNoViews(Shelf):
    async def create(self, data: Any, *, location: str | None = None) -> str:
        return await super().create(data.ljust(0), location=location)


class KeepsWhatWasGiven(Shelf):
    async def create(self, data: Any, *, location: str | None = None) -> str:
        location = await super().create(data, location=location)
        self.kept[location] = data
        return location


class GivesWhatIsKept(Shelf):
    async def read(self, location: str) -> Data:
        data: Any = bytearray(await super().read(location))
        self.kept[location] = data
        return data


class ChoosesTheLocation(Shelf):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        return await super().create(data)


class CountsLocations(Shelf):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        if location is None:
            location = str(len(self.kept))
            self.put(location, bytes(data))
            return location
        return await super().create(data, location=location)


class Overwrites(Shelf):
    def put(self, location: str, data: bytes) -> None:
        self.kept[location] = data


class KnowsOnlyItsOwn(Shelf):
    """It overwrites what it has not created itself."""

    def put(self, location: str, data: bytes) -> None:
        own: set[str] = self.__dict__.setdefault("own", set())
        if location not in own:
            self.kept.pop(location, None)
        super().put(location, data)
        own.add(location)


class RefusesTheSameAgain(Shelf):
    def put(self, location: str, data: bytes) -> None:
        if location in self.kept:
            raise self.taken(location)
        super().put(location, data)


class ComparesLengths(Shelf):
    def put(self, location: str, data: bytes) -> None:
        if len(self.kept.setdefault(location, data)) != len(data):
            raise self.taken(location)


class MissingIsEmpty(Shelf):
    def found(self, location: str) -> bytes:
        return self.kept.get(location, b"")


class MissingIsARefusal(Shelf):
    def found(self, location: str) -> bytes:
        if location not in self.kept:
            raise StorageError(self.name, f"read {location!r}", "there is none")
        return self.kept[location]


class Remembers(Shelf):
    async def read(self, location: str) -> Data:
        known: dict[str, Data] = self.__dict__.setdefault("known", {})
        if location not in known:
            known[location] = await super().read(location)
        return known[location]


class AlwaysExists(Shelf):
    async def exists(self, location: str) -> bool:
        await super().exists(location)
        return True


class EmptyIsMissing(Shelf):
    async def exists(self, location: str) -> bool:
        return await super().exists(location) and bool(self.kept[location])


class DeletesNeighbours(Shelf):
    async def delete(self, location: str) -> None:
        await super().delete(location)
        for neighbour in [each for each in self.kept if each.startswith(location[:3])]:
            del self.kept[neighbour]


class DeletesOnce(Shelf):
    async def delete(self, location: str) -> None:
        self.found(location)
        await super().delete(location)


class UpdateLeavesTheRest(Shelf):
    async def update(self, location: str, data: Data) -> None:
        rest = self.kept.get(location, b"")[len(data) :]
        await super().update(location, data)
        self.kept[location] += rest


class UpdateCreates(Shelf):
    async def update(self, location: str, data: Data) -> None:
        self.kept.setdefault(location, b"")
        await super().update(location, data)


class UpdatesInTwoSteps(Shelf):
    async def update(self, location: str, data: Data) -> None:
        old = self.found(location)
        self.kept[location] = bytes(data)[:100] + old[100:]
        await super().update(location, data)


class UpdatesByCreating(Shelf):
    async def update(self, location: str, data: Data) -> None:
        await super().update(location, data)
        del self.kept[location]
        await self.create(data, location=location)


class CreatesInSteps(Shelf):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = await super().create(b"", location=location)
        for start in range(0, len(data), MIB):
            self.kept[location] += bytes(data[start : start + MIB])
            await asyncio.sleep(0)
        return location


class LeavesAPart(Shelf):
    """Nobody sees it but when the work was cancelled."""

    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        parts: list[bytes] = []
        try:
            for start in range(0, len(data), MIB):
                parts.append(bytes(data[start : start + MIB]))
                await asyncio.sleep(0)
        finally:
            self.put(location, b"".join(parts))
        return location


class LeavesAPartOfAnUpdate(Shelf):
    async def update(self, location: str, data: Data) -> None:
        old = self.found(location)
        try:
            await super().update(location, data)
        except asyncio.CancelledError:
            self.kept[location] = bytes(data)[:100] + old[100:]
            raise


class StaysLocked(Shelf):
    """It can't be used any more after a call that was cancelled."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        super().__init__(kept)
        self.lock = asyncio.Lock()

    async def create(self, data: Data, *, location: str | None = None) -> str:
        await self.lock.acquire()
        location = await super().create(data, location=location)
        self.lock.release()
        return location


class SharesOnePlace(Shelf):
    """What is on its way is there."""

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.on_its_way = data
        await asyncio.sleep(0)
        return await super().create(self.on_its_way, location=location)


class LooksThenPuts(Shelf):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        if self.kept.get(location, data) != data:
            raise self.taken(location)
        await asyncio.sleep(0)
        self.kept[location] = bytes(data)
        return location


class LooksThenPutsAlone(LooksThenPuts):
    """Another storage of the same place knows nothing of its lock."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        super().__init__(kept)
        self.lock = asyncio.Lock()

    async def create(self, data: Data, *, location: str | None = None) -> str:
        async with self.lock:
            return await super().create(data, location=location)


class OneWinsAndAllOthersFail(Shelf):
    """Also those that have the same data."""

    async def create(self, data: Data, *, location: str | None = None) -> str:
        under_way: set[str | None] = self.__dict__.setdefault("under_way", set())
        if location in under_way:
            raise self.taken(str(location))
        under_way.add(location)
        try:
            return await super().create(data, location=location)
        finally:
            under_way.remove(location)


class StaysOnItsFirstLoop(Shelf):
    async def read(self, location: str) -> Data:
        loop = self.__dict__.setdefault("loop", asyncio.get_running_loop())
        assert loop is asyncio.get_running_loop()
        return await super().read(location)


class HasNames(Shelf):
    name = "shelf:a\nb"


class HasAPassword(Shelf):
    name = "shelf://me:hunter2@host"


class HasANameForEach(Shelf):
    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        super().__init__(kept)
        self.name = f"shelf:{id(self)}"


class HasANameForEachCall(Shelf):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = await super().create(data, location=location)
        self.name = f"shelf:{location}"
        return location


class RefusesWhatWasDeleted(Shelf):
    async def delete(self, location: str) -> None:
        await super().delete(location)
        self.__dict__.setdefault("deleted", set()).add(location)

    def put(self, location: str, data: bytes) -> None:
        if location in self.__dict__.get("deleted", ()):
            raise self.taken(location)
        super().put(location, data)


def tolerant(operation: str) -> type[Shelf]:
    """A storage that does nothing at a hostile location, where it should refuse it."""

    async def tolerate(*arguments: Any, **options: Any) -> Any:
        with suppress(CorruptRowError):
            return await getattr(Shelf, operation)(*arguments, **options)

    return type(f"Tolerant_{operation}", (Shelf,), {operation: tolerate})


class OpensThenChecks(Shelf):
    async def read(self, location: str) -> Data:
        with open(os.devnull, "rb"):  # noqa: ASYNC230, PTH123  # what a test should see
            return await super().read(location)


class File(io.BytesIO):
    def write(self, data: Any, /) -> Any:
        return super().write(data)


class StreamsTheBeginning(StreamingShelf):
    class file(File):
        def write(self, data: Any, /) -> Any:
            super().write(data[: 16 * MIB - self.tell()])
            return len(data)


class SaysNothingOfAPiece(StreamingShelf):
    class file(File):
        def write(self, data: Any, /) -> Any:
            super().write(data)


class KeepsPiecesWhereTheyLie(StreamingShelf):
    class file(File):
        def __init__(self) -> None:
            self.pieces: list[Any] = []

        def write(self, data: Any, /) -> Any:
            self.pieces.append(data)
            return len(data)

        def getbuffer(self) -> Any:
            return b"".join(self.pieces)


class StreamsElsewhere(StreamingShelf):
    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        await super().create_from(write)
        return str(location)


class StreamsToNoLocation(StreamingShelf):
    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        if location is not None:
            return await super().create_from(write, location=location)
        file = self.file()
        await self.written(write, file)
        self.kept["0"] = file.getvalue()
        return "0"


class WritesOnTheLoop(StreamingShelf):
    async def written(self, write: Write, file: io.BytesIO) -> None:
        write(file)


class WritesTwice(StreamingShelf):
    async def written(self, write: Write, file: io.BytesIO) -> None:
        await super().written(write, io.BytesIO())
        await super().written(write, file)


class KeepsWhatFailed(StreamingShelf):
    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        def write_on(file: BinaryIO) -> None:
            try:
                write(file)
            except Exception as error:
                self.error = error

        location = await super().create_from(write_on, location=location)
        if hasattr(self, "error"):
            raise self.error
        return location


class ExplainsWhatWriteRaises(StreamingShelf):
    async def written(self, write: Write, file: io.BytesIO) -> None:
        try:
            await super().written(write, file)
        except (OSError, ValueError) as error:
            raise StorageError(self.name, "create", str(error)) from error


class LosesTheCause(StreamingShelf):
    async def written(self, write: Write, file: io.BytesIO) -> None:
        try:
            await super().written(write, file)
        except Exception as error:
            raise error from None


class StreamsOver(StreamingShelf):
    def put(self, location: str, data: bytes) -> None:
        self.kept[location] = data


class StreamsInSteps(StreamingShelf):
    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        location = await super().create_from(write, location=location)
        data = self.kept[location]
        for end in range(0, len(data), MIB):
            self.kept[location] = data[:end]
            await asyncio.sleep(0)
        self.kept[location] = data
        return location


class LeavesItsThread(StreamingShelf):
    async def written(self, write: Write, file: io.BytesIO) -> None:
        await asyncio.to_thread(write, file)

    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        file = self.file()
        await self.written(write, file)
        self.put(location, file.getvalue())
        return location


class KeepsWhatWasCancelled(StreamingShelf):
    """What was written until then is taken for all."""

    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        file = self.file()
        writing = asyncio.ensure_future(self.written(write, file))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            self.put(location, file.getvalue())
            await to_the_end(self.through(writing))
            raise
        self.put(location, file.getvalue())
        return location

    async def through(self, writing: asyncio.Future[None]) -> None:
        await asyncio.wait({writing})


class StreamsStayLocked(StreamingShelf):
    """None can be made any more after one that was cancelled."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        super().__init__(kept)
        self.lock = asyncio.Lock()

    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        await self.lock.acquire()
        location = await super().create_from(write, location=location)
        self.lock.release()
        return location


class HasOneFile(StreamingShelf):
    """For all that is written at the same time."""

    def file(self) -> io.BytesIO:
        self.one = io.BytesIO()
        return self.one

    async def create_from(self, write: Write, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        await to_the_end(self.written(write, self.file()))
        self.put(location, self.one.getvalue())
        return location


class FetchesTheBeginning(StreamingShelf):
    async def fetch(self, location: str, folder: Path) -> Path:
        path = await super().fetch(location, folder)
        path.write_bytes(path.read_bytes()[: 16 * MIB])
        return path


class FetchesNothing(StreamingShelf):
    """Where there is none."""

    async def fetch(self, location: str, folder: Path) -> Path:
        self.kept.setdefault(location, b"")
        return await super().fetch(location, folder)


class LeavesAnEmptyFile(StreamingShelf):
    async def fetch(self, location: str, folder: Path) -> Path:
        (folder / "begun").touch()
        path = await super().fetch(location, folder)
        return path.rename(folder / "begun")


class LeavesWhatIsFetched(StreamingShelf):
    async def fetch(self, location: str, folder: Path) -> Path:
        check_location(location)
        data = self.found(location)
        path = folder / "data"
        path.write_bytes(data[:100])
        await asyncio.to_thread(path.write_bytes, data)
        return path


def tolerant_stream(operation: str) -> type[Shelf]:
    """As `tolerant`, of what only some storages do."""

    async def tolerate(*arguments: Any, **options: Any) -> Any:
        with suppress(CorruptRowError):
            return await getattr(StreamingShelf, operation)(*arguments, **options)

    return type(f"Tolerant_{operation}", (StreamingShelf,), {operation: tolerate})


MUTANTS: list[tuple[type[Shelf], str]] = [
    (KeepsTheBeginning, "test_what_is_created_is_there_whole"),
    (KeepsNothingOfNothing, "test_what_is_created_is_there_whole"),
    (ReturnsBeforeItIsDone, "test_what_is_created_is_there_whole"),
    (ReadsTheBeginning, "test_what_is_there_is_read_whole"),
    (ReadsLess, "test_the_beginning_is_read"),
    (ReadsMore, "test_the_beginning_is_read"),
    (ReadsLessToWrite, "test_the_beginning_is_read"),
    (MissingHasNothingToWrite, "test_reading_a_location_never_made_fails"),
    (MissingHasNoBeginning, "test_reading_a_location_never_made_fails"),
    (KeepsNoViews, "test_data_of_every_kind_is_kept"),
    (KeepsWhatWasGiven, "test_what_is_kept_is_nobody_elses"),
    (GivesWhatIsKept, "test_what_is_kept_is_nobody_elses"),
    (Remembers, "test_what_others_do_is_seen"),
    (ChoosesTheLocation, "test_a_location_that_is_given_is_used"),
    (CountsLocations, "test_a_location_that_is_not_given_is_made"),
    (RefusesTheSameAgain, "test_the_same_data_is_created_twice"),
    (Overwrites, "test_other_data_is_never_replaced"),
    (ComparesLengths, "test_other_data_is_never_replaced"),
    (KnowsOnlyItsOwn, "test_data_of_another_writer_is_never_replaced"),
    (MissingIsEmpty, "test_reading_a_location_never_made_fails"),
    (MissingIsARefusal, "test_reading_a_location_never_made_fails"),
    (AlwaysExists, "test_data_exists_from_create_to_delete"),
    (EmptyIsMissing, "test_data_exists_from_create_to_delete"),
    (DeletesNeighbours, "test_deleting_removes_one_location"),
    (DeletesOnce, "test_deleting_twice_does_nothing_more"),
    (UpdateLeavesTheRest, "test_updating_replaces_all"),
    (WriteOnce, "test_updating_replaces_all"),
    (UpdateCreates, "test_updating_a_location_never_made_fails"),
    (RefusesWhatWasDeleted, "test_it_behaves_as_a_dict"),
    (Overwrites, "test_it_behaves_as_a_dict"),
    (HasNames, "test_its_name_can_be_in_a_row"),
    (HasAPassword, "test_its_name_can_be_in_a_row"),
    (HasANameForEach, "test_its_name_stays"),
    (HasANameForEachCall, "test_its_name_stays"),
    (SharesOnePlace, "test_many_tasks_work_at_once"),
    (LooksThenPuts, "test_one_of_many_creators_wins"),
    (LooksThenPutsAlone, "test_one_of_many_creators_wins"),
    (OneWinsAndAllOthersFail, "test_many_creators_of_the_same_all_succeed"),
    (CreatesInSteps, "test_nobody_sees_a_part_of_what_is_created"),
    (UpdatesInTwoSteps, "test_a_reader_sees_the_old_or_the_new"),
    (UpdatesByCreating, "test_a_reader_sees_the_old_or_the_new"),
    (LeavesAPart, "test_a_cancelled_create_leaves_all_or_nothing"),
    (StaysLocked, "test_a_cancelled_create_leaves_all_or_nothing"),
    (LeavesAPartOfAnUpdate, "test_a_cancelled_update_leaves_the_old_or_the_new"),
    (StaysOnItsFirstLoop, "test_one_storage_serves_many_event_loops"),
    *(
        (tolerant(operation), "test_a_hostile_location_is_not_looked_at")
        for operation in ("create", "read", *storage_tests.BEGINNINGS, "update", "delete", "exists")
    ),
    (OpensThenChecks, "test_a_hostile_location_is_not_looked_at"),
    (StreamsTheBeginning, "test_what_is_written_is_there_whole"),
    (SaysNothingOfAPiece, "test_what_is_written_is_there_whole"),
    (StreamsElsewhere, "test_a_stream_has_the_location_that_is_given"),
    (StreamsToNoLocation, "test_a_stream_has_the_location_that_is_given"),
    (KeepsPiecesWhereTheyLie, "test_a_piece_is_kept_as_it_was_written"),
    (WritesOnTheLoop, "test_a_stream_is_written_in_a_thread"),
    (WritesTwice, "test_a_stream_is_written_in_a_thread"),
    (KeepsWhatFailed, "test_what_write_raises_is_raised"),
    (ExplainsWhatWriteRaises, "test_what_write_raises_is_raised"),
    (LosesTheCause, "test_what_write_raises_is_raised"),
    (StreamsOver, "test_a_stream_never_replaces"),
    (StreamsInSteps, "test_nobody_sees_a_part_of_what_is_written"),
    (LeavesItsThread, "test_a_stream_that_is_cancelled_is_over"),
    (KeepsWhatWasCancelled, "test_a_stream_that_is_cancelled_is_over"),
    (StreamsStayLocked, "test_a_cancelled_stream_leaves_all_or_nothing"),
    (HasOneFile, "test_many_streams_are_written_at_once"),
    (FetchesTheBeginning, "test_what_is_fetched_is_whole"),
    (FetchesNothing, "test_fetching_a_location_never_made_fails"),
    (LeavesAnEmptyFile, "test_fetching_a_location_never_made_fails"),
    (LeavesWhatIsFetched, "test_a_cancelled_fetch_leaves_no_file"),
    *(
        (tolerant_stream(operation), "test_a_hostile_location_is_not_streamed")
        for operation in ("create_from", "fetch")
    ),
]

ALL_TESTS = {name for name in dir(StreamingStorageTests) if name.startswith("test_")}
OF_THE_CLASS = "test_what_streams_is_tested_as_such"


def cases_of(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments that pytest would give a test of the kit, but for fixtures."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    for values in product(*(mark.args[1] for mark in marks)):
        yield dict(zip((mark.args[0] for mark in marks), values, strict=True))


def run(make_storage: Callable[[], Shelf], name: str, tmp_path: Path) -> None:
    """One test of the kit, in all its cases, each with a storage and a folder that are empty."""
    test = getattr(StreamingShelfTests(), name)
    wanted = inspect.signature(test).parameters
    for number, case in enumerate(cases_of(test)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with storage_tests.event_loop() as on_loop:
            fixtures = {"storage": make_storage(), "run": on_loop, "folder": folder}
            test(**case, **{each: fixtures[each] for each in fixtures if each in wanted})


@pytest.fixture
def not_shrunk() -> Iterator[None]:
    """That hypothesis finds something is enough: it does not look for the simplest of its kind."""
    profile = settings.get_current_profile_name()
    settings.register_profile("not shrunk", phases=[Phase.generate])
    settings.load_profile("not shrunk")
    yield
    settings.load_profile(profile)


@pytest.mark.usefixtures("not_shrunk")
@pytest.mark.parametrize(
    ("mutant", "name"), MUTANTS, ids=lambda each: getattr(each, "__name__", each)
)
def test_each_flaw_fails_the_test_that_is_there_for_it(
    mutant: type[Shelf], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In which of its cases is no matter."""
    monkeypatch.setattr(storage_tests, "PATIENCE", 1.0)

    with pytest.raises((Exception, pytest.fail.Exception)):
        run(mutant, name, tmp_path)


def test_each_test_finds_something() -> None:
    """None of them is there for nothing."""
    assert {name for _, name in MUTANTS} == ALL_TESTS - {OF_THE_CLASS}


def test_a_storage_that_streams_is_not_tested_as_one_that_does_not() -> None:
    """That test is about the class of the tests."""
    getattr(StreamingShelfTests(), OF_THE_CLASS)(StreamingShelf())
    with pytest.raises(AssertionError):
        getattr(ShelfTests(), OF_THE_CLASS)(StreamingShelf())
