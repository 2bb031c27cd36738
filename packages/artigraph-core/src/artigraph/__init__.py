"""Artigraph keeps what data pipelines produce: runs, and the artifacts saved in them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artigraph.checking import check as check
    from artigraph.checking import repair as repair
    from artigraph.collection import collect as collect
    from artigraph.database import close as close
    from artigraph.database import set_database as set_database
    from artigraph.database import use_database as use_database
    from artigraph.definition import ArtifactMapping as ArtifactMapping
    from artigraph.definition import ArtifactModelConfig as ArtifactModelConfig
    from artigraph.definition import ArtifactSequence as ArtifactSequence
    from artigraph.definition import artifact_field as artifact_field
    from artigraph.definition import lazy_field as lazy_field
    from artigraph.deletion import delete as delete
    from artigraph.errors import AmbiguousSerializerError as AmbiguousSerializerError
    from artigraph.errors import ArtifactLoadError as ArtifactLoadError
    from artigraph.errors import ArtigraphError as ArtigraphError
    from artigraph.errors import BlobMissingError as BlobMissingError
    from artigraph.errors import ColumnNotFoundError as ColumnNotFoundError
    from artigraph.errors import ConflictError as ConflictError
    from artigraph.errors import CorruptBlobError as CorruptBlobError
    from artigraph.errors import CorruptModelError as CorruptModelError
    from artigraph.errors import CorruptRowError as CorruptRowError
    from artigraph.errors import DatabaseBusyError as DatabaseBusyError
    from artigraph.errors import DatabaseError as DatabaseError
    from artigraph.errors import DatabaseUnavailableError as DatabaseUnavailableError
    from artigraph.errors import DefinitionError as DefinitionError
    from artigraph.errors import DeserializeError as DeserializeError
    from artigraph.errors import FieldTypeError as FieldTypeError
    from artigraph.errors import LabelError as LabelError
    from artigraph.errors import LeaseExpiredError as LeaseExpiredError
    from artigraph.errors import LimitError as LimitError
    from artigraph.errors import MissingDriverError as MissingDriverError
    from artigraph.errors import MissingExtraError as MissingExtraError
    from artigraph.errors import ModelMismatchError as ModelMismatchError
    from artigraph.errors import ModelVersionError as ModelVersionError
    from artigraph.errors import NoCurrentRunError as NoCurrentRunError
    from artigraph.errors import NodeNotFoundError as NodeNotFoundError
    from artigraph.errors import PluginLoadError as PluginLoadError
    from artigraph.errors import ProgressHookError as ProgressHookError
    from artigraph.errors import RegistrationError as RegistrationError
    from artigraph.errors import RunStateError as RunStateError
    from artigraph.errors import SaveOutcomeUnknownError as SaveOutcomeUnknownError
    from artigraph.errors import SchemaError as SchemaError
    from artigraph.errors import SerializerNotFoundError as SerializerNotFoundError
    from artigraph.errors import StorageError as StorageError
    from artigraph.errors import UnknownModelError as UnknownModelError
    from artigraph.errors import UnknownStorageError as UnknownStorageError
    from artigraph.errors import UnsafeSerializerError as UnsafeSerializerError
    from artigraph.errors import UnsupportedValueError as UnsupportedValueError
    from artigraph.errors import WrongLoopError as WrongLoopError
    from artigraph.gathering import gather_saves as gather_saves
    from artigraph.gathering import save_many as save_many
    from artigraph.lazy import Lazy as Lazy
    from artigraph.model import ArtifactModel as ArtifactModel
    from artigraph.progress import Progress as Progress
    from artigraph.progress import on_progress as on_progress
    from artigraph.query import ArtifactQuery as ArtifactQuery
    from artigraph.query import RunQuery as RunQuery
    from artigraph.run import Run as Run
    from artigraph.run import RunManager as RunManager
    from artigraph.run import run_manager as run_manager
    from artigraph.serializer import register_serializer as register_serializer
    from artigraph.spec import Serializer as Serializer
    from artigraph.spec import Storage as Storage
    from artigraph.storage import register_storage as register_storage

__version__ = "0.2.0"

_HOMES = {
    "checking": (
        "check",
        "repair",
    ),
    "collection": ("collect",),
    "database": (
        "close",
        "set_database",
        "use_database",
    ),
    "definition": (
        "ArtifactMapping",
        "ArtifactModelConfig",
        "ArtifactSequence",
        "artifact_field",
        "lazy_field",
    ),
    "deletion": ("delete",),
    "errors": (
        "AmbiguousSerializerError",
        "ArtifactLoadError",
        "ArtigraphError",
        "BlobMissingError",
        "ColumnNotFoundError",
        "ConflictError",
        "CorruptBlobError",
        "CorruptModelError",
        "CorruptRowError",
        "DatabaseBusyError",
        "DatabaseError",
        "DatabaseUnavailableError",
        "DefinitionError",
        "DeserializeError",
        "FieldTypeError",
        "LabelError",
        "LeaseExpiredError",
        "LimitError",
        "MissingDriverError",
        "MissingExtraError",
        "ModelMismatchError",
        "ModelVersionError",
        "NoCurrentRunError",
        "NodeNotFoundError",
        "PluginLoadError",
        "ProgressHookError",
        "RegistrationError",
        "RunStateError",
        "SaveOutcomeUnknownError",
        "SchemaError",
        "SerializerNotFoundError",
        "StorageError",
        "UnknownModelError",
        "UnknownStorageError",
        "UnsafeSerializerError",
        "UnsupportedValueError",
        "WrongLoopError",
    ),
    "gathering": (
        "gather_saves",
        "save_many",
    ),
    "lazy": ("Lazy",),
    "model": ("ArtifactModel",),
    "progress": (
        "Progress",
        "on_progress",
    ),
    "query": (
        "ArtifactQuery",
        "RunQuery",
    ),
    "run": (
        "Run",
        "RunManager",
        "run_manager",
    ),
    "serializer": ("register_serializer",),
    "spec": (
        "Serializer",
        "Storage",
    ),
    "storage": ("register_storage",),
}
"""Where each public name lives: its module is imported when the name is first asked for."""

_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]  # the names above, all of them


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
