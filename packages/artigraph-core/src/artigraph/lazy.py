"""Values that are loaded when they are asked for."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

from artigraph.errors import UnsupportedValueError

T = TypeVar("T")


class Stored(Protocol):
    """A value in a database, of which nothing was read but its row."""

    @property
    def size(self) -> int:
        """Of its data, in bytes."""
        ...

    @property
    def content(self) -> tuple[str, str]:
        """Its serializer's name, and the SHA-256 of its data: what makes two of them equal."""
        ...

    @property
    def columns(self) -> Mapping[str, Any]:
        """What the row of another node holds that has the same data."""
        ...

    def is_in(self, database: object) -> bool:
        """Whether another node of this database can have the same data."""
        ...

    async def load(self) -> Any: ...

    async def map(self) -> Any: ...

    async def select(self, columns: Sequence[str] | None, rows: slice | None) -> Any: ...

    async def scan(self) -> Any: ...


class Lazy(Generic[T]):
    """The value of a field that is loaded when it is asked for, and not with its model.

        @dataclass
        class Report(ArtifactModel, version=1):
            title: str
            table: Lazy[pa.Table]

        report = Report("Delays", Lazy(table))

    What was loaded with a model and never asked for is saved again without its data being read.
    Two of them are equal if they have equal values, or were not asked for and have the same data.
    """

    __slots__ = ("_loading", "_stored", "_value")

    def __init__(self, value: T) -> None:
        self._value: T | None = value
        self._stored: Stored | None = None
        self._loading: asyncio.Task[T] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the value is in memory."""
        return self._stored is None

    async def load(self) -> T:
        """The value; it is read once, also if several tasks ask for it at once.

        Raises:
            ArtifactLoadError: It can't be loaded.
            StorageError: Its storage refused.
        """
        stored = self._stored
        if stored is None:
            return self._value  # type: ignore[return-value]  # it was given, or loaded
        loading = self._loading
        if loading is None or loading.get_loop() is not asyncio.get_running_loop():
            loading = self._loading = asyncio.create_task(self._load(stored))
        return await asyncio.shield(loading)

    async def map(self) -> T:
        """The value, read-only and where it lies: what is not touched is not read from the disk.

        Its data is verified when it is first mapped in this process, and fetched to a file before
        where it is not in one. Each call maps it anew. A value in memory is returned as it is.

        Raises:
            ArtifactLoadError: Its serializer can't map, or it can't be loaded.
            StorageError: Its storage refused.
        """
        return self._value if self._stored is None else await self._stored.map()  # type: ignore[return-value]  # as above

    async def select(self, columns: Sequence[str] | None = None, rows: slice | None = None) -> T:
        """A part of a table that was loaded with its model; nothing else of it is decoded.

        Args:
            columns: The names of those that are wanted, in this order; all by default.
            rows: The range of those that are wanted, as in `slice(100, 200)`; all by default.

        Raises:
            ColumnNotFoundError: There is no column of a name.
            ArtifactLoadError: Its serializer knows no parts, or it can't be loaded.
            UnsupportedValueError: The value is in memory already.
            StorageError: Its storage refused.
        """
        return await self._need().select(columns, rows)

    async def scan(self) -> Any:
        """The library's own object that reads a table when it is asked to.

        A `polars.LazyFrame` of a frame of polars, a `pyarrow.dataset.Dataset` of an Arrow table.

        Raises:
            ArtifactLoadError: Its serializer can't scan, or it can't be loaded.
            UnsupportedValueError: The value is in memory already.
            StorageError: Its storage refused.
        """
        return await self._need().scan()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Lazy):
            return NotImplemented
        mine, its = stored_in(self), stored_in(cast("object", other))
        if mine is not None and its is not None:
            return mine.content == its.content
        if mine is not None or its is not None:
            return False
        value, other_value = value_in(self), value_in(cast("object", other))
        return value is other_value or bool(value == other_value)

    __hash__ = None  # type: ignore[assignment]  # as of every value that may change

    def __repr__(self) -> str:
        if self._stored is None:
            return f"Lazy({self._value!r})"
        return f"<Lazy, {self._stored.size:,} bytes that are not loaded>"

    async def _load(self, stored: Stored) -> T:
        try:
            value = await stored.load()
        except BaseException:
            self._loading = None  # the next one who asks tries again
            raise
        self._value, self._stored, self._loading = value, None, None
        return value

    def _need(self) -> Stored:
        if self._stored is None:
            raise UnsupportedValueError(
                "Lazy", "a value in memory", "Take what you need from what load() returns."
            )
        return self._stored


def lazy(stored: Stored) -> Lazy[Any]:
    """A value that is stored, and was not asked for."""
    value = Lazy[Any](None)
    value._stored = stored  # pyright: ignore[reportPrivateUsage]  # made here, for the core alone
    return value


def stored_in(value: object) -> Stored | None:
    """Where a lazy value is that was not asked for; of any other, None."""
    return cast("Lazy[Any]", value)._stored if isinstance(value, Lazy) else None  # pyright: ignore[reportPrivateUsage]


def value_in(value: object) -> object:
    """What a lazy value has in memory; any other is itself."""
    return cast("Lazy[Any]", value)._value if isinstance(value, Lazy) else value  # pyright: ignore[reportPrivateUsage]
