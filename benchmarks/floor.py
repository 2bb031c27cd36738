"""The least that our rows take: those that Artigraph writes, by the drivers alone.

Where even this is slower than what is aimed at, no code of ours can be faster: a row for each
model, with an id that the client makes, a document of its fields and a digest, in Artigraph's own
tables with their indexes. What is left out is all that a library does beside it: looking at the
types of fields, answering to whoever waits, errors, and SQLAlchemy.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol
from uuid import UUID

import aiosqlite
import asyncmy
import asyncpg
from benchmarks.measuring import Stage
from benchmarks.models import Scalars, some_models
from sqlalchemy import make_url

from artigraph import Run, RunManager
from artigraph.ids import new_id

COLUMNS = (
    *("node_id", "node_type", "node_parent_id", "node_created_at", "node_updated_at"),
    *("artifact_label", "artifact_tree_id", "artifact_tree_digest"),
    *("model_name", "model_module", "model_version", "model_fields"),
)
TYPES = (
    *("uuid", "text", "uuid", "timestamptz", "timestamptz"),
    *("text", "uuid", "text"),
    *("text", "text", "bigint", "text"),
)
"""PostgreSQL's."""
SELECT = (
    "SELECT artifact_label, model_name, model_version, artifact_tree_digest, model_fields"
    " FROM artigraph_node WHERE"
)
TREE = f"{SELECT} artifact_tree_id = {{}}"
TREES = f"{SELECT} node_parent_id = {{}} ORDER BY node_id"


