"""Much work for long: what is open is bounded, what is used is given back, nothing is lost."""

import asyncio
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import servers
from crashing import Album, Place, Told, album
from invariants import Store, clear, live_locations
from sqlalchemy import make_url
from torture import FACTOR, Tally, scaled

from artigraph import ArtifactModel, ArtifactQuery, ArtifactSequence, collect, delete
from artigraph.database import current_database

SAVES, AT_ONCE, MEGABYTE = scaled(40, 500), 32, 10**6
OPEN_TRANSFERS = {"files": 16, "s3": 64}
"""A save has sixteen; several share the threads of the process, or the connections of a client."""

ROUNDS, TASKS_OF_A_ROUND = scaled(8, 300), 8

PROCESSES, TASKS = (8, 16) if FACTOR else (3, 4)
SECONDS = 60 * FACTOR
"""How long all processes work in the long form; in the short one each task has one round."""

on_sqlite = pytest.mark.parametrize(
    "url_of_session", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)


@dataclass
class Three(ArtifactModel, version=1, name="soak.Three"):
    blobs: ArtifactSequence[bytes]


@on_sqlite
async def test_l9_many_large_saves_at_once(store: Store, tally: Tally) -> None:
    """L9: no more transfers are open than are allowed, and nothing of them stays behind."""
    turns = asyncio.Semaphore(AT_ONCE)
    most_open = 0

    async def save(number: int) -> None:
        async with turns:
            blobs = (bytes([number % 256, part]) * (MEGABYTE // 2) for part in range(3))
            await Three(ArtifactSequence(blobs)).save(f"{number}")

    async def watch() -> None:
        nonlocal most_open
        while True:
            most_open = max(most_open, len(set(open_transfers(store)) - others))
            await asyncio.sleep(0)

    async with store.reopened():
        assert store.objects() == set()
        others = set(open_transfers(store))  # of what looks behind the storage's back
        await save(-1)
        before = open_files()
        watching = asyncio.create_task(watch())
        await asyncio.gather(*map(save, range(SAVES)))
        watching.cancel()
        tally["large saves"] += SAVES
        kind = "files" if store.place.directory else "connections to S3"
        tally.at_most(f"{kind} open at once", most_open)

        assert 0 < most_open <= OPEN_TRANSFERS["files" if store.place.directory else "s3"]
        assert open_files() <= before + POOLED
        assert store.objects() == await live_locations()
        assert len(store.objects()) == 3 * (SAVES + 1)
        await delete(ArtifactQuery())
        assert (await collect(grace=0)).removed == 3 * (SAVES + 1)
        assert store.objects() == set()


POOLED = 64 + 15
"""Connections that stay open to be used again: to S3, and to the database with its two files."""


def descriptors() -> Iterator[str]:
    """What is open in this process: paths of files, inodes of sockets."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            yield str(descriptor.readlink())
        except FileNotFoundError:
            continue  # that of the directory itself, or closed meanwhile


def open_files() -> int:
    return len(list(descriptors()))


def open_transfers(store: Store) -> list[str]:
    """Files that are open in the storage, or connections to its server."""
    opened = list(descriptors())
    if store.place.directory:
        return [path for path in opened if path.startswith(f"{store.place.directory}/")]
    connections = connections_to(make_url(store.place.s3["endpoint_url"]).port or 0)
    return [each for each in opened if each in connections]


def connections_to(port: int) -> set[str]:
    """The sockets of this machine that are connected to a port, as they are called in /proc."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    columns = [line.split() for line in lines]
    return {f"socket:[{each[9]}]" for each in columns if each[2].endswith(f":{port:04X}")}


@dataclass(frozen=True)
class Usage:
    """What this process has open, and how much memory it takes."""

    files: int
    threads: int
    connections: int
    memory: int

    @staticmethod
    async def now() -> "Usage":
        pool: Any = (await current_database()._get()).engine.pool
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Usage(
            open_files(),
            threading.active_count(),
            pool.checkedin() + pool.checkedout(),
            pages * resource.getpagesize(),
        )


async def test_l10_a_soak(store: Store, tally: Tally) -> None:
    """L10: files, threads, connections and memory stay what they are after the first rounds."""
    told = Told()
    usages: list[Usage] = []

    async def come_and_go(round_: int, task: int) -> None:
        label = f"{'small ' if task % 2 else ''}{round_}.{task}"
        await store.save(label, told)
        assert await Album.load(told.saved[label]) == album(label)
        told.deleting.add(label)
        await delete(ArtifactQuery(label=label))
        told.deleted.add(label)

    async with store.reopened():
        for number in range(ROUNDS):
            await asyncio.gather(*(come_and_go(number, task) for task in range(TASKS_OF_A_ROUND)))
            assert (await collect(grace=0)).failures == []
            usages.append(await Usage.now())
            tally["rounds of a soak"] += 1
        first, last = usages[: ROUNDS // 2], usages[ROUNDS // 2 :]
        for what in ("files", "threads", "connections"):
            most = [max(getattr(usage, what) for usage in some) for some in (first, last)]
            assert most[1] <= most[0] + SLACK, (what, most)
        grown = last[-1].memory - first[-1].memory
        assert grown <= max(0.05 * first[-1].memory, 8 << 20)
        tally.at_most("KiB that a soak has grown", grown >> 10)
    await store.assert_sound(told, then_empty=True)


SLACK = 2
"""A thread and its file more may have been started late: as many tasks are not always at once."""


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    with get_context("spawn").Pool(PROCESSES) as pool:
        yield pool


@pytest.fixture(scope="module")
def roomy_url() -> Iterator[str]:
    """A PostgreSQL server that lets in all connections of all pools; by itself it has 100."""
    with servers.own_postgresql() as server:
        with closing(servers.PostgreSQL(server.url)) as databases:
            databases._execute("ALTER SYSTEM SET max_connections = 300")
            url = databases.create()
        server.program.kill()
        server.program.start()
        yield url


@pytest.fixture
async def roomy_store(store: Store, request: pytest.FixtureRequest) -> Store:
    """The same, where the server has room for the long form."""
    if not (FACTOR and store.place.url.startswith("postgresql")):
        return store
    url = request.getfixturevalue("roomy_url")
    roomy = Store(replace(store.place, url=url), store._s3)
    async with roomy.reopened() as database:
        await database.write(clear)
    return roomy


def test_l10_processes_save_load_delete_and_collect_at_once(
    roomy_store: Store, processes: Pool, tally: Tally
) -> None:
    """L1, L2, L3, L10: nothing that was acknowledged is lost, nothing deleted comes back."""
    store = roomy_store
    work = [(store.place, number, SECONDS) for number in range(PROCESSES)]

    results = processes.starmap(live, work, 1)

    told = Told()
    for begun, saved, deleted in results:
        told.begun |= begun
        told.saved |= saved
        told.deleting |= deleted
        told.deleted |= deleted
    assert len(told.begun) == len(told.saved) >= PROCESSES * TASKS * 2
    tally["saves of many processes"] += len(told.saved)
    tally["deletions of many processes"] += len(told.deleted)
    asyncio.run(store.assert_sound(told, then_empty=True))


Lived = tuple[set[str], dict[str, UUID], set[str]]
"""Labels that were begun, the ids of those that were saved, and labels that were deleted."""


def live(place: Place, process: int, seconds: float) -> Lived:
    """Save, load, delete and collect in many tasks at once, and tell what was acknowledged."""
    begun: set[str] = set()
    saved: dict[str, UUID] = {}
    deleted: set[str] = set()
    deadline = time.monotonic() + seconds

    async def save(label: str) -> None:
        begun.add(label)
        saved[label] = await album(label).save(label)
        assert await Album.load(saved[label]) == album(label)

    async def work(task: int) -> None:
        number = 0
        while not number or time.monotonic() < deadline:
            kept, gone = (f"{process}.{task}.{number} {each}" for each in ("small kept", "gone"))
            await save(kept)
            await save(gone)
            await delete(saved[gone])
            deleted.add(gone)
            if task == 0:
                assert (await collect(grace=0)).failures == []
            number += 1

    async def live_together() -> None:
        await asyncio.gather(*map(work, range(TASKS)))

    with place.opened():
        asyncio.run(live_together())
    return begun, saved, deleted
