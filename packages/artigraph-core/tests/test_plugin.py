from artigraph.testing import PluginTests


class TestPlugin(PluginTests):
    """What is built in is found as all others are."""

    distribution = "artigraph-core"
    uris = ("file:/data",)
