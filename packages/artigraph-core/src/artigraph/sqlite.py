"""SQLite: its engine, over a driver that makes one trip to a connection's thread for each call."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from time import monotonic
from typing import Any, Literal, Self, TypeAlias

import aiosqlite
from sqlalchemy import URL, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

from artigraph.loop import Steadfast, outcome_of, to_the_end

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

BUSY_TIMEOUT = 30
"""How long a writer of SQLite waits for another process's, in seconds."""


def sqlite_engine(url: URL, *, in_memory: bool, synchronous: Synchronous) -> AsyncEngine:
    """An engine whose connections have our settings; nothing is connected yet."""
    engine = create_async_engine(
        url.set(drivername="sqlite+artigraph"),
        hide_parameters=True,
        poolclass=AsyncAdaptedQueuePool,
        # In memory every connection would be a database of its own.
        pool_size=1 if in_memory else 5,
        max_overflow=0 if in_memory else 10,
        # The driver sends BEGIN IMMEDIATE before the first writing statement of a transaction, and
        # nothing before a reading one. A transaction that begins with reading and then writes
        # would fail at once where another has written: ours begin with writing.
        connect_args={
            "isolation_level": "IMMEDIATE",
            "timeout": BUSY_TIMEOUT,
            "async_creator_fn": _Connection,
        },
    )

    def set_up(connection: Any, record: object) -> None:
        try:
            _set_up(connection, synchronous)
        except BaseException:
            connection.close()  # SQLAlchemy would leave it open
            raise

    event.listen(engine.sync_engine, "connect", set_up)
    return engine


def _set_up(connection: Any, synchronous: Synchronous) -> None:
    cursor = connection.cursor()
    deadline = monotonic() + BUSY_TIMEOUT
    while True:
        # Of several that turn one file to the write-ahead log at once, one succeeds, and the others
        # are told that it is locked without any wait: https://www.sqlite.org/wal.html#busy
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or monotonic() > deadline:
                raise
            await_only(asyncio.sleep(0.01))
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA synchronous={synchronous}")
    cursor.close()


def commit_with_next(connection: Any) -> None:
    """Let the next statement on a connection to SQLite be committed in the same trip."""
    connection.driver_connection.commits_next = True


class Dialect(SQLiteDialect_aiosqlite):
    """SQLAlchemy's, which makes no trip to the connection's thread for nothing."""

    supports_statement_cache = True

    def do_commit(self, dbapi_connection: Any) -> None:
        _commit_with_none(dbapi_connection)
        if dbapi_connection.driver_connection.in_transaction:
            super().do_commit(dbapi_connection)

    def do_rollback(self, dbapi_connection: Any) -> None:
        _commit_with_none(dbapi_connection)
        if dbapi_connection.driver_connection.in_transaction:
            super().do_rollback(dbapi_connection)


def _commit_with_none(connection: Any) -> None:
    """Take `commit_with_next` back, where the transaction ends before that statement came."""
    connection.driver_connection.commits_next = False


class _Connection(aiosqlite.Connection):
    """aiosqlite's, whose cursors go to the connection's thread once for each statement."""

    def __init__(self, database: str, **options: Any) -> None:
        super().__init__(partial(sqlite3.connect, database, **options), iter_chunk_size=64)
        self._thread.daemon = True  # SQLAlchemy's choice: a loop that was dropped ends no thread
        self.commits_next = False

    def cursor(self) -> Any:
        return _Cursor(self)

    async def run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do `work` in the connection's thread."""
        try:
            await self._execute(work, self._conn)
        except UnicodeDecodeError as error:
            # The text of SQLite's error, which quotes a schema that is damaged.
            raise sqlite3.DatabaseError("its schema is damaged") from error

    # A thread that is not waited for would find the loop closed, and complain on the terminal.
    async def _connect(self) -> Self:
        return await to_the_end(super()._connect())  # type: ignore[return-value]  # itself

    async def close(self) -> None:
        await to_the_end(super().close())

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """aiosqlite's, which goes on to its end.

        A cancellation would make SQLAlchemy drop the connection, while the thread goes on and keeps
        its locks; and in memory there is no other.
        """
        if self._connection is None:
            raise ValueError("Connection closed")
        future = Steadfast[Any](loop=asyncio.get_running_loop())
        self._tx.put_nowait((future, partial(fn, *args, **kwargs)))  # pyright: ignore[reportUnknownMemberType]  # not typed
        return await outcome_of(future)


class _Cursor:
    """Executes a statement, fetches its rows and closes the cursor in one trip, not in four."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> None:
        await self._do(lambda on: on.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Any) -> None:
        await self._do(lambda on: on.executemany(sql, parameters))

    async def fetchall(self) -> list[Any]:
        return self._rows

    async def close(self) -> None:
        self._rows = []

    async def _do(self, execute: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> None:
        commits, self._connection.commits_next = self._connection.commits_next, False

        def work(connection: sqlite3.Connection) -> None:
            self._take(execute(connection))
            if commits:
                connection.commit()

        await self._connection.run(work)

    def _take(self, cursor: sqlite3.Cursor) -> None:
        with closing(cursor):
            self.description = cursor.description
            self.rowcount = cursor.rowcount
            self.lastrowid = cursor.lastrowid
            self._rows = cursor.fetchall()


registry.register("sqlite.artigraph", __name__, Dialect.__name__)
