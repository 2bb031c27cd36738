"""One value and its row: its serializer, its storage, and whether its data is what was saved."""

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

from artigraph.blobs import Blob
from artigraph.database import DEFAULT_STORAGE, Database
from artigraph.errors import (
    ArtifactLoadError,
    ArtigraphError,
    BlobMissingError,
    CorruptBlobError,
    CorruptRowError,
    DeserializeError,
    FieldTypeError,
    LimitError,
    MissingExtraError,
    PluginLoadError,
    SerializerNotFoundError,
    StorageError,
    UnknownStorageError,
    UnsafeSerializerError,
    UnsupportedValueError,
    shown,
)
from artigraph.graph import Node, Row
from artigraph.ids import new_id
from artigraph.index import KNOWN
from artigraph.plugins import registry, takes
from artigraph.serializer.json import JsonSerializer
from artigraph.spec import (
    Data,
    Serializer,
    Storage,
    check_location,
    new_location,
    registered_serializers,
)

LARGE: Final = 64 * 1024
"""Data of more bytes than this goes to the database's storage, where it has one."""

MAX_INLINE: Final = 1024 * 1024
"""Data of more bytes than this is not put into a row."""

MAX_TRANSFERS: Final = 16
"""How many objects a save or a load moves at once."""

_ENDS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
"""What is raised to end a task, or the process."""


@dataclass
class Part:
    """A value that gets a row of its own, and what its field says about it."""

    row: Row
    value: object
    where: str
    serializer: Serializer[Any] | None
    storage: Storage | None
    enums: Collection[type[Enum]]


@dataclass(frozen=True)
class Transfer:
    """Data on its way to a storage."""

    row: Row
    storage_name: str
    storage: Storage
    data: Data


def serialize_parts(parts: Sequence[Part], database: Database) -> list[Transfer]:
    """Fill the rows of the parts; what goes to a storage is returned. Runs in a worker thread.

    Raises:
        ArtigraphError: A value can't be kept; nothing was written.
    """
    transfers: list[Transfer] = []
    for part in parts:
        serializer = part.serializer or _choose_serializer(part)
        data = _serialized(part, serializer)
        row = part.row
        row["artifact_serializer"] = serializer.name
        row["artifact_distribution"] = registry.distribution_of(serializer)
        row["artifact_size"] = len(data)
        row["artifact_sha256"] = hashlib.sha256(data).hexdigest()
        destination = _destination(part, len(data), database)
        if destination is None:
            row["artifact_data"] = bytes(data)
        else:
            transfers.append(Transfer(row, *destination, data))
    return transfers


def new_blob(transfer: Transfer) -> Blob:
    """A blob at a new location for the data."""
    return Blob(
        new_id(),
        transfer.storage_name,
        new_location(),
        transfer.row["artifact_size"],
        transfer.row["artifact_sha256"],
    )


async def write_blobs(transfers: Sequence[tuple[Transfer, Blob, bool]]) -> None:
    """Write all data to its storages; the first failure stops the rest.

    Args:
        transfers: Each with its blob, and whether that is new; where it is not, data is written
            only if it is missing.

    Raises:
        StorageError: A storage refused.
    """
    turns = asyncio.Semaphore(MAX_TRANSFERS)

    async def write(transfer: Transfer, blob: Blob, is_new: bool) -> None:
        async with turns:
            if is_new or not await transfer.storage.exists(blob.location):
                await _create(transfer, blob.location)

    try:
        async with asyncio.TaskGroup() as group:
            for each in transfers:
                group.create_task(write(*each))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


async def _create(transfer: Transfer, location: str) -> None:
    storage = transfer.storage
    try:
        used = await storage.create(transfer.data, location=location)
    except ArtigraphError:
        raise
    except Exception as error:
        raise StorageError(storage.name, f"keep {location}", in_words(error)) from error
    if used != location:
        raise StorageError(storage.name, f"keep {location}", f"it used {shown(used)} instead")


async def read_all(
    nodes: Sequence[tuple[Node, str, Storage | None]], database: Database
) -> list[Data]:
    """The verified data of nodes, each with what messages call it and its field's storage.

    Raises:
        ArtifactLoadError: Some data is missing, or not what was saved.
        StorageError: A storage refused.
    """
    turns = asyncio.Semaphore(MAX_TRANSFERS)

    async def read(node: Node, artifact: str, declared: Storage | None) -> Data:
        async with turns:
            return await read_data(node, artifact, declared, database)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(*each)) for each in nodes]
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    return [task.result() for task in tasks]


