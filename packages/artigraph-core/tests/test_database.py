"""Databases: which one is used, what is said where it can't be, and who may use it at once."""

import asyncio
import gc
import os
import random
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

import artigraph
from artigraph import (
    ArtifactModel,
    ArtifactSequence,
    ArtigraphError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseUnavailableError,
    MissingDriverError,
    NodeNotFoundError,
    Run,
    RunManager,
    SchemaError,
    WrongLoopError,
    set_database,
    use_database,
)
from artigraph.database import current_database
from artigraph.dialects import with_driver
from artigraph.ids import new_id
from artigraph.storage.file import FileSystem
from artigraph.tables import node_table

PASSWORD = "hunter2"
NOBODY = 65534

on_servers = pytest.mark.parametrize(
    "new_database_url",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
    indirect=True,
)
forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
on_sqlite = pytest.mark.parametrize(
    "new_database_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)
on_postgresql = pytest.mark.parametrize(
    "new_database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
on_mysql = pytest.mark.parametrize(
    "new_database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)


@dataclass
class Grade(ArtifactModel, version=1):
    value: int


@dataclass
class Report(ArtifactModel, version=1, name="database.Report"):
    scores: ArtifactSequence[Grade]


@dataclass
class Large(ArtifactModel, version=1, name="database.Large"):
    data: bytes


# The embedded database


def test_without_any_setting_there_is_a_database_in_the_folder(tmp_path: Path) -> None:
    """Its folder is the user's alone, and git does not see it."""
    score_id = asyncio.run(Grade(1).save())

    folder = tmp_path / ".artigraph"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    assert asyncio.run(Grade.load(score_id)) == Grade(1)


@pytest.mark.parametrize("is_made", [False, True], ids=["none", "found"])
def test_the_folder_is_on_the_disk_before_there_is_a_database_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made: bool
) -> None:
    """Else a loss of power could take all of it; who made one that is found may have died."""
    folder = tmp_path / ".artigraph"
    seen: list[list[str]] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        sync(descriptor)
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            seen.append(sorted(path.name for path in folder.iterdir()))

    monkeypatch.setattr(os, "fsync", recorded)
    if is_made:
        folder.mkdir()

    asyncio.run(Grade(1).save())
    asyncio.run(Grade(2).save())

    assert seen == [[]]


def test_the_folder_may_be_in_one_that_this_user_may_not_read(
    as_nobody: Callable[[], None],
) -> None:
    """That it is there at all was somebody else's work, and so is its name on the disk."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above, ".artigraph")
        folder.mkdir()
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        Path(above).chmod(0o311)

        as_nobody()
        asyncio.run(save_in(f"sqlite:///{folder}/graph.db"))
        os.seteuid(os.getuid())

        Path(above).chmod(0o700)
        assert (folder / "graph.db").exists()


def test_the_nearest_folder_above_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in a subfolder of a project finds what one at its top has saved."""
    score_id = asyncio.run(Grade(1).save())
    inner = tmp_path / "notebooks" / "drafts"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)

    assert asyncio.run(Grade.load(score_id)) == Grade(1)
    assert not (inner / ".artigraph").exists()


def test_a_folder_below_goes_before_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What belongs to the inner project stays in it."""
    score_id = asyncio.run(Grade(1).save())
    inner = tmp_path / "inner"
    (inner / ".artigraph").mkdir(parents=True)
    monkeypatch.chdir(inner)

    with pytest.raises(NodeNotFoundError):
        asyncio.run(Grade.load(score_id))


def test_another_users_folder_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below /tmp: neither is it used, nor is one made that hides it."""
    folder = tmp_path / ".artigraph"
    if os.getuid() == 0:
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
    else:
        folder.symlink_to("/")
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)

    with pytest.raises(DatabaseUnavailableError) as caught:
        asyncio.run(Grade(1).save())

    assert str(folder) in str(caught.value)
    assert "another user" in str(caught.value)
    assert "ARTIGRAPH_URL" in str(caught.value)
    assert list(inner.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / ".artigraph").write_text("mine")

    with pytest.raises(DatabaseUnavailableError, match=str(tmp_path / ".artigraph")):
        asyncio.run(Grade(1).save())

    assert (tmp_path / ".artigraph").read_text() == "mine"


def test_a_moved_project_still_has_its_large_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows say that data is in the database's storage, not where that is."""
    large = Large(random.Random(1).randbytes(200_000))
    (tmp_path / "before").mkdir()
    monkeypatch.chdir(tmp_path / "before")
    large_id = asyncio.run(large.save())

    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path / "after")

    assert asyncio.run(Large.load(large_id)) == large
    assert any((tmp_path / "after" / ".artigraph" / "files").glob("??/*"))


def test_the_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in it is taken for a part of a URL."""
    folder = tmp_path / "100%41 of it? #1 & more:@"
    folder.mkdir()
    monkeypatch.chdir(folder)
    large = Large(bytes(200_000))

    large_id = asyncio.run(large.save())

    assert asyncio.run(Large.load(large_id)) == large
    assert (folder / ".artigraph" / "graph.db").exists()
    assert list(tmp_path.iterdir()) == [folder]


# The environment


async def test_the_environment_names_a_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is made in the working folder then."""
    monkeypatch.setenv("ARTIGRAPH_URL", database_url)

    score_id = await Grade(1).save()

    assert await Grade.load(score_id) == Grade(1)
    assert not (tmp_path / ".artigraph").exists()


