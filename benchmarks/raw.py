"""The least that a row for each model and each field takes, by the databases' own drivers.

No checks, no digests, integer ids, prepared statements, one connection that is open all the time:
sqlite3 of the standard library, asyncpg, asyncmy. What both sides have in common is the work: from
models to rows, and from rows to models again.
"""

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, NamedTuple, TypeAlias

import asyncmy
import asyncpg
from benchmarks.measuring import Stage
from sqlalchemy import make_url

from artigraph import ArtifactMapping


class Row(NamedTuple):
    """A node."""

    id: int
    type: str
    parent: int | None
    created: str
    label: str | None
    serializer: str | None
    data: bytes | None


Values: TypeAlias = "list[Any]"

RUN = Row(0, "run", None, "2013-01-01 00:00:00.000000", None, None, None)

TREE = """
    WITH RECURSIVE tree (id) AS (
        SELECT {id} UNION ALL SELECT node.id FROM node JOIN tree ON node.parent = tree.id
    )
    SELECT node.* FROM node JOIN tree ON node.id = tree.id {order}
"""


class Rows:
    """Makes the rows of values, parents before what is in them."""

    def __init__(self) -> None:
        self._next_id = 1

    def of(self, value: object, label: str | None, parent: int | None) -> list[Row]:
        """Those of a model or mapping, with all that is in it."""
        rows: list[Row] = []
        self._add(rows, value, label, parent)
        return rows

    def _add(self, rows: list[Row], value: Any, label: str | None, parent: int | None) -> None:
        node_id, created = self._next_id, RUN.created
        self._next_id += 1
        if isinstance(value, ArtifactMapping):
            rows.append(Row(node_id, "mapping", parent, created, label, None, None))
            content = value
        else:
            kind = type(value)
            about = b'{"name": "%b", "version": 1}' % kind.__name__.encode()
            rows.append(Row(node_id, kind.__name__, parent, created, label, None, about))
            content = vars(value)
        for name, inner in content.items():
            if hasattr(inner, "__dict__"):
                self._add(rows, inner, name, node_id)
            else:
                data = json.dumps(inner).encode()
                rows.append(Row(self._next_id, "field", node_id, created, name, "json", data))
                self._next_id += 1


def built(rows: Sequence[Sequence[Any]], classes: dict[str, Any]) -> Any:
    """The value of all rows of a tree, of which the first is its top."""
    values: dict[int | None, Values] = {}
    models: list[tuple[int, str, Values, int]] = []
    for node_id, kind, parent, _, _, _, data in rows:
        siblings = values.setdefault(parent, [])
        if kind == "field":
            siblings.append(json.loads(data))
        else:
            models.append((node_id, kind, siblings, len(siblings)))
            siblings.append(None)
    for node_id, kind, siblings, place in reversed(models):
        content = values.get(node_id, [])
        siblings[place] = classes[kind](*content) if kind in classes else content
    _, _, siblings, place = models[0]
    return siblings[place]


class Graph(ABC):
    """A table of nodes in a database, and one connection to it."""

    SCHEMA: ClassVar[str]
    READ: ClassVar[str]

    @classmethod
    @abstractmethod
    async def open(cls, stage: Stage) -> "Graph":
        """Connect, and make the table."""

    @abstractmethod
    async def insert(self, rows: Sequence[Row]) -> None:
        """Insert rows in a transaction of their own."""

    @abstractmethod
    async def read(self, top: int) -> Sequence[Sequence[Any]]:
        """All rows from one downwards, parents first."""

    @abstractmethod
    async def close(self) -> None: ...


