"""What every storage promises, as tests."""

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from artigraph.errors import CorruptRowError, StorageError
from artigraph.spec import Data, Storage, StreamingStorage, check_location, new_location

T = TypeVar("T")

SIZES = (0, 1, 65_537, 5 * 2**20, 20 * 2**20)
"""Of the data that is kept, in bytes."""

LIMITS = (1, 65_537, 65_538, 8 * 2**20, 8 * 2**20 + 1, 20 * 2**20 + 1)
"""Of what is read at most, in bytes."""

BEGINNINGS = ("read_up_to", "read_writable")
"""What reads at most so much."""

STREAM_SIZES = (0, 1, 65_537, 8 * 2**20, 8 * 2**20 + 1, 16 * 2**20, 16 * 2**20 + 1, 20 * 2**20)
"""Of the data that is written piece by piece, and fetched: also where S3 does something else."""

AT_ONCE = 32
RACERS = 8
WATCHERS = 3
PATIENCE = 300.0
"""For what a test does on its event loop, in seconds: what takes longer is taken to hang."""

HOSTILE = (
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "ab/../../etc/passwd",
    "ab\\..\\secret",
    "%2e%2e/%2e%2e/etc/passwd",
    "ab/%252e%252e",
    "file:///etc/passwd",
    "s3://other/ab",
    "ab/" + "ab" * 16 + "\0",
    "ab/" + "ab" * 16 + "\n",
    "AB/" + "AB" * 16,
    "ab/" + "cd" * 16,
    "ab/" + "ab" * 15,
    "ab/" + "ab" * 148 + "a",
    "٣٣/" + "٣" * 32,
)
"""What is no location, and must not be used as a path or a key."""

WRONG = (
    Exception("mine"),
    OSError(28, "No space left on device", "mine"),
    ValueError("mine"),
    StorageError("mine", "be read", "it is not there"),
)
"""What a function that writes may raise."""