@pytest.mark.parametrize("url", ["sqlite:///graph.db", None])
def test_the_environment_names_a_storage(
    url: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For the large values of the database that it names, or of the embedded one."""
    if url is not None:
        monkeypatch.setenv("ARTIGRAPH_URL", url)
    monkeypatch.setenv("ARTIGRAPH_STORAGE", (tmp_path / "elsewhere").as_uri())
    large = Large(bytes(200_000))

    large_id = asyncio.run(large.save())

    assert asyncio.run(Large.load(large_id)) == large
    assert len(list((tmp_path / "elsewhere").glob("??/*"))) == 1


async def test_the_environment_may_name_a_database_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is one database, not a new one at every call."""
    monkeypatch.setenv("ARTIGRAPH_URL", "sqlite://")

    score_id = await Grade(1).save()

    assert await Grade.load(score_id) == Grade(1)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where a container sets all variables that it knows."""
    monkeypatch.setenv("ARTIGRAPH_URL", "")
    monkeypatch.setenv("ARTIGRAPH_STORAGE", "")

    asyncio.run(Grade(1).save())

    assert (tmp_path / ".artigraph" / "graph.db").exists()


# Which one is current


async def test_set_database_is_seen_by_every_thread(new_database_url: Callable[[], str]) -> None:
    """Also by one that knows nothing of the code that started it."""
    set_database(new_database_url())
    score_id = await Grade(1).save()

    with ThreadPoolExecutor(1) as thread:
        loaded = thread.submit(asyncio.run, Grade.load(score_id)).result()

    assert loaded == Grade(1)


@on_sqlite
async def test_use_database_goes_before_set_database(new_database_url: Callable[[], str]) -> None:
    """Blocks nest; each end brings back what was before."""
    outer, middle, inner = (new_database_url() for _ in range(3))
    names: list[str] = []
    set_database(outer)

    with use_database(middle):
        with use_database(inner):
            names.append(current_database().name)
        names.append(current_database().name)
    names.append(current_database().name)

    assert [Path(name).name for name in names] == [Path(url).name for url in (inner, middle, outer)]


@on_sqlite
async def test_the_end_of_a_block_comes_with_an_exception_too(
    new_database_url: Callable[[], str],
) -> None:
    """Nothing of it stays."""
    set_database(new_database_url())
    outer = current_database()

    with pytest.raises(KeyError), use_database(new_database_url()):
        raise KeyError

    assert current_database() is outer


async def test_tasks_that_use_other_databases_do_not_meet(
    new_database_url: Callable[[], str],
) -> None:
    """Each task sees its own block; a task that starts in a block sees that one."""

    async def save_in(url: str) -> UUID:
        with use_database(url):
            score_id = await asyncio.create_task(Grade(1).save())
            assert await Grade.load(score_id) == Grade(1)
            return score_id

    first, second = new_database_url(), new_database_url()
    score_id, _ = await asyncio.gather(save_in(first), save_in(second))

    with use_database(second), pytest.raises(NodeNotFoundError):
        await Grade.load(score_id)
    with use_database(first):
        assert await Grade.load(score_id) == Grade(1)


@on_sqlite
async def test_to_thread_sees_the_block_and_a_bare_thread_does_not(
    new_database_url: Callable[[], str],
) -> None:
    """A bare thread inherits no context: it has the database of the process."""
    set_database(new_database_url())
    with ThreadPoolExecutor(1) as bare_thread, use_database(new_database_url()):
        in_block = current_database()

        seen = await asyncio.to_thread(current_database)
        seen_by_bare_thread = bare_thread.submit(current_database).result()

    assert seen is in_block
    assert seen_by_bare_thread is current_database()


@on_sqlite
def test_setting_none_goes_back_to_the_environment(
    new_database_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of a test of the user's."""
    first, second = new_database_url(), new_database_url()
    monkeypatch.setenv("ARTIGRAPH_URL", first)
    set_database(second)

    set_database(None)

    assert Path(current_database().name).name == Path(first).name


@on_sqlite
async def test_naming_a_database_touches_nothing(new_database_url: Callable[[], str]) -> None:
    """Neither a file nor a folder is made before something is saved or loaded."""
    url = new_database_url()
    path = Path(make_url(url).database or "")

    set_database(url, storage=(path.parent / "files").as_uri())
    with use_database(url):
        pass
    await artigraph.close()

    assert not path.exists()
    assert not (path.parent / "files").exists()


@on_sqlite
async def test_a_storage_need_not_be_hashable(
    new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    """A stranger's storage may be a dataclass that compares by value."""

    class Comparable(FileSystem):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Comparable) and other.directory == self.directory

        __hash__ = None  # type: ignore[assignment]

    set_database(new_database_url(), storage=Comparable(tmp_path / "files"))
    large = Large(bytes(200_000))

    assert await Large.load(await large.save()) == large


async def test_equal_settings_share_their_connections(database_url: str) -> None:
    """A block in every request opens no engine in every request."""
    for _ in range(3):
        with use_database(database_url):
            await Grade(1).save()
            engine = (await current_database()._get()).engine

    with use_database(database_url):
        assert (await current_database()._get()).engine is engine
        assert engine.pool.checkedin() == 1


async def test_what_was_closed_opens_again(database_url: str) -> None:
    """Closing gives back the connections of the loop, not the choice of the database."""
    set_database(database_url)
    score_id = await Grade(1).save()

    await artigraph.close()
    await artigraph.close()

    assert await Grade.load(score_id) == Grade(1)


async def test_closing_harms_no_save_that_is_under_way(database_url: str) -> None:
    """They end, and leave no connection behind: the fixture counts them."""
    set_database(database_url)
    await Grade(0).save()
    saves = [asyncio.create_task(Grade(value).save()) for value in range(10)]
    await asyncio.sleep(0)

    await artigraph.close()

    for score_id in await asyncio.gather(*saves):
        await Grade.load(score_id)


# URLs and drivers


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///graph.db", "sqlite+aiosqlite"),
        ("postgresql://me@db.invalid/graph", "postgresql+asyncpg"),
        ("postgres://me@db.invalid/graph", "postgresql+asyncpg"),
        ("mysql://me@db.invalid/graph", "mysql+asyncmy"),
        ("mariadb://me@db.invalid/graph", "mariadb+asyncmy"),
        ("mysql+aiomysql://me@db.invalid/graph", "mysql+aiomysql"),
        ("postgresql+asyncpg://me@db.invalid/graph", "postgresql+asyncpg"),
    ],
)
def test_plain_urls_get_their_drivers(url: str, driver: str) -> None:
    """One that names a driver keeps it."""
    assert with_driver(url).drivername == driver


