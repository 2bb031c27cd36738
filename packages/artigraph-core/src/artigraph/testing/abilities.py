"""What serializers promise that stream, map, select or scan, as tests; the others skip them."""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar, cast

import pytest

from artigraph.errors import ArtigraphError
from artigraph.plugins import takes
from artigraph.spec import (
    MappingSerializer,
    ScanningSerializer,
    SelectingSerializer,
    Serializer,
    StreamingSerializer,
)
from artigraph.testing.files import Sieve, WrittenFile, local_file, peak_memory

A = TypeVar("A", bound=Serializer[Any])
F = TypeVar("F", bound=Callable[..., None])


def needs(ability: type[Serializer[Any]]) -> Callable[[F], F]:
    """A test of an ability, which is left out for serializers that don't have it."""

    def mark(test: F) -> F:
        test.__dict__["ability"] = ability
        return test

    return mark


class AbilityTests:
    """The tests of the abilities that a serializer has beside the two methods."""

    serializer: Serializer[Any]

    sources: Mapping[str, tuple[Callable[[], Any], Any]] = {}
    """Of each kind of source what makes one, and the value that is loaded, by a name."""

    large: Any = None
    """A function that makes a value of 256 MB or more, as a `staticmethod`. Its dump has to do with
    `extra_memory`."""

    extra_memory: int = 64 * 2**20
    """What a dump may take beside the value, in bytes."""

    table: Any = None
    """For those that select or scan: a value with six rows or more, and the columns `names`."""

    names: Sequence[str] = ()
    """Of all its columns, two or more."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Leave out the tests of what the serializer can't, and of what is not given."""
        super().__init_subclass__(**options)
        serializer = getattr(cls, "serializer", None)
        for name, test in vars(AbilityTests).items():
            ability = getattr(test, "ability", None)
            if ability is not None and serializer is not None and name not in vars(cls):
                is_able = isinstance(serializer, ability)
                setattr(cls, name, test if is_able and cls._is_given(name) else None)

    def assert_same(self, loaded: Any, saved: Any) -> None:
        """Fail unless two values are equal and of one type, in all that a user can see of them."""
        assert type(loaded) is type(saved)
        assert loaded == saved

    def alter(self, value: Any) -> None:
        """Try to change what lies in a mapped file; an error is as good as a copy."""

    def part(self, table: Any, columns: Sequence[str], rows: slice) -> Any:
        """What `select` has to give of the table."""
        raise NotImplementedError

    def collect(self, scanned: Any) -> Any:
        """All of what `scan` gives, as the value."""
        raise NotImplementedError

    @needs(StreamingSerializer)
    def test_what_is_dumped_comes_back(self, value: Any) -> None:
        """In whatever pieces it is written, it is the data of the value."""
        serializer = self._able(StreamingSerializer[Any])

        data, again = self._dumped(value), self._dumped(value)

        self.assert_same(serializer.deserialize(data), value)
        assert data == again or not serializer.deterministic

    @needs(StreamingSerializer)
    def test_a_dump_ends_with_the_error_of_its_file(self, value: Any) -> None:
        """It is raised as it is, and nothing is written after it."""
        serializer = self._able(StreamingSerializer[Any])
        file = WrittenFile()
        serializer.dump(value, cast("BinaryIO", file))

        for full_at in {0, file.calls // 2, file.calls - 1} - {-1}:
            full = WrittenFile(full_at)
            with pytest.raises(OSError, match="the file is full") as caught:
                serializer.dump(value, cast("BinaryIO", full))
            assert caught.value is full.failure
            assert full.calls == full_at + 1

    @needs(StreamingSerializer)
    def test_what_is_refused_is_not_dumped(self, refusal: tuple[Any, str]) -> None:
        """It is the same error, whichever way the data goes."""
        serializer = self._able(StreamingSerializer[Any])
        value: Any
        value, words = refusal
        kind = cast("type[Any]", type(value))
        if not takes(serializer, kind) or issubclass(kind, serializer.sources):
            pytest.skip("core gives it to no dump, or to that of a source")

        with pytest.raises(ArtigraphError) as caught:
            serializer.dump(value, cast("BinaryIO", WrittenFile()))

        assert words in str(caught.value)

    @needs(StreamingSerializer)
    def test_the_size_of_data_is_estimated(self, value: Any) -> None:
        """Core streams what is large, by a number that takes no work."""
        serializer = self._able(StreamingSerializer[Any])

        size = serializer.estimate(value)

        assert size is None or (type(size) is int and size >= 0)

    @needs(StreamingSerializer)
    def test_a_source_is_saved_as_what_it_yields(self, source: tuple[Any, Any]) -> None:
        """What is loaded is a value."""
        serializer = self._able(StreamingSerializer[Any])
        make, value = source

        data = self._dumped(make())

        assert isinstance(make(), serializer.sources)
        self.assert_same(serializer.deserialize(data), value)

    @needs(StreamingSerializer)
    def test_a_large_value_is_never_there_twice(self) -> None:
        """It is dumped in pieces that are small, or lie in the value."""
        serializer = self._able(StreamingSerializer[Any])
        assert self.large is not None
        value, file = self.large(), Sieve()

        with peak_memory() as peak:
            serializer.dump(value, cast("BinaryIO", file))
            taken = peak()

        assert file.size
        assert taken < self.extra_memory

    @needs(MappingSerializer)
    def test_a_mapped_value_is_the_value(self, value: Any) -> None:
        """It is equal, also when the file has lost its name."""
        serializer = self._able(MappingSerializer[Any])
        data = bytes(self.serializer.serialize(value))

        with local_file(data) as file:
            mapped, again = serializer.map(file), serializer.map(file)
            del file
        gc.collect()

        self.assert_same(mapped, value)
        self.assert_same(again, value)

    @needs(MappingSerializer)
    def test_a_mapped_value_is_read_only(self, value: Any) -> None:
        """Whoever tries to alter it gets an error or a copy, and the file stays as it is."""
        serializer = self._able(MappingSerializer[Any])
        data = bytes(self.serializer.serialize(value))

        with local_file(data) as file:
            mapped = serializer.map(file)
            with suppress(Exception):
                self.alter(mapped)
            assert bytes(file.data) == data
            self.assert_same(serializer.map(file), value)

    @needs(SelectingSerializer)
    def test_columns_and_rows_are_selected(self) -> None:
        """The columns are in the order in which they were asked for; no row is made up."""
        serializer = self._able(SelectingSerializer[Any])
        table = self._table()
        first, *_, last = self.names
        ranges = (None, slice(1, 3), slice(2, None), slice(None, 2), slice(3, 1000), slice(2, 2))

        with local_file(self._data(table)) as file:
            for columns in (None, self.names, list(reversed(self.names)), [last], [last, first]):
                for rows in (*ranges, slice(1000, None), slice(1000, 2000)):
                    found = serializer.select(file, columns, rows)
                    wanted = self.part(table, columns or self.names, rows or slice(None))
                    self.assert_same(found, wanted)

    @needs(SelectingSerializer)
    def test_a_column_that_is_not_there_is_named(self) -> None:
        """Also where others are there."""
        serializer = self._able(SelectingSerializer[Any])

        with local_file(self._data(self._table())) as file:
            with pytest.raises(LookupError, match="no such column"):
                serializer.select(file, [self.names[0], "no such column"], None)

    @needs(ScanningSerializer)
    def test_a_scan_finds_the_table(self) -> None:
        """All that it says, read later, is the value."""
        serializer = self._able(ScanningSerializer[Any])
        table = self._table()

        with local_file(self._data(table)) as file:
            self.assert_same(self.collect(serializer.scan(file)), table)

    @classmethod
    def _is_given(cls, name: str) -> bool:
        given: dict[str, object] = {_SOURCES: cls.sources, _LARGE: cls.large}
        return bool(given.get(name, True))

    def _able(self, ability: type[A]) -> A:
        return cast("A", self.serializer)

    def _dumped(self, value: Any) -> bytes:
        file = WrittenFile()
        self._able(StreamingSerializer[Any]).dump(value, cast("BinaryIO", file))
        return bytes(file.data)

    def _table(self) -> Any:
        assert self.table is not None, "a serializer that selects or scans needs a table to test it"
        return self.table

    def _data(self, value: Any) -> bytes:
        return bytes(self.serializer.serialize(value))


_SOURCES = "test_a_source_is_saved_as_what_it_yields"
_LARGE = "test_a_large_value_is_never_there_twice"
