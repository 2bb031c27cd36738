import pytest

from artigraph.testing import PluginTests


class TestPlugin(PluginTests):
    """Its metadata leads to the storage."""

    distribution = "artigraph-aws"
    uris = ("s3://bucket/prefix",)

    @pytest.fixture(autouse=True)
    def settings(self) -> None:
        """None: no server is asked."""
