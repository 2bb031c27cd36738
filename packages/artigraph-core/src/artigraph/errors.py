"""Every exception that Artigraph raises on purpose.

Each is an `ArtigraphError` and also the builtin that a caller would expect:

    ArtigraphError
    ├── DefinitionError (TypeError)               a model class that can't be saved or rebuilt
    ├── UnsupportedValueError (TypeError)         a value that can't be kept exactly
    ├── FieldTypeError (TypeError)                a value that its field's serializer doesn't take
    ├── LabelError (ValueError)                   not a label
    ├── LimitError (ValueError)                   too large or too deep
    ├── ConflictError (ValueError)                a label or name that is taken
    ├── NodeNotFoundError (LookupError)           no such node, or no such label below it
    ├── NoCurrentRunError (LookupError)           outside of every run
    ├── RunStateError (RuntimeError)              a run that is not running
    ├── RegistrationError (ValueError)            a serializer or storage that can't be registered
    ├── SerializerNotFoundError (LookupError)     no serializer of that name or for that type
    ├── AmbiguousSerializerError (LookupError)    equal claims to a type or a name
    ├── UnknownStorageError (LookupError)         no storage of that name
    ├── MissingExtraError (ModuleNotFoundError)   a distribution that is not installed
    ├── PluginLoadError (ImportError)             a plugin that is installed and broken
    ├── StorageError (OSError)                    a storage refused
    ├── ArtifactLoadError (RuntimeError)          an artifact that is there and can't be loaded
    │   ├── ColumnNotFoundError (LookupError)     a table without that column
    │   ├── CorruptRowError                       a row that Artigraph did not write
    │   ├── CorruptBlobError                      data that is not what was saved
    │   ├── CorruptModelError                     a saved tree with parts missing or altered
    │   ├── BlobMissingError (FileNotFoundError)  data that is gone
    │   ├── DeserializeError                      a serializer can't read intact data
    │   ├── UnsafeSerializerError                 a serializer that can execute code
    │   ├── UnknownModelError (LookupError)       its class is not imported
    │   ├── ModelMismatchError (TypeError)        it is a model of another class
    │   └── ModelVersionError (ValueError)        it is another version of its class
    ├── MissingDriverError (ModuleNotFoundError)  the driver of a database is not installed
    ├── DatabaseError (RuntimeError)              the database refused, or is not ours to use
    │   ├── DatabaseUnavailableError (OSError)    it can't be reached
    │   ├── DatabaseBusyError (TimeoutError)      it stayed locked
    │   ├── LeaseExpiredError (TimeoutError)      a save stalled for longer than its lease
    │   ├── SchemaError                           its tables are missing, or of another version
    │   └── SaveOutcomeUnknownError               the answer to a commit was lost
    ├── ProgressHookError (RuntimeError)          a hook of `on_progress` raised
    └── WrongLoopError (RuntimeError)             something that belongs to another event loop

The arguments are data and stay as attributes; an error pickles, text and all. No message holds a
value, a password or a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import dataclass_transform
from uuid import UUID


@dataclass_transform(eq_default=False)
class ArtigraphError(Exception):
    """The base of every error of Artigraph."""

    def __init_subclass__(cls) -> None:
        # Exceptions compare by identity, and their text is theirs: only __init__ is generated.
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        # What pickle rebuilds the error from; OSError and ImportError would set it otherwise.
        self.args = tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]  # every subclass is a dataclass


def shown(text: object, limit: int = 80) -> str:
    """`text` quoted for a message: printable ASCII, cut to `limit` characters."""
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else f"{quoted[: limit - 3]}..."


def shortened(way: str) -> str:
    """The way to a value for a message: of a long one the beginning and the end."""
    return way if len(way) <= 200 else f"{way[:100]}...{way[-97:]}"


def listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


class DefinitionError(ArtigraphError, TypeError):
    """A class can't be an artifact model as it is written."""

    class_name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.class_name}: {self.reason}"


