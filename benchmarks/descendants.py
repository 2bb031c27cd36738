"""Everything below a run that is neither at the top nor at the bottom.

The database holds a tree of runs, ten in each and three deep, with whole numbers in the lowest.
What is read is below one run of the second level: a hundredth of all. The raw side knows beforehand
which runs these are, so that an index leads it to the rows; both have the same connection.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from benchmarks.measuring import Stage
from sqlalchemy import Connection, text

from artigraph import Run, RunManager, graph
from artigraph.database import current_database

FAN_OUT = 10
TIMES = 10
"""How often the same is read in a round."""


class Forest(NamedTuple):
    """What the database holds."""

    inner: Run
    """The run below which is read."""
    parents: list[UUID]
    """It, and the runs below it: the parents of all rows that are read."""
    rows: int


async def plant(stage: Stage) -> Forest:
    """Save about as many nodes as the size of the stage."""
    each = stage.size // FAN_OUT**3
    values = {f"{n}": n for n in range(each)}
    inner: list[Run] = []
    leaves: list[UUID] = []
    with stage.database():
        for _ in range(FAN_OUT):
            async with RunManager(Run(label="top")):
                for _ in range(FAN_OUT):
                    async with RunManager(Run(label="inner")) as manager:
                        inner.append(manager.run)
                        for _ in range(FAN_OUT):
                            async with RunManager(Run(label="leaf")) as leaf:
                                await leaf.save_artifacts(values)
                            leaves.append(leaf.run.node_id)
        await current_database().write(_analyze)
    middle = len(inner) // 2
    below = leaves[middle * FAN_OUT :][:FAN_OUT]
    return Forest(inner[middle], [inner[middle].node_id, *below], FAN_OUT * (each + 1))


async def scan(stage: Stage) -> None:
    """Read rows by the index of parents, as the driver gives them."""
    parents: list[UUID] = stage.prepared.parents
    is_native = str(stage.url).startswith("postgresql")
    known = ", ".join(f"'{each}'" if is_native else f"X'{each.hex}'" for each in parents)
    statement = f"SELECT * FROM artigraph_node WHERE node_parent_id IN ({known})"
    await _read(stage, lambda connection: connection.exec_driver_sql(statement).all())


async def descend(stage: Stage) -> None:
    """Read the same rows by one statement that knows nothing but the run."""
    run_id: UUID = stage.prepared.inner.node_id
    await _read(stage, lambda connection: graph.read_everything_below(connection, run_id))


async def _read(stage: Stage, work: Callable[[Connection], Sequence[Any]]) -> None:
    with stage.database():
        database = current_database()
        rows = await database.read(work)
        with stage.timed("read"):
            for _ in range(TIMES):
                await database.read(work)
    assert len(rows) == stage.prepared.rows


def _analyze(connection: Connection) -> None:
    """What PostgreSQL does by itself a minute later: its plan depends on it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE"))