class Run(Protocol):
    """Runs a coroutine on the event loop of the test."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


class StorageTests:
    """The tests of one storage.

    A subclass has a fixture `storage`, which gives one that is empty, and the two methods by which
    the tests look behind its back. For a `StreamingStorage` take `StreamingStorageTests`.

        class TestFolder(StorageTests):
            @pytest.fixture
            def storage(self, tmp_path):
                return Folder(tmp_path)

            def plant(self, storage, location, data):
                ...

            def inspect(self, storage, location):
                ...
    """

    decides_races: bool = True
    """Whether of several that create at one location only one succeeds, however close they are."""

    can_update: bool = True
    """False for a storage where data is never replaced: it refuses, and keeps what it has."""

    histories: int = 40
    """How many hypothesis makes; each is some 15 calls."""

    def plant(self, storage: Any, location: str, data: bytes) -> None:
        """Put data where the storage keeps what is at a location; there is none yet."""
        raise NotImplementedError

    def inspect(self, storage: Any, location: str) -> bytes | None:
        """What is where the storage keeps a location, or None if there is nothing."""
        raise NotImplementedError

    def another(self, storage: Any) -> Storage | None:
        """A second storage of the same place, as another process would make it; or None."""
        return None

    @pytest.fixture
    def storage(self) -> Storage:
        """The storage under test, empty."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where files are fetched to, empty."""
        folder = tmp_path / "fetched"
        folder.mkdir()
        return folder

    @pytest.fixture
    def run(self) -> Iterator[Run]:
        """One event loop for all that a test does."""
        with event_loop() as run:
            yield run

    @pytest.mark.parametrize("size", SIZES)
    def test_what_is_created_is_there_whole(self, storage: Storage, run: Run, size: int) -> None:
        """Data of any length is kept as it is, and there at the moment when the call returns."""
        location, data = new_location(), some_data(size)

        found = run(self._after(storage.create(data, location=location), storage, location))

        assert_equal(found, data)

    @pytest.mark.parametrize("size", SIZES)
    def test_what_is_there_is_read_whole(self, storage: Storage, run: Run, size: int) -> None:
        """Data of any length is read as it is."""
        location, data = new_location(), some_data(size)
        self.plant(storage, location, data)

        assert_equal(run(storage.read(location)), data)

    @pytest.mark.parametrize("read", BEGINNINGS)
    @pytest.mark.parametrize("limit", LIMITS)
    @pytest.mark.parametrize("size", [0, 65_537, 20 * 2**20])
    def test_the_beginning_is_read(
        self, storage: Storage, run: Run, read: str, size: int, limit: int
    ) -> None:
        """All that is asked for, and no more where the storage has a `read_up_to` of its own."""
        location, data = new_location(), some_data(size)
        self.plant(storage, location, data)
        is_limited = type(storage).read_up_to is not Storage.read_up_to

        found = run(getattr(storage, read)(location, limit))

        assert_equal(found, data[:limit] if is_limited else data)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("size", [3, 20 * 2**20])
    def test_data_of_every_kind_is_kept(
        self, storage: Storage, run: Run, kind: Callable[[bytes], Data], size: int
    ) -> None:
        """A serializer may give bytes, a bytearray or a memoryview."""
        data = some_data(size)

        location = run(storage.create(kind(data)))

        assert_equal(self.inspect(storage, location), data)

    def test_what_is_kept_is_nobody_elses(self, storage: Storage, run: Run) -> None:
        """It does not change with what was given, nor with what was read."""
        given = bytearray(b"data")

        location = run(storage.create(memoryview(given)))
        given[:] = b"more"
        assert self.inspect(storage, location) == b"data"

        for name in ("read", *BEGINNINGS):
            limit = () if name == "read" else (4,)
            read = memoryview(run(getattr(storage, name)(location, *limit)))
            if not read.readonly:
                read[:] = b"more"
            assert self.inspect(storage, location) == b"data"

    def test_what_others_do_is_seen(self, storage: Storage, run: Run) -> None:
        """Nothing is remembered: another process may create and delete."""
        location, another = new_location(), self.another(storage) or storage
        assert not run(storage.exists(location))

        for data in (b"data", b"more"):
            self.plant(storage, location, data)
            assert run(storage.read(location)) == data
            run(another.delete(location))
            assert not run(storage.exists(location))

    def test_a_location_that_is_given_is_used(self, storage: Storage, run: Run) -> None:
        """The location is known before the data is there, so that a row can name it first."""
        location = new_location()

        assert run(storage.create(b"data", location=location)) == location
        assert self.inspect(storage, location) == b"data"

    def test_a_location_that_is_not_given_is_made(self, storage: Storage, run: Run) -> None:
        """Each is new, and of the one form that all storages use."""
        locations = [run(storage.create(b"data")) for _ in range(3)]

        assert len(set(locations)) == 3
        for location in locations:
            check_location(location)

    def test_the_same_data_is_created_twice(self, storage: Storage, run: Run) -> None:
        """A save whose outcome was unknown can be made again."""
        location, data = new_location(), some_data(20 * 2**20)

        run(storage.create(data, location=location))
        run(storage.create(data, location=location))

        assert_equal(self.inspect(storage, location), data)

    @pytest.mark.parametrize("size", SIZES)
    def test_other_data_is_never_replaced(self, storage: Storage, run: Run, size: int) -> None:
        """What is at a location stays what it is, also where only its content differs."""
        location, data = new_location(), some_data(65_537)
        run(storage.create(data, location=location))

        with pytest.raises(StorageError, match=location):
            run(storage.create(some_data(size)[::-1], location=location))

        assert_equal(self.inspect(storage, location), data)

    def test_data_of_another_writer_is_never_replaced(self, storage: Storage, run: Run) -> None:
        """It does not matter who put there what is at a location."""
        location = new_location()
        self.plant(storage, location, b"planted")

        with pytest.raises(StorageError, match=location):
            run(storage.create(b"created", location=location))

        assert self.inspect(storage, location) == b"planted"

    def test_reading_a_location_never_made_fails(self, storage: Storage, run: Run) -> None:
        """What is not there is told apart from what can't be read."""
        with pytest.raises(FileNotFoundError) as caught:
            run(storage.read(new_location()))
        assert not isinstance(caught.value, StorageError)

        for name in BEGINNINGS:
            with pytest.raises(FileNotFoundError) as caught:
                run(getattr(storage, name)(new_location(), 1))
            assert not isinstance(caught.value, StorageError)

    def test_data_exists_from_create_to_delete(self, storage: Storage, run: Run) -> None:
        """It exists when it is there, and only then."""
        location = new_location()
        before = run(storage.exists(location))
        self.plant(storage, location, b"")
        meanwhile = run(storage.exists(location))
        run(storage.delete(location))

        assert (before, meanwhile, run(storage.exists(location))) == (False, True, False)

    def test_deleting_removes_one_location(self, storage: Storage, run: Run) -> None:
        """Nothing else goes, also not what is kept beside it."""
        location = new_location()
        neighbour = location[:-1] + ("0" if location[-1] == "1" else "1")
        self.plant(storage, location, b"data")
        self.plant(storage, neighbour, b"other")

        found = run(self._after(storage.delete(location), storage, location))

        assert found is None
        assert self.inspect(storage, neighbour) == b"other"

    def test_deleting_twice_does_nothing_more(self, storage: Storage, run: Run) -> None:
        """What was interrupted can be done again, and a location never made be deleted."""
        location = run(storage.create(b"data"))

        run(storage.delete(location))
        run(storage.delete(location))
        run(storage.delete(new_location()))

        assert self.inspect(storage, location) is None

    @pytest.mark.parametrize("size", SIZES)
    def test_updating_replaces_all(self, storage: Storage, run: Run, size: int) -> None:
        """Nothing of the old data is left, be the new shorter or longer; or all, if it can't."""
        location, old, new = new_location(), some_data(65_537), some_data(size)[::-1]
        self.plant(storage, location, old)

        if self.can_update:
            assert_equal(run(self._after(storage.update(location, new), storage, location)), new)
        else:
            with pytest.raises(StorageError):
                run(storage.update(location, new))
            assert_equal(self.inspect(storage, location), old)

    def test_updating_a_location_never_made_fails(self, storage: Storage, run: Run) -> None:
        """An update never creates."""
        location = new_location()

        with pytest.raises(FileNotFoundError):
            run(storage.update(location, b"data"))

        assert self.inspect(storage, location) is None

    def test_it_behaves_as_a_dict(self, storage: Storage, run: Run) -> None:
        """Whatever is called in whatever order, at two locations, with data of any content."""

        @settings(
            deadline=None,
            max_examples=self.histories,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(any_history())
        def behaves(history: list[tuple[str, int, bytes]]) -> None:
            locations = [new_location() for _ in range(2)]
            kept: dict[str, bytes] = {}
            for operation, place, data in history:
                location = locations[place]
                run(self._compared(storage, kept, operation, location, data))
            for location in locations:
                assert self.inspect(storage, location) == kept.get(location)
                run(storage.delete(location))

        behaves()

    def test_its_name_can_be_in_a_row(self, storage: Storage) -> None:
        """It is a text in one line, without a password."""
        assert isinstance(storage.name, str)
        assert storage.name.isprintable()
        assert storage.name
        assert urlsplit(storage.name).password is None

    def test_its_name_stays(self, storage: Storage, run: Run) -> None:
        """Also when it is used, and in another storage of the same place."""
        name = storage.name
        location = run(storage.create(b"data"))
        assert storage.name == name

        another = self.another(storage)
        if another is not None:
            assert another.name == name
            assert run(another.read(location)) == b"data"

    def test_many_tasks_work_at_once(self, storage: Storage, run: Run) -> None:
        """Each gets its own data back."""

        async def live(number: int) -> None:
            data = some_data(100_000 + number)
            location = await storage.create(data)
            assert_equal(await storage.read(location), data)
            if self.can_update:
                await storage.update(location, data[::-1])
                assert_equal(await storage.read(location), data[::-1])
            await storage.delete(location)
            assert not await storage.exists(location)

        run(all_of([live(number) for number in range(AT_ONCE)]))

    def test_one_of_many_creators_wins(self, storage: Storage, run: Run) -> None:
        """Where several create at one location, one succeeds, and the others learn that."""
        location = new_location()
        offers = [some_data(1000 + number) for number in range(RACERS)]
        storages = [storage, self.another(storage) or storage]
        creations: list[Coroutine[Any, Any, str]] = [
            storages[number % 2].create(data, location=location)
            for number, data in enumerate(offers)
        ]

        results = run(outcomes(creations))

        winners = [data for data, result in zip(offers, results, strict=True) if result == location]
        losers = [result for result in results if isinstance(result, StorageError)]
        assert len(winners) + len(losers) == RACERS
        assert len(winners) == 1 or not self.decides_races
        assert self.inspect(storage, location) in winners

    def test_many_creators_of_the_same_all_succeed(self, storage: Storage, run: Run) -> None:
        """A task that finds its own data there has nothing left to do."""
        location, data = new_location(), some_data(100_000)

        run(all_of([storage.create(data, location=location) for _ in range(RACERS)]))

        assert_equal(self.inspect(storage, location), data)

    def test_nobody_sees_a_part_of_what_is_created(self, storage: Storage, run: Run) -> None:
        """Data is there whole, or not at all."""
        location, data = new_location(), some_data(20 * 2**20)

        async def look() -> None:
            if await storage.exists(location):
                assert_equal(await storage.read(location), data)

        run(watched(storage.create(data, location=location), look))

    def test_a_reader_sees_the_old_or_the_new(self, storage: Storage, run: Run) -> None:
        """An update never shows a mixture, and never nothing."""
        if not self.can_update:
            pytest.skip("the storage is declared to replace nothing")
        location, old, new = new_location(), some_data(300_000), some_data(200_000)
        self.plant(storage, location, old)

        async def look() -> None:
            is_whole = bytes(await storage.read(location)) in (old, new)
            assert is_whole

        for data in (new, old, new):
            run(watched(storage.update(location, data), look))

    @pytest.mark.parametrize("steps", [0, 1, 2, 5, 13, 34, 89, 233, 610])
    def test_a_cancelled_create_leaves_all_or_nothing(
        self, storage: Storage, run: Run, steps: int
    ) -> None:
        """Whenever it is cancelled; and it can be made again."""
        location, data = new_location(), some_data(20 * 2**20)

        run(cancelled_after(steps, storage.create(data, location=location)))

        found = self.inspect(storage, location)
        if found is not None:
            assert_equal(found, data)
        run(storage.create(data, location=location))
        assert_equal(self.inspect(storage, location), data)

    @pytest.mark.parametrize("steps", [0, 1, 5, 34, 233])
    def test_a_cancelled_update_leaves_the_old_or_the_new(
        self, storage: Storage, run: Run, steps: int
    ) -> None:
        """Whenever it is cancelled; and it can be made again."""
        if not self.can_update:
            pytest.skip("the storage is declared to replace nothing")
        location, old, new = new_location(), some_data(20 * 2**20), some_data(19 * 2**20)
        self.plant(storage, location, old)

        run(cancelled_after(steps, storage.update(location, new)))

        is_whole = self.inspect(storage, location) in (old, new)
        assert is_whole
        run(storage.update(location, new))
        assert_equal(self.inspect(storage, location), new)

    def test_one_storage_serves_many_event_loops(self, storage: Storage) -> None:
        """One after the other, and in several threads at once."""
        location = asyncio.run(storage.create(b"data"))
        barrier = threading.Barrier(4)

        async def read() -> bytes:
            return bytes(await storage.read(location))

        def read_with_others(_: int) -> bytes:
            barrier.wait()
            return asyncio.run(read())

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(read_with_others, range(4))) == [b"data"] * 4
        assert asyncio.run(read()) == b"data"

    @pytest.mark.parametrize("location", HOSTILE, ids=ascii)
    @pytest.mark.parametrize(
        "operation", ["create", "read", *BEGINNINGS, "update", "delete", "exists"]
    )
    def test_a_hostile_location_is_not_looked_at(
        self, storage: Storage, run: Run, operation: str, location: str
    ) -> None:
        """What is no location is refused before any file or connection is opened."""
        calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "create": lambda: storage.create(b"data", location=location),
            "read": lambda: storage.read(location),
            "read_up_to": lambda: storage.read_up_to(location, 1),
            "read_writable": lambda: storage.read_writable(location, 1),
            "update": lambda: storage.update(location, b"data"),
            "delete": lambda: storage.delete(location),
            "exists": lambda: storage.exists(location),
        }
        run(asyncio.sleep(0))

        with io_recorded() as io, pytest.raises(CorruptRowError):
            run(calls[operation]())

        assert io == []

    def test_what_streams_is_tested_as_such(self, storage: Storage) -> None:
        """By `StreamingStorageTests`, which are more."""
        assert isinstance(self, StreamingStorageTests) or not isinstance(storage, StreamingStorage)

    async def _after(
        self, work: Coroutine[Any, Any, object], storage: Storage, location: str
    ) -> bytes | None:
        """What is at a location at the moment when some work is over."""
        await work
        return self.inspect(storage, location)

    async def _compared(
        self, storage: Storage, kept: dict[str, bytes], operation: str, location: str, data: bytes
    ) -> None:
        """Do one thing to the storage and to the dict, and compare what they say."""
        before = kept.get(location)
        if operation == "create":
            if before in (None, data):
                assert await storage.create(data, location=location) == location
                kept[location] = data
            else:
                with pytest.raises(StorageError):
                    await storage.create(data, location=location)
        elif operation == "delete":
            await storage.delete(location)
            kept.pop(location, None)
        elif before is None:
            reading = operation == "read"
            with pytest.raises(FileNotFoundError):
                await (storage.read(location) if reading else storage.update(location, data))
        elif operation == "update" and self.can_update:
            await storage.update(location, data)
            kept[location] = data
        else:
            assert_equal(await storage.read(location), before)
        assert await storage.exists(location) == (location in kept)


