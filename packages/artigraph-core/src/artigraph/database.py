"""Which database, one engine for each event loop, one way to open a transaction.

Every quirk of a dialect is here, in a function that bears its name.
"""

import asyncio
import os
import sqlite3
import stat
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar

from sqlalchemy import URL, Connection, Engine, event, insert, inspect, make_url, select, text
from sqlalchemy.dialects import registry as dialects
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import greenlet_spawn

from artigraph.errors import (
    ArtigraphError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseUnavailableError,
    MissingDriverError,
    SaveOutcomeUnknownError,
    SchemaError,
    WrongLoopError,
)
from artigraph.loop import LoopLocal, to_the_end
from artigraph.spec import Storage
from artigraph.storage import open_storage
from artigraph.storage.file import FileSystem
from artigraph.tables import SCHEMA_VERSION, metadata, version_table

T = TypeVar("T")

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

DEFAULT_STORAGE = "default"
"""How rows name the database's own storage, so that both can move together."""

FOLDER = ".artigraph"
"""Of the embedded database, beside or above the working directory."""

BUSY_TIMEOUT = 30
"""How long a writer of SQLite waits for another process's, in seconds."""

_DRIVERS = {
    "sqlite": ("sqlite+aiosqlite", "aiosqlite", ""),
    "postgresql": ("postgresql+asyncpg", "asyncpg", "postgresql"),
    "postgres": ("postgresql+asyncpg", "asyncpg", "postgresql"),
    "mysql": ("mysql+asyncmy", "asyncmy", "mysql"),
    "mariadb": ("mariadb+asyncmy", "asyncmy", "mysql"),
}
"""For a URL that names no driver: the one it gets, its distribution, and core's extra."""


def set_database(
    url: str | None,
    *,
    storage: Storage | str | None = None,
    create_tables: bool = True,
    synchronous: Synchronous = "FULL",
) -> None:
    """Use this database from now on, in every thread and event loop of the process.

    Nothing is opened before it is needed.

    Args:
        url: Such as `sqlite:///graph.db`, `postgresql://user@host/name` or `mysql://...`; None
            goes back to `ARTIGRAPH_URL`, or else to the embedded database.
        storage: Where large values go that have no storage of their own: a storage, or the URI of
            one. Without it they stay in the database, up to 1 MiB each.
        create_tables: Whether a database that has no tables of ours gets them.
        synchronous: Of SQLite: with `FULL` a save that returned survives a loss of power; with
            `NORMAL` the last saves before it may be undone, as a whole.

    Raises:
        DatabaseError: The URL can't be read.
        MissingDriverError: Its driver is not installed.
    """
    global _of_process
    _of_process = None if url is None else _open(url, storage, create_tables, synchronous)


@contextmanager
def use_database(
    url: str,
    *,
    storage: Storage | str | None = None,
    create_tables: bool = True,
    synchronous: Synchronous = "FULL",
) -> Generator[None]:
    """Use this database inside the block, and in the tasks that are started there.

    The arguments are those of `set_database`.
    """
    token = _of_context.set(_open(url, storage, create_tables, synchronous))
    try:
        yield
    finally:
        _of_context.reset(token)


async def close() -> None:
    """Close what the current database has open on this event loop; it opens again when needed.

    An event loop that is shut down, as by `asyncio.run`, closes everything by itself.
    """
    await current_database().close()


def current_database() -> "Database":
    """The database of this context, or of the process, or of the environment, or the embedded."""
    return _of_context.get() or _of_process or _of_environment()


