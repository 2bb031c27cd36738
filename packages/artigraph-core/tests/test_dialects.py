"""What servers call their refusals, and what is made of it: each is provoked on a real server."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pymysql
import pytest
import servers
from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError

import artigraph
from artigraph import ArtigraphError, DatabaseUnavailableError, NodeNotFoundError, Run
from artigraph.dialects import is_lost

PASSWORD = "hunter2"

MYSQL_DRIVERS = ["mysql+asyncmy", "mysql+aiomysql"]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[servers.OwnServer]:
    with own(servers.own_postgresql) as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[servers.OwnServer]:
    with own(servers.own_mariadb) as server:
        ask_mariadb(server, "CREATE DATABASE graph")
        yield server


@contextmanager
def own(make: Callable[[], Any]) -> Iterator[servers.OwnServer]:
    """A server that only this module uses, so that its settings can be changed."""
    try:
        with make() as server:
            yield server
    except servers.NoServerError as error:
        pytest.skip(f"left out, {error}")


# PostgreSQL


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("sqlstate", "role", "words", "remedy"),
    [
        ("28000", "nologin", "not permitted to log in", "Check that it is there"),
        ("28000", "rejected", "pg_hba.conf rejects connection", "Check that it is there"),
        ("28P01", "guarded", "password authentication failed", "Check that it is there"),
        ("53300", "limited", "too many connections", "raise the limit"),
    ],
)
def test_postgresql_refuses_a_role(
    postgresql: servers.OwnServer, sqlstate: str, role: str, words: str, remedy: str
) -> None:
    """By its rules, for its password, or for the number of its connections."""
    with roles(postgresql):
        url = make_url(postgresql.url).set(username=role, password=PASSWORD, database="postgres")

        error = refusal(url)

    assert code_of(error) == sqlstate
    assert isinstance(error, DatabaseUnavailableError)
    assert words in str(error)
    assert remedy in str(error)


@pytest.mark.postgresql
def test_postgresql_has_no_such_database(postgresql: servers.OwnServer) -> None:
    """It is never made."""
    error = refusal(make_url(postgresql.url).set(database="nowhere"))

    assert code_of(error) == "3D000"
    assert isinstance(error, DatabaseUnavailableError)
    assert '"nowhere" does not exist' in str(error)


@pytest.mark.postgresql
def test_postgresql_is_shutting_down(postgresql: servers.OwnServer) -> None:
    """While it waits for others to leave."""
    url = make_url(postgresql.url).set(database="postgres")

    async def refuse() -> ArtigraphError:
        with_others = await asyncpg.connect(str(url))
        data = await with_others.fetchval("SHOW data_directory")
        os.kill(int(Path(data, "postmaster.pid").read_text().split()[0]), signal.SIGTERM)
        await until_refused(url, asyncpg.CannotConnectNowError)
        try:
            return await refusal_in_loop(url)
        finally:
            await with_others.close()

    try:
        error = asyncio.run(refuse())
    finally:
        postgresql.program.stop(signal.SIGINT)
        postgresql.program.start()

    assert code_of(error) == "57P03"
    assert isinstance(error, DatabaseUnavailableError)
    assert "shutting down" in str(error)


@pytest.mark.postgresql
def test_postgresql_is_killed_while_it_is_asked_for_a_connection(
    postgresql: servers.OwnServer,
) -> None:
    """It has no code for that, and its driver raises what the system said."""
    url = make_url(postgresql.url).set(database="postgres")

    error = killed_while_connecting(postgresql, url)

    assert isinstance(error, DatabaseUnavailableError)
    assert isinstance(error.__cause__, ConnectionResetError)


@pytest.mark.postgresql
def test_a_process_of_postgresql_is_killed(postgresql: servers.OwnServer) -> None:
    """Its driver calls that 08003: the connection is lost."""
    url = make_url(postgresql.url).set(database="postgres")

    def sleep(connection: Connection) -> DBAPIError:
        process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        os.kill(process, signal.SIGKILL)
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql("SELECT pg_sleep(60)")
        return caught.value

    async def refuse() -> DBAPIError:
        with artigraph.use_database(str(url)):
            error = await artigraph.database.current_database().read(sleep)
            await artigraph.close()
            return error

    try:
        error = asyncio.run(refuse())
    finally:
        # It starts anew by itself, at some time.
        postgresql.program.stop(signal.SIGINT)
        postgresql.program.start()

    assert is_lost(error)


# MariaDB


@pytest.mark.mysql
@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
@pytest.mark.parametrize(
    ("number", "user", "options", "words", "remedy"),
    [
        (1044, "stranger", "", "to database 'graph'", "Check that it is there"),
        (1226, "limited", "WITH MAX_CONNECTIONS_PER_HOUR 1", "max_connections", "raise the limit"),
        (4151, "locked", "ACCOUNT LOCK", "account is locked", "Check that it is there"),
    ],
)
def test_mariadb_refuses_a_user(
    mariadb: servers.OwnServer,
    driver: str,
    number: int,
    user: str,
    options: str,
    words: str,
    remedy: str,
) -> None:
    """Who may not see the database, has used up what he may, or is locked out."""
    url = make_url(mariadb.url).set(drivername=driver, username=user, password=PASSWORD)
    with existing_user(mariadb, user, options, grant=user != "stranger"):
        if user == "limited":
            connect_to_mariadb(mariadb, user, PASSWORD).close()

        error = refusal(url.set(database="graph"))

    assert code_of(error) == number
    assert isinstance(error, DatabaseUnavailableError)
    assert words in str(error)
    assert remedy in str(error)


@pytest.mark.mysql
@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
@pytest.mark.parametrize(
    ("number", "changes"),
    [(1045, {"username": "guarded", "password": "wrong"}), (1049, {"database": "nowhere"})],
)
def test_mariadb_refuses_a_url(
    mariadb: servers.OwnServer, driver: str, number: int, changes: dict[str, str]
) -> None:
    """With a wrong password, or of a database that it does not have."""
    url = make_url(mariadb.url).set(drivername=driver, database="graph")
    with existing_user(mariadb, "guarded"):
        error = refusal(url.set(**changes))

    assert code_of(error) == number
    assert isinstance(error, DatabaseUnavailableError)


@pytest.mark.mysql
@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
def test_mariadb_has_no_connection_left(mariadb: servers.OwnServer, driver: str) -> None:
    """Others have them all."""
    ask_mariadb(mariadb, "SET GLOBAL max_connections = 10")
    with ExitStack() as others:
        with pytest.raises(pymysql.OperationalError, match="Too many connections"):
            take_all_connections(mariadb, others)

        error = refusal(make_url(mariadb.url).set(drivername=driver, database="graph"))

    ask_mariadb(mariadb, "SET GLOBAL max_connections = 100")
    assert code_of(error) == 1040
    assert isinstance(error, DatabaseUnavailableError)
    assert "Too many connections" in str(error)
    assert "Close other connections, or raise the limit" in str(error)


@pytest.mark.mysql
@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
def test_mariadb_is_not_there(mariadb: servers.OwnServer, driver: str) -> None:
    """After a shutdown; and when it is back, it is used."""
    url = make_url(mariadb.url).set(drivername=driver, database="graph")
    mariadb.program.stop(signal.SIGTERM)
    try:
        error = refusal(url)
    finally:
        mariadb.program.start()

    assert code_of(error) == 2003
    assert isinstance(error, DatabaseUnavailableError)
    asyncio.run(look_at(url))


@pytest.mark.mysql
def test_mariadb_is_killed_while_it_is_asked_for_a_connection(mariadb: servers.OwnServer) -> None:
    """The connection is lost."""
    error = killed_while_connecting(mariadb, make_url(mariadb.url).set(database="graph"))

    assert isinstance(error, DatabaseUnavailableError)
    assert is_lost(error.__cause__)


# What is done to the servers


@contextmanager
def roles(server: servers.OwnServer) -> Iterator[None]:
    """Roles that the server refuses, each for another reason."""
    url = make_url(server.url).set(database="postgres")
    names = ["nologin", "rejected", "guarded", "limited"]

    async def make() -> None:
        admin = await asyncpg.connect(str(url))
        await admin.execute("CREATE ROLE nologin")
        await admin.execute("CREATE ROLE rejected LOGIN")
        await admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'other'")
        await admin.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")
        rules = Path(await admin.fetchval("SHOW hba_file"))
        rules.write_text(
            "host all guarded 127.0.0.1/32 scram-sha-256\n"
            f"host all rejected 127.0.0.1/32 reject\n{rules.read_text()}"
        )
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        for name in ("guarded", "rejected"):
            of_role = url.set(username=name, password=PASSWORD)
            await until_refused(of_role, asyncpg.InvalidAuthorizationSpecificationError)

    async def drop() -> None:
        admin = await asyncpg.connect(str(url))
        for name in names:
            await admin.execute(f"DROP ROLE {name}")
        await admin.close()

    asyncio.run(make())
    try:
        yield
    finally:
        asyncio.run(drop())


async def until_refused(url: URL, error: type[Exception]) -> None:
    """Ask the server until it has heard what it was told."""
    async with asyncio.timeout(30):
        while True:
            try:
                await (await asyncpg.connect(url.render_as_string(hide_password=False))).close()
            except error:
                return


@contextmanager
def existing_user(
    server: servers.OwnServer, name: str, options: str = "", *, grant: bool = True
) -> Iterator[None]:
    user = f"{name}@'%'"
    ask_mariadb(server, f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}' {options}")
    if grant:
        ask_mariadb(server, f"GRANT ALL ON graph.* TO {user}")
    try:
        yield
    finally:
        ask_mariadb(server, f"DROP USER {user}")


def ask_mariadb(server: servers.OwnServer, statement: str) -> None:
    with closing(connect_to_mariadb(server)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def connect_to_mariadb(server: servers.OwnServer, user: str = "root", password: str = "") -> Any:
    url = make_url(server.url)
    return pymysql.connect(host=url.host, port=url.port or 0, user=user, password=password)


def take_all_connections(server: servers.OwnServer, others: ExitStack) -> None:
    while True:
        others.enter_context(closing(connect_to_mariadb(server)))


def killed_while_connecting(server: servers.OwnServer, url: URL) -> ArtigraphError:
    """What is said when the server has taken a connection, and dies before it says a word."""

    async def refuse() -> ArtigraphError:
        server.program.send(signal.SIGSTOP)
        looking = asyncio.create_task(refusal_in_loop(url))
        async with asyncio.timeout(30):
            while url.port not in established_ports():  # noqa: ASYNC110  # the kernel tells nobody
                await asyncio.sleep(0)
        await asyncio.to_thread(server.program.kill)
        return await looking

    try:
        return asyncio.run(refuse())
    finally:
        server.program.start()


def established_ports() -> set[int]:
    """The ports to which this machine has connections."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {int(each[2].rpartition(":")[2], 16) for each in fields if each[3] == "01"}


# What is said


def refusal(url: URL) -> ArtigraphError:
    error = asyncio.run(refusal_in_loop(url))
    assert PASSWORD not in str(error)
    return error


async def refusal_in_loop(url: URL) -> ArtigraphError:
    with pytest.raises(ArtigraphError) as caught:
        await look_at(url)
    return caught.value


async def look_at(url: URL) -> None:
    with artigraph.use_database(url.render_as_string(hide_password=False)):
        try:
            await look()
        finally:
            await artigraph.close()


async def look() -> None:
    """Ask something that needs the database."""
    with pytest.raises(NodeNotFoundError):
        await Run.load(UUID(int=0))


def code_of(error: ArtigraphError) -> object:
    """What the server calls its refusal, as its driver tells."""
    cause: Any = getattr(error.__cause__, "orig", None)
    return cause.args[0] if isinstance(cause.args[0], int) else cause.sqlstate
