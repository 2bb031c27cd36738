"""Lets Artigraph save NetworkX graphs, and keep data in SQLite Archive files."""

import asyncio
import os
import sqlite3
from contextlib import closing
from typing import Any

import networkx as nx  # type: ignore[import-untyped]  # its stubs are a distribution of their own

from artigraph.errors import BlobMissingError, StorageError, UnsupportedValueError
from artigraph.serializer.json import json_serializer
from artigraph.spec import Data, Serializer, Storage, check_location, new_location

TABLE = """CREATE TABLE IF NOT EXISTS sqlar -- https://sqlite.org/sqlar.html
    (name TEXT PRIMARY KEY, mode INT, mtime INT, sz INT, data BLOB)"""


class GraphSerializer(Serializer["nx.Graph[Any]"]):
    """Graphs with all attributes, the keys of parallel edges, and the orders of nodes and edges."""

    name = "networkx.graph"
    types = (nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph)

    def serialize(self, value: "nx.Graph[Any]") -> Data:
        if type(value) not in self.types or nx.is_frozen(value):
            raise UnsupportedValueError("the value", "a frozen graph or subclass", "Copy it.")
        number = {node: i for i, node in enumerate(value)}
        edges = [(number[u], number[v], *key, data) for (u, v, *key), data in value.edges.items()]
        saved = {"graph": value.graph, "nodes": list(value.nodes.items()), "edges": edges}
        return json_serializer.serialize({"type": type(value).__name__, **saved})

    def deserialize(self, data: Data) -> "nx.Graph[Any]":
        kind, attributes, nodes, edges = json_serializer.deserialize(data).values()
        graph: Any = {each.__name__: each for each in self.types}[kind]()
        graph.graph.update(attributes)
        graph.add_nodes_from(nodes)
        graph.add_edges_from((nodes[u][0], nodes[v][0], *rest) for u, v, *rest in edges)
        return graph


class SqlarStorage(Storage):
    """Keeps data, uncompressed, in an archive file, which is made when it is first needed."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = os.path.abspath(file)
        self.name = f"sqlar:{self.file}"

    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        sql = f"""INSERT INTO sqlar VALUES (:name, {0o100644}, strftime('%s'), length(:data), :data)
            ON CONFLICT (name) DO UPDATE SET name = name WHERE data = excluded.data"""
        if not await self._execute("create", sql, location, data):  # neither new nor equal
            raise StorageError(self.name, f"create {location!r}", "other data is there")
        return location

    async def read(self, location: str) -> bytes:
        (data,) = await self._execute("read", "SELECT data FROM sqlar WHERE name = :name", location)
        return bytes(data)

    async def update(self, location: str, data: Data) -> None:
        sql = """UPDATE sqlar SET mtime = strftime('%s'), sz = length(:data), data = :data
            WHERE name = :name"""
        await self._execute("update", sql, location, data)

    async def delete(self, location: str) -> None:
        await self._execute("delete", "DELETE FROM sqlar WHERE name = :name", location)

    async def exists(self, location: str) -> bool:
        return bool(await self._execute("find", "SELECT 1 FROM sqlar WHERE name = :name", location))

    async def _execute(self, verb: str, sql: str, location: str, data: Data = b"") -> Any:
        check_location(location)
        found = await asyncio.to_thread(self._run, verb, sql, location, data)
        if not found and verb in ("read", "update"):
            raise BlobMissingError(f"the data at {location!r}", f"{self.name!r} has none.")
        return found

    def _run(self, verb: str, sql: str, location: str, data: Data) -> Any:
        """The row that is found, or whether one is written: by one statement, so whole or not."""
        try:
            with closing(sqlite3.connect(self.file, timeout=60, isolation_level=None)) as archive:
                archive.execute("PRAGMA synchronous = EXTRA")  # a commit survives a loss of power
                archive.execute(TABLE)
                cursor = archive.execute(sql, {"name": location, "data": data})
                return cursor.fetchone() or cursor.rowcount > 0
        except (sqlite3.Error, OverflowError) as error:
            remedy = "Is it an archive, in a folder that is there, writable and not full?"
            raise StorageError(self.name, f"{verb} {location!r}", str(error), remedy) from error


def artigraph_serializers() -> list[GraphSerializer]:
    return [GraphSerializer()]


def artigraph_open_storage(uri: str) -> SqlarStorage | None:
    return SqlarStorage(uri.removeprefix("sqlar:")) if uri.startswith("sqlar:/") else None
