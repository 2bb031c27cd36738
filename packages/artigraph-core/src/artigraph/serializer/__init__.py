"""Serializers: how values become data, and how to find the one that does it."""

from typing import Any, TypeVar

from artigraph.plugins import registry
from artigraph.spec import Serializer

__all__ = ["Serializer", "allow", "get_serializer", "prefer", "register_serializer"]

S = TypeVar("S", bound=Serializer[Any])


def register_serializer(serializer: S) -> S:
    """The same as `serializer.register()`."""
    return serializer.register()


def get_serializer(name: str) -> Serializer[Any]:
    """The serializer of this name: registered, built in, or an installed plugin's.

    Raises:
        SerializerNotFoundError: None has the name; the error says what to install.
        PluginLoadError: It may be in a plugin that is installed and broken.
    """
    return registry.get_serializer(name)


def prefer(name: str, *, distribution: str | None = None) -> None:
    """Choose the serializer of this name for its types, before all other plugins'.

    Args:
        name: Of the serializer.
        distribution: The one that is meant, where several have the name.

    Raises:
        SerializerNotFoundError: None has the name.
        AmbiguousSerializerError: Several have it.
    """
    registry.prefer(name, distribution=distribution)


def allow(name: str) -> None:
    """Load with the serializer of this name although it can execute code that the data brings.

    For the whole process, and only where everybody who can write to the database and its storages
    is trusted. None of Artigraph's own serializers needs it.
    """
    registry.allow(name)
