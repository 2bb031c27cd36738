"""Which database: of the context, of the process, of the environment, or the embedded one."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from sqlalchemy import URL

from artigraph.dialects import (
    is_memory,
    with_driver,
)
from artigraph.engine import FOLDER, Database, Settings
from artigraph.errors import (
    DatabaseUnavailableError,
)
from artigraph.spec import Storage
from artigraph.sqlite import Synchronous
from artigraph.storage import open_storage
from artigraph.storage.file import FileSystem


def set_database(
    url: str | None,
    *,
    storage: Storage | str | None = None,
    create_tables: bool = True,
    synchronous: Synchronous = "FULL",
    share_data: bool = False,
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
        share_data: Keep equal data once in each storage, whatever is saved with it: less space, for
            two more statements a save. It is removed when nothing names it any more.

    Raises:
        DatabaseError: The URL can't be read.
        MissingDriverError: Its driver is not installed.
    """
    global _of_process
    settings = Settings(create_tables, synchronous, share_data)
    _of_process = None if url is None else _open(url, storage, settings)


def set_existing_database(url: str | None, storage: str | None) -> None:
    """Use a database that is there, as `set_database` does; one that is not is never made.

    Without a URL it is that of `ARTIGRAPH_URL`, or else the embedded one; the storage likewise.
    """
    global _of_process
    if url is None:
        _of_process = _of_environment(storage, Settings(create_tables=False))
    else:
        settings = Settings(create_tables=False)
        _of_process = _open(url, storage or _storage_of_environment(), settings)


@contextmanager
def use_database(
    url: str,
    *,
    storage: Storage | str | None = None,
    create_tables: bool = True,
    synchronous: Synchronous = "FULL",
    share_data: bool = False,
) -> Generator[None]:
    """Use this database inside the block, and in the tasks that are started there.

    The arguments are those of `set_database`.
    """
    settings = Settings(create_tables, synchronous, share_data)
    token = _of_context.set(_open(url, storage, settings))
    try:
        yield
    finally:
        _of_context.reset(token)


async def close() -> None:
    """Close what the current database has open on this event loop; it opens again when needed.

    An event loop that is shut down, as by `asyncio.run`, closes everything by itself.
    """
    await current_database().close()


def current_database() -> Database:
    """The database of this context, or of the process, or of the environment, or the embedded."""
    return _of_context.get() or _of_process or _of_environment()


_of_process: Database | None = None

_of_context: ContextVar[Database | None] = ContextVar("artigraph_database", default=None)


def _open(url: str, storage: Storage | str | None, settings: Settings) -> Database:
    named = with_driver(url)
    make = _make if is_memory(named) else _shared
    return make(named, storage, settings)


def _make(url: URL, storage: Storage | str | None, settings: Settings) -> Database:
    if isinstance(storage, str):
        storage = open_storage(storage)
    return Database(url, storage, settings)


def _shared(url: URL, storage: Storage | str | None, settings: Settings) -> Database:
    """One object for equal settings, so that they share their connections."""
    # A storage goes by its identity: a stranger's need not be hashable.
    storage_key = storage if isinstance(storage, str) else id(storage)
    key = (url, storage_key, settings)
    if key not in _databases:
        _databases[key] = _make(url, storage, settings)
    return _databases[key]


def _of_environment(storage: str | None = None, settings: Settings | None = None) -> Database:
    url = os.environ.get("ARTIGRAPH_URL")
    storage = storage or _storage_of_environment()
    settings = settings or Settings()
    if url:
        return _shared(with_driver(url), storage, settings)
    folder = _folder()
    embedded = URL.create("sqlite", database=str(folder / "graph.db"))
    return _shared(with_driver(embedded), storage or _files_in(folder), settings)


def _storage_of_environment() -> str | None:
    return os.environ.get("ARTIGRAPH_STORAGE") or None


@cache
def _files_in(folder: Path) -> Storage:
    return FileSystem(folder / "files")


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


_databases: dict[tuple[object, ...], Database] = {}