class UnsupportedValueError(ArtigraphError, TypeError):
    """A value can't be kept exactly, so nothing was saved; or it can't be looked for."""

    where: str
    type_name: str
    remedy: str
    reason: str = "can't be kept exactly"

    def __str__(self) -> str:
        return f"{self.where}: {self.type_name} {self.reason}. {self.remedy}"


class FieldTypeError(ArtigraphError, TypeError):
    """A value is not of a type that the serializer of its field takes."""

    where: str
    serializer: str
    expected: str
    got: str

    def __str__(self) -> str:
        return (
            f"{self.where}: serializer {self.serializer!r} takes {self.expected}, got {self.got}."
        )


class LabelError(ArtigraphError, ValueError):
    """Something can't be the label of an artifact or a run."""

    label: str
    """The label as `shown`, since it may be anything."""
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.label} can't be a label: {self.reason}."
            " A label is a string of 1 to 255 characters without control characters."
        )


class LimitError(ArtigraphError, ValueError):
    """Something is larger or deeper than Artigraph keeps it."""

    where: str
    found: str
    limit: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; the limit is {self.limit}. {self.remedy}"


class ConflictError(ArtigraphError, ValueError):
    """A label is taken, or a save that was begun is repeated with other content."""

    subject: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}. {self.remedy}"


class NodeNotFoundError(ArtigraphError, LookupError):
    """No node has this id, or none has this label under its parent."""

    node: str
    database: str

    def __str__(self) -> str:
        return (
            f"there is no {self.node} in the database {self.database!r}."
            " It may have been deleted, or belong to another database."
        )


class NoCurrentRunError(ArtigraphError, LookupError):
    """No run is current here."""

    def __str__(self) -> str:
        return (
            "run_manager() was called outside a run. Wrap the call in 'async with"
            " RunManager(Run()):', or pass the manager down. A thread that was not started"
            " through asyncio.to_thread does not see the run of the code that started it."
        )


class RunStateError(ArtigraphError, RuntimeError):
    """A run is not in the state that the call needs."""

    node_id: UUID
    state: str
    wanted: str

    def __str__(self) -> str:
        return f"run {self.node_id} {self.state}: {self.wanted}"


class RegistrationError(ArtigraphError, ValueError):
    """A serializer or storage can't be registered under its name."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name!r} can't be registered: {self.reason}"


class SerializerNotFoundError(ArtigraphError, LookupError):
    """No serializer has the name, or takes the type, that is asked for."""

    wanted: str
    registered: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        return (
            f"no serializer is registered {self.wanted}."
            f" Registered: {listed(self.registered)}. {self.remedy}"
        )


class AmbiguousSerializerError(ArtigraphError, LookupError):
    """Several distributions have an equal claim to a type, or to a name."""

    wanted: str
    """The type, or the name in quotes."""
    claims: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        return f"{self.wanted} is claimed by {' and by '.join(self.claims)}. {self.remedy}"


class UnknownStorageError(ArtigraphError, LookupError):
    """No storage of this name is registered in this process, or no plugin opens such a URI."""

    wanted: str
    registered: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        return (
            f"no storage is registered {self.wanted}. Registered: {listed(self.registered)}."
            f" {self.remedy}"
        )


class MissingExtraError(ArtigraphError, ModuleNotFoundError):
    """Something needs a distribution that is not installed."""

    needed_for: str
    distribution: str
    extra: str
    """The extra of `artigraph` that brings it, or an empty string."""

    def __str__(self) -> str:
        command = f"pip install {self.distribution!r}"
        if self.extra:
            command = f'pip install "artigraph[{self.extra}]"'
        return f"{self.needed_for} needs {self.distribution}, which is not installed. {command}"


class PluginLoadError(ArtigraphError, ImportError):
    """A plugin is installed, and fails when it is imported or asked what it provides."""

    key: str
    distribution: str
    version: str
    module: str
    cause: str

    def __str__(self) -> str:
        return (
            f"plugin {self.module!r} of {self.distribution} {self.version}, which claims"
            f" {self.key!r}, can't be loaded: {self.cause}. Everything that does not need it"
            " keeps working. Update or reinstall it:"
            f" pip install --upgrade --force-reinstall {self.distribution}"
        )


class StorageError(ArtigraphError, OSError):
    """A storage could not do what was asked; what it kept before is unharmed."""

    storage: str
    operation: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"storage {self.storage!r} can't {self.operation}: {self.reason}."
        return f"{text} {self.remedy}" if self.remedy else text


class ArtifactLoadError(ArtigraphError, RuntimeError):
    """An artifact is in the database and can't be loaded here; the cause says why."""

    artifact: str
    reason: str

    def __str__(self) -> str:
        return f"{self.artifact} can't be loaded: {self.reason}"


