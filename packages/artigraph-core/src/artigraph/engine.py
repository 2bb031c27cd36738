"""A database: one engine for each event loop, one way to read, one way to open a transaction."""

import asyncio
import os
import random
import sqlite3
import stat
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, inspect, select
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from artigraph.dialects import (
    create_tables,
    for_one_statement,
    is_busy,
    is_cut,
    is_deadlock,
    is_full,
    is_lost,
    is_memory,
    is_unavailable,
    make_engine,
    needs_no_transaction,
    shown_url,
)
from artigraph.errors import (
    ArtigraphError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseUnavailableError,
    SaveOutcomeUnknownError,
    SchemaError,
    WrongLoopError,
)
from artigraph.folders import sync_name
from artigraph.loop import LoopLocal, cancellation_held_back, to_the_end
from artigraph.refusals import explain
from artigraph.spec import Storage
from artigraph.sqlite import Synchronous, commit_with_next
from artigraph.tables import SCHEMA_VERSION, version_table
from artigraph.turns import Turns

T = TypeVar("T")

DEFAULT_STORAGE = "default"
"""How rows name the database's own storage, so that both can move together."""

_TRIES = 8
"""How often a transaction is begun at most."""

FOLDER = ".artigraph"
"""Of the embedded database, beside or above the working directory."""


@dataclass(frozen=True)
class Settings:
    """What `set_database` was told."""

    create_tables: bool = True
    synchronous: Synchronous = "FULL"
    share_data: bool = False


class Connected:
    """What one event loop has of a database. It is entered by whoever uses it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.alone = for_one_statement(engine.sync_engine)
        self.turns: Turns[tuple[Callable[[Connection], Any], int]] | None = None
        """At writing: SQLite has one writer, and a turn beats polling for the lock."""
        self.file: tuple[int, int] | None = None
        """The identity of SQLite's file."""
        self._users = 0
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        self._users -= 1
        await self._close_unused()

    async def close(self) -> None:
        """Close all connections: at once, or when the last that is in use was given back."""
        self._is_closed = True
        await self._close_unused()

    async def _close_unused(self) -> None:
        if self._is_closed and not self._users:
            pool = self.engine.sync_engine.pool
            # Whoever comes meanwhile gets a new pool, and closes that in turn.
            self.engine.sync_engine.dispose(close=False)
            await greenlet_spawn(pool.dispose)


