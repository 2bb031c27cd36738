"""The contracts of Artigraph's plugins, on one page.

A plugin is a distribution that adds serializers, storages, or both. It names a module under the
entry-point group `artigraph`, for every key that it serves:

    [project.entry-points.artigraph]
    geojson = "acme_geojson.plugin"

A **key** is the top-level module of the values' types (`pandas`), or the scheme of the storage's
names (`s3`). The module has functions with the names and signatures of `SerializerPlugin` and
`StoragePlugin`; it is imported when a value of such a type is saved, or a row that names one of its
serializers or storages is loaded, and not before.
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import isclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, Self, TypeAlias, TypeVar, cast
from uuid import uuid4

from artigraph.errors import CorruptRowError, RegistrationError, shown

T = TypeVar("T")

Data: TypeAlias = bytes | bytearray | memoryview
"""What a serializer makes of a value, and a storage keeps; a memoryview is of bytes, contiguous."""

MAX_NAME_LENGTH = 255
"""Of a serializer's name, in characters: what its column holds."""

_SERIALIZER_NAME = re.compile(r"\w+([.-]\w+)*", re.ASCII)
_LOCATION = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{30}")


class Serializer(ABC, Generic[T]):
    """Makes data of a value and an equal value, of the same type, of the data.

    What can't come back equal is refused in `serialize`, with an error that names it. Both methods
    are called from worker threads, several at a time.
    """

    name: str
    """`<key>.<kind>[.<format>]`, as in `pandas.dataframe.parquet`: stored in every row that the
    serializer writes, so it never changes its meaning. A new format is a new name."""

    types: tuple[type[Any], ...] = ()
    """The types that it takes: values of exactly these, for which it is chosen by itself. A
    serializer without types takes anything, and is chosen only where it is asked for."""

    subclasses: bool = False
    """Whether it takes subclasses of `types` too: only where they come back as such."""

    deterministic: bool = True
    """Whether equal values always give the same data. Where they do not, a save that failed and is
    repeated can't be told from a save of something else, and is refused as such."""

    wants_writable: bool = False
    """Whether the value can lie in the data, and wants to be written to: `deserialize` is given
    much data in memory that may be written to, where the storage can put it there by itself."""

    executes_code: bool = False
    """Whether `deserialize` can execute code that the data brings. Such a serializer is refused on
    load, unless the application has called `artigraph.serializer.allow(name)`."""

    @abstractmethod
    def serialize(self, value: T) -> Data:
        """The data of `value`, complete; the value is left as it was.

        Raises:
            ArtigraphError: `value` would not come back equal and of its type. Where the `where` of
                an `UnsupportedValueError` begins with "the value", users read the path of the field
                in its place, as in `Model.field[0]`.
        """

    @abstractmethod
    def deserialize(self, data: Data) -> T:
        """The value of which `serialize` made `data`.

        The data is what was saved: its size and SHA-256 are verified before. It is the value's from
        now on, which may lie in it; where it is not read-only it may be written to, too.
        Whatever this raises reaches the user as the cause of a `DeserializeError`.
        """

    def register(self) -> Self:
        """Make the serializer known to this process, before all plugins, and return it.

        Raises:
            RegistrationError: The name or the types are none, or the name is that of a serializer
                of another class.
        """
        check_serializer(self)
        registered_serializers.add(self)
        return self


class StreamingSerializer(Serializer[T]):
    """A serializer that writes its data piece by piece, so that a large value is never there twice.

    Core calls `dump` for values that are large and go to a storage, `serialize` for all others.
    """

    sources: tuple[type[Any], ...] = ()
    """More types that `dump` takes, subclasses included: of what yields the data of such a value,
    once, as an iterator or a query. What is loaded is the value, and not its source."""

    @abstractmethod
    def estimate(self, value: T) -> int | None:
        """About how many bytes the data will have, told without making it; None if that is unknown.

        Called on the event loop: it only asks the value for its size.
        """

    @abstractmethod
    def dump(self, value: T, file: BinaryIO) -> None:
        """Write the data of `value` to a file that can only be written to, and is not closed.

        The same data as `serialize` gives, or other data of the same format, in pieces that are
        small or lie in `value`. Called in a worker thread.

        Raises:
            ArtigraphError: As `serialize`; what was written until then is thrown away.
        """


