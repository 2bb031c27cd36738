"""Serializers: how values become data, and how to find the one that does it."""

from typing import Any

from artigraph.plugins import registry
from artigraph.spec import Serializer

__all__ = ["Serializer", "get_serializer", "prefer", "register_serializer"]


def register_serializer(serializer: Serializer[Any]) -> Serializer[Any]:
    """The same as `serializer.register()`."""
    return serializer.register()


def get_serializer(name: str) -> Serializer[Any]:
    """The serializer of this name: registered, built in, or an installed plugin's.

    Raises:
        SerializerNotFoundError: None has the name; the error says what to install.
        PluginLoadError: It may be in a plugin that is installed and broken.
    """
    return registry.get_serializer(name)


def prefer(name: str) -> None:
    """Choose the serializer of this name for its types, before all other plugins'.

    Raises:
        SerializerNotFoundError: None has the name.
    """
    registry.prefer(name)
