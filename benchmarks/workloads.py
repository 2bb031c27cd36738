"""Everything that is measured: each workload with its two sides, its sizes and what is aimed at.

One more is two functions, and a line in a list here. The ratios that are aimed at are those that
this project has set itself before it measured.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks import big, descendants, floor, objects, places, small
from benchmarks.measuring import Workload
from benchmarks.peers.worker import DEPTH
from benchmarks.places import Place, SQLite

from artigraph.sqlite import Synchronous

MAPPED = {"save": 1.8, "first map": 1.3, "map again": 0.1, "load": None}
MAPPED_MEMORY = {"save": 64, "first map": None, "map again": 16, "load": None}
"""Mebibytes, of whatever size the value is."""
PARQUET = {"save": 1.1, "first column": None, "column again": 1.1, "load": None}
PARQUET_MEMORY = {"save": 128, "load": None}


@dataclass(frozen=True)
class Sizes:
    """How much there is to do.

    Args:
        models: One call each, and the smaller of the runs and mappings.
        many: Models of the larger run and mapping, fields of the wide model.
        most: Models of the largest mapping.
        nodes: In the database, of which a hundredth is below the run that is read.
        megabytes: Of big values.
        watched_megabytes: Of those beside which the event loop is watched; of numbers a tenth.
        peer_models: Models that the peers save and load with one call each.
    """

    models: int
    many: int
    most: int
    nodes: int
    megabytes: tuple[int, ...]
    watched_megabytes: int
    s3_megabytes: int
    peer_models: int


class Group(NamedTuple):
    """Workloads in one place."""

    title: str
    place: Callable[[], AbstractContextManager[Place]]
    workloads: Sequence[Workload]
    has_peers: bool = False
    """Whether the peers do what they can of it, too."""


def groups(sizes: Sizes) -> list[Group]:
    """All of them, in the order of the page."""
    return [
        Group(
            "SQLite, synchronous=NORMAL",
            _sqlite("NORMAL"),
            [*on_sqlite(sizes), descend(sizes)],
            has_peers=True,
        ),
        Group("SQLite, synchronous=FULL", _sqlite("FULL"), on_sqlite(sizes)),
        Group("PostgreSQL", places.postgresql, on_a_server(sizes)),
        Group("MariaDB", places.mariadb, on_a_server(sizes)),
        Group("Big values in files", _sqlite("FULL"), in_files(sizes)),
        Group("S3", places.s3, on_s3(sizes)),
    ]


def on_sqlite(sizes: Sizes) -> list[Workload]:
    one, runs = (sizes.models,), (sizes.models, sizes.many)
    mappings = tuple(sorted({*runs, sizes.most}))
    return [
        Workload(
            "each", "one call each",
            small.raw_each, small.each, {"save": 6, "load": 8}, one, "models",
            floor=floor.each, peers_size=sizes.peer_models, ahead=20,
        ),
        Workload(
            "at once", "one call each, 32 tasks at once",
            small.raw_each, small.each_at_once, {"save": 4.5}, one, "models",
        ),
        Workload(
            "batch", "a batch",
            small.raw_batch, small.batch, {"save": 0.8}, runs, "models",
            peers_size=sizes.peer_models, ahead=20,
        ),
        Workload(
            "run", "a run",
            small.raw_run, small.run, {"save": 0.8, "load": 0.3}, runs, "models",
            floor=floor.run, peers_size=sizes.models, ahead=200,
        ),
        Workload(
            "deep", f"one call each, {DEPTH} deep",
            small.raw_deep, small.deep, {"save": 4, "load": 4}, (20,), "models",
            peers_size=5, ahead=20,
        ),
        Workload(
            "fields", "one wide model",
            small.raw_fields, small.fields, {"save": 1, "load": 1}, runs, "fields",
            peers_size=sizes.models, ahead=20,
        ),
        Workload(
            "mapping", "a mapping",
            small.raw_mapping, small.mapping, {"save": 1, "load": 1}, mappings, "models",
            slope=1.1, peers_size=sizes.peer_models, ahead=20,
        ),
    ]  # fmt: skip


def on_a_server(sizes: Sizes) -> list[Workload]:
    return [
        Workload(
            "each", "one call each",
            small.raw_each, small.each, {"save": 1, "load": None}, (sizes.models,), "models",
            floor=floor.each,
        ),
        Workload(
            "batch", "a batch",
            small.raw_batch, small.batch, {"save": 0.3}, (sizes.models, sizes.many), "models",
            floor=floor.batch,
        ),
        Workload(
            "run", "a run",
            small.raw_run, small.run, {"save": 0.3, "load": None},
            (sizes.models, sizes.many), "models", floor=floor.run,
        ),
        descend(sizes),
    ]  # fmt: skip


def descend(sizes: Sizes) -> Workload:
    return Workload(
        "descendants", "what is below a run, ten times",
        descendants.scan, descendants.descend, {"read": 2}, (sizes.nodes // 10, sizes.nodes),
        "nodes", prepare=descendants.plant,
    )  # fmt: skip


def in_files(sizes: Sizes) -> list[Workload]:
    mapped = [
        Workload(
            kind, kind,
            *big.bytes_sides(kind),
            MAPPED, sizes.megabytes, "MB", floor=big.bytes_floor(kind), memory=MAPPED_MEMORY,
        )
        for kind in ("Arrow table, IPC", "polars frame, IPC", "array, .npy")
    ]  # fmt: skip
    parquet = [
        Workload(
            kind, kind,
            *big.parquet_sides(kind),
            PARQUET, sizes.megabytes, "MB", floor=big.parquet_floor(kind), memory=PARQUET_MEMORY,
        )
        for kind in ("Arrow table, Parquet", "polars frame, Parquet")
    ]  # fmt: skip
    watched = [
        Workload(
            f"loop, {kind}", f"{kind}, while the event loop turns",
            *big.watched_sides(kind), {"save": None, "load": None},
            (megabytes,), "MB", stops={"save": 10, "load": 10},
        )
        for kind, megabytes in {
            **dict.fromkeys(big.WATCHED, sizes.watched_megabytes),
            "numbers, JSON": sizes.watched_megabytes // 10,
        }.items()
    ]  # fmt: skip
    return [*mapped, *parquet, *watched]


def on_s3(sizes: Sizes) -> list[Workload]:
    return [
        Workload(
            "big", "an array",
            objects.raw_big, objects.big, {"save": 1.1, "load": 1.1}, (sizes.s3_megabytes,), "MB",
            memory={"save": 128, "load": 128}, stops={"save": 10, "load": 10},
        ),
        Workload(
            "small", "10 KB each, in one save",
            objects.raw_small, objects.small, {"save": 1.2, "load": 1.2}, (sizes.models,), "arrays",
            memory={"save": None, "load": None},
        ),
    ]  # fmt: skip


def _sqlite(synchronous: Synchronous) -> Callable[[], AbstractContextManager[Place]]:
    return lambda: nullcontext(SQLite(synchronous))