def test_a_url_is_shown_as_it_is_written() -> None:
    """Without the driver that it got by itself, and without a password."""
    set_database("postgresql://me:secret@db.invalid/graph?password=secret")

    assert current_database().name == "postgresql://me:***@db.invalid/graph"


@on_mysql
@pytest.mark.parametrize("name", ["mysql+aiomysql", "mariadb", "mariadb+asyncmy"])
async def test_the_mysql_family_has_several_names(database_url: str, name: str) -> None:
    """Both servers, and both drivers."""
    set_database(database_url.replace("mysql", name, 1))
    run = Run(label="nightly")
    async with RunManager(run) as manager:
        await manager.save_artifact("data", b"\0\xff")

    assert (await RunManager(run).load_artifact("data")) == b"\0\xff"


@on_sqlite
async def test_a_file_is_the_same_by_every_name(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A relative path is of the moment when it is set, not of when it is used."""
    set_database("sqlite:///relative.db")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")

    await Grade(1).save()

    assert (tmp_path / "relative.db").exists()


@on_postgresql
async def test_postgresql_urls_may_have_the_sslmode_of_libpq(database_url: str) -> None:
    """It is what every provider's console shows."""
    set_database(f"{database_url}?sslmode=prefer")

    assert await Grade.load(await Grade(1).save()) == Grade(1)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nonsense", "can't be read"),
        ("", "can't be read"),
        (f"://{PASSWORD}", "can't be read"),
        (f"postgresql://me:{PASSWORD}@db.invalid:port/graph", "can't be read"),
        (f"postgresql://me:x@{PASSWORD}:y@db.invalid:{PASSWORD}/graph", "can't be read"),
        (f"sqlite://me:{PASSWORD}@host/graph.db", "can't be read"),
        ("sqlite:///file:graph.db?uri=true", "can't be read"),
        (f"nosql://me:{PASSWORD}@db.invalid/graph", "no such kind of database"),
        (f"oracle://me:{PASSWORD}@db.invalid/graph", "no such kind of database"),
        (f"postgresql+nonsense://me:{PASSWORD}@db.invalid/graph", "no such kind of database"),
        (f"mysql+pymysql://me:{PASSWORD}@db.invalid/graph", "asynchronous"),
        (f"mysql://me:{PASSWORD}@db.invalid", "names no database"),
    ],
)
def test_a_url_that_is_none_is_refused_at_once(url: str, expected: str) -> None:
    """With the forms that it may have, and without its password."""
    with pytest.raises(DatabaseError, match=expected) as caught:
        set_database(url)

    assert "postgresql://user@host/name" in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value)).replace(url, "")


@pytest.mark.parametrize("url", [None, b"sqlite://", 5])
def test_what_is_no_string_is_refused_at_once(url: Any) -> None:
    """A block needs a URL."""
    with pytest.raises(DatabaseError, match="can't be read"), use_database(url):
        pass


def test_a_missing_driver_is_an_error_that_names_what_to_type() -> None:
    """It comes when the database is named, not in the middle of a pipeline."""
    program = """
for driver in ("asyncpg", "asyncmy", "aiomysql"):
    sys.modules[driver] = None
for url in (
    "postgresql://me:hunter2@host/graph",
    "mariadb://me:hunter2@host/graph",
    "mysql+aiomysql://me:hunter2@host/graph",
):
    try:
        artigraph.set_database(url)
    except artigraph.MissingDriverError as error:
        print(error)
"""

    told = run_program(program).splitlines()

    assert told == [
        "'postgresql://me:***@host/graph' needs asyncpg, which is not installed."
        ' pip install "artigraph-core[postgresql]"',
        "'mariadb://me:***@host/graph' needs asyncmy, which is not installed."
        ' pip install "artigraph-core[mysql]"',
        "'mysql+aiomysql://me:***@host/graph' needs aiomysql, which is not installed."
        " pip install aiomysql",
    ]


def test_a_driver_that_is_blocking_is_no_missing_driver() -> None:
    """Installing what a synchronous driver's URL names would not help."""
    with pytest.raises(DatabaseError, match="asynchronous") as caught:
        set_database("postgresql+psycopg2://me@db.invalid/graph")

    assert not isinstance(caught.value, MissingDriverError)


