"""What differs between databases: URLs and drivers, engines, locks, and the codes of errors."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ARRAY,
    URL,
    Column,
    Connection,
    Dialect,
    Engine,
    Float,
    Insert,
    Select,
    String,
    Table,
    Text,
    bindparam,
    event,
    func,
    insert,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.util import await_only

from artigraph.errors import DatabaseError, MissingDriverError
from artigraph.refusals import family
from artigraph.sqlite import BUSY_TIMEOUT, Synchronous, sqlite_engine
from artigraph.tables import SCHEMA_VERSION, Moment, metadata, version_table

_DRIVERS = {
    "sqlite": ("sqlite+aiosqlite", "aiosqlite", ""),
    "postgresql": ("postgresql+asyncpg", "asyncpg", "postgresql"),
    "postgres": ("postgresql+asyncpg", "asyncpg", "postgresql"),
    "mysql": ("mysql+asyncmy", "asyncmy", "mysql"),
    "mariadb": ("mariadb+asyncmy", "asyncmy", "mysql"),
}
"""For a URL that names no driver: the one it gets, its distribution, and core's extra."""


def with_driver(text: str | URL) -> URL:
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
    """A URL for messages: without the password, the options, which may hold one, and our driver."""
    plain = {driver: name for name, (driver, _, _) in reversed(_DRIVERS.items())}
    plain["sqlite+artigraph"] = "sqlite"  # of an engine
    url = url.set(drivername=plain.get(url.drivername, url.drivername), query={})
    return url.render_as_string(hide_password=True)


def _refused(url: URL, reason: str) -> DatabaseError:
    return DatabaseError(shown_url(url), reason, _URL_REMEDY)


_URL_REMEDY = "It looks like sqlite:///graph.db, postgresql://user@host/name or mysql://..."


def _complete_sqlite(url: URL) -> URL:
    """With a path that stays the same when the working directory changes."""
    if is_memory(url):
        return url
    path = Path(url.database or "")
    if url.host or str(path).startswith("file:") or "\0" in str(path):
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


