"""The contracts of `artigraph.spec` as tests, for whoever writes a plugin. They need pytest."""

import pytest

# Before the import: an assertion that fails shows its values, as in the plugin's own tests.
pytest.register_assert_rewrite("artigraph.testing.serializer", "artigraph.testing.storage")

from artigraph.testing.serializer import SerializerTests  # noqa: E402
from artigraph.testing.storage import StorageTests  # noqa: E402

__all__ = ["SerializerTests", "StorageTests"]