# What can't be reached


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mysql+aiomysql"])
def test_a_server_that_does_not_answer_is_named(scheme: str) -> None:
    """B1: with its host and port, and without the password."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    error = refusal(f"{scheme}://me:{PASSWORD}@127.0.0.1:{port}/graph")

    assert isinstance(error, DatabaseUnavailableError)
    assert f"@127.0.0.1:{port}/graph" in str(error)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mysql+aiomysql"])
@pytest.mark.parametrize("place", ["a..b", f"{'x' * 70}.invalid", "127.0.0.1:99999"])
def test_a_place_that_can_not_be_is_told(scheme: str, place: str) -> None:
    """No name of a host has empty or longer parts, and ports end at 65,535."""
    error = refusal(f"{scheme}://me:{PASSWORD}@{place}/graph")

    assert isinstance(error, DatabaseUnavailableError)
    assert f"@{place}/graph" in str(error)
    assert "Check the URL" in str(error)


def test_a_path_that_can_not_be_is_told() -> None:
    """With a NUL in it."""
    with pytest.raises(DatabaseError, match="the URL can't be read"):
        set_database("sqlite:///a\0b.db")


def test_links_in_a_circle_are_in_the_way_of_no_other_database(tmp_path: Path) -> None:
    """Whether two paths lead to one file is asked of all that the process has named."""
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")

    error = refusal(f"sqlite:///{tmp_path}/one/graph.db")

    assert isinstance(error, DatabaseUnavailableError)
    asyncio.run(save_in(f"sqlite:///{tmp_path}/graph.db"))
    assert isinstance(refusal(f"sqlite:///{tmp_path}/one"), DatabaseUnavailableError)
    asyncio.run(save_in(f"sqlite:///{tmp_path}/graph.db"))


def test_a_host_that_is_not_there_is_named() -> None:
    """The name can't be resolved."""
    error = refusal(f"postgresql://me:{PASSWORD}@db.invalid/graph")

    assert isinstance(error, DatabaseUnavailableError)
    assert "db.invalid" in str(error)


@on_servers
def test_a_wrong_password_is_told(database_url: str) -> None:
    """Or an unknown user, where a server asks nobody for a password."""
    url = make_url(database_url).set(username="nobody_here", password=PASSWORD)

    error = refusal(url.render_as_string(hide_password=False))

    assert isinstance(error, DatabaseUnavailableError)
    assert "nobody_here" in str(error)


@on_servers
def test_a_database_that_is_not_there_is_named(database_url: str) -> None:
    """It is never made: that is the administrator's business."""
    url = make_url(database_url).set(database="no_such_database", password=PASSWORD)
    if url.get_backend_name() == "mysql":
        url = url.set(password=None)

    error = refusal(url.render_as_string(hide_password=False))

    assert isinstance(error, DatabaseUnavailableError)
    assert "no_such_database" in str(error)


@on_servers
@pytest.mark.parametrize("option", ["nonsense", "password_file"])
def test_an_option_that_the_driver_does_not_know_is_told(database_url: str, option: str) -> None:
    """By its name, and without its value."""
    error = refusal(f"{database_url}?{option}={PASSWORD}")

    assert option in str(error)


@on_postgresql
def test_no_message_has_a_password_of_the_options(database_url: str) -> None:
    """B3: the URLs of libpq may have it there."""
    url = make_url(database_url).set(database="no_such_database")
    error = refusal(f"{url}?password={PASSWORD}")

    assert isinstance(error, DatabaseUnavailableError)


@on_servers
@pytest.mark.parametrize("value", [PASSWORD.encode(), f"{PASSWORD}\ud800"])
async def test_no_message_has_a_value_that_can_not_be_sent(database_url: str, value: Any) -> None:
    """B3: drivers quote it, or say nothing but the statement."""
    set_database(database_url)
    query = select(node_table.c.node_id).where(node_table.c.artifact_label == value)

    with pytest.raises(DatabaseError, match="a value can't be sent to it") as caught:
        await current_database().read(lambda connection: connection.execute(query).all())

    assert PASSWORD not in str(caught.value)
    assert "SELECT" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """It is not made: it may be a disk that is not mounted."""
    error = refusal(f"sqlite:///{tmp_path}/missing/graph.db")

    assert isinstance(error, DatabaseUnavailableError)
    assert str(tmp_path / "missing") in str(error)
    assert "folder" in str(error)
    assert not (tmp_path / "missing").exists()


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    """By its path."""
    error = refusal(f"sqlite:///{tmp_path}")

    assert isinstance(error, DatabaseUnavailableError)
    assert str(tmp_path) in str(error)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """It is somebody's, and keeps every byte."""
    (tmp_path / "notes.txt").write_text("nothing of yours" * 100)

    error = refusal(f"sqlite:///{tmp_path}/notes.txt")

    assert "not a database" in str(error)
    assert (tmp_path / "notes.txt").read_text() == "nothing of yours" * 100


def test_a_file_that_this_user_may_not_read_is_told(as_nobody: Callable[[], None]) -> None:
    """It can't be opened, and says so."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "graph.db")
        asyncio.run(save_in(f"sqlite:///{path}"))
        path.chmod(0)

        as_nobody()
        error = refusal(f"sqlite:///{path}")
        os.seteuid(os.getuid())

    assert isinstance(error, DatabaseUnavailableError)
    assert "unable to open" in str(error)


def test_a_database_that_this_user_may_not_write_is_told(as_nobody: Callable[[], None]) -> None:
    """F7: saving fails, and says why."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "graph.db")
        asyncio.run(save_in(f"sqlite:///{path}"))

        as_nobody()
        error = refusal(f"sqlite:///{path}")
        os.seteuid(os.getuid())

    assert "readonly" in str(error)


