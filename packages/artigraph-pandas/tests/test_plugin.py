from artigraph.testing import PluginTests


class TestPlugin(PluginTests):
    """Its metadata leads to the serializers."""

    distribution = "artigraph-pandas"