def is_memory(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def make_engine(url: URL, synchronous: Synchronous) -> AsyncEngine:
    """An engine with the settings of its dialect; nothing is connected yet."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return sqlite_engine(url, in_memory=is_memory(url), synchronous=synchronous)
    if backend == "postgresql":
        engine = _server_engine(url)
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return engine
    engine = _server_engine(
        url, isolation_level="READ COMMITTED", pool_recycle=3600, pool_reset_on_return=None
    )
    event.listen(engine.sync_engine, "connect", _set_up_mysql)
    event.listen(engine.sync_engine, "begin", _note_alone)
    event.listen(engine.sync_engine, "reset", _reset_mysql)
    engine.dialect.do_begin = _begin_mysql
    engine.dialect.do_rollback = _roll_back_mysql
    return engine


def for_one_statement(engine: Engine) -> Engine:
    """The engine for what is one statement; on a server without a transaction around it.

    So it takes one trip to the server, and not three.
    """
    if engine.dialect.name == "sqlite":
        return engine
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT")
    return engine.execution_options(**{_ALONE: True})


def needs_no_transaction(dialect: Dialect, rows: int) -> bool:
    """Whether inserting so many rows is all or nothing without a transaction around it."""
    if dialect.name == "sqlite":
        return False
    # Of several rows the drivers of the MySQL family may make several statements.
    return rows > 0 if dialect.name == "postgresql" else rows == 1


def is_deadlock(error: BaseException) -> bool:
    """Whether the whole transaction was undone in favour of another, and can be done again."""
    return bool(_codes(error) & _DEADLOCKS)


class FromNow(FunctionElement[datetime]):
    """A moment as many seconds after now, or before it, by the clock of the database."""

    type = Moment()
    inherit_cache = True

    def __init__(self, seconds: float) -> None:
        super().__init__(literal(float(seconds), Float()))


@compiles(FromNow, "sqlite")
def _from_now_on_sqlite(element: FromNow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"


@compiles(FromNow, "postgresql")
def _from_now_on_postgresql(element: FromNow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


@compiles(FromNow, "mysql")
@compiles(FromNow, "mariadb")
def _from_now_on_mysql(element: FromNow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)"


class IsAmong(FunctionElement[Any]):
    """Whether a column holds one of the values that a subquery selects; of these there are few."""

    # Without a type: to a Boolean SQLAlchemy adds '= 1', and no index is used.
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], subquery: Select[Any]) -> None:
        super().__init__(column, subquery.scalar_subquery())


@compiles(IsAmong)
def _is_in(element: IsAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, subquery = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN {subquery}"


@compiles(IsAmong, "postgresql")
def _is_any_of(element: IsAmong, compiler: SQLCompiler, **options: Any) -> str:
    # PostgreSQL guesses so many rows of a recursion that it reads the whole table; of an array it
    # expects few, and looks each up in the index.
    column, subquery = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY(ARRAY{subquery})"


def takes_arrays(dialect: Dialect) -> bool:
    """Whether rows are sent as an array for each column, which takes less than row after row."""
    return dialect.name == "postgresql"


def insert_arrays(table: Table, columns: Sequence[Column[Any]], dialect: Dialect) -> Insert:
    """The INSERT that takes an array for each column."""
    arrays: list[ColumnElement[Any]] = []
    for column in columns:
        kind = column.type.dialect_impl(dialect)
        # A cast to VARCHAR(n) would cut what is too long, where the column refuses it.
        item = Text() if isinstance(kind, String) else kind
        arrays.append(func.unnest(bindparam(column.name, type_=ARRAY(item))))
    return insert(table).from_select(columns, select(*arrays))


def create_tables(connection: Connection) -> None:
    """Make the tables, and record their version, while no other process does."""
    connection.rollback()
    _CREATE_TABLES[connection.dialect.name](connection)


def checks_row_by_row(dialect: Dialect) -> bool:
    """Whether foreign keys are checked in the middle of a statement.

    The MySQL family does so, where the others wait for its end: of a parent and its children that
    one statement deletes, the parent may come first.
    https://dev.mysql.com/doc/refman/8.4/en/create-table-foreign-keys.html
    """
    return dialect.name in ("mysql", "mariadb")


def is_lost(error: BaseException) -> bool:
    """Whether there is no connection, so that it is not known what the server did last."""
    return isinstance(error, OSError) or is_cut(error)


def is_cut(error: BaseException) -> bool:
    """Whether there was a connection, and it is gone."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be reached or opened."""
    return is_lost(error) or is_full(error) or bool(_codes(error) & _REFUSALS)


def is_full(error: BaseException) -> bool:
    """Whether the server gives no connection more: to anybody, or to this user."""
    return bool(_codes(error) & _FULL)


def is_busy(error: BaseException) -> bool:
    """Whether other writers were in the way for too long."""
    return isinstance(error, PoolTimeoutError) or bool(_codes(error) & _BUSY)


def _server_engine(url: URL, **options: Any) -> AsyncEngine:
    # Without a ping before each use: what was lost meanwhile is found by the first statement.
    return create_async_engine(url, hide_parameters=True, pool_size=5, max_overflow=10, **options)


def _set_up_mysql(connection: Any, record: object) -> None:
    # Recursive queries stop at 1,000 levels by default, MariaDB's without saying so. Each of the
    # two names of that setting is a comment to the other server.
    cursor = connection.cursor()
    cursor.execute(
        "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00',"
        " autocommit=1"
        " /*M!100200 , max_recursive_iterations=4294967295 */"
        " /*!80003 , cte_max_recursion_depth=4294967295 */"
    )
    cursor.close()


_ALONE = "artigraph_alone"
"""The option of a connection whose statements are transactions of their own."""


def _note_alone(connection: Connection) -> None:
    connection.connection.info[_ALONE] = _ALONE in connection.get_execution_options()


def _begin_mysql(dbapi_connection: Any) -> None:
    if not dbapi_connection.info[_ALONE]:
        await_only(dbapi_connection.driver_connection.begin())


def _roll_back_mysql(dbapi_connection: Any) -> None:
    # The driver knows from the last answer whether there is anything to roll back.
    if dbapi_connection.driver_connection.get_transaction_status():
        dbapi_connection.rollback()


def _reset_mysql(connection: Any, record: object, state: object) -> None:
    _roll_back_mysql(connection)


def _refuse_closed(connection: Any, record: object, proxy: object) -> None:
    # The driver hears of it when a server closes a connection; the pool then makes another.
    if connection.driver_connection.is_closed():
        raise DisconnectionError


_CREATION_LOCK = 0x61727469
"""Of PostgreSQL's advisory locks: the letters of "arti"."""


def _create_on_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    _create(connection)


def _create_on_postgresql(connection: Connection) -> None:
    # In a stricter level, which may be the database's default, the wait for the lock would be a
    # part of the snapshot, which then does not have what the one before has created.
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
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


_REFUSALS = {
    "SQLITE_CANTOPEN",
    "08003",  # PostgreSQL: the connection ended while it was made
    "57P03",  # PostgreSQL: the server is starting up, or shutting down
    "3D000",  # PostgreSQL: no such database
    "28000",  # PostgreSQL: no such user, or none that may log in from here
    "28P01",  # PostgreSQL: wrong password
    1044,  # MySQL: no right to the database
    1045,  # MySQL: wrong password
    1049,  # MySQL: no such database
    2003,  # MySQL: can't connect
    2013,  # MySQL: the connection ended while it was made
    4151,  # MariaDB: the account is locked
}
_FULL = {
    "53300",  # PostgreSQL: too many connections
    1040,  # MySQL: too many connections
    1226,  # MySQL: the user has used up what he may
}
_DEADLOCKS = {
    "SQLITE_BUSY_SNAPSHOT",
    "40001",  # PostgreSQL: serialization failure
    "40P01",  # PostgreSQL: deadlock
    1020,  # MariaDB: record has changed since last read
    1213,  # MySQL: deadlock
}
_BUSY = _DEADLOCKS | {
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "55P03",  # PostgreSQL: lock not available
    1205,  # MySQL: lock wait timeout
}


def _codes(error: BaseException) -> set[object]:
    """What a driver calls its error: a name, an SQLSTATE, a number."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", None)
    codes: set[object] = {name, family(name or ""), getattr(cause, "sqlstate", None)}
    return codes | {each for each in getattr(cause, "args", ())[:1] if isinstance(each, int)}