@pytest.mark.parametrize("what", ["removed", "moved", "replaced"])
async def test_a_file_that_is_gone_is_not_used(tmp_path: Path, what: str) -> None:
    """What is written to it nobody finds, and what is read is old: SQLite does not look itself."""
    file = tmp_path / "graph.db"
    set_database(f"sqlite:///{file}")
    grade_id = await Grade(1).save()
    assert await Grade.load(grade_id) == Grade(1)
    if what == "replaced":
        (tmp_path / "copy.db").write_bytes(file.read_bytes())
        (tmp_path / "copy.db").replace(file)
    elif what == "moved":
        file.rename(tmp_path / "other.db")
    else:
        file.unlink()
    late = Grade(2)

    for use in (late.save(), Grade.load(grade_id), artigraph.check(), artigraph.delete(grade_id)):
        with pytest.raises(DatabaseUnavailableError, match="was removed, moved or repl") as caught:
            await use
        assert str(file) in str(caught.value)
        assert "await artigraph.close()" in str(caught.value)
    await artigraph.close()
    for path in tmp_path.iterdir():
        path.unlink()
    assert await Grade.load(await late.save()) == late


def test_a_refusal_is_not_remembered(tmp_path: Path) -> None:
    """The disk may be mounted meanwhile."""
    url = f"sqlite:///{tmp_path}/later/graph.db"
    refusal(url)

    (tmp_path / "later").mkdir()

    asyncio.run(save_in(url))


def test_a_folder_that_is_missing_leaves_nothing_on_the_screen() -> None:
    """The error is all that is told: no thread of a driver reports anything of its own."""
    program = """
artigraph.set_database("sqlite:///missing/graph.db")
for _ in range(5):
    try:
        asyncio.run(artigraph.Run.load("00000000-0000-0000-0000-000000000000"))
    except artigraph.DatabaseUnavailableError:
        print("refused")
"""

    assert run_program(program) == "refused\n" * 5


# Tables


async def test_tables_are_made_on_first_use(database_url: str) -> None:
    """Twenty tasks that come first together find one set of them."""
    set_database(database_url)

    ids = await asyncio.gather(*(Grade(value).save() for value in range(20)))

    assert [(await Grade.load(score_id)).value for score_id in ids] == list(range(20))
    assert await execute(database_url, "SELECT version_num FROM artigraph_alembic_version") == [
        ("0001",)
    ]


async def test_tables_are_not_made_where_that_is_switched_off(database_url: str) -> None:
    """The error tells how to make them; nothing was made."""
    set_database(database_url, create_tables=False)

    with pytest.raises((SchemaError, DatabaseUnavailableError), match="create_tables=True"):
        await Grade(1).save()

    set_database(database_url)
    await Grade(1).save()
    set_database(database_url, create_tables=False)
    await Grade(1).save()


@on_sqlite
async def test_no_file_is_made_where_tables_are_not(database_url: str) -> None:
    """A path with a typing error does not become an empty database."""
    set_database(database_url, create_tables=False)

    with pytest.raises(DatabaseUnavailableError, match="does not exist"):
        await Grade(1).save()

    assert not Path(make_url(database_url).database or "").exists()


async def test_tables_of_another_version_are_left_alone(database_url: str) -> None:
    """The error names both versions."""
    set_database(database_url)
    await Grade(1).save()
    await artigraph.close()
    await execute(database_url, "UPDATE artigraph_alembic_version SET version_num = '9999'")

    with pytest.raises(SchemaError, match=r"'9999'.*'0001'"):
        await Grade(1).save()


async def test_tables_that_were_half_made_are_completed(database_url: str) -> None:
    """MariaDB commits each table by itself: the process that made them may have died between."""
    set_database(database_url)
    await Grade(1).save()
    await artigraph.close()
    await execute(
        database_url, "DELETE FROM artigraph_alembic_version", "DROP TABLE artigraph_link"
    )

    await Grade(1).save()

    assert await execute(database_url, "SELECT count(*) FROM artigraph_link") == [(0,)]


@forks
def test_eight_processes_make_the_tables_at_once(new_database_url: Callable[[], str]) -> None:
    """L6: on each of three new databases; all of them save."""
    for _ in range(3):
        url = new_database_url()

        told = in_children(*[lambda url=url: asyncio.run(save_in(url))] * 8)

        assert told == ["None"] * 8
        with use_database(url):
            assert asyncio.run(count_rows("score")) == 8


# Loops, threads and processes


def test_loops_that_come_and_go_leave_nothing_open(database_url: str) -> None:
    """Nothing is told in development mode, whatever was under way when a loop ended."""
    program = """
async def work(turns):
    async with artigraph.RunManager(artigraph.Run()) as manager:
        await manager.save_artifacts({str(n): Grade(n) for n in range(3)})
        score_id, *_ = await asyncio.gather(*(Grade(n).save() for n in range(5)))
        try:
            await manager.save_artifact("1", Grade(1))
        except artigraph.ConflictError:
            pass
        cancelled = asyncio.create_task(manager.save_artifact("late", Grade(1)))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled.cancel()
    left_alone = [asyncio.create_task(work) for work in (Grade(7).save(), Grade.load(score_id))]
    left_open.append(steps(manager.run.node_id))
    async for _ in left_open[-1]:
        break
    return len(await manager.load_artifacts())

async def steps(run_id):
    async with artigraph.RunManager(artigraph.Run(run_id)) as manager:
        yield 1

artigraph.set_database(sys.argv[1])
left_open = []
for number in range(6):
    assert asyncio.run(work(number * 10)) >= 3
left_open.clear()
gc.collect()
print("done")
"""

    assert run_program(program, database_url) == "done\n"