class StreamingStorageTests(StorageTests):
    """The tests of a storage that takes data while it is made, and hands it out as a file."""

    @pytest.mark.parametrize("size", STREAM_SIZES)
    def test_what_is_written_is_there_whole(
        self, storage: StreamingStorage, run: Run, size: int
    ) -> None:
        """Data that comes in pieces of any length is kept as if it had come at once."""
        location, data = new_location(), some_data(size)
        creating = storage.create_from(in_pieces(data), location=location)

        found = run(self._after(creating, storage, location))

        assert_equal(found, data)

    def test_a_stream_has_the_location_that_is_given(
        self, storage: StreamingStorage, run: Run
    ) -> None:
        """Or one that is made for it."""
        location, create_from = new_location(), storage.create_from

        assert run(create_from(in_pieces(b"data"), location=location)) == location
        made = run(create_from(in_pieces(b"more")))
        check_location(made)

        assert self.inspect(storage, location) == b"data"
        assert self.inspect(storage, made) == b"more"

    def test_a_piece_is_kept_as_it_was_written(self, storage: StreamingStorage, run: Run) -> None:
        """Who writes may use the memory again at once."""

        def write(file: BinaryIO) -> None:
            piece = bytearray(100_000)
            for number in range(10):
                piece[:] = bytes([number]) * len(piece)
                write_all(file, memoryview(piece))

        location = run(storage.create_from(write))

        expected = b"".join(bytes([number]) * 100_000 for number in range(10))
        assert_equal(self.inspect(storage, location), expected)

    def test_a_stream_is_written_in_a_thread(self, storage: StreamingStorage, run: Run) -> None:
        """Once; and the event loop goes on meanwhile."""
        calls: list[int] = []

        async def create() -> str:
            loop = asyncio.get_running_loop()

            def write(file: BinaryIO) -> None:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(PATIENCE)
                calls.append(threading.get_ident())
                write_all(file, b"data")

            return await storage.create_from(write)

        location = run(create())

        assert len(calls) == 1
        assert calls != [threading.get_ident()]
        assert self.inspect(storage, location) == b"data"

    @pytest.mark.parametrize("error", WRONG, ids=repr)
    @pytest.mark.parametrize("size", [0, 65_537, 20 * 2**20])
    def test_what_write_raises_is_raised(
        self, storage: StreamingStorage, run: Run, size: int, error: Exception
    ) -> None:
        """As it is, however much was written, and nothing is kept."""
        location, data, cause = new_location(), some_data(size), Exception("the cause")

        def write(file: BinaryIO) -> None:
            in_pieces(data)(file)
            raise error from cause

        with pytest.raises(type(error)) as caught:
            run(storage.create_from(write, location=location))

        assert caught.value is error
        assert error.__cause__ is cause
        assert self.inspect(storage, location) is None
        run(storage.create_from(in_pieces(data), location=location))
        assert_equal(self.inspect(storage, location), data)

    @pytest.mark.parametrize("size", [0, 65_537, 20 * 2**20])
    def test_a_stream_never_replaces(self, storage: StreamingStorage, run: Run, size: int) -> None:
        """What is at a location stays what it is."""
        location = new_location()
        self.plant(storage, location, b"planted")

        with pytest.raises(StorageError, match=location):
            run(storage.create_from(in_pieces(some_data(size)), location=location))

        assert self.inspect(storage, location) == b"planted"

    def test_nobody_sees_a_part_of_what_is_written(
        self, storage: StreamingStorage, run: Run
    ) -> None:
        """Data is there whole, or not at all."""
        location, data = new_location(), some_data(20 * 2**20)

        async def look() -> None:
            if await storage.exists(location):
                assert_equal(await storage.read(location), data)

        run(watched(storage.create_from(in_pieces(data), location=location), look))

    @pytest.mark.parametrize("size", [0, 65_537, 20 * 2**20])
    def test_a_stream_that_is_cancelled_is_over(
        self, storage: StreamingStorage, run: Run, size: int
    ) -> None:
        """When the call is, its thread is through; and there is all that it wrote, or nothing."""
        location, data = new_location(), some_data(size)
        is_halfway, is_cancelled, is_through = (threading.Event() for _ in range(3))

        def write(file: BinaryIO) -> None:
            try:
                in_pieces(data)(file)
                is_halfway.set()
                is_cancelled.wait(PATIENCE)
                in_pieces(data)(file)
            finally:
                is_through.set()

        async def cancel() -> None:
            create = storage.create_from(write, location=location)
            creating = asyncio.ensure_future(create)
            await asyncio.to_thread(is_halfway.wait, PATIENCE)
            creating.cancel()
            await go_round(10)
            is_cancelled.set()
            await asyncio.wait({creating})
            assert creating.cancelled()
            assert is_through.is_set()

        run(cancel())

        assert self.inspect(storage, location) in (None, data * 2)

    @pytest.mark.parametrize("steps", [0, 1, 2, 5, 13, 34, 89, 233, 610])
    def test_a_cancelled_stream_leaves_all_or_nothing(
        self, storage: StreamingStorage, run: Run, steps: int
    ) -> None:
        """Whenever it is cancelled; and it can be made again elsewhere."""
        location, data = new_location(), some_data(20 * 2**20)
        create_from = storage.create_from

        run(cancelled_after(steps, create_from(in_pieces(data), location=location)))

        found = self.inspect(storage, location)
        if found is not None:
            assert_equal(found, data)
        assert_equal(self.inspect(storage, run(create_from(in_pieces(data)))), data)

    def test_many_streams_are_written_at_once(self, storage: StreamingStorage, run: Run) -> None:
        """Also more than there are threads for; each is kept as it was written."""
        data = [some_data(100_000 + number) for number in range(2 * AT_ONCE)]
        locations = [new_location() for _ in data]
        create_from = storage.create_from

        run(
            all_of(
                [
                    create_from(in_pieces(each), location=where)
                    for each, where in zip(data, locations, strict=True)
                ]
            )
        )

        for each, location in zip(data, locations, strict=True):
            assert_equal(self.inspect(storage, location), each)

    @pytest.mark.parametrize("size", STREAM_SIZES)
    def test_what_is_fetched_is_whole(
        self, storage: StreamingStorage, run: Run, folder: Path, size: int
    ) -> None:
        """Data of any length is there as a file."""
        location, data = new_location(), some_data(size)
        self.plant(storage, location, data)

        path = run(storage.fetch(location, folder))

        assert_equal(path.read_bytes(), data)

    def test_fetching_a_location_never_made_fails(
        self, storage: StreamingStorage, run: Run, folder: Path
    ) -> None:
        """As reading it does, and no file is left."""
        with pytest.raises(FileNotFoundError) as caught:
            run(storage.fetch(new_location(), folder))

        assert not isinstance(caught.value, StorageError)
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13, 34, 89, 233])
    def test_a_cancelled_fetch_leaves_no_file(
        self, storage: StreamingStorage, run: Run, folder: Path, steps: int
    ) -> None:
        """Whenever it is cancelled."""
        location = new_location()
        self.plant(storage, location, some_data(20 * 2**20))
        run(storage.exists(location))  # what there is to open is open

        was_cancelled = run(cancelled_after(steps, storage.fetch(location, folder)))

        assert not was_cancelled or list(folder.iterdir()) == []

    @pytest.mark.parametrize("location", HOSTILE, ids=ascii)
    @pytest.mark.parametrize("operation", ["create_from", "fetch"])
    def test_a_hostile_location_is_not_streamed(
        self, storage: StreamingStorage, run: Run, folder: Path, operation: str, location: str
    ) -> None:
        """What is no location is refused before any file or connection is opened."""
        calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "create_from": lambda: streamed.create_from(in_pieces(b"data"), location=location),
            "fetch": lambda: streamed.fetch(location, folder),
        }
        streamed = storage
        run(asyncio.sleep(0))

        with io_recorded() as io, pytest.raises(CorruptRowError):
            run(calls[operation]())

        assert io == []