async def read_data(
    node: Node, artifact: str, declared: Storage | None, database: Database
) -> Data:
    """The verified data of one node, from its row or its storage.

    Raises:
        ArtifactLoadError: It is missing, or not what was saved.
        StorageError: The storage refused.
    """
    if node.size is None or node.sha256 is None or (node.data is None) == (node.blob_id is None):
        raise CorruptRowError(artifact, "its row does not say where its data is, or how much.")
    data = node.data if node.data is not None else None
    where = "The row"
    if data is None:
        data = await _read_blob(node, artifact, declared, database)
        where = f"Storage {shown(node.blob_storage)} at {node.blob_location}"
    if not isinstance(data, Data):  # pyright: ignore[reportUnnecessaryIsInstance]  # SQLite keeps a text as well
        reason = f"{where} has a {type(data).__name__} for its bytes."
        raise CorruptBlobError(artifact, reason, "altered")
    if len(data) != node.size:
        damage = "truncated" if len(data) < node.size else "altered"
        reason = f"{where} has {len(data)} of its {node.size} bytes."
        raise CorruptBlobError(artifact, reason, damage)
    found = await _sha256(data)
    if found != node.sha256:
        reason = f"{where} has data of SHA-256 {found[:12]}..., of {node.sha256[:12]}... was saved."
        raise CorruptBlobError(artifact, reason, "altered")
    return data


def in_words(error: Exception) -> str:
    """An error as it is if it is ours, else its class: its text may hold what must not be told."""
    return str(error) if isinstance(error, ArtigraphError) else f"it raised {type(error).__name__}"


def deserialize(
    node: Node,
    artifact: str,
    data: Data,
    declared: Serializer[Any] | None,
    enums: Collection[type[Enum]],
) -> object:
    """The value of verified data, by the serializer that the row names.

    Raises:
        ArtifactLoadError: The serializer is not here, not allowed, or can't read the data.
    """
    serializer = _serializer_named(node, artifact, declared, enums)
    if serializer.executes_code and not registry.is_allowed(serializer.name):
        raise UnsafeSerializerError(
            artifact,
            f"its serializer {serializer.name!r} can execute code that the data brings. If you"
            f" trust all data of this database: artigraph.serializer.allow({serializer.name!r}).",
        )
    try:
        return serializer.deserialize(data)
    except _ENDS:
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        raise DeserializeError(
            artifact,
            f"its data is intact, and serializer {serializer.name!r} can't read it"
            f" ({type(error).__name__}).",
        ) from error


def get_blob_storage(
    name: str, artifact: str, database: Database, declared: Storage | None = None
) -> Storage:
    """The storage that a blob's row names: the database's own, the declared, or a registered.

    Raises:
        ArtifactLoadError: It is none of them.
    """
    if name == DEFAULT_STORAGE:
        if database.storage is not None:
            return database.storage
        raise ArtifactLoadError(
            artifact,
            "its data is in the storage of the database, and none is set:"
            " set_database(url, storage=...), or ARTIGRAPH_STORAGE.",
        )
    if declared is not None and declared.name == name:
        return declared
    try:
        return registry.get_storage(name)
    except UnknownStorageError as error:
        raise ArtifactLoadError(artifact, f"its storage is not here: {error}") from error


def can_choose(kind: type[Any], default: Serializer[Any] | None) -> Serializer[Any] | None:
    """The serializer that the user has chosen for a type: the model's default, or a registered."""
    if default is not None and takes(default, kind):
        return default
    return registry.find_registered_for(kind) if registered_serializers else None


def _choose_serializer(part: Part) -> Serializer[Any]:
    kind = type(part.value)
    try:
        found = registry.find_serializer_for(kind)
    except (PluginLoadError, MissingExtraError) as error:
        error.add_note(f"It was needed to save {part.where}.")
        raise
    if found is not None:
        return found
    for base in kind.__mro__:
        key = base.__module__.partition(".")[0]
        if key in KNOWN and not registry.is_served(key):
            if disabled := registry.explain_disabled(key):
                raise SerializerNotFoundError(f"for {part.where}", (), disabled)
            raise MissingExtraError(f"{part.where} ({_described(part.value)})", *KNOWN[key])
    return JsonSerializer(part.enums)


