"""The tests of Artigraph's own plugins, for this one, as it is installed."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import networkx as nx  # type: ignore[import-untyped]
import pytest
from hypothesis import strategies as st

from artigraph.testing import PluginTests, SerializerTests, StorageTests
from artigraph_example.plugin import TABLE, GraphSerializer, SqlarStorage


class TestPlugin(PluginTests):
    distribution = "artigraph-example"
    uris = ("sqlar:/data/values.sqlar",)


class TestGraphSerializer(SerializerTests):
    serializer = GraphSerializer()
    values: Mapping[str, Any] = {
        "no nodes": nx.Graph(title="nothing"),
        "parallel edges": nx.MultiDiGraph([(2, 1), (1, 2, "x", {"weight": 0.1}), (1, 2, ())]),
        "odd nodes": nx.path_graph([float("nan"), (1, ()), b"", frozenset(), "$x", 1 << 70]),
    }
    refused: Mapping[str, Any] = {"a node": (nx.path_graph([print]), "['nodes'][0][0]: a value of")}
    nodes = st.integers() | st.text() | st.tuples(st.floats(), st.dates())
    edges = st.lists(st.tuples(nodes, nodes, st.dictionaries(nodes, nodes)))
    strategy = st.builds(lambda kind, edges: kind(edges), st.sampled_from(serializer.types), edges)

    def assert_same(self, loaded: Any, saved: Any) -> None:
        one, two = ([type(g), g.graph, *g.nodes.items(), *g.edges.items()] for g in (loaded, saved))
        assert repr(one) == repr(two)


class TestSqlarStorage(StorageTests):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[SqlarStorage]:
        with closing(sqlite3.connect(tmp_path / "a.sqlar", isolation_level=None)) as self.db:
            self.db.execute(TABLE)
            yield SqlarStorage(tmp_path / "a.sqlar")

    def plant(self, storage: Any, location: str, data: bytes) -> None:
        self.db.execute("INSERT INTO sqlar VALUES (?, 0, 0, ?, ?)", (location, len(data), data))

    def inspect(self, storage: Any, location: str) -> bytes | None:
        rows = self.db.execute("SELECT data FROM sqlar WHERE name = ?", (location,))
        return next((data for (data,) in rows), None)
