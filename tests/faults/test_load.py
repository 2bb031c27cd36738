"""Many writers at once: nothing fails, nothing is lost, and what is in the way is told as such."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, select
from torture import Tally, scaled

from artigraph import (
    ArtifactModel,
    ArtifactQuery,
    ConflictError,
    Run,
    RunManager,
    check,
    close,
    delete,
    run_manager,
    set_database,
    use_database,
)
from artigraph.database import current_database
from artigraph.deletion import Deletion
from artigraph.tables import node_table

T = TypeVar("T")
InProcesses: TypeAlias = Callable[..., list[Any]]

PROCESSES = 4
TASKS = scaled(20, 50)
SAVES = scaled(5, 20)


@dataclass
class Reading(ArtifactModel, version=1, name="load.Reading"):
    sensor: str
    value: float


@pytest.fixture(scope="module")
def in_processes() -> Iterator[InProcesses]:
    """Gives what each of some processes gives for its number, all working at once."""
    with get_context("spawn").Pool(PROCESSES) as pool:

        def run(work: Callable[..., T], *arguments: Any) -> list[T]:
            return pool.starmap(work, [(number, *arguments) for number in range(PROCESSES)], 1)

        yield run


def save_many(process: int, url: str) -> list[str]:
    """Save in many tasks at once, load each again, and tell the ids."""
    set_database(url)

    async def save(task: int) -> list[str]:
        ids: list[str] = []
        for number in range(SAVES):
            reading = Reading(f"{process}/{task}", number)
            node_id = await reading.save("reading")
            assert await Reading.load(node_id) == reading
            ids.append(str(node_id))
        return ids

    async def work() -> list[str]:
        saved = await asyncio.gather(*map(save, range(TASKS)))
        return [node_id for some in saved for node_id in some]

    return asyncio.run(work())


def test_processes_and_tasks_save_at_once(
    database_url: str, in_processes: InProcesses, tally: Tally
) -> None:
    """L1, L2, L3: also the first use, which makes the tables; none is refused, none is lost."""
    set_database(database_url)

    saved = [node_id for some in in_processes(save_many, database_url) for node_id in some]
    tally["saves of many processes"] = len(saved)

    async def count() -> int:
        statement = select(func.count()).select_from(node_table)
        found = await current_database().read(lambda connection: connection.scalar(statement))
        assert (await check()).findings == []
        return found or 0

    assert len(set(saved)) == PROCESSES * TASKS * SAVES
    assert asyncio.run(count()) == len(saved)


def take_labels(process: int, url: str, run_id: str) -> list[str]:
    """Save under labels that all others want, too, and tell those that were won."""
    set_database(url)

    async def take(label: str) -> str | None:
        try:
            await Reading(f"{process}", 0).save(label, UUID(run_id))
        except ConflictError:
            return None
        return label

    async def work() -> list[str]:
        wanted = [f"{number % 10}" for number in range(50)]
        return [label for label in await asyncio.gather(*map(take, wanted)) if label]

    return asyncio.run(work())


def test_a_label_has_one_winner(database_url: str, in_processes: InProcesses) -> None:
    """L4: two hundred want ten labels of one run; the others are told that they are taken."""
    set_database(database_url)

    async def begin() -> Run:
        run = Run()
        async with RunManager(run):
            pass
        return run

    run = asyncio.run(begin())

    won = [
        label
        for some in in_processes(take_labels, database_url, f"{run.node_id}")
        for label in some
    ]

    assert sorted(won) == [f"{number}" for number in range(10)]
    loaded = asyncio.run(RunManager(asyncio.run(Run.load(run.node_id))).load_artifacts())
    assert sorted(loaded) == sorted(won)


@pytest.mark.postgresql
def test_a_serializable_database_is_survived(
    postgresql_databases: Any, in_processes: InProcesses
) -> None:
    """L5: what fails to serialize is done again, and nobody is told."""
    url = postgresql_databases.create()
    name = url.rpartition("/")[2]

    async def set_up() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
        )
        await connection.close()

    asyncio.run(set_up())

    saved = [node_id for some in in_processes(save_many, url) for node_id in some]

    assert len(set(saved)) == PROCESSES * TASKS * SAVES

    async def reset() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")
        await connection.close()

    asyncio.run(reset())
    postgresql_databases.drop(url)


def save_one(process: int, url: str) -> str:
    set_database(url)
    return str(asyncio.run(Reading(f"{process}", 0).save("first")))


def test_processes_make_the_tables_at_once(
    new_database_url: Callable[[], str], in_processes: InProcesses
) -> None:
    """L6: whoever comes second finds them."""
    for _ in range(3):
        url = new_database_url()

        assert len(set(in_processes(save_one, url))) == PROCESSES


@pytest.mark.parametrize(
    "new_database_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)
async def test_a_writer_is_in_no_reader_s_way(database_url: str) -> None:
    """L7: readers of a file find what was there before, while a transaction is being written."""
    with use_database(database_url):
        ids = [await Reading("before", number).save("reading") for number in range(5)]
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("UPDATE artigraph_node SET artifact_label = 'other'")

            loaded = await asyncio.gather(*map(Reading.load, ids * 20))

            writer.execute("ROLLBACK")
        assert [reading.value for reading in loaded] == [*range(5)] * 20
        await close()


async def test_fifty_thousand_nodes_are_saved_and_deleted(database_url: str) -> None:
    """L8: more than a statement takes as parameters, by one id and by one query."""
    set_database(database_url)
    async with RunManager(Run()) as manager:
        await manager.save_artifacts({f"{n}": Reading("many", n) for n in range(50_000)})
    run_id = manager.run.node_id

    told = await delete(ArtifactQuery(parent_id=run_id), dry_run=True)
    deleted = await delete(run_id)

    assert told == Deletion(runs=0, artifacts=50_000, nodes=50_000, blobs=0, size=0)
    assert deleted == Deletion(runs=1, artifacts=50_000, nodes=50_001, blobs=0, size=0)
    count = select(func.count()).select_from(node_table)
    assert await current_database().read(lambda connection: connection.scalar(count)) == 0


async def test_nested_runs_in_tasks_and_threads_have_their_parents(database_url: str) -> None:
    """L11: each run is current in what it started, and in nothing else."""
    set_database(database_url)

    async def nest(depth: int) -> None:
        outer = run_manager()
        async with RunManager(Run(label=f"{depth}")) as manager:
            assert manager.run.node_parent_id == outer.run.node_id
            assert await asyncio.to_thread(run_manager) is manager
            if depth:
                await asyncio.gather(nest(depth - 1), nest(depth - 1))
            assert run_manager() is manager
        assert run_manager() is outer

    async with RunManager(Run()) as top:
        await asyncio.gather(*(nest(3) for _ in range(4)))

    assert run_manager(allow_none=True) is None
    runs = await top.load_descendant_runs()
    assert len(runs) == 4 * 15
    assert {run.status for run in runs} == {"succeeded"}


async def test_more_tasks_than_connections_wait_for_their_turn(database_url: str) -> None:
    """The pool is bounded: a hundred saves and loads share fifteen connections."""
    with use_database(database_url):
        ids = await asyncio.gather(*(Reading("pool", n).save("reading") for n in range(100)))

        loaded = await asyncio.gather(*map(Reading.load, ids))

        assert [reading.value for reading in loaded] == list(range(100))
        pool: Any = (await current_database()._get()).engine.pool
        assert pool.checkedout() == 0
        assert pool.checkedin() <= 15
        await close()