class Connected:
    """What one event loop has of a database. It is entered by whoever uses it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        is_sqlite = engine.dialect.name == "sqlite"
        self.writing: AbstractAsyncContextManager[object] = (
            asyncio.Lock() if is_sqlite else nullcontext()
        )
        """Held while writing: SQLite has one writer, and a turn beats polling for the lock."""
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

    def __init__(
        self, url: URL, storage: Storage | None, create_tables: bool, synchronous: Synchronous
    ) -> None:
        self.name = shown_url(url)
        """The URL, for messages."""
        self.storage = storage
        self._url = url
        self._create_tables = create_tables
        self._synchronous: Synchronous = synchronous
        self._of_loop = LoopLocal(self._connect, Connected.close)
        self._memory_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, which reads with one statement on a connection."""
        async with await self._get() as connected:
            return await self._finished(self._read(connected, work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, which reads and writes in one transaction.

        Once begun it goes on to its end: a cancellation waits for the outcome, and then goes on.

        Raises:
            IntegrityError: The database refused a row; nothing was written.
            SaveOutcomeUnknownError: The connection broke during the commit.
        """
        async with await self._get() as connected, connected.writing:
            return await to_the_end(self._write(connected, work))

    async def close(self) -> None:
        await self._of_loop.close()

    async def _finished(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, which goes on to its end on SQLite.

        A cancellation would make SQLAlchemy drop the connection, while the driver's thread goes on
        and keeps its locks; and in memory there is no other.
        """
        is_sqlite = self._url.get_backend_name() == "sqlite"
        return await (to_the_end(work) if is_sqlite else work)

    async def _read(self, connected: Connected, work: Callable[[Connection], T]) -> T:
        try:
            return await greenlet_spawn(_read, connected.engine.sync_engine, work)
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    async def _write(self, connected: Connected, work: Callable[[Connection], T]) -> T:
        try:
            return await greenlet_spawn(_transact, connected.engine.sync_engine, work)
        except IntegrityError:
            raise
        except _CommitError as error:
            cause = error.cause
            if not _is_lost(cause):
                raise self._explained(cause) from cause
            raise SaveOutcomeUnknownError(
                self.name,
                f"the connection broke during a commit ({type(cause).__name__})",
                "Save the same object again: it is stored once, whatever happened.",
            ) from cause
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    async def _get(self) -> Connected:
        if _is_memory(self._url):
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
        engine = self._make_engine()
        try:
            await self._finished(greenlet_spawn(self._prepare, engine.sync_engine))
        except BaseException as error:
            await engine.dispose()
            if isinstance(error, ArtigraphError):
                raise
            if isinstance(error, SQLAlchemyError | OSError | sqlite3.Error):
                raise self._explained(error) from error
            if isinstance(error, TypeError | ValueError) and self._url.query:
                options = ", ".join(self._url.query)
                raise DatabaseError(
                    self.name,
                    f"the driver does not take all of the URL's options: {options}",
                    "Leave out what is not the driver's own.",
                ) from error
            raise
        return Connected(engine)

    def _make_engine(self) -> AsyncEngine:
        backend = self._url.get_backend_name()
        if backend == "sqlite":
            return _sqlite_engine(self._url, self._synchronous)
        if backend == "postgresql":
            return _server_engine(self._url)
        engine = _server_engine(self._url, isolation_level="READ COMMITTED", pool_recycle=3600)
        event.listen(engine.sync_engine, "connect", _set_up_mysql)
        return engine

    def _prepare(self, engine: Engine) -> None:
        """Find the tables in the version of this Artigraph, or make them where there are none."""
        if engine.dialect.name == "sqlite" and not _is_memory(self._url):
            self._prepare_file(Path(self._url.database or ""))
        with engine.connect() as connection:
            found = _version(connection)
            if found is None:
                if not self._create_tables:
                    raise SchemaError(
                        self.name,
                        "it has no tables of Artigraph's",
                        "Call set_database(url, create_tables=True) once to make them.",
                    )
                connection.rollback()
                _CREATE_TABLES[engine.dialect.name](connection)
                found = _version(connection)
        if found != SCHEMA_VERSION:
            raise SchemaError(
                self.name,
                f"its tables are of version {found!r}, this Artigraph's are {SCHEMA_VERSION!r}",
                "Use the Artigraph that made them; tables are never changed by themselves.",
            )

    def _prepare_file(self, file: Path) -> None:
        if file.parent.name == FOLDER:
            _make_folder(file.parent)
        if not file.exists() and not self._create_tables:
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
        for database in list(_databases.values()):
            if database._url == self._url and database._of_loop.was_open_at_fork:
                raise DatabaseUnavailableError(
                    self.name,
                    "the process from which this one was forked had it open",
                    "Start workers with multiprocessing.get_context('spawn'), or await"
                    " artigraph.close() before they are forked.",
                )

    def _explained(self, error: Exception) -> DatabaseError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        if _is_lost(error) or _codes(cause) & _REFUSALS:
            return DatabaseUnavailableError(
                self.name, reason, "Check that it is there and running, and the URL."
            )
        if isinstance(error, PoolTimeoutError) or _codes(cause) & _BUSY:
            return DatabaseBusyError(self.name, reason, "Nothing was written; try again.")
        return DatabaseError(self.name, reason, "Nothing was written.")


_of_process: Database | None = None
_of_context: ContextVar[Database | None] = ContextVar("artigraph_database", default=None)


def _open(
    url: str, storage: Storage | str | None, create_tables: bool, synchronous: Synchronous
) -> Database:
    named = _with_driver(url)
    make = _make if _is_memory(named) else _shared
    return make(named, storage, create_tables, synchronous)


def _make(
    url: URL, storage: Storage | str | None, create_tables: bool, synchronous: Synchronous
) -> Database:
    if isinstance(storage, str):
        storage = open_storage(storage)
    return Database(url, storage, create_tables, synchronous)


def _shared(
    url: URL, storage: Storage | str | None, create_tables: bool, synchronous: Synchronous
) -> Database:
    """One object for equal settings, so that they share their connections."""
    # A storage goes by its identity: a stranger's need not be hashable.
    storage_key = storage if isinstance(storage, str) else id(storage)
    key = (url, storage_key, create_tables, synchronous)
    if key not in _databases:
        _databases[key] = _make(url, storage, create_tables, synchronous)
    return _databases[key]


_databases: dict[tuple[object, ...], Database] = {}


def _of_environment() -> Database:
    url = os.environ.get("ARTIGRAPH_URL")
    storage = os.environ.get("ARTIGRAPH_STORAGE") or None
    if url:
        return _shared(_with_driver(url), storage, True, "FULL")
    folder = _folder()
    embedded = URL.create("sqlite", database=str(folder / "graph.db"))
    return _shared(_with_driver(embedded), storage or _files_in(folder), True, "FULL")


@cache
def _files_in(folder: Path) -> Storage:
    return FileSystem(folder / "files")


def _is_memory(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def _folder() -> Path:
    """The nearest `.artigraph` at or above the working directory, or the one to be made here."""
    here = Path.cwd()
    device = here.stat().st_dev
    for parent in (here, *here.parents):
        if parent.stat().st_dev != device:
            break
        folder = parent / FOLDER
        if folder.is_dir():
            _check_owner(folder)
            return folder
    return here / FOLDER


def _check_owner(folder: Path) -> None:
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise DatabaseUnavailableError(
            str(folder),
            "this folder belongs to another user",
            "Choose a database of your own: set_database(url), or ARTIGRAPH_URL.",
        )


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _with_driver(text: str | URL) -> URL:
    """The URL as an engine takes it, with a driver that is installed.

    Raises:
        DatabaseError: It can't be read, or is of another kind of database.
        MissingDriverError: The driver is not installed.
    """
    try:
        url = make_url(text)
        if url.drivername in _DRIVERS:
            url = url.set(drivername=_DRIVERS[url.drivername][0])
        dialect = url.get_dialect().get_async_dialect_cls(url)
    except NoSuchModuleError as error:
        raise _refused(make_url(text), "no such kind of database") from error
    except (ArgumentError, ValueError):
        # Without the cause, which may quote a password.
        raise DatabaseError("", "the URL can't be read", _URL_REMEDY) from None
    backend = url.get_backend_name()
    if backend not in _COMPLETE:
        raise _refused(url, "no such kind of database")
    if not dialect.is_async:
        raise _refused(url, f"the driver {url.get_driver_name()} is not asynchronous")
    try:
        dialect.import_dbapi()
    except ModuleNotFoundError as error:
        _, driver, extra = _DRIVERS[backend]
        named = error.name or driver
        extra = extra if named == driver else ""
        raise MissingDriverError(shown_url(make_url(text)), named, extra) from error
    return _COMPLETE[backend](url)


def shown_url(url: URL) -> str:
    """A URL for messages: without the password, and without options, which may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _refused(url: URL, reason: str) -> DatabaseError:
    return DatabaseError(shown_url(url), reason, _URL_REMEDY)


_URL_REMEDY = "It looks like sqlite:///graph.db, postgresql://user@host/name or mysql://..."


def _complete_sqlite(url: URL) -> URL:
    """With a path that stays the same when the working directory changes."""
    if _is_memory(url):
        return url
    path = Path(url.database or "")
    if url.host or str(path).startswith("file:"):
        raise _refused(url, "the URL can't be read, since it names no path of this machine")
    with suppress(RuntimeError):  # no such user: there will be no such folder either
        path = path.expanduser()
    return url.set(database=str(path.absolute()))


def _complete_postgresql(url: URL) -> URL:
    """With what asyncpg calls libpq's `sslmode`, which every provider's URLs have."""
    if url.get_driver_name() != "asyncpg" or "sslmode" not in url.query:
        return url
    mode = url.query["sslmode"]
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})


def _complete_mysql(url: URL) -> URL:
    if not url.database:
        raise _refused(url, "the URL names no database")
    return url


_COMPLETE: dict[str, Callable[[URL], URL]] = {
    "sqlite": _complete_sqlite,
    "postgresql": _complete_postgresql,
    "mysql": _complete_mysql,
    "mariadb": _complete_mysql,
}


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


class SqliteDialect(SQLiteDialect_aiosqlite):
    """SQLAlchemy's, which makes no trip to the connection's thread to roll back nothing."""

    supports_statement_cache = True

    def do_rollback(self, dbapi_connection: Any) -> None:
        if dbapi_connection.driver_connection.in_transaction:
            super().do_rollback(dbapi_connection)


dialects.register("sqlite.artigraph", __name__, SqliteDialect.__name__)


def _sqlite_engine(url: URL, synchronous: Synchronous) -> AsyncEngine:
    is_memory = _is_memory(url)
    engine = create_async_engine(
        url.set(drivername="sqlite+artigraph"),
        hide_parameters=True,
        poolclass=AsyncAdaptedQueuePool,
        # In memory every connection would be a database of its own.
        pool_size=1 if is_memory else 5,
        max_overflow=0 if is_memory else 10,
        # The driver sends BEGIN IMMEDIATE before the first writing statement of a transaction, and
        # nothing before a reading one. A transaction that begins with reading and then writes
        # would fail at once where another has written: ours begin with writing.
        connect_args={"isolation_level": "IMMEDIATE", "timeout": BUSY_TIMEOUT},
    )

    def set_up(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("foreign_keys=ON", "journal_mode=WAL", f"synchronous={synchronous}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", set_up)
    return engine


def _server_engine(url: URL, **options: Any) -> AsyncEngine:
    return create_async_engine(
        url, hide_parameters=True, pool_pre_ping=True, pool_size=5, max_overflow=10, **options
    )


def _set_up_mysql(connection: Any, record: object) -> None:
    # Recursive queries stop at 1,000 levels by default, MariaDB's without saying so. Each of the
    # two names of that setting is a comment to the other server.
    cursor = connection.cursor()
    cursor.execute(
        "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00'"
        " /*M!100200 , max_recursive_iterations=4294967295 */"
        " /*!80003 , cte_max_recursion_depth=4294967295 */"
    )
    cursor.close()


def _version(connection: Connection) -> str | None:
    """Of the tables that are there; the MySQL family commits each table before the version."""
    if not inspect(connection).has_table(version_table.name):
        return None
    return connection.scalar(select(version_table.c.version_num))


_CREATION_LOCK = 0x61727469
"""Of PostgreSQL's advisory locks: the letters of "arti"."""


def _create_on_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    _create(connection)


def _create_on_postgresql(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})"))
    _create(connection)


_LOCK_NAME = "CONCAT('artigraph.', SHA1(DATABASE()))"
"""Of MySQL's user locks, which belong to the whole server; at most 64 characters."""


def _create_on_mysql(connection: Connection) -> None:
    lock = text(f"SELECT GET_LOCK({_LOCK_NAME}, :seconds)")
    connection.execute(lock, {"seconds": BUSY_TIMEOUT})
    try:
        _create(connection)
    finally:
        connection.execute(text(f"SELECT RELEASE_LOCK({_LOCK_NAME})"))


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    if connection.scalar(select(version_table.c.version_num)) is None:
        connection.execute(insert(version_table), {"version_num": SCHEMA_VERSION})
    connection.commit()


_CREATE_TABLES: dict[str, Callable[[Connection], None]] = {
    "sqlite": _create_on_sqlite,
    "postgresql": _create_on_postgresql,
    "mysql": _create_on_mysql,
    "mariadb": _create_on_mysql,
}


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, OSError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


_REFUSALS = {
    "SQLITE_CANTOPEN",
    "3D000",  # PostgreSQL: no such database
    "28000",  # PostgreSQL: no such user
    "28P01",  # PostgreSQL: wrong password
    1044,  # MySQL: no right to the database
    1045,  # MySQL: wrong password
    1049,  # MySQL: no such database
    2003,  # MySQL: can't connect
}
_BUSY = {
    "SQLITE_BUSY",
    "SQLITE_BUSY_SNAPSHOT",
    "SQLITE_LOCKED",
    "40001",  # PostgreSQL: serialization failure
    "40P01",  # PostgreSQL: deadlock
    "55P03",  # PostgreSQL: lock not available
    1020,  # MariaDB: record has changed since last read
    1205,  # MySQL: lock wait timeout
    1213,  # MySQL: deadlock
}


def _codes(cause: BaseException | None) -> set[object]:
    """What a driver calls its error: a name, an SQLSTATE, a number."""
    codes = {getattr(cause, "sqlite_errorname", None), getattr(cause, "sqlstate", None)}
    return codes | {each for each in getattr(cause, "args", ())[:1] if isinstance(each, int)}
