"""How long small models take, as ratios to raw sqlite3 doing the row-a-field equivalent.

    python benchmarks/small_values.py [models] [rounds]

Every figure is the median of the ratios of its rounds; in each round both sides work on new files,
one after the other. A model has ten scalars: the raw side writes a row for the model and one for
each field, with the same journal and the same `synchronous`, through the standard library.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple
from uuid import UUID

from artigraph import ArtifactModel, Run, RunManager, use_database

TARGETS = {"save each": 8, "load each": 10, "save all at once": 1, "load all at once": 0.5}


@dataclass
class Scalars(ArtifactModel, version=1):
    a: int
    b: int
    c: int
    d: float
    e: float
    f: float
    g: str
    h: str
    i: str
    j: bool


def models(count: int) -> list[Scalars]:
    return [
        Scalars(
            n, 2 * n, 3 * n, n / 7, n / 11, n / 13, f"{n:020}", f"{n:>20}", f"{n:<20}", n % 2 == 0
        )
        for n in range(count)
    ]


class Seconds(NamedTuple):
    save_each: float
    load_each: float
    save_all: float
    load_all: float


def timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


class Raw:
    """The least that a row a field takes: no checks, integer ids, prepared statements."""

    SCHEMA = """
        CREATE TABLE node (
            id INTEGER PRIMARY KEY, type TEXT NOT NULL, parent INTEGER REFERENCES node (id),
            created TEXT NOT NULL, label TEXT, serializer TEXT, data BLOB, UNIQUE (parent, label)
        )
    """
    TREE = """
        WITH RECURSIVE tree (id) AS (
            SELECT ? UNION ALL SELECT node.id FROM node JOIN tree ON node.parent = tree.id
        )
        SELECT node.* FROM node JOIN tree ON node.id = tree.id
    """

    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute(self.SCHEMA)
        self.next_id = 1

    def rows(self, model: Scalars, label: str, parent: int | None) -> list[tuple[object, ...]]:
        model_id, now = self.next_id, "2013-01-01 00:00:00.000000"
        self.next_id += 11
        rows: list[tuple[object, ...]] = [
            (model_id, "model", parent, now, label, None, b'{"name": "Scalars", "version": 1}')
        ]
        for place, (name, value) in enumerate(vars(model).items(), model_id + 1):
            rows.append((place, "field", model_id, now, name, "json", json.dumps(value).encode()))
        return rows

    def insert(self, rows: list[tuple[object, ...]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO node VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self.connection.execute("COMMIT")

    def read(self, top: int) -> list[Scalars]:
        fields: dict[int, list[object]] = {}
        for _, kind, parent, _, _, _, data in self.connection.execute(self.TREE, (top,)):
            if kind == "field":
                fields.setdefault(parent, []).append(json.loads(data))
        return [Scalars(*values) for values in fields.values()]  # type: ignore[arg-type]


def raw(folder: Path, some: list[Scalars]) -> Seconds:
    each, together = Raw(folder / "raw-each.db"), Raw(folder / "raw-all.db")

    def save_each() -> None:
        for model in some:
            each.insert(each.rows(model, "model", None))

    def load_each() -> None:
        for top in range(1, len(some) * 11, 11):
            each.read(top)

    def save_all() -> None:
        run = [(0, "run", None, "", None, None, None)]
        rows = [row for n, model in enumerate(some) for row in together.rows(model, f"{n}", 0)]
        together.insert([*run, *rows])

    result = Seconds(
        timed(save_each), timed(load_each), timed(save_all), timed(lambda: together.read(0))
    )
    assert sorted(together.read(0), key=lambda model: model.a) == some
    each.connection.close()
    together.connection.close()
    return result


async def ours(folder: Path, some: list[Scalars]) -> Seconds:
    with use_database(f"sqlite:///{folder}/ours-each.db", synchronous="NORMAL"):
        await some[0].save("first use")
        start = perf_counter()
        ids: list[UUID] = [await model.save("model") for model in some]
        saved = perf_counter()
        loaded = [await Scalars.load(node_id) for node_id in ids]
        end = perf_counter()
    assert loaded == some
    with use_database(f"sqlite:///{folder}/ours-all.db", synchronous="NORMAL"):
        async with RunManager(Run()) as manager:
            labelled = {f"{n}": model for n, model in enumerate(some)}
            start_all = perf_counter()
            await manager.save_artifacts(labelled)
            saved_all = perf_counter()
            loaded_all = await manager.load_artifacts()
            end_all = perf_counter()
    assert loaded_all == labelled
    return Seconds(saved - start, end - saved, saved_all - start_all, end_all - saved_all)


def main() -> None:
    count, rounds = (*map(int, sys.argv[1:]), *(1000, 5)[len(sys.argv) - 1 :])
    some = models(count)
    ratios: list[list[float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours_took = asyncio.run(ours(Path(folder), some))
            raw_took = raw(Path(folder), some)
            ratios.append([a / b for a, b in zip(ours_took, raw_took, strict=True)])
    print(f"{count:,} models of 10 scalars, SQLite, WAL, synchronous=NORMAL, {rounds} rounds")
    print(f"{'':20}{'ratio to raw':>14}{'min':>8}{'max':>8}{'at most':>10}")
    for (name, target), column in zip(TARGETS.items(), zip(*ratios, strict=True), strict=True):
        figures = f"{median(column):14.2f}{min(column):8.2f}{max(column):8.2f}{target:10}"
        print(f"{name:20}{figures}")


if __name__ == "__main__":
    main()