class Driver(Protocol):
    """A connection to Artigraph's tables, and what its driver takes for ids, times and labels."""

    def id(self, value: UUID) -> Any: ...
    def time(self, value: datetime) -> Any: ...
    def label(self, value: str) -> Any: ...

    async def insert(self, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows, which are committed then."""
        ...

    async def fetch(self, statement: str, key: Any) -> Iterable[Sequence[Any]]:
        """The rows of `TREE` or `TREES`, by an id as `id` gives it."""
        ...

    async def close(self) -> None: ...


class SQLiteDriver(Driver):
    INSERT: ClassVar = (
        f"INSERT INTO artigraph_node ({', '.join(COLUMNS)})"
        f" VALUES ({', '.join('?' for _ in COLUMNS)})"
    )

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    def id(self, value: UUID) -> bytes:
        return value.bytes

    def time(self, value: datetime) -> str:
        return value.isoformat(" ")

    def label(self, value: str) -> str:
        return value

    async def insert(self, rows: Sequence[Sequence[Any]]) -> None:
        if len(rows) == 1:  # one trip to the thread, which commits by itself
            await self._connection.execute(self.INSERT, rows[0])
            return
        await self._connection.execute("BEGIN IMMEDIATE")
        await self._connection.executemany(self.INSERT, rows)
        await self._connection.execute("COMMIT")

    async def fetch(self, statement: str, key: Any) -> Iterable[Sequence[Any]]:
        return await self._connection.execute_fetchall(statement.format("?"), (key,))

    async def close(self) -> None:
        await self._connection.close()


class PostgreSQLDriver(Driver):
    INSERT: ClassVar = (
        f"INSERT INTO artigraph_node ({', '.join(COLUMNS)}) SELECT"
        f" {', '.join(f'unnest(${n}::{kind}[])' for n, kind in enumerate(TYPES, 1))}"
    )

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def id(self, value: UUID) -> UUID:
        return value

    def time(self, value: datetime) -> datetime:
        return value

    def label(self, value: str) -> str:
        return value

    async def insert(self, rows: Sequence[Sequence[Any]]) -> None:
        await self._connection.execute(self.INSERT, *zip(*rows, strict=True))

    async def fetch(self, statement: str, key: Any) -> Iterable[Sequence[Any]]:
        return await self._connection.fetch(statement.format("$1"), key)

    async def close(self) -> None:
        await self._connection.close()


class MariaDBDriver(Driver):
    INSERT: ClassVar = (
        f"INSERT INTO artigraph_node ({', '.join(COLUMNS)})"
        f" VALUES ({', '.join('%s' for _ in COLUMNS)})"
    )

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def id(self, value: UUID) -> bytes:
        return value.bytes

    def time(self, value: datetime) -> datetime:
        return value.replace(tzinfo=None)

    def label(self, value: str) -> bytes:
        return value.encode()

    async def insert(self, rows: Sequence[Sequence[Any]]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(self.INSERT, rows)
        await self._connection.commit()

    async def fetch(self, statement: str, key: Any) -> Iterable[Sequence[Any]]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement.format("%s"), (key,))
            return await cursor.fetchall()

    async def close(self) -> None:
        await self._connection.ensure_closed()


@asynccontextmanager
async def connected(stage: Stage) -> AsyncGenerator[Driver]:
    """A connection to the database of a stage, which has Artigraph's tables."""
    url = make_url(str(stage.url))
    with stage.database():
        await some_models(1)[0].save("first use")
    driver: Driver
    if url.get_backend_name() == "sqlite":
        connection = await aiosqlite.connect(str(url.database), isolation_level=None)
        await connection.execute(f"PRAGMA synchronous={stage.place.synchronous}")
        await connection.execute("PRAGMA foreign_keys=ON")
        driver = SQLiteDriver(connection)
    elif url.get_backend_name() == "postgresql":
        driver = PostgreSQLDriver(await asyncpg.connect(stage.url))
    else:
        driver = MariaDBDriver(
            await asyncmy.connect(
                host=url.host, port=url.port or 3306, user=url.username,
                password=url.password or "", db=url.database,
            )
        )  # fmt: skip
    try:
        yield driver
    finally:
        await driver.close()


def rows_of(
    models: Iterable[Any], labels: Iterator[str], parent_id: UUID | None, driver: Driver
) -> list[Sequence[Any]]:
    """A row for each model."""
    now = driver.time(datetime.now(UTC))
    parent = None if parent_id is None else driver.id(parent_id)
    rows: list[Sequence[Any]] = []
    for model, label in zip(models, labels, strict=False):
        kind = type(model)
        node_id = driver.id(new_id())
        fields = json.dumps(vars(model), separators=(",", ":"))
        digest = digest_of(label, kind.__name__, 1, fields)
        rows.append(
            (
                *(node_id, "model", parent, now, now, driver.label(label), node_id, digest),
                *(kind.__name__, kind.__module__, 1, fields),
            )
        )
    return rows


def digest_of(label: str, name: str, version: int, fields: str) -> str:
    return hashlib.sha256(f"{(label, name, version, len(fields))!a}{fields}".encode()).hexdigest()


def built(rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """The models of rows whose digests are right, by label."""
    models: dict[str, Any] = {}
    for label, name, version, digest, fields in rows:
        text = label if isinstance(label, str) else label.decode()
        assert digest_of(text, name, version, fields) == digest
        models[text] = Scalars(*json.loads(fields).values())
    return models


async def each(stage: Stage) -> None:
    """Save models with a commit each, load them one by one."""
    models = some_models(stage.size)
    async with connected(stage) as driver:
        ids: list[Any] = []
        with stage.timed("save"):
            for model in models:
                rows = rows_of([model], iter(["model"]), None, driver)
                await driver.insert(rows)
                ids.append(rows[0][0])
        with stage.timed("load"):
            loaded = [built(await driver.fetch(TREE, node_id))["model"] for node_id in ids]
    assert loaded == models


async def batch(stage: Stage) -> None:
    """Save models in one transaction."""
    models = some_models(stage.size)
    async with connected(stage) as driver:
        with stage.timed("save"):
            await driver.insert(rows_of(models, iter(["model"] * len(models)), None, driver))


async def run(stage: Stage) -> None:
    """Save models below a run in one transaction, load them all."""
    labelled = {f"{n:06}": model for n, model in enumerate(some_models(stage.size))}
    async with connected(stage) as driver:
        with stage.database():
            async with RunManager(Run()) as manager:
                run_id = manager.run.node_id
        with stage.timed("save"):
            await driver.insert(rows_of(labelled.values(), iter(labelled), run_id, driver))
        with stage.timed("load"):
            loaded = built(await driver.fetch(TREES, driver.id(run_id)))
    assert loaded == labelled
