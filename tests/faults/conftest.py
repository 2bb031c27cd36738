"""Places that processes die in: three databases, each with two storages."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from uuid import uuid4

import crashing
import pytest
import servers
from torture import Tally

pytest.register_assert_rewrite("invariants")
from invariants import Store, clear  # noqa: E402


@pytest.fixture(scope="session")
def nursery() -> Iterator[crashing.Nursery]:
    with crashing.nursery() as nursery:
        yield nursery


@pytest.fixture(scope="session")
def another_nursery() -> Iterator[crashing.Nursery]:
    """For processes that are there at the same time."""
    with crashing.nursery() as nursery:
        yield nursery


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=getattr(pytest.mark, name))
        for name in ("sqlite", "postgresql", "mysql")
    ],
)
def url_of_session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database that one test after the other takes: on a server it takes long to make one."""
    if request.param == "sqlite":
        databases: servers.Databases = servers.SQLite(tmp_path_factory.mktemp("faults"))
    else:
        databases = request.getfixturevalue(f"{request.param}_databases")
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture
async def empty_url(url_of_session: str, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if url_of_session.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'graph.db'}"
    async with Store(crashing.Place(url_of_session)).reopened() as database:
        await database.write(clear)
    return url_of_session


@pytest.fixture(params=["files", pytest.param("s3", marks=pytest.mark.s3)])
async def store(
    request: pytest.FixtureRequest, empty_url: str, tmp_path: Path
) -> AsyncGenerator[Store]:
    """Each kind of database with each kind of storage; both are empty."""
    if request.param == "files":
        yield Store(crashing.Place(empty_url, directory=str(tmp_path / "files")))
        return
    server = request.getfixturevalue("s3_server")
    place = crashing.Place(empty_url, s3={**vars(server), "prefix": uuid4().hex})
    store = Store(place, request.getfixturevalue("s3"))
    yield store
    await store._storage.close()  # type: ignore[attr-defined]


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """What the test counts; it goes with its report to where the table is written."""
    tally = Tally()
    yield tally
    request.node.user_properties.extend(tally.items())
