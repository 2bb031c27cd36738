"""The contracts of `artigraph.spec` as tests, for whoever writes a plugin.

They need the extra `testing`: pytest and hypothesis. No pytest plugin comes with them, and what is
asynchronous they run by themselves.
"""

import pytest

# Before the import: an assertion that fails shows its values, as in the plugin's own tests.
pytest.register_assert_rewrite(
    *(
        f"artigraph.testing.{module}"
        for module in ("abilities", "files", "plugin", "process", "serializer", "storage")
    )
)

from artigraph.testing.plugin import PluginTests  # noqa: E402
from artigraph.testing.serializer import SerializerTests  # noqa: E402
from artigraph.testing.storage import StorageTests, StreamingStorageTests  # noqa: E402

__all__ = ["PluginTests", "SerializerTests", "StorageTests", "StreamingStorageTests"]