class MappingSerializer(Serializer[T]):
    """A serializer whose values can stay in a file on this machine, and be read where they lie."""

    @abstractmethod
    def map(self, file: "LocalFile") -> T:
        """The value in a file of verified data, read-only: what is not touched is not read.

        The file stays as it is for as long as the value lives, also where it loses its name.
        """


class SelectingSerializer(Serializer[T]):
    """A serializer of tables, of which parts can be read without the rest."""

    @abstractmethod
    def select(self, file: "LocalFile", columns: Sequence[str] | None, rows: slice | None) -> T:
        """The columns of these names, in this order, and the rows of this range.

        Args:
            file: Of verified data.
            columns: None for all of them; each at most once.
            rows: From `start` to before `stop`, both at least 0 or None, without a step.

        Raises:
            LookupError: There is no column of a name, or more than one; the error names it.
        """


class ScanningSerializer(Serializer[T]):
    """A serializer of tables that its library can query where they lie."""

    @abstractmethod
    def scan(self, file: "LocalFile") -> Any:
        """The library's own object for a table that is read when it is asked for.

        It may open `file.path` later, which is there for as long as nobody deletes the artifact.
        """


class LocalFile(Protocol):
    """Verified data as a file on this machine."""

    @property
    def path(self) -> Path:
        """Its name, for libraries that open files by themselves."""
        ...

    @property
    def data(self) -> memoryview:
        """All of it, mapped into memory and read-only: kept by what refers to it."""
        ...


class Storage(ABC):
    """Keeps data at locations.

    Everything may be called from several tasks and event loops at once.
    """

    name: str
    """Where the data is, as a URI without secrets, as in `s3://bucket/prefix`: stored in every row
    whose data is here, so it is the same in every process."""

    @abstractmethod
    async def create(self, data: Data, *, location: str | None = None) -> str:
        """Keep `data` at `location`, or at a new one, and return it.

        Complete and durable before it returns; until then nobody sees any of it. What is at
        `location` already is never replaced: if it has the size and SHA-256 of `data` the call has
        nothing left to do, otherwise it fails.

        Args:
            data: Of any length, also none.
            location: What `new_location()` returned.

        Raises:
            StorageError: The storage refused, or other data is at `location`.
        """

    @abstractmethod
    async def read(self, location: str) -> Data:
        """The data at `location`; what is not read-only is the caller's alone.

        Raises:
            FileNotFoundError: There is none.
            StorageError: The storage refused.
        """

    async def read_up_to(self, location: str, size: int) -> Data:
        """The data at `location`, or its beginning of `size` bytes where there is more.

        Core, which knows how much was saved, asks for one byte more than that. A storage that can
        leave the rest where it is should: what takes the place of data may be of any size. By
        default this is `read`.

        Args:
            location: Of the data.
            size: At least 1.

        Raises:
            FileNotFoundError: There is none.
            StorageError: The storage refused.
        """
        return await self.read(location)

    async def read_writable(self, location: str, size: int) -> Data:
        """As `read_up_to`, also in its errors, in memory that may be written to, if without a copy.

        Core asks for it where the value will lie there; `artigraph.memory.new_memory` gives such
        memory. By default this is `read_up_to`.
        """
        return await self.read_up_to(location, size)

    @abstractmethod
    async def update(self, location: str, data: Data) -> None:
        """Put `data` in the place of the data at `location`, whole: a reader sees one or the other.

        Raises:
            FileNotFoundError: There is none to replace.
            StorageError: The storage refused; the old data is still there.
        """

    @abstractmethod
    async def delete(self, location: str) -> None:
        """Remove the data at `location`; nothing happens where there is none.

        Raises:
            StorageError: The storage refused.
        """

    async def discard(self, location: str) -> None:
        """Remove whatever a writer that died has left for `location`, finished or not.

        Collection calls it for what was never published. A storage that keeps unfinished data
        elsewhere, as temporary files or parts, removes that too.

        Raises:
            StorageError: The storage refused.
        """
        await self.delete(location)

    @abstractmethod
    async def exists(self, location: str) -> bool:
        """Whether there is data at `location`.

        Raises:
            StorageError: The storage refused to tell.
        """

    def register(self) -> Self:
        """Make the storage known to this process by its name, and return it.

        Registering an equal one again, as a notebook cell does, puts the newer in its place.

        Raises:
            RegistrationError: The name is that of a storage of another class.
        """
        registered_storages.add(self)
        return self