def _serialized(part: Part, serializer: Serializer[Any]) -> Data:
    if serializer.types and not takes(serializer, type(part.value)):
        expected = " or ".join(kind.__name__ for kind in serializer.types)
        if isinstance(part.value, serializer.types):
            expected += " and no subclass, which would come back as one"
        raise FieldTypeError(part.where, serializer.name, expected, _described(part.value))
    try:
        data = serializer.serialize(part.value)
        if not isinstance(data, Data):  # pyright: ignore[reportUnnecessaryIsInstance]  # a stranger's word
            raise TypeError(f"its data is a {type(data).__name__}")
        return data
    except UnsupportedValueError as error:
        where = part.where + error.where.removeprefix("the value")
        if not error.where.startswith("the value"):
            where = f"{part.where}, {error.where}"
        raise UnsupportedValueError(where, error.type_name, error.remedy) from error
    except FieldTypeError as error:
        raise FieldTypeError(part.where, *error.args[1:]) from error
    except ArtigraphError as error:
        error.add_note(f"It was raised for {part.where}.")
        raise
    except Exception as error:
        raise UnsupportedValueError(
            part.where,
            _described(part.value),
            f"Serializer {serializer.name!r} failed on it ({type(error).__name__}).",
        ) from error


def _destination(part: Part, size: int, database: Database) -> tuple[str, Storage] | None:
    """The storage for data of this size, and its name in the row; None keeps it in the row."""
    if part.storage is not None:
        return part.storage.name, part.storage
    if size > LARGE and database.storage is not None:
        return DEFAULT_STORAGE, database.storage
    if size > MAX_INLINE:
        raise LimitError(
            part.where,
            f"its data has {size:,} bytes, and neither its field nor the database has a storage",
            f"{MAX_INLINE:,} bytes in a row",
            "Give the database one, set_database(url, storage=...), or the field,"
            " artifact_field(storage=...).",
        )
    return None


async def _sha256(data: Data) -> str:
    if len(data) > MAX_INLINE:
        return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
    return hashlib.sha256(data).hexdigest()


async def _read_blob(
    node: Node, artifact: str, declared: Storage | None, database: Database
) -> Data:
    location = node.blob_location
    if location is None or node.blob_storage is None or node.blob_state != "live":
        raise CorruptRowError(artifact, "the blob that its row names is not a live one.")
    try:
        check_location(location)
    except CorruptRowError as error:
        raise CorruptRowError(artifact, f"{error.artifact}: {error.reason}") from error
    storage = get_blob_storage(node.blob_storage, artifact, database, declared)
    try:
        return await storage.read(location)
    except FileNotFoundError as error:
        raise BlobMissingError(
            artifact, f"storage {storage.name!r} has nothing at {location}."
        ) from error
    except ArtigraphError as error:
        error.add_note(f"It was raised for {artifact}.")
        raise
    except Exception as error:
        raise StorageError(storage.name, f"read {location}", in_words(error)) from error


def _serializer_named(
    node: Node,
    artifact: str,
    declared: Serializer[Any] | None,
    enums: Collection[type[Enum]],
) -> Serializer[Any]:
    name = node.serializer
    if name is None:
        raise CorruptRowError(artifact, "its row names no serializer.")
    if declared is not None and declared.name == name:
        return declared
    if name == JsonSerializer.name:
        return JsonSerializer(enums)
    try:
        return registry.get_serializer(name, node.distribution)
    except (SerializerNotFoundError, PluginLoadError, MissingExtraError) as error:
        raise ArtifactLoadError(artifact, f"its serializer is not here: {error}") from error


def _described(value: object) -> str:
    try:
        return f"a {type(value).__name__} of length {len(value)}"  # type: ignore[arg-type]  # asked, not known
    except TypeError:
        return f"a {type(value).__name__}"


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, as if it had been raised alone."""
    first = errors.exceptions[0]
    return _first(cast("BaseExceptionGroup[BaseException]", first)) if _is_group(first) else first


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)