class Database:
    """A database, and the storage of its large values."""

    def __init__(self, url: URL, storage: Storage | None, settings: Settings) -> None:
        self.name = shown_url(url)
        """The URL, for messages."""
        self.storage = storage
        self.shares_data = settings.share_data
        self._url = url
        self._settings = settings
        self._of_loop = LoopLocal(self._connect, Connected.close)
        _all.add(self)
        self._memory_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, which reads with one statement on a connection."""
        async with await self._get() as connected:
            with cancellation_held_back():
                return await self._read(connected, work)

    async def write(self, work: Callable[[Connection], T], *, statement_rows: int = 0) -> T:
        """What `work` returns, which reads and writes in one transaction.

        Once begun it goes on to its end: a cancellation waits for the outcome, and then goes on.
        On SQLite those who wait for their turn share the next transaction; each returns when that
        is committed, and where it is refused each has one of its own.
        Where a deadlock was resolved against the transaction, it is done again from its beginning;
        so it is, once, where the connection is found to be lost before the commit.

        Args:
            work: Does it, on a connection.
            statement_rows: How many rows it inserts by one statement, where it does nothing else.

        Raises:
            IntegrityError: The database refused a row; nothing was written.
            SaveOutcomeUnknownError: The connection broke during the commit.
        """
        async with await self._get() as connected:
            if connected.turns is not None:
                return await connected.turns.take((work, statement_rows))
            return await to_the_end(self._write(connected, work, statement_rows))

    async def write_once(
        self,
        work: Callable[[Connection], object],
        was_done: Callable[[Connection], bool],
        *,
        statement_rows: int = 0,
    ) -> None:
        """Do `work` in one transaction, also where the answer to a commit is lost.

        Then it is looked whether it was done, and it is done again where it was not: its rows have
        their ids already, so that it can't be done twice, however late the lost commit arrives.

        Raises:
            IntegrityError: The database refused a row; nothing was written.
            SaveOutcomeUnknownError: The database can't be asked.
        """
        unknown: SaveOutcomeUnknownError | None = None
        refusal: Exception | None = None
        for _ in range(_TRIES):
            try:
                await self.write(work, statement_rows=statement_rows)
                return
            except SaveOutcomeUnknownError as error:
                unknown = error
            except (IntegrityError, DatabaseError) as error:
                if unknown is None:
                    raise
                refusal = error
            try:
                if await self.read(was_done):
                    return
            except DatabaseError as error:
                raise unknown from error
            if isinstance(refusal, IntegrityError):  # not for what was lost, which is not there
                raise refusal
        assert unknown is not None
        raise unknown

    async def close(self) -> None:
        await self._of_loop.close()

    async def _read(self, connected: Connected, work: Callable[[Connection], T]) -> T:
        self._check_file(connected)
        for attempt in range(_TRIES):
            try:
                return await greenlet_spawn(_read, connected.alone, work)
            except ArtigraphError:  # of the work: it may be an OSError, too
                raise
            except (SQLAlchemyError, OSError) as error:
                if attempt or not is_cut(error):
                    raise self._explained(error) from error
        raise AssertionError("the second attempt returns or raises")

    async def _write(
        self, connected: Connected, work: Callable[[Connection], T], statement_rows: int = 0
    ) -> T:
        self._check_file(connected)
        for attempt in range(_TRIES):
            try:
                return await self._attempt(connected, work, statement_rows)
            except ArtigraphError:
                raise
            except (SQLAlchemyError, OSError) as error:
                if isinstance(error, IntegrityError):
                    raise
                can_be_repeated = is_deadlock(error) or (is_cut(error) and not attempt)
                if not can_be_repeated or attempt == _TRIES - 1:
                    raise self._explained(error) from error
            # Full jitter: those who met each other do not meet again.
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _write_together(
        self, connected: Connected, works: Sequence[tuple[Callable[[Connection], Any], int]]
    ) -> list[Any]:
        def do_all(connection: Connection) -> list[Any]:
            *earlier, (last, statement_rows) = works
            results = [work(connection) for work, _ in earlier]
            if statement_rows:
                commit_with_next(connection.connection)
            return [*results, last(connection)]

        return await self._write(connected, do_all)

    async def _attempt(
        self, connected: Connected, work: Callable[[Connection], T], statement_rows: int
    ) -> T:
        engine = connected.engine.sync_engine
        try:
            if needs_no_transaction(engine.dialect, statement_rows):
                return await greenlet_spawn(_execute, connected.alone, work)
            return await greenlet_spawn(_transact, engine, work)
        except _CommitError as error:
            cause = error.cause
            if not is_lost(cause):
                raise cause from None
            raise SaveOutcomeUnknownError(
                self.name,
                f"the connection broke during a commit ({type(cause).__name__})",
                "Do the same again, with the same object: it is done once, whatever happened.",
            ) from cause

    async def _get(self) -> Connected:
        if is_memory(self._url):
            self._check_loop()
        return await self._of_loop.get()

    def _check_loop(self) -> None:
        """A database in memory ends with the loop that it began on: another would be empty."""
        loop = asyncio.get_running_loop()
        if self._memory_loop is None:
            self._memory_loop = weakref.ref(loop)
        elif self._memory_loop() is not loop:
            raise WrongLoopError(
                "a database in memory",
                "Use a file, sqlite:///graph.db, where several event loops share one.",
            )

    async def _connect(self) -> Connected:
        engine = make_engine(self._url, self._settings.synchronous)
        try:
            with cancellation_held_back():
                await greenlet_spawn(self._prepare, engine.sync_engine)
        except BaseException as error:
            await engine.dispose()
            if isinstance(error, ArtigraphError):
                raise
            if isinstance(error, SQLAlchemyError | OSError | sqlite3.Error):
                raise self._explained(error) from error
            if isinstance(error, UnicodeError | OverflowError):
                kind = type(error).__name__
                raise DatabaseUnavailableError(
                    self.name,
                    f"its host or port is none that can be connected to ({kind})",
                    "Check the URL.",
                ) from error
            if isinstance(error, TypeError | ValueError) and self._url.query:
                options = ", ".join(self._url.query)
                raise DatabaseError(
                    self.name,
                    f"the driver does not take all of the URL's options: {options}",
                    "Leave out what is not the driver's own.",
                ) from error
            raise
        connected = Connected(engine)
        if engine.dialect.name == "sqlite":
            connected.turns = Turns(partial(self._write_together, connected))
            connected.file = self._file()
        return connected

    def _check_file(self, connected: Connected) -> None:
        """Refuse a file of SQLite's that is gone, which its connections would go on to use.

        SQLite looks in the same way, but not where it has a write-ahead log:
        https://www.sqlite.org/rescode.html#readonly_dbmoved
        """
        if connected.file is not None and self._file() not in (connected.file, _UNKNOWN):
            raise DatabaseUnavailableError(
                self.name,
                "the file was removed, moved or replaced while it was open",
                "Put it back, or await artigraph.close() to use what is there; then try again.",
            )

    def _file(self) -> tuple[int, int] | None:
        """Which file is at SQLite's path."""
        if is_memory(self._url):
            return None
        try:
            found = os.stat(self._url.database or "")  # noqa: PTH116  # a Path takes twice as long
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # it may be there: SQLite has it open, and will tell
            return _UNKNOWN
        return found.st_dev, found.st_ino

    def _prepare(self, engine: Engine) -> None:
        """Find the tables in the version of this Artigraph, or make them where there are none."""
        if engine.dialect.name == "sqlite" and not is_memory(self._url):
            self._prepare_file(Path(self._url.database or ""))
        with engine.connect() as connection:
            found = _version(connection)
            if found is None:
                if not self._settings.create_tables:
                    raise SchemaError(
                        self.name,
                        "it has no tables of Artigraph's",
                        "Call set_database(url, create_tables=True) once to make them.",
                    )
                create_tables(connection)
                found = _version(connection)
        if found != SCHEMA_VERSION:
            raise SchemaError(
                self.name,
                f"its tables are of version {found!r}, this Artigraph's are {SCHEMA_VERSION!r}",
                "Use the Artigraph that made them; tables are never changed by themselves.",
            )

    def _prepare_file(self, file: Path) -> None:
        if file.parent.name == FOLDER and self._settings.create_tables:
            _make_folder(file.parent, is_empty=not file.exists())
        if not file.exists() and not self._settings.create_tables:
            raise DatabaseUnavailableError(
                self.name,
                "the file does not exist",
                "Check the path, or call set_database(url, create_tables=True) to make it.",
            )
        if not file.parent.is_dir():
            raise DatabaseUnavailableError(
                self.name, f"there is no folder {str(file.parent)!r}", "Make it, or check the path."
            )
        self._check_not_inherited(file)
        # Where a file can't be opened aiosqlite leaves a thread behind, which then fails.
        sqlite3.connect(file).close()

    def _check_not_inherited(self, file: Path) -> None:
        """SQLite's locks don't go to a forked child, which would take itself for their owner.

        What it saved would be lost with the write-ahead log, which the parent removes in the end:
        https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
        """
        for database in list(_all):
            is_same = database._url.get_backend_name() == "sqlite" and _are_same(
                Path(database._url.database or ""), file
            )
            if is_same and database._of_loop.was_open_at_fork:
                raise DatabaseUnavailableError(
                    self.name,
                    "the process from which this one was forked had it open",
                    "Start workers with multiprocessing.get_context('spawn'), or await"
                    " artigraph.close() before they are forked.",
                )

    def _explained(self, error: Exception) -> DatabaseError:
        cause = error.orig if isinstance(error, StatementError) else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        if _is_about_a_value(error):
            reason = f"a value can't be sent to it ({type(cause).__name__})"
        told = self._told_of(cause)
        if told is not None:
            reason = f"{reason}: {told[0]}"
        if is_unavailable(error):
            remedy = told[1] if told else "Check that it is there and running, and the URL."
            if is_full(error):
                remedy = "Close other connections, or raise the limit (max_connections)."
            return DatabaseUnavailableError(self.name, reason, remedy)
        if is_busy(error):
            return DatabaseBusyError(self.name, reason, "Nothing was written; try again.")
        remedy = f"Nothing was written. {told[1]}" if told else "Nothing was written."
        return DatabaseError(self.name, reason, remedy)

    def _told_of(self, error: BaseException | None) -> tuple[str, str] | None:
        """What can be told of SQLite's refusal: why, and what to do."""
        name = getattr(error, "sqlite_errorname", None)
        if name is None or is_memory(self._url):
            return None
        return explain(name, Path(self._url.database or ""))


