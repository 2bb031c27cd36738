"""Saves that wait for their turn at an SQLite file share a commit, and nothing else."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, event, func, select

import artigraph
from artigraph import ArtifactModel, ConflictError, NodeNotFoundError, Run, RunManager
from artigraph.database import current_database
from artigraph.tables import node_table
from artigraph.turns import MAX_SHARED, Turns


@dataclass
class Step(ArtifactModel, version=1, name="turns.Step"):
    number: int


class Commits:
    """How many there were since it was made."""

    def __init__(self) -> None:
        self.count = 0
        event.listen(Engine, "commit", self._add)

    def _add(self, connection: Any) -> None:
        self.count += 1

    def close(self) -> None:
        event.remove(Engine, "commit", self._add)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    artigraph.set_database(f"sqlite:///{tmp_path / 'graph.db'}")
    return tmp_path / "graph.db"


async def test_saves_at_once_share_commits(file: Path) -> None:
    """Of 64 tasks one commits for itself, and then one for all that have come meanwhile."""
    await Step(0).save("first use")
    commits = Commits()

    ids = await asyncio.gather(*(Step(number).save("step") for number in range(64)))

    commits.close()
    assert commits.count == 2
    assert [await Step.load(node_id) for node_id in ids] == [Step(number) for number in range(64)]


async def test_one_that_is_refused_is_in_the_way_of_no_other(file: Path) -> None:
    """A label that is taken and a parent that is not there fail alone, by their own errors."""
    async with RunManager(Run()) as manager:
        await manager.save_artifact("taken", 1)
        saves = [manager.save_artifact(f"{number}", number) for number in range(20)]
        saves.insert(5, manager.save_artifact("taken", 2))
        saves.insert(9, Step(1).save("step", parent_id=artigraph.Run().node_id))
        outcomes = await asyncio.gather(*saves, return_exceptions=True)

        refused = [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
        assert refused == [ConflictError, NodeNotFoundError]
        assert await manager.load_artifacts() == {"taken": 1, **{f"{n}": n for n in range(20)}}


@pytest.mark.parametrize("turns_of_the_loop", range(0, 40, 3))
async def test_a_cancelled_save_is_whole_or_absent_and_hurts_no_other(
    file: Path, turns_of_the_loop: int
) -> None:
    """Whether it waits, or is being written with others, or is done."""
    await Step(0).save("first use")
    async with RunManager(Run()) as manager:
        tasks = [
            asyncio.create_task(manager.save_artifact(f"{number}", number)) for number in range(12)
        ]
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)

        saved = await manager.load_artifacts()
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, asyncio.CancelledError):
                assert number % 3 == 0
                assert saved.pop(f"{number}", number) == number
            else:
                assert saved.pop(f"{number}") == number
        assert not saved


async def test_each_gets_what_its_own_work_gives() -> None:
    """More than may share one time, in the order in which they came."""
    together: list[int] = []

    async def do(works: Sequence[int]) -> list[int]:
        together.append(len(works))
        await asyncio.sleep(0)
        return [-work for work in works]

    turns = Turns(do)

    results = await asyncio.gather(*map(turns.take, range(2 * MAX_SHARED)))

    assert results == [-number for number in range(2 * MAX_SHARED)]
    assert together == [1, MAX_SHARED, MAX_SHARED - 1]


@pytest.mark.usefixtures("file")
async def test_what_never_came_to_its_one_statement_commits_no_other() -> None:
    """One statement is committed with its own trip; the next transaction is whole all the same."""
    await Step(0).save("first use")
    database = current_database()

    def fail(connection: Connection) -> None:
        raise ZeroDivisionError

    def fail_halfway(connection: Connection) -> None:
        connection.execute(delete(node_table))
        raise ZeroDivisionError

    for work, rows in ((fail, 1), (lambda _: None, 1), (fail_halfway, 0)):
        with suppress(ZeroDivisionError):
            await database.write(work, statement_rows=rows)

    count = select(func.count()).select_from(node_table)
    assert await database.read(lambda connection: connection.scalar(count)) == 1
