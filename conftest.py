"""What every test has: real servers, a database of its own, an empty folder to work in."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import servers
from botocore.handlers import add_expect_header
from hypothesis import settings

from artigraph.spec import registered_serializers, registered_storages

# Real databases take their time, and an example that failed is kept as a test, not in a folder.
settings.register_profile("artigraph", deadline=None, database=None, print_blob=True)
settings.load_profile("artigraph")

LEFT_OUT = "left out, "

pytest_plugins = ["distributions"]  # wheels, environment


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test starts in an empty folder, without the developer's settings, and leaves none."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ARTIGRAPH_", "AWS_")) and not name.startswith("ARTIGRAPH_TEST_"):
            monkeypatch.delenv(name)
    # No test may reach somebody's account, or wait for the metadata service of a virtual machine.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    with registered_serializers.isolated(), registered_storages.isolated():
        yield
    if database := sys.modules.get("artigraph.database"):
        database.set_database(None)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a PostgreSQL server, without a database."""
    with left_out_without_server(), servers.postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """The URL of a MariaDB or MySQL server, without a database."""
    with left_out_without_server(), servers.mysql_server() as url:
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3Server]:
    """An S3-compatible server with one bucket for all tests: each takes a prefix of its own."""
    with left_out_without_server(), servers.s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3(s3_server: servers.S3Server) -> Iterator[Any]:
    """A client of another library, to look behind the storage's back."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name=s3_server.region,
    )
    # After it, and an empty body, SeaweedFS does not answer the next request of the connection.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    with closing(client):
        yield client


@pytest.fixture(scope="session")
def postgresql_databases(postgresql_url: str) -> Iterator[servers.Databases]:
    with closing(servers.PostgreSQL(postgresql_url)) as databases:
        yield databases


@pytest.fixture(scope="session")
def mysql_databases(mysql_url: str) -> Iterator[servers.Databases]:
    with closing(servers.MySQL(mysql_url)) as databases:
        yield databases


@pytest.fixture
def sqlite_databases(tmp_path: Path) -> servers.Databases:
    return servers.SQLite(tmp_path)


@pytest.fixture(
    params=[
        pytest.param(name, marks=getattr(pytest.mark, name))
        for name in ("sqlite", "postgresql", "mysql")
    ]
)
def new_database_url(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes an empty database at every call, on one kind of server after the other."""
    databases: servers.Databases = request.getfixturevalue(f"{request.param}_databases")
    with ExitStack() as stack:

        def create() -> str:
            url = databases.create()
            stack.callback(databases.drop, url)
            return url

        yield create


@pytest.fixture
def database_url(new_database_url: Callable[[], str]) -> str:
    """The plain URL of an empty database. At the end no connection to it may be left open."""
    return new_database_url()


@contextmanager
def left_out_without_server() -> Iterator[None]:
    try:
        yield
    except servers.NoServerError as error:
        pytest.skip(f"{LEFT_OUT}{error}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, since a test waits for servers and children."""
    return (os.cpu_count() or 1) + 1


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    reasons = left_out(terminalreporter)
    if reasons:
        terminalreporter.section("NOT EVERYTHING WAS TESTED", red=True, bold=True)
        for reason in sorted(set(reasons)):
            terminalreporter.line(f"{reasons.count(reason)} tests were {reason}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return  # a worker of pytest-xdist, whose reports go to the one that has a terminal
    assert isinstance(reporter, pytest.TerminalReporter)
    if left_out(reporter) and os.environ.get("ARTIGRAPH_TEST_REQUIRE_SERVERS") == "1":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def left_out(reporter: pytest.TerminalReporter) -> list[str]:
    """Why tests were skipped for want of a server, one reason a test."""
    reasons = [str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])]
    return [reason.removeprefix("Skipped: ") for reason in reasons if LEFT_OUT in reason]
