"""One value and its row: which serializer, which storage, and the data."""

import asyncio
import hashlib
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO, Final

from artigraph.engine import DEFAULT_STORAGE, Database
from artigraph.errors import (
    ArtifactLoadError,
    ArtigraphError,
    CorruptRowError,
    DeserializeError,
    FieldTypeError,
    LimitError,
    MissingExtraError,
    PluginLoadError,
    SerializerNotFoundError,
    UnsafeSerializerError,
    UnsupportedValueError,
)
from artigraph.graph import Node, Row
from artigraph.index import KNOWN
from artigraph.lazy import stored_in, value_in
from artigraph.plugins import registry, takes
from artigraph.serializer.json import JsonSerializer
from artigraph.spec import (
    Data,
    Serializer,
    Storage,
    StreamingSerializer,
    StreamingStorage,
    registered_serializers,
)
from artigraph.transfer import MAX_INLINE, Request, Transfer

LARGE: Final = 64 * 1024
"""Data of more bytes than this goes to the database's storage, where it has one."""

STREAMED: Final = 8 * 2**20
"""Data of about as many bytes is made while it is written, where that is possible."""

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


def serialize_parts(parts: Sequence[Part], database: Database) -> list[Transfer]:
    """Fill the rows of the parts; what goes to a storage is returned. Runs in a worker thread.

    Raises:
        ArtigraphError: A value can't be kept; nothing was written.
    """
    transfers: list[Transfer] = []
    for part in parts:
        row = part.row
        stored = stored_in(part.value)
        if stored is not None:
            row.update(stored.columns)
            continue
        part.value = value_in(part.value)
        serializer = part.serializer or _choose_serializer(part)
        row["artifact_serializer"] = serializer.name
        row["artifact_distribution"] = registry.distribution_of(serializer)
        streaming = _streaming(part, serializer, database)
        if streaming is not None:
            transfers.append(streaming)
            continue
        data = _serialized(part, serializer)
        row["artifact_size"] = len(data)
        row["artifact_sha256"] = hashlib.sha256(data).hexdigest()
        destination = _destination(part, len(data), database)
        if destination is None:
            row["artifact_data"] = bytes(data)
        else:
            transfers.append(Transfer(row, part.where, *destination, data))
    return transfers


def request_for(
    node: Node,
    artifact: str,
    storage: Storage | None,
    serializer: Serializer[Any] | None,
    enums: Collection[type[Enum]],
) -> Request:
    """What is read of a node for `deserialize`; storage and serializer are those of its field."""
    return Request(
        node,
        artifact,
        storage,
        lambda: serializer_of(node, artifact, serializer, enums).wants_writable,
    )


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
    serializer = serializer_of(node, artifact, declared, enums)
    with decoding(artifact, serializer):
        return serializer.deserialize(data)


def serializer_of(
    node: Node,
    artifact: str,
    declared: Serializer[Any] | None,
    enums: Collection[type[Enum]],
) -> Serializer[Any]:
    """The serializer that the row names.

    Raises:
        ArtifactLoadError: It is not here, or not allowed.
    """
    serializer = _serializer_named(node, artifact, declared, enums)
    if serializer.executes_code and not registry.is_allowed(serializer.name):
        raise UnsafeSerializerError(
            artifact,
            f"its serializer {serializer.name!r} can execute code that the data brings. If you"
            f" trust all data of this database: artigraph.serializer.allow({serializer.name!r}).",
        )
    return serializer


class decoding:
    """What a serializer raises for verified data, as an error that names the artifact."""

    # A generator of contextlib would let StopIteration pass, which it takes for its own.

    def __init__(self, artifact: str, serializer: Serializer[Any]) -> None:
        self._artifact, self._name = artifact, serializer.name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, _ENDS):
            return
        raise DeserializeError(  # a panic of Rust is no Exception
            self._artifact,
            f"its data is intact, and serializer {self._name!r} can't read it"
            f" ({type(error).__name__}).",
        ) from error


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


def _streaming(part: Part, serializer: Serializer[Any], database: Database) -> Transfer | None:
    """The transfer of a value whose data is made while it is written, if it is one."""
    storage = part.storage or database.storage
    if not isinstance(serializer, StreamingSerializer) or not isinstance(storage, StreamingStorage):
        return None
    with _explained(part, serializer):
        size = None if _is_source(part.value, serializer) else serializer.estimate(part.value)
    if size is not None and size < STREAMED:
        return None
    _check_type(part, serializer)
    name = DEFAULT_STORAGE if part.storage is None else storage.name
    return Transfer(part.row, part.where, name, storage, partial(_dump, part, serializer))


def _dump(part: Part, serializer: StreamingSerializer[Any], file: BinaryIO) -> None:
    with _explained(part, serializer):
        serializer.dump(part.value, file)


def _serialized(part: Part, serializer: Serializer[Any]) -> Data:
    _check_type(part, serializer)
    with _explained(part, serializer):
        if isinstance(serializer, StreamingSerializer) and _is_source(part.value, serializer):
            file = BytesIO()
            serializer.dump(part.value, file)
            return file.getbuffer()
        data = serializer.serialize(part.value)
        if not isinstance(data, Data):  # pyright: ignore[reportUnnecessaryIsInstance]  # a stranger's word
            raise TypeError(f"its data is a {type(data).__name__}")
        return data


def _is_source(value: object, serializer: StreamingSerializer[Any]) -> bool:
    return isinstance(value, serializer.sources)


def _check_type(part: Part, serializer: Serializer[Any]) -> None:
    if not serializer.types or takes(serializer, type(part.value)):
        return
    expected = " or ".join(kind.__name__ for kind in serializer.types)
    if isinstance(part.value, serializer.types):
        expected += " and no subclass, which would come back as one"
    raise FieldTypeError(part.where, serializer.name, expected, _described(part.value))


@contextmanager
def _explained(part: Part, serializer: Serializer[Any]) -> Generator[None]:
    """What a serializer raises, as an error that names the field."""
    try:
        yield
    except UnsupportedValueError as error:
        where = part.where + error.where.removeprefix("the value")
        if not error.where.startswith("the value"):
            where = f"{part.where}, {error.where}"
        raise UnsupportedValueError(where, error.type_name, error.remedy) from error
    except FieldTypeError as error:
        raise FieldTypeError(part.where, *error.args[1:]) from error
    except LimitError as error:
        where = part.where + error.where.removeprefix("the value")
        raise LimitError(where, *error.args[1:]) from error
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