def any_history() -> SearchStrategy[list[tuple[str, int, bytes]]]:
    """What is called, at which of two locations, with which data: often with the same again."""
    operations = st.sampled_from(["create", "read", "update", "delete"])
    data = st.sampled_from([b"data", b"more\0"]) | st.binary(max_size=40)
    return st.lists(st.tuples(operations, st.integers(0, 1), data), min_size=8, max_size=24)


def some_data(size: int) -> bytes:
    """As many bytes, without a pattern, the same at every call."""
    return random.Random(size).randbytes(size)


def in_pieces(data: bytes) -> Callable[[BinaryIO], None]:
    """Writes data in pieces of different lengths and kinds."""

    def write(file: BinaryIO) -> None:
        kinds: Iterator[Callable[[bytes], Data]] = cycle((bytes, bytearray, memoryview))
        start = 0
        for size in cycle((1, 100_003, 3 * 2**20 + 7)):
            if start >= len(data):
                break
            write_all(file, next(kinds)(data[start : start + size]))
            start += size

    return write


def write_all(file: BinaryIO, piece: Data) -> None:
    """Write a piece; a file says how much of it is taken."""
    rest = memoryview(piece)
    while rest:
        taken = file.write(rest)
        assert taken in range(1, len(rest) + 1), f"write() says that it has taken {taken!r} bytes"
        rest = rest[taken:]


