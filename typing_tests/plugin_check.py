"""How the author of a plugin has its hooks checked."""

import plugin

from artigraph.spec import SerializerPlugin, StoragePlugin

serializers: SerializerPlugin = plugin
storages: StoragePlugin = plugin