class ColumnNotFoundError(ArtifactLoadError, LookupError):
    """A table has no column of a name that was asked for, or more than one."""


class CorruptRowError(ArtifactLoadError):
    """A row says something that Artigraph does not write; nothing it names was touched."""


class CorruptBlobError(ArtifactLoadError):
    """Data has another size or SHA-256 than was saved; it was not decoded."""

    damage: str
    """`truncated` or `altered`."""

    def __str__(self) -> str:
        return f"{self.artifact} can't be loaded: its data is {self.damage}. {self.reason}"


class CorruptModelError(ArtifactLoadError):
    """Rows of a saved tree are missing, added or altered."""


class BlobMissingError(ArtifactLoadError, FileNotFoundError):
    """The storage no longer has the data that a row names."""


class DeserializeError(ArtifactLoadError):
    """Data is intact, and its serializer can't make a value of it."""


class UnsafeSerializerError(ArtifactLoadError):
    """The serializer can execute code, and the application has not allowed it."""


class UnknownModelError(ArtifactLoadError, LookupError):
    """The class of a saved model is not there, or there are two of its name."""


class ModelMismatchError(ArtifactLoadError, TypeError):
    """What is saved is not what the class asks for."""


class ModelVersionError(ArtifactLoadError, ValueError):
    """A model was saved in a version that its class can't read."""


class MissingDriverError(ArtigraphError, ModuleNotFoundError):
    """The driver that a database URL names is not installed."""

    url: str
    driver: str
    extra: str
    """The extra of `artigraph-core` that brings a driver, or an empty string."""

    def __str__(self) -> str:
        command = f"pip install {self.driver}"
        if self.extra:
            command = f'pip install "artigraph-core[{self.extra}]"'
        return f"{self.url!r} needs {self.driver}, which is not installed. {command}"


class DatabaseError(ArtigraphError, RuntimeError):
    """The database refused, or can't be used as it is."""

    database: str
    """Its URL, the password hidden."""
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"database {self.database!r}: {self.reason}."
        return f"{text} {self.remedy}" if self.remedy else text


class DatabaseUnavailableError(DatabaseError, OSError):
    """The database can't be reached or opened."""


class DatabaseBusyError(DatabaseError, TimeoutError):
    """Other writers held the database for longer than the documented wait."""


class LeaseExpiredError(DatabaseError, TimeoutError):
    """A save stalled while it wrote data, for longer than its lease: a collection gave that up.

    Nothing was saved. Saving the same object again is safe, and writes its data anew.
    """


class SchemaError(DatabaseError):
    """The tables are missing, or of another version than this Artigraph's."""


class SaveOutcomeUnknownError(DatabaseError):
    """The connection broke while a commit was under way, which may or may not have happened.

    Saving the same object again is safe: it finds out, and saves only what is not there.
    """


class ProgressHookError(ArtigraphError, RuntimeError):
    """A hook of `on_progress` raised, and ended what it was called for; its error is the cause."""

    value: str

    def __str__(self) -> str:
        return f"The progress hook raised at {self.value}, which ended the save or the load."


class WrongLoopError(ArtigraphError, RuntimeError):
    """A thing that lives in one event loop was used in another."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} belongs to another event loop. {self.remedy}"