class SQLiteGraph(Graph):
    SCHEMA = """
        CREATE TABLE node (
            id INTEGER PRIMARY KEY, type TEXT NOT NULL, parent INTEGER REFERENCES node (id),
            created TEXT NOT NULL, label TEXT, serializer TEXT, data BLOB, UNIQUE (parent, label)
        )
    """
    READ = TREE.format(id="?", order="")  # it finds siblings by the index of parent and label
    INSERT = "INSERT INTO node VALUES (?, ?, ?, ?, ?, ?, ?)"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, stage: Stage) -> Graph:
        file = make_url(str(stage.url)).database
        connection = sqlite3.connect(str(file), isolation_level=None)
        synchronous = f"synchronous={stage.place.synchronous}"
        for pragma in ("journal_mode=WAL", synchronous, "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(cls.SCHEMA)
        return cls(connection)

    async def insert(self, rows: Sequence[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self.INSERT, rows)
        self._connection.execute("COMMIT")

    async def read(self, top: int) -> Sequence[Sequence[Any]]:
        return self._connection.execute(self.READ, (top,)).fetchall()

    async def close(self) -> None:
        self._connection.close()


class PostgreSQLGraph(Graph):
    SCHEMA = """
        CREATE TABLE node (
            id BIGINT PRIMARY KEY, type TEXT NOT NULL, parent BIGINT REFERENCES node (id),
            created TEXT NOT NULL, label TEXT, serializer TEXT, data BYTEA, UNIQUE (parent, label)
        )
    """
    # Its planner would join the recursion with the whole table: OFFSET keeps it to the index.
    READ = """
        WITH RECURSIVE tree AS (
            SELECT * FROM node WHERE id = $1::bigint UNION ALL
            SELECT child.* FROM tree
            CROSS JOIN LATERAL (SELECT * FROM node WHERE parent = tree.id OFFSET 0) AS child
        )
        SELECT * FROM tree ORDER BY id
    """
    INSERT = "INSERT INTO node VALUES ($1, $2, $3, $4, $5, $6, $7)"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, stage: Stage) -> Graph:
        connection = await asyncpg.connect(stage.url)
        await connection.execute(cls.SCHEMA)
        return cls(connection)

    async def insert(self, rows: Sequence[Row]) -> None:
        async with self._connection.transaction():
            await self._connection.executemany(self.INSERT, rows)

    async def read(self, top: int) -> Sequence[Sequence[Any]]:
        return await self._connection.fetch(self.READ, top)

    async def close(self) -> None:
        await self._connection.close()


class MariaDBGraph(Graph):
    SCHEMA = """
        CREATE TABLE node (
            id BIGINT PRIMARY KEY, type VARCHAR(64) NOT NULL, parent BIGINT,
            created VARCHAR(32) NOT NULL, label VARCHAR(255), serializer VARCHAR(64), data LONGBLOB,
            UNIQUE (parent, label), FOREIGN KEY (parent) REFERENCES node (id)
        )
    """
    READ = TREE.format(id="CAST(%s AS INTEGER)", order="ORDER BY node.id")
    INSERT = "INSERT INTO node VALUES (%s, %s, %s, %s, %s, %s, %s)"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, stage: Stage) -> Graph:
        url = make_url(str(stage.url))
        connection = await asyncmy.connect(
            host=url.host, port=url.port or 3306, user=url.username, password=url.password or "",
            db=url.database,
        )  # fmt: skip
        async with connection.cursor() as cursor:
            await cursor.execute(cls.SCHEMA)
        return cls(connection)

    async def insert(self, rows: Sequence[Row]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(self.INSERT, rows)
        await self._connection.commit()

    async def read(self, top: int) -> Sequence[Sequence[Any]]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(self.READ, (top,))
            return await cursor.fetchall()

    async def close(self) -> None:
        await self._connection.ensure_closed()


@asynccontextmanager
async def raw_graph(stage: Stage) -> AsyncGenerator[Graph]:
    """The table in the database of a stage."""
    kinds = {"sqlite": SQLiteGraph, "postgresql": PostgreSQLGraph, "mysql": MariaDBGraph}
    graph = await kinds[make_url(str(stage.url)).get_backend_name()].open(stage)
    try:
        yield graph
    finally:
        await graph.close()