_UNKNOWN = (-1, -1)

_all: "weakref.WeakSet[Database]" = weakref.WeakSet()


def _are_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, over links too."""
    return os.path.realpath(path) == os.path.realpath(other)  # of a circle of links, too


def _make_folder(folder: Path, *, is_empty: bool) -> None:
    """Make the folder unless there is one; its name is on the disk before a database is in it."""
    is_new = not folder.exists()
    folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    if is_empty:
        # Also where it is found: who made it may have died, or be about to sync its name. Where one
        # may not read the folder above, it is somebody else's work.
        with nullcontext() if is_new else suppress(PermissionError):
            sync_name(folder)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _is_about_a_value(error: Exception) -> bool:
    """Whether the driver refused to send a value, which its text may quote."""
    if not isinstance(error, StatementError):
        return False
    # The second is asyncpg's, whose refusals SQLAlchemy takes for the server's.
    return not isinstance(error, DBAPIError) or "for query argument" in str(error.orig)


class _CommitError(Exception):
    """Wraps what a commit raised, to tell it from what the work before it raised."""

    def __init__(self, cause: SQLAlchemyError | OSError) -> None:
        super().__init__(cause)
        self.cause = cause


def _read(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return work(connection)


def _transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            result = work(connection)
        except BaseException:
            transaction.rollback()
            raise
        try:
            transaction.commit()
        except (SQLAlchemyError, OSError) as error:
            raise _CommitError(error) from error
        return result


def _execute(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        try:
            return work(connection)
        except (SQLAlchemyError, OSError) as error:
            raise _CommitError(error) from error


def _version(connection: Connection) -> str | None:
    """Of the tables that are there; the MySQL family commits each table before the version."""
    if not inspect(connection).has_table(version_table.name):
        return None
    return connection.scalar(select(version_table.c.version_num))
