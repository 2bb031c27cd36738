"""Where workloads are measured: kinds of databases, and the servers that the tests start."""

import signal
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import artigraph
from artigraph.sqlite import Synchronous
from artigraph.storage.file import FileSystem

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

import servers  # noqa: E402
from servers import NoServerError as NoServerError  # noqa: E402
from servers import S3Server as S3Server  # noqa: E402


class Place(Protocol):
    """A kind of database, with a server where it needs one."""

    name: str

    def database(self, folder: Path) -> AbstractContextManager[str]:
        """The URL of a new, empty database, in a new folder; it is removed afterwards."""
        ...

    def use(self, url: str, folder: Path) -> AbstractContextManager[None]:
        """Make a database, and a folder for large values, the current ones of our library."""
        ...


@dataclass(frozen=True)
class SQLite:
    """A file in WAL mode."""

    synchronous: Synchronous

    @property
    def name(self) -> str:
        return f"SQLite, synchronous={self.synchronous}"

    @contextmanager
    def database(self, folder: Path) -> Generator[str]:
        yield f"sqlite:///{folder}/graph.db"

    def use(self, url: str, folder: Path) -> AbstractContextManager[None]:
        storage = FileSystem(folder / "files")
        return artigraph.use_database(url, storage=storage, synchronous=self.synchronous)


@dataclass(frozen=True)
class Server:
    """A server on loopback."""

    name: str
    databases: servers.Databases

    @contextmanager
    def database(self, folder: Path) -> Generator[str]:
        url = self.databases.create()
        yield url
        self.databases.drop(url)

    def use(self, url: str, folder: Path) -> AbstractContextManager[None]:
        return artigraph.use_database(url, storage=FileSystem(folder / "files"))


@dataclass(frozen=True)
class S3(SQLite):
    """An S3 server on loopback; the database is SQLite."""

    server: S3Server = field(kw_only=True)

    @property
    def name(self) -> str:
        return "S3"


@contextmanager
def postgresql() -> Generator[Server]:
    """PostgreSQL, where a commit waits for the disk."""
    with servers.own_postgresql() as server:
        _make_durable(server, signal.SIGINT)
        with closing(servers.PostgreSQL(server.url)) as databases:
            yield Server("PostgreSQL", databases)


@contextmanager
def mariadb() -> Generator[Server]:
    """MariaDB, where a commit waits for the disk."""
    with servers.own_mariadb() as server:
        _make_durable(server, signal.SIGTERM)
        with closing(servers.MySQL(server.url)) as databases:
            yield Server("MariaDB", databases)


@contextmanager
def s3() -> Generator[S3]:
    with servers.s3_server() as server:
        yield S3("FULL", server=server)


_DURABLE = {
    "fsync=off": "fsync=on",
    "--innodb-flush-log-at-trx-commit=2": "--innodb-flush-log-at-trx-commit=1",
}
"""What the tests do without, and what is the default."""


def _make_durable(server: servers.OwnServer, stop: signal.Signals) -> None:
    """Start a server of the tests again, with the durability that it has by default."""
    command = server.program._command
    command[:] = [_DURABLE.get(word, word) for word in command]
    server.program.stop(stop)
    server.program.start()