def test_threads_have_loops_of_their_own(database_url: str) -> None:
    """L11: four of them save into one database, and each loads what another saved."""
    set_database(database_url)
    saved: list[UUID] = []
    barrier = threading.Barrier(4)

    async def work(number: int) -> list[Grade]:
        saved.extend(await asyncio.gather(*(Grade(number).save() for _ in range(5))))
        await asyncio.to_thread(barrier.wait, 30)
        return await asyncio.gather(*(Grade.load(score_id) for score_id in saved))

    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(lambda number: asyncio.run(work(number)), range(4)))

    for scores in loaded:
        assert sorted(score.value for score in scores) == sorted([*range(4)] * 5)


@forks
def test_workers_save_into_one_database(database_url: str) -> None:
    """Forked ones and another program, after their parent has saved and before it does again."""
    set_database(database_url)
    program = """
artigraph.set_database(sys.argv[1])
print(asyncio.run(Grade(3).save()))
"""

    ids = [asyncio.run(Grade(0).save())]
    with ThreadPoolExecutor(1) as thread:
        printed = thread.submit(run_program, program, database_url)
        told = in_children(*(lambda n=n: asyncio.run(save_five(n)) for n in (1, 2)))
    ids += [UUID(each) for each in [*" ".join(told).split(), printed.result().strip()]]
    ids.append(asyncio.run(Grade(4).save()))

    assert asyncio.run(load_all(ids)) == [0, *[1] * 5, *[2] * 5, 3, 4]


@forks
@on_servers
def test_a_fork_harms_no_open_connection(database_url: str) -> None:
    """Both sides go on, each with connections of its own, while saves are under way."""
    set_database(database_url)

    async def main() -> list[int]:
        ids = list(await asyncio.gather(*(Grade(0).save() for _ in range(3))))
        under_way = [asyncio.create_task(Grade(1).save()) for _ in range(3)]
        await asyncio.sleep(0)

        (told,) = in_children(lambda: asyncio.run(load_all([*ids, asyncio.run(save_one(2))])))
        ids += [await Grade(3).save() for _ in range(3)]
        ids += await asyncio.gather(*under_way)

        assert told == "[0, 0, 0, 2]"
        return await load_all(ids)

    assert asyncio.run(main()) == [0, 0, 0, 3, 3, 3, 1, 1, 1]


@on_servers
def test_a_child_that_ends_in_order_harms_no_open_connection(database_url: str) -> None:
    """Whatever it tears down on its way out, the parent goes on."""
    program = """
async def main():
    await asyncio.gather(*(Grade(0).save() for _ in range(3)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        child = os.fork()
    if child == 0:
        raise SystemExit
    os.waitpid(child, 0)
    ids = await asyncio.gather(*(Grade(n).save() for n in range(3)))
    print([(await Grade.load(score_id)).value for score_id in ids])

artigraph.set_database(sys.argv[1])
asyncio.run(main())
"""

    assert run_program(program, database_url) == "[0, 1, 2]\n"


@forks
@on_sqlite
def test_a_child_refuses_a_file_that_its_parent_has_open(database_url: str, tmp_path: Path) -> None:
    """SQLite's locks do not survive a fork: what the child saved could be lost without a word."""
    set_database(database_url)
    other_settings = {"url": database_url, "storage": tmp_path.as_uri()}
    link = tmp_path / "link.db"
    link.symlink_to(database_url.removeprefix("sqlite:///"))

    async def main() -> None:
        await Grade(0).save()
        for told in in_children(
            lambda: str(refusal(database_url)),
            lambda: str(refusal(**other_settings)),
            lambda: str(refusal(f"sqlite:///{link}")),
        ):
            assert "forked" in told
            assert "spawn" in told
            assert "close()" in told
        await artigraph.close()
        assert in_children(lambda: asyncio.run(save_in(database_url))) == ["None"]
        await Grade(0).save()

    asyncio.run(main())


@forks
@on_sqlite
def test_many_tasks_of_many_processes_share_a_file(database_url: str) -> None:
    """L2, L7: nobody finds it locked, readers neither."""
    set_database(database_url)

    async def work() -> int:
        ids = await asyncio.gather(*(save_and_load(value) for value in range(60)))
        return len(set(ids))

    assert in_children(*[lambda: asyncio.run(work())] * 4) == ["60"] * 4


async def test_a_file_that_another_writes_to_is_waited_for_on_first_use(tmp_path: Path) -> None:
    """SQLite by itself refuses to turn it to the write-ahead log, without any wait."""
    file = tmp_path / "theirs.db"
    set_database(f"sqlite:///{file}")

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN IMMEDIATE")
        saving = asyncio.create_task(Grade(1).save())
        done, _ = await asyncio.wait({saving}, timeout=0.5)
        assert not done
        other.execute("COMMIT")

    assert await Grade.load(await saving) == Grade(1)


async def test_a_file_that_stays_locked_on_first_use_is_left_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is limited, and a connection that can't be set up is closed again."""
    monkeypatch.setattr("artigraph.sqlite.BUSY_TIMEOUT", 0.1)
    file = tmp_path / "theirs.db"
    set_database(f"sqlite:///{file}")

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="try again"):
            await Grade(1).save()

    descriptors = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert file not in descriptors


@on_servers
async def test_connections_that_the_server_dropped_are_replaced(database_url: str) -> None:
    """F8: as after a restart, or a night: nobody is told."""
    set_database(database_url)
    await asyncio.gather(*(Grade(0).save() for _ in range(3)))

    await drop_connections(database_url)

    assert await Grade.load(await Grade(1).save()) == Grade(1)


