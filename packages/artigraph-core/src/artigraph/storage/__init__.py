"""Storages: where data is kept that is too large for the database, and how to find one."""

from typing import TypeVar

from artigraph.plugins import registry
from artigraph.spec import Storage

__all__ = ["Storage", "get_storage", "open_storage", "register_storage"]

S = TypeVar("S", bound=Storage)


def register_storage(storage: S) -> S:
    """The same as `storage.register()`."""
    return storage.register()


def get_storage(name: str) -> Storage:
    """The storage that is registered under this name.

    Raises:
        UnknownStorageError: None is.
    """
    return registry.get_storage(name)


def open_storage(uri: str) -> Storage:
    """The storage that a URI names, such as `s3://bucket/prefix` or `file:///data`; not registered.

    Raises:
        UnknownStorageError: No installed plugin knows its scheme.
        MissingExtraError: The plugin that does is not installed.
    """
    return registry.open_storage(uri)