def assert_equal(found: Data | None, expected: bytes) -> None:
    """Compare large data without printing it."""
    assert found is not None, "there is nothing"
    assert len(found) == len(expected)
    is_equal = bytes(found) == expected
    assert is_equal, "other data of the same length"


@contextmanager
def event_loop() -> Generator[Run]:
    """An event loop that runs one thing after the other, none for ever."""
    with asyncio.Runner() as runner:

        def run(work: Coroutine[Any, Any, T], /) -> T:
            return runner.run(asyncio.wait_for(work, PATIENCE))

        yield run


async def watched(
    work: Coroutine[Any, Any, object], look: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Do some work while others look, each a step of the event loop after the one before."""
    is_over = asyncio.Event()

    async def do() -> None:
        await go_round(WATCHERS)
        await work
        is_over.set()

    async def watch(number: int) -> None:
        await go_round(number)
        while not is_over.is_set():
            await look()
            await go_round(1)

    await all_of([do(), *(watch(number) for number in range(WATCHERS))])


async def cancelled_after(steps: int, work: Coroutine[Any, Any, object]) -> bool:
    """Cancel it when the event loop has gone round so many times, and wait for its end.

    Returns:
        Whether it was not through before.
    """
    task = asyncio.ensure_future(work)
    await go_round(steps)
    task.cancel()
    await asyncio.wait({task})
    return task.cancelled()


async def go_round(times: int) -> None:
    """Let the event loop do so many times what else there is to do."""
    for _ in range(times):
        await asyncio.sleep(0)


async def all_of(works: list[Coroutine[Any, Any, Any]]) -> None:
    """Do all at once."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def outcomes(works: list[Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    """Do all at once, and give their results and errors."""
    return await asyncio.gather(*works, return_exceptions=True)


_recordings: list[list[str]] = []
_IO_EVENTS = ("open", "os.", "shutil.", "socket.", "sqlite3.", "subprocess.", "tempfile.")


@contextmanager
def io_recorded() -> Generator[list[str]]:
    """What the interpreter reports of files and connections meanwhile, in all threads."""
    if not _recordings:
        sys.addaudithook(_record)  # for the life of the process: there is no way to remove one
        _recordings.append([])
    events: list[str] = []
    _recordings.append(events)
    try:
        yield events
    finally:
        _recordings.remove(events)


def _record(event: str, _arguments: tuple[Any, ...]) -> None:
    if len(_recordings) > 1 and event.startswith(_IO_EVENTS):
        _recordings[-1].append(event)