class StreamingStorage(Storage):
    """A storage that takes data while it is made, and hands it out as a file on this machine."""

    @abstractmethod
    async def create_from(
        self, write: Callable[[BinaryIO], object], *, location: str | None = None
    ) -> str:
        """Keep what `write` writes, as `create` keeps its data, and return the location.

        Args:
            write: Called once, in a worker thread, with a file that takes data and nothing else.
                What it raises is raised here, and nothing is kept.
            location: What `new_location()` returned, and nobody else has.

        Raises:
            StorageError: The storage refused, or other data is at `location`.
        """

    @abstractmethod
    async def fetch(self, location: str, folder: Path) -> Path:
        """The data at `location` as a file of this machine, which nobody changes.

        Where the storage has no such file, it makes one.

        Args:
            location: Of the data.
            folder: Where to make it: empty, and of this process alone.

        Raises:
            FileNotFoundError: There is no data at `location`.
            StorageError: The storage refused.
        """


class SerializerPlugin(Protocol):
    """What a module that provides serializers has."""

    def artigraph_serializers(self) -> Iterable[Serializer[Any]]:
        """The serializers; each name begins with one of the plugin's keys."""
        ...


class StoragePlugin(Protocol):
    """What a module that provides storages has."""

    def artigraph_open_storage(self, uri: str) -> Storage | None:
        """The storage that `uri` names, or None where the scheme is not this plugin's.

        Called for what the application configures, never for what a row says.
        """
        ...


def new_location() -> str:
    """A location that no storage has used: two hexadecimal digits, a slash, and 32 of them."""
    digits = uuid4().hex
    return f"{digits[:2]}/{digits}"


def check_location(location: str) -> None:
    """Refuse what `new_location` does not make, before it is used as a path or a key.

    Raises:
        CorruptRowError: It is something else.
    """
    if not _LOCATION.fullmatch(location):
        raise CorruptRowError(
            f"the data at location {shown(location)}",
            "it is not a location that Artigraph makes, and was not looked at.",
        )


def check_serializer(serializer: Serializer[Any]) -> None:
    """Refuse a serializer that could never be found, or would be in the way of others.

    Raises:
        RegistrationError: Its name is none, or its types are not a tuple of classes.
    """
    check_serializer_name(serializer.name)
    types: Any = serializer.types  # a stranger's, so that it may be anything
    if not isinstance(types, tuple) or not all(map(isclass, cast("tuple[object]", types))):
        raise RegistrationError(serializer.name, "its types are not a tuple of classes")


def check_serializer_name(name: str) -> None:
    """Refuse what can't be the name of a serializer.

    Raises:
        RegistrationError: It is too long, or not words joined by dots.
    """
    if len(name) > MAX_NAME_LENGTH or not _SERIALIZER_NAME.fullmatch(name):
        raise RegistrationError(
            name,
            f"a serializer's name is <key>.<kind>[.<format>], at most {MAX_NAME_LENGTH} characters",
        )


class Named(Protocol):
    """What is known by its name."""

    name: str


N = TypeVar("N", bound=Named)


class Registrations(Mapping[str, N]):
    """What was registered explicitly, by name, the latest last.

    Reading takes no lock and sees one state of it, since every change puts a new dict in the place
    of the old.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, N] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> N:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def latest_first(self) -> Iterator[N]:
        """All of them as they are now."""
        return reversed(self._by_name.values())

    def add(self, new: N) -> None:
        """Add one, also in the place of one of its class and name.

        Raises:
            RegistrationError: The name is that of one of another class.
        """
        with self._lock:
            old = self._by_name.get(new.name)
            if old is not None and _origin(old) != _origin(new):
                raise RegistrationError(
                    new.name,
                    f"{_origin(old)} is registered under this name, and this is a {_origin(new)}",
                )
            others = {name: one for name, one in self._by_name.items() if name != new.name}
            self._by_name = {**others, new.name: new}

    @contextmanager
    def isolated(self) -> Generator[None]:
        """Undo at the end of the block what is added in it."""
        before = self._by_name
        try:
            yield
        finally:
            self._by_name = before


registered_serializers: Registrations[Serializer[Any]] = Registrations()
registered_storages: Registrations[Storage] = Registrations()


def _origin(named: object) -> str:
    return f"{type(named).__module__}.{type(named).__qualname__}"