# In memory


async def test_a_database_in_memory_is_shared_by_the_tasks_of_a_loop() -> None:
    """Twenty that save at once lose nothing, and see nothing half done."""
    set_database("sqlite://")

    ids = await asyncio.gather(*(save_and_load(value) for value in range(20)))

    assert len(set(ids)) == 20


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_belongs_to_one_loop(url: str) -> None:
    """A second one would find it empty, and gets an error instead."""
    set_database(url)
    asyncio.run(Grade(1).save())

    with pytest.raises(WrongLoopError, match=r"sqlite:///graph\.db"):
        asyncio.run(Grade(1).save())


async def test_databases_in_memory_are_apart() -> None:
    """Each call that names one makes one."""
    with use_database("sqlite://"):
        score_id = await Grade(1).save()

    with use_database("sqlite://"), pytest.raises(NodeNotFoundError):
        await Grade.load(score_id)


async def test_a_cancelled_load_empties_no_memory() -> None:
    """The one connection is the database: it outlives whatever is cancelled."""
    set_database("sqlite://")
    score_id = await Grade(1).save()
    turns = await turns_of(lambda: Grade.load(score_id))

    for turn in range(turns):
        await cancelled_after(turn, lambda: Grade.load(score_id))

    assert await Grade.load(score_id) == Grade(1)


def test_a_loop_that_ends_while_a_file_is_opened_is_not_called_back(tmp_path: Path) -> None:
    """However far it has come: the connection's thread has nobody to tell, and complains."""
    script = """
import asyncio
from artigraph import set_database
from artigraph.database import current_database

async def main(turns):
    set_database("sqlite:///graph.db")
    reading = asyncio.create_task(current_database().read(lambda connection: None))
    for _ in range(turns):
        await asyncio.sleep(0)

for turns in range(20):
    asyncio.run(main(turns))
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert (result.returncode, result.stderr) == (0, "")


# Settings


@on_sqlite
@pytest.mark.parametrize(("setting", "number"), [("FULL", 2), ("NORMAL", 1)])
async def test_sqlite_is_set_up_as_documented(database_url: str, setting: Any, number: int) -> None:
    """A save that returned is on the disk, unless the user asked for less."""
    set_database(database_url, synchronous=setting)
    pragmas = ("foreign_keys", "journal_mode", "synchronous", "busy_timeout")

    found = [
        await current_database().read(
            lambda connection, name=name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
        )
        for name in pragmas
    ]

    assert found == [1, "wal", number, 30_000]


@on_mysql
async def test_mysql_is_set_up_as_documented(database_url: str) -> None:
    """Strict, in UTC, and without a limit on what is recursive."""
    set_database(database_url)
    query = (
        "SELECT @@sql_mode, @@time_zone, @@transaction_isolation, @@max_recursive_iterations,"
        " @@character_set_connection"
    )
    query = query.replace("@@transaction_isolation", "@@tx_isolation")

    found = await current_database().read(
        lambda connection: tuple(connection.exec_driver_sql(query).one())
    )

    assert found == (
        "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
        "+00:00",
        "READ-COMMITTED",
        4_294_967_295,
        "utf8mb4",
    )


async def test_a_row_below_no_node_is_refused(database_url: str) -> None:
    """Foreign keys are on, on every database."""
    set_database(database_url)
    missing = UUID(int=7)

    with pytest.raises(NodeNotFoundError, match=str(missing)):
        await Grade(1).save("score", missing)


async def test_a_database_that_stays_locked_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B1: the wait is limited; nothing was written, and the same save works afterwards."""
    score = Grade(1)
    async with short_waits(database_url, monkeypatch) as url:
        with use_database(url):
            async with RunManager(Run()) as manager:
                async with another_writer(database_url, manager.run.node_id, "score"):
                    with pytest.raises(DatabaseBusyError, match="try again"):
                        await manager.save_artifact("score", score)

                await manager.save_artifact("score", score)

                assert await manager.load_artifacts() == {"score": score}
            await artigraph.close()


# Cancellation


async def test_a_cancelled_save_is_whole_or_absent(database_url: str, tmp_path: Path) -> None:
    """F12: wherever it is hit; the next save works at once, and no connection stays behind."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    chance = random.Random(1)
    values = [ArtifactSequence([Grade(1), Grade(2)]), Large(bytes(100_000))]
    for value in values:
        report = Report(value) if isinstance(value, ArtifactSequence) else value
        turns = await turns_of(lambda report=report: report.save("whole"))
        for number in range(15):
            label = f"{type(report).__name__} {number}"

            await cancelled_after(
                chance.randrange(turns), lambda report=report, label=label: report.save(label)
            )

            await Grade(number).save("next")
            assert await count_rows(label) in (0, 4 if isinstance(value, ArtifactSequence) else 2)
    pool: Any = (await current_database()._get()).engine.pool
    assert pool.checkedout() == 0


async def test_a_cancelled_load_leaves_no_connection_behind(database_url: str) -> None:
    """F12: wherever it is hit; the next load works at once."""
    set_database(database_url)
    score_id = await Grade(1).save()
    turns = await turns_of(lambda: Grade.load(score_id))

    for turn in range(0, turns, max(1, turns // 30)):
        await cancelled_after(turn, lambda: Grade.load(score_id))
        assert await Grade.load(score_id) == Grade(1)

    pool: Any = (await current_database()._get()).engine.pool
    assert pool.checkedout() == 0


def test_saves_that_end_with_their_loop_are_whole_or_absent(database_url: str) -> None:
    """F12: nobody waits for them; the next loop saves at once."""
    set_database(database_url)

    async def leave(turns: int) -> None:
        await Grade(0).save("before")
        saves = [asyncio.create_task(Report(two_scores()).save("late")) for _ in range(10)]
        for _ in range(turns):
            await asyncio.sleep(0)
        assert len(saves) == 10

    for turns in range(0, 60, 6):
        asyncio.run(leave(turns))
    gc.collect()

    assert asyncio.run(count_rows("late")) % 4 == 0
    assert asyncio.run(count_rows("before")) == 10


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """Root may do anything: it becomes nobody until the end of the test."""
    yield lambda: os.seteuid(NOBODY) if os.getuid() == 0 else None
    os.seteuid(os.getuid())


PRELUDE = """
import asyncio, gc, logging, os, sys, warnings
from dataclasses import dataclass
import artigraph

# That a callback was slow is a matter of the machine.
logging.getLogger("asyncio").setLevel("ERROR")

@dataclass
class Grade(artigraph.ArtifactModel, version=1):
    value: int
"""


def run_program(program: str, *arguments: str) -> str:
    """What a program prints, in development mode. It has nothing to complain about."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.stderr, result.returncode) == ("", 0)
    return result.stdout


def in_children(*works: Callable[[], object]) -> list[str]:
    """What each returns in a forked process of its own, or the error that it raises there."""
    children: list[tuple[int, int]] = []
    for work in works:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                answer = str(work())
            except BaseException:
                answer = traceback.format_exc()
            os.write(write, answer.encode())
            os._exit(0)
        os.close(write)
        children.append((child, read))
    answers: list[str] = []
    for child, read in children:
        with os.fdopen(read) as pipe:
            answers.append(pipe.read())
        os.waitpid(child, 0)
    return answers


def refusal(url: str, **settings: Any) -> ArtigraphError:
    """The error of a save, which tells no password, nor does what caused it."""
    with pytest.raises(ArtigraphError) as caught:
        asyncio.run(save_in(url, **settings))
    told = "".join(traceback.format_exception(caught.value)).replace(url, "")
    assert PASSWORD not in told
    return caught.value


async def save_in(url: str, **settings: Any) -> None:
    with use_database(url, **settings):
        await Grade(1).save("score")


async def save_one(value: int) -> UUID:
    return await Grade(value).save()


async def save_five(value: int) -> str:
    return " ".join(map(str, await asyncio.gather(*(Grade(value).save() for _ in range(5)))))


async def load_all(ids: Sequence[UUID]) -> list[int]:
    return [(await Grade.load(score_id)).value for score_id in ids]


async def save_and_load(value: int) -> UUID:
    score_id = await Grade(value).save()
    assert await Grade.load(score_id) == Grade(value)
    return score_id


def two_scores() -> ArtifactSequence[Grade]:
    return ArtifactSequence([Grade(1), Grade(2)])


async def count_rows(label: str) -> int:
    """Of the trees whose root has this label."""
    roots = select(node_table.c.node_id).where(node_table.c.artifact_label == label)
    query = select(func.count()).where(node_table.c.artifact_tree_id.in_(roots))
    return await current_database().read(lambda connection: connection.scalars(query).one())


async def turns_of(work: Callable[[], Any]) -> int:
    """How often the loop turns until the work is done."""
    task = asyncio.ensure_future(work())
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    task.result()
    return turns


async def cancelled_after(turns: int, work: Callable[[], Any]) -> None:
    task = asyncio.ensure_future(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() or task.exception() is None


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[AsyncConnection]:
    """A connection of one's own, which the library knows nothing of."""
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "asyncmy"}
    backend = make_url(url).get_backend_name()
    drivername = f"{backend}+{driver[backend]}"
    engine = create_async_engine(make_url(url).set(drivername=drivername), poolclass=NullPool)
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def execute(url: str, *statements: str) -> Sequence[Any]:
    """Plain SQL; what the last statement found."""
    async with connected(url) as connection:
        for statement in statements:
            found = await connection.execute(text(statement))
        rows = [tuple(row) for row in found] if found.returns_rows else []
        await connection.commit()
        return rows


async def drop_connections(url: str) -> None:
    """All but the one that does it."""
    if url.startswith("postgresql"):
        await execute(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    else:
        others = await execute(
            url,
            "SELECT id FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
        )
        await execute(url, *(f"KILL {other}" for (other,) in others))


@asynccontextmanager
async def short_waits(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    """A URL whose connections soon stop waiting for another writer."""
    monkeypatch.setattr("artigraph.sqlite.BUSY_TIMEOUT", 0.1)
    if url.startswith("mysql"):
        yield f"{url}?init_command=SET+SESSION+innodb_lock_wait_timeout%3D1"
    elif url.startswith("postgresql"):
        name = make_url(url).database
        await execute(url, f"ALTER DATABASE {name} SET lock_timeout = '100ms'")
        yield url
        await execute(url, f"ALTER DATABASE {name} RESET lock_timeout")
    else:
        yield url


@asynccontextmanager
async def another_writer(url: str, parent_id: UUID, label: str) -> AsyncGenerator[None]:
    """Somebody has written below a node under this label, and not committed."""
    now = datetime.now(UTC)
    row = {
        "node_id": new_id(),
        "node_type": "artifact",
        "node_parent_id": parent_id,
        "artifact_label": label,
        "node_created_at": now,
        "node_updated_at": now,
    }
    async with connected(url) as connection:
        await connection.execute(insert(node_table), row)
        yield
        await connection.rollback()
