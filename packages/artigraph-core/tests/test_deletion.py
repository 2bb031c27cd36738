"""Deleting runs and artifacts, with all that is below them, whoever else is at work."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from observing import cancelled_after, statements, turns_of
from sqlalchemy import delete, func, insert, select, update

import artigraph
from artigraph import (
    ArtifactModel,
    ArtifactQuery,
    ArtifactSequence,
    ConflictError,
    NodeNotFoundError,
    Run,
    RunManager,
    RunQuery,
    RunStateError,
    UnsupportedValueError,
    deletion,
    set_database,
)
from artigraph.database import current_database
from artigraph.deletion import Deletion
from artigraph.ids import new_id
from artigraph.owner import is_gone, owner_of_this_process
from artigraph.query import NodeQuery
from artigraph.spec import Data
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table, link_table, node_table

NODE = node_table.c
SIZE = 70_000
"""Of a picture: too large for a row, in a database with a storage."""

NOTHING = Deletion(runs=0, artifacts=0, nodes=0, blobs=0, size=0)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="told by /proc")


@dataclass
class Leaf(ArtifactModel, version=1, name="deletion.Leaf"):
    number: int


@dataclass
class Chain(ArtifactModel, version=1, name="deletion.Chain"):
    number: int
    next: "Chain | None" = None


@dataclass
class Album(ArtifactModel, version=1, name="deletion.Album"):
    pictures: ArtifactSequence[bytes]


numbers = count()


def album(length: int) -> Album:
    """A model of as many blobs, with data like no other's, and of two rows more."""
    pictures = (next(numbers).to_bytes(4) * (SIZE // 4) for _ in range(length))
    return Album(ArtifactSequence(pictures))


class Gated(FileSystem):
    """A directory on a disk that is slow until somebody opens the gate."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.reached.set()
        await self.opened.wait()
        return await super().create(data, location=location)


@pytest.fixture
def files(database_url: str, tmp_path: Path) -> Path:
    """The directory of the large values of the database."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    return tmp_path / "files"


# What goes


@pytest.mark.usefixtures("files")
async def test_an_artifact_goes_with_everything_in_it() -> None:
    """Its rows at once; its data is given up, for a collection to remove. Others stay."""
    other = album(2)
    album_id, other_id = await album(3).save("album"), await other.save("album")

    deleted = await artigraph.delete(album_id)

    assert deleted == Deletion(runs=0, artifacts=1, nodes=5, blobs=3, size=3 * SIZE)
    with pytest.raises(NodeNotFoundError):
        await Album.load(album_id)
    assert await Album.load(other_id) == other
    assert await states() == ["live"] * 2 + ["unused"] * 3


@pytest.mark.usefixtures("files")
async def test_a_run_goes_with_everything_below_it() -> None:
    """Runs in runs, artifacts in them, and what was saved below an artifact."""
    async with RunManager(Run()) as outer:
        async with RunManager(Run()) as inner:
            await inner.save_artifact("album", album(1))
            async with RunManager(Run()) as innermost:
                leaf_id = await innermost.save_artifact("leaf", Leaf(1))
        async with RunManager(Run()) as other:
            kept_id = await other.save_artifact("leaf", Leaf(2))
    below_id = await Leaf(3).save("below", leaf_id)
    await album(1).save("further below", below_id)

    deleted = await artigraph.delete(inner.run.node_id)

    assert deleted == Deletion(runs=2, artifacts=4, nodes=10, blobs=2, size=2 * SIZE)
    assert [run.node_id for run in await outer.load_descendant_runs()] == [other.run.node_id]
    assert await Leaf.load(kept_id) == Leaf(2)
    assert await node_ids() == {outer.run.node_id, other.run.node_id, kept_id}
    assert await states() == ["unused"] * 2


@pytest.mark.usefixtures("files")
async def test_an_id_may_be_text_and_come_twice() -> None:
    """Also together with what it is below."""
    run_id, leaf_id = await run_with_leaf()

    deleted = await artigraph.delete(f"{leaf_id}", run_id, leaf_id, RunQuery(label="run"))

    assert deleted == Deletion(runs=1, artifacts=1, nodes=2, blobs=0, size=0)
    assert await node_ids() == set()


@pytest.mark.usefixtures("files")
async def test_nothing_is_deleted_without_arguments() -> None:
    """As by `delete(*found)` where nothing was found."""
    await run_with_leaf()

    assert await artigraph.delete() == NOTHING
    assert len(await node_ids()) == 2


@pytest.mark.usefixtures("files")
async def test_a_model_a_thousand_deep_goes() -> None:
    """Whatever limits a database sets to its own cascades and recursion."""
    chain: Chain | None = None
    for number in range(1_000):
        chain = Chain(number, chain)
    assert chain is not None
    chain_id = await chain.save("chain")

    deleted = await artigraph.delete(chain_id)

    assert deleted.nodes == 1_000
    assert await node_ids() == set()


@pytest.mark.usefixtures("files")
async def test_artifacts_a_thousand_below_each_other_go() -> None:
    """A tree of one row each."""
    ids = [new_id() for _ in range(1_000)]
    below = pairwise([None, *ids])
    await execute(insert(node_table), [leaf_row(child, parent) for parent, child in below])

    deleted = await artigraph.delete(ids[0])

    assert (deleted.artifacts, deleted.nodes) == (1_000, 1_000)
    assert await node_ids() == set()


@pytest.mark.usefixtures("files")
async def test_deleting_takes_as_many_statements_for_ten_as_for_a_thousand() -> None:
    """Two to look, in whatever depth, then one for each kind of thing that goes."""
    counts: list[int] = []
    for width in (10, 1_000):
        async with RunManager(Run()) as manager:
            await manager.save_artifacts({f"{number}": Leaf(number) for number in range(width)})
            await manager.save_artifact("album", album(2))
        with statements() as seen:
            await artigraph.delete(manager.run.node_id)
        counts.append(len(seen))

    assert counts[0] == counts[1] <= 9


@pytest.mark.usefixtures("files")
async def test_one_of_twenty_equal_artifacts_harms_no_other() -> None:
    """Whether equal data is kept once or twenty times."""
    one = album(1)
    ids = [await one.save("album") for _ in range(20)]

    for deleted, album_id in enumerate(ids, 1):
        await artigraph.delete(album_id)
        await artigraph.collect(grace=0)
        for other_id in ids[deleted:]:
            assert await Album.load(other_id) == one


@pytest.mark.usefixtures("files")
async def test_a_label_is_free_again() -> None:
    """For the artifact that comes in the place of the deleted one."""
    async with RunManager(Run()) as manager:
        await artigraph.delete(await manager.save_artifact("leaf", Leaf(1)))
        await manager.save_artifact("leaf", Leaf(2))

    assert await manager.load_artifacts() == {"leaf": Leaf(2)}


@pytest.mark.usefixtures("files")
async def test_runs_in_a_circle_go() -> None:
    """Which Artigraph never makes: each is below the other."""
    async with RunManager(Run()) as outer, RunManager(Run()) as inner:
        await inner.save_artifact("leaf", Leaf(1))
    circle = update(node_table).where(NODE.node_id == outer.run.node_id)
    await execute(circle.values(node_parent_id=inner.run.node_id))

    deleted = await artigraph.delete(inner.run.node_id)

    assert (deleted.runs, deleted.nodes) == (2, 3)
    assert await node_ids() == set()


# What would go


@pytest.mark.usefixtures("files")
async def test_a_dry_run_tells_the_same_and_changes_nothing() -> None:
    """Of ids and of queries."""
    run_id, _ = await run_with_leaf()
    await album(2).save("album", run_id)
    album_id = await album(1).save("another")
    before = await everything()

    told = [
        await artigraph.delete(*what, dry_run=True)
        for what in ([run_id], [album_id], [RunQuery(label="run"), ArtifactQuery()])
    ]

    assert await everything() == before
    assert [await artigraph.delete(run_id), await artigraph.delete(album_id)] == told[:2]
    assert told[2] == Deletion(runs=1, artifacts=3, nodes=9, blobs=3, size=3 * SIZE)
    assert await node_ids() == set()


@pytest.mark.usefixtures("files")
async def test_a_dry_run_refuses_what_would_be_refused() -> None:
    """It says the same, so that nobody finds out too late."""
    run_id, leaf_id = await run_with_leaf()
    other_id = await Leaf(2).save("made of it")
    await link(other_id, leaf_id)

    for what in (new_id(), leaf_id, run_id):
        with pytest.raises((NodeNotFoundError, ConflictError)) as dry:
            await artigraph.delete(what, dry_run=True)
        with pytest.raises(type(dry.value)) as real:
            await artigraph.delete(what)
        assert str(dry.value) == str(real.value)


# Queries

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SINCE = datetime(2021, 1, 1, tzinfo=UTC)


class Graph:
    """Some runs and artifacts, by what the tests call them."""

    def __init__(self) -> None:
        self.ids: dict[str, UUID] = {}

    async def save(self) -> None:
        async with RunManager(Run(label="nightly")) as nightly:
            self.ids["good"] = nightly.run.node_id
            self.ids["good/a"] = await nightly.save_artifact("a", Leaf(1))
            async with RunManager(Run(label="inner")) as inner:
                self.ids["good/inner"] = inner.run.node_id
                self.ids["good/inner/a"] = await inner.save_artifact("a", Leaf(1))
        with suppress(ZeroDivisionError):
            async with RunManager(Run(label="nightly")) as failing:
                self.ids["bad"] = failing.run.node_id
                self.ids["bad/b"] = await failing.save_artifact("b", Chain(1))
                raise ZeroDivisionError
        with suppress(asyncio.CancelledError):
            async with RunManager(Run(label="Nightly")) as stopped:
                self.ids["stopped"] = stopped.run.node_id
                raise asyncio.CancelledError
        self.ids["a"] = await Leaf(2).save("a")
        self.ids["a/b"] = await Leaf(3).save("b", self.ids["a"])
        old = [self.ids["bad"], self.ids["a"]]
        await execute(
            update(node_table).where(NODE.node_id.in_(old)).values(node_created_at=LONG_AGO)
        )

    async def gone(self) -> set[str]:
        left = await node_ids()
        return {name for name, node_id in self.ids.items() if node_id not in left}


def shown(query: NodeQuery) -> str:
    """What a query says."""
    told = [f"{name}={value}" for name, value in vars(query).items() if value is not None]
    return " ".join([type(query).__name__, *told])


ALL_RUNS = {"good", "good/a", "good/inner", "good/inner/a", "bad", "bad/b", "stopped"}
ALL_ARTIFACTS = {"good/a", "good/inner/a", "bad/b", "a", "a/b"}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("query", "below", "expected"),
    [
        (RunQuery(), None, ALL_RUNS),
        (RunQuery(label="nightly"), None, ALL_RUNS - {"stopped"}),
        (RunQuery(label="Nightly"), None, {"stopped"}),
        (RunQuery(label="nightly", status="failed"), None, {"bad", "bad/b"}),
        (RunQuery(status="succeeded"), None, {"good", "good/a", "good/inner", "good/inner/a"}),
        (RunQuery(status="cancelled"), None, {"stopped"}),
        (RunQuery(created_before=SINCE), None, {"bad", "bad/b"}),
        (RunQuery(label="nightly", created_before=LONG_AGO), None, set()),
        (RunQuery(), "good", {"good/inner", "good/inner/a"}),
        (RunQuery(), "a", set()),
        (RunQuery(label="nightly "), None, set()),
        (RunQuery(label="a"), None, set()),
        (RunQuery(status="running"), None, set()),
        (ArtifactQuery(), None, ALL_ARTIFACTS),
        (ArtifactQuery(label="a"), None, {"good/a", "good/inner/a", "a", "a/b"}),
        (ArtifactQuery(label="b"), None, {"bad/b", "a/b"}),
        (ArtifactQuery(label="a"), "good", {"good/a"}),
        (ArtifactQuery(), "a", {"a/b"}),
        (ArtifactQuery(created_before=SINCE), None, {"a", "a/b"}),
        (ArtifactQuery(model="deletion.Chain"), None, {"bad/b"}),
        (ArtifactQuery(model="deletion.Chain", label="a"), None, set()),
        (ArtifactQuery(model="Chain"), None, set()),
        (ArtifactQuery(label="nightly"), None, set()),
    ],
    ids=lambda value: shown(value) if isinstance(value, NodeQuery) else "",
)
async def test_a_query_means_what_its_rows_say(
    query: NodeQuery, below: str | None, expected: set[str]
) -> None:
    """All that it says has to hold; labels are compared byte by byte."""
    graph = Graph()
    await graph.save()
    kind: Any = type(query)
    query = kind(**{**vars(query), "parent_id": graph.ids[below] if below else None})

    deleted = await artigraph.delete(query)

    assert await graph.gone() == expected
    assert deleted.nodes == len(expected)


@pytest.mark.usefixtures("files")
async def test_a_query_means_no_part_of_an_artifact() -> None:
    """Whatever a part is called, and whatever it is."""
    album_id = await album(1).save("album")
    chain_id = await Chain(1, Chain(2)).save("chain")

    for query in (
        ArtifactQuery(label="pictures"),
        ArtifactQuery(label="0"),
        ArtifactQuery(label="next"),
        ArtifactQuery(parent_id=album_id),
        NodeQuery(parent_id=album_id),
        ArtifactQuery(parent_id=f"{chain_id}", model="deletion.Chain"),
    ):
        assert await artigraph.delete(query) == NOTHING
    deleted = await artigraph.delete(ArtifactQuery(model="deletion.Chain"))

    assert (deleted.artifacts, deleted.nodes) == (1, 2)
    assert album_id in await node_ids()


@pytest.mark.parametrize("parent_id", ["nonsense", 5])
async def test_a_parent_that_is_none_is_told(database_url: str, parent_id: Any) -> None:
    """As with any id; one that is none of this database has nothing below it."""
    set_database(database_url)

    with pytest.raises(NodeNotFoundError, match=f"no parent node .*{parent_id}"):
        await artigraph.delete(RunQuery(parent_id=parent_id))

    assert await artigraph.delete(RunQuery(parent_id=new_id())) == NOTHING


@pytest.mark.usefixtures("files")
async def test_a_query_takes_a_moment_of_any_zone() -> None:
    """It is the moment that counts."""
    leaf_id = await Leaf(1).save("leaf")
    moment = datetime.fromisoformat("2024-05-01T12:00:00.000002+05:30")
    await execute(update(node_table).values(node_created_at=moment))

    for query in (
        ArtifactQuery(created_before=moment.astimezone(UTC)),
        ArtifactQuery(created_before=datetime.fromisoformat("2024-05-01T09:00:00+03:00")),
    ):
        assert await artigraph.delete(query) == NOTHING
    await artigraph.delete(
        ArtifactQuery(created_before=datetime.fromisoformat("2024-05-01T06:30:00.000003+00:00"))
    )

    assert leaf_id not in await node_ids()


@pytest.mark.parametrize("query", [RunQuery, ArtifactQuery])
@pytest.mark.parametrize(
    ("moment", "named"),
    [
        (datetime(2024, 1, 1), "a datetime without a zone"),  # noqa: DTZ001  # that is the point
        (date(2024, 1, 1), "a date"),
        ("2024-01-01", "a str"),
    ],
)
def test_what_is_no_moment_is_refused(query: Any, moment: Any, named: str) -> None:
    """A time without a zone would mean another moment on another machine."""
    expected = (
        f"{query.__name__}.created_before: {named} is no moment."
        " Pass created_before=datetime.now(timezone.utc), or another datetime with its zone."
    )

    with pytest.raises(UnsupportedValueError) as caught:
        query(created_before=moment)

    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("query", "arguments", "words"),
    [
        (RunQuery, {"label": 5}, "RunQuery.label: a int is none"),
        (ArtifactQuery, {"label": "secret\0"}, "ArtifactQuery.label: this str is none"),
        (ArtifactQuery, {"model": "secret\ud800"}, "ArtifactQuery.model: this str is none"),
        (ArtifactQuery, {"model": Leaf}, "ArtifactQuery.model: a type is none"),
        (RunQuery, {"status": "done"}, "'done' is no status. Pass one of running, succeeded"),
        (RunQuery, {"status": 5}, "RunQuery.status: 5 is no status"),
    ],
)
def test_what_no_row_can_have_is_refused(query: Any, arguments: Any, words: str) -> None:
    """It is a slip: nothing would be found, or a database complain in words of its own."""
    with pytest.raises(UnsupportedValueError) as caught:
        query(**arguments)

    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


# What is left of an artifact whose rows somebody has deleted


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("by", ["artifact", "part", "all"])
async def test_what_is_left_without_its_root_goes(by: str) -> None:
    """By the id that a check tells, which no node has any more, or by that of any part."""
    other_id = await album(2).save("other")
    album_id = await album(3).save("album")
    below_id = await Leaf(1).save("below", (await parts_of(album_id))[-1])
    await delete_by_hand(album_id)
    (finding,) = (await artigraph.check()).findings
    assert finding.artifact_id == album_id
    assert f"the row of its root is missing. To remove what is left of it: delete {album_id}" in (
        finding.message
    )
    left = await parts_of(album_id)
    by_ids = {"artifact": [album_id], "part": left[1:2], "all": [*left, album_id]}[by]

    planned = await artigraph.delete(*by_ids, dry_run=True)
    deleted = await artigraph.delete(*by_ids)

    expected = Deletion(runs=0, artifacts=2, nodes=5, blobs=3, size=3 * SIZE)
    assert planned == deleted == expected
    assert (await artigraph.check()).findings == []
    assert await states() == ["live"] * 2 + ["unused"] * 3
    assert below_id not in await node_ids()
    assert await Album.load(other_id)
    with pytest.raises(NodeNotFoundError):
        await artigraph.delete(album_id)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("query", [ArtifactQuery(), ArtifactQuery(created_before=SINCE)], ids=shown)
async def test_what_is_left_without_its_root_goes_by_a_query(query: ArtifactQuery) -> None:
    """Of all artifacts, or of all that are old."""
    await album(3).save("album")
    await execute(update(node_table).values(node_created_at=LONG_AGO))
    (album_id,) = await scalars(select(NODE.node_id).where(NODE.artifact_label == "album"))
    await delete_by_hand(album_id)

    deleted = await artigraph.delete(query)

    assert deleted == Deletion(runs=0, artifacts=1, nodes=4, blobs=3, size=3 * SIZE)
    assert await node_ids() == set()
    assert await states() == ["unused"] * 3


@pytest.mark.usefixtures("files")
async def test_what_is_left_without_its_root_has_nothing_that_a_query_can_ask_of_one() -> None:
    """Labels and parents of its parts are not those of an artifact."""
    async with RunManager(Run()) as manager:
        album_id = await manager.save_artifact("album", album(3))
    await delete_by_hand(album_id)

    deleted = await artigraph.delete(
        ArtifactQuery(label="album"),
        ArtifactQuery(label="0"),
        ArtifactQuery(model="deletion.Album"),
        ArtifactQuery(parent_id=manager.run.node_id),
        ArtifactQuery(parent_id=(await parts_of(album_id))[0]),
        ArtifactQuery(created_before=LONG_AGO),
    )

    assert deleted == NOTHING


@pytest.mark.usefixtures("files")
async def test_parts_that_nothing_leads_to_go_with_their_artifact() -> None:
    """Also with the run that it is in, and what was saved below them."""
    async with RunManager(Run()) as manager:
        await manager.save_artifact("album", album(2))
    (album_id,) = await scalars(select(NODE.node_id).where(NODE.artifact_label == "album"))
    sequence_id, *pictures = await parts_of(album_id)
    await Leaf(1).save("below", pictures[0])
    cut_off = update(node_table).where(NODE.node_parent_id == sequence_id)
    await execute(cut_off.values(node_parent_id=None))

    deleted = await artigraph.delete(manager.run.node_id)

    assert deleted == Deletion(runs=1, artifacts=2, nodes=6, blobs=2, size=2 * SIZE)
    assert await node_ids() == set()


@pytest.mark.sqlite
async def test_what_is_left_below_a_row_that_is_gone_goes(tmp_path: Path) -> None:
    """SQLite asks nothing of foreign keys unless it is told to, as its shell is not."""
    url = f"sqlite:///{tmp_path}/graph.db"
    set_database(url)
    chain_id = await Chain(1, Chain(2, Chain(3))).save("chain")
    with closing(sqlite3.connect(tmp_path / "graph.db")) as connection, connection:
        connection.execute("DELETE FROM artigraph_node WHERE node_id = ?", (chain_id.bytes,))
    assert len(await parts_of(chain_id)) == 2

    deleted = await artigraph.delete(chain_id)

    assert deleted == Deletion(runs=0, artifacts=1, nodes=2, blobs=0, size=0)
    assert await node_ids() == set()


@pytest.mark.usefixtures("files")
async def test_a_root_that_says_that_it_is_in_another_artifact_goes() -> None:
    """By whichever id the check tells."""
    for by_the_other in (False, True):
        chain_id, other_id = await Chain(1, Chain(2)).save("chain"), new_id()
        await execute(
            update(node_table).where(NODE.node_id == chain_id).values(artifact_tree_id=other_id)
        )
        told = {finding.artifact_id for finding in (await artigraph.check()).findings}
        assert told == {chain_id, other_id}

        await artigraph.delete(other_id if by_the_other else chain_id)

        assert await node_ids() == set()


@pytest.mark.usefixtures("files")
async def test_what_is_left_goes_in_as_many_statements_however_much_it_is() -> None:
    """Three more than of a whole one: its tops have to be found, and what is below them."""
    counts: list[int] = []
    for length in (3, 300):
        album_id = await album(length).save("album")
        await delete_by_hand(album_id)
        with statements() as seen:
            await artigraph.delete(album_id)
        counts.append(len(seen))

    assert counts[0] == counts[1] <= 12


# What can't go


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("unknown", [new_id(), "nonsense", 5])
async def test_an_unknown_id_is_told(unknown: Any) -> None:
    """B1: and whatever else was to go stays."""
    leaf_id = await Leaf(1).save("leaf")

    with pytest.raises(NodeNotFoundError, match=f"node .*{unknown}"):
        await artigraph.delete(leaf_id, unknown)

    assert await node_ids() == {leaf_id}


@pytest.mark.usefixtures("files")
async def test_a_part_of_an_artifact_does_not_go_alone() -> None:
    """The error names the artifact."""
    album_id = await album(1).save("album")
    before = await everything()

    for part_id in await node_ids() - {album_id}:
        with pytest.raises(ConflictError, match=f"{part_id}: .*part of artifact {album_id}"):
            await artigraph.delete(part_id)

    assert await everything() == before


@pytest.mark.usefixtures("files")
async def test_a_run_that_is_running_does_not_go() -> None:
    """Nor does what it is in; what is in it may."""
    async with RunManager(Run(label="outer")) as outer:
        pass
    async with RunManager(Run(outer.run.node_id, label="inner")) as inner:
        leaf_id = await inner.save_artifact("leaf", Leaf(1))
        for what in (inner.run.node_id, outer.run.node_id, RunQuery(label="outer"), RunQuery()):
            with pytest.raises(RunStateError, match=f"run {inner.run.node_id} is running"):
                await artigraph.delete(what)
        await artigraph.delete(leaf_id)
        assert await node_ids() == {outer.run.node_id, inner.run.node_id}

    await artigraph.delete(outer.run.node_id)

    assert await node_ids() == set()


@on_linux
async def test_a_run_whose_process_was_killed_has_crashed(database_url: str) -> None:
    """F15: while it lives it is running; then what it saved can be loaded, and deleted."""
    set_database(database_url)
    with in_another_process(database_url) as worker:
        outer_id, inner_id = worker.ids
        assert (await Run.load(outer_id)).status == "running"
        with pytest.raises(RunStateError, match="is running"):
            await artigraph.delete(outer_id)

        worker.kill()
        await asyncio.to_thread(worker.process.wait)

    crashed = await Run.load(outer_id)
    assert (crashed.status, crashed.label, crashed.finished_at) == ("crashed", "outer", None)
    manager = RunManager(crashed)
    below = [(run.node_id, run.status) for run in await manager.load_descendant_runs()]
    assert below == [(inner_id, "crashed")]
    assert await manager.load_artifacts() == {"kept": 1}
    deleted = await artigraph.delete(outer_id)
    assert (deleted.runs, deleted.artifacts) == (2, 1)
    assert await node_ids() == set()


@on_linux
async def test_a_dead_process_that_nobody_waits_for_is_gone(database_url: str) -> None:
    """As below a container's first process that is no init: it stays in the list for ever."""
    set_database(database_url)
    with in_another_process(database_url) as worker:
        worker.kill()
        ended = os.WEXITED | os.WNOWAIT
        await asyncio.to_thread(os.waitid, os.P_PID, worker.process.pid, ended)

        assert (await Run.load(worker.ids[0])).status == "crashed"


@on_linux
@pytest.mark.usefixtures("files")
async def test_crashed_runs_are_found_by_their_status() -> None:
    """As `Run.status` has it: a query of one means no run that is at work."""
    gone_id, _ = await run_with_leaf("gone")
    await execute(
        update(node_table)
        .where(NODE.node_id == gone_id)
        .values(run_status="running", run_owner=owner(process_started="1"))
    )
    async with RunManager(Run(label="at work")) as manager:
        assert (await Run.load(gone_id)).status == "crashed"

        deleted = await artigraph.delete(RunQuery(status="crashed"))

        assert deleted == Deletion(runs=1, artifacts=1, nodes=2, blobs=0, size=0)
        assert await node_ids() == {manager.run.node_id}


@pytest.mark.usefixtures("files")
async def test_a_run_of_another_host_stays_running() -> None:
    """Whether its process goes on can't be known here."""
    run_id, _ = await run_with_leaf()
    elsewhere = owner(host="another", process_started="1")
    await execute(
        update(node_table)
        .where(NODE.node_id == run_id)
        .values(run_status="running", run_owner=elsewhere)
    )

    assert (await Run.load(run_id)).status == "running"
    assert await artigraph.delete(RunQuery(status="crashed")) == NOTHING
    for what in (run_id, RunQuery(status="running")):
        with pytest.raises(RunStateError, match=f"run {run_id} is running"):
            await artigraph.delete(what)

    assert (await artigraph.delete(run_id, include_running=True)).runs == 1


NO_PROCESS = 2**22 + 1
"""More than the largest id on Linux."""


@on_linux
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, False),
        ({"process_started": "1"}, True),
        ({"process": NO_PROCESS}, True),
        ({"boot": "another"}, True),
        ({"boot": "another", "namespace": "another"}, True),
        ({"host": "another", "process": NO_PROCESS}, False),
        ({"host": "another", "boot": "another"}, False),
        ({"namespace": "another", "process": NO_PROCESS}, False),
        ({"boot": None, "process": NO_PROCESS}, False),
        ({"process": "nonsense"}, False),
        ({"process": 2**80}, False),
        ({"process": float("inf")}, False),
        ({"process": -1}, False),
    ],
    ids=str,
)
def test_a_process_is_gone_only_where_that_is_certain(
    changed: dict[str, Any], expected: bool
) -> None:
    """Of another host, or of another container on this one, nothing is known."""
    assert is_gone(owner(**changed)) is expected


@on_linux
def test_a_process_that_is_hidden_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is mounted with hidepid, users don't see the processes of others."""
    theirs, nobodys = owner(process=os.getppid()), owner(process=NO_PROCESS)
    monkeypatch.setattr("artigraph.owner._text", lambda path: None)

    assert not is_gone(theirs)
    assert is_gone(nobodys)


@pytest.mark.parametrize(
    "told", [None, "", "null", "[]", "5", "not JSON", "{}", '{"process": []}', "[" * 100_000]
)
def test_an_owner_that_is_none_is_not_gone(told: str | None) -> None:
    """Nothing is deleted on a guess."""
    assert not is_gone(told)


# Lineage


@pytest.mark.usefixtures("files")
async def test_what_something_was_made_of_stays() -> None:
    """As long as that stays; the error names it."""
    run_id, leaf_id = await run_with_leaf()
    made_id = await Leaf(2).save("made of it")
    await link(made_id, leaf_id)
    before = await everything()

    for what in (leaf_id, run_id, ArtifactQuery(label="leaf")):
        with pytest.raises(ConflictError, match=f"node {made_id}, which stays, was made of it"):
            await artigraph.delete(what)

    assert await everything() == before


@pytest.mark.usefixtures("files")
async def test_what_was_made_goes_and_leaves_its_inputs() -> None:
    """With the links to them."""
    _, leaf_id = await run_with_leaf()
    made_id = await Leaf(2).save("made of it")
    await link(made_id, leaf_id)

    await artigraph.delete(made_id)

    assert await count_links() == 0
    await artigraph.delete(leaf_id)


@pytest.mark.usefixtures("files")
async def test_what_was_made_of_each_other_goes_together() -> None:
    """In any order, also where a run stands for what it has used."""
    run_id, leaf_id = await run_with_leaf()
    made_id = await Leaf(2).save("made of it")
    other_id = await Leaf(3).save("used by the run")
    for source, target in [(made_id, leaf_id), (leaf_id, made_id), (run_id, other_id)]:
        await link(source, target)

    deleted = await artigraph.delete(other_id, made_id, run_id)

    assert deleted.nodes == 4
    assert (await node_ids(), await count_links()) == (set(), 0)


@pytest.mark.usefixtures("files")
async def test_what_was_made_of_it_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was looked, and before it was deleted."""
    leaf_id = await Leaf(1).save("leaf")
    made_id = await Leaf(2).save("made of it")
    before_each_plan_is_done(monkeypatch, lambda: link(made_id, leaf_id), times=1)

    with pytest.raises(ConflictError, match=f"node {made_id}, which stays"):
        await artigraph.delete(leaf_id)

    assert await node_ids() == {leaf_id, made_id}


# Beside others


@pytest.mark.usefixtures("files")
async def test_what_is_saved_below_it_meanwhile_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was looked, and before it was deleted: an artifact, and a run with another."""
    run_id, _ = await run_with_leaf()

    async def save() -> None:
        await album(1).save("late", run_id)
        async with RunManager(Run(run_id)) as inner:
            await inner.save_artifact("late", Leaf(1))

    before_each_plan_is_done(monkeypatch, save, times=1)

    deleted = await artigraph.delete(run_id)

    assert deleted == Deletion(runs=2, artifacts=3, nodes=7, blobs=1, size=SIZE)
    assert (await node_ids(), await states()) == (set(), ["unused"])


@pytest.mark.usefixtures("files")
async def test_a_run_that_begins_below_it_meanwhile_stops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is running, and all stays."""
    run_id, _ = await run_with_leaf()
    inner = RunManager(Run(run_id))
    before_each_plan_is_done(monkeypatch, inner.__aenter__, times=1)

    with pytest.raises(RunStateError, match=f"run {inner.run.node_id} is running"):
        await artigraph.delete(run_id)

    await inner.__aexit__(None, None, None)
    assert len(await node_ids()) == 3


@pytest.mark.usefixtures("files")
async def test_a_deletion_gives_way_to_those_who_never_stop_saving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After some tries, with everything still there."""
    run_id, _ = await run_with_leaf()
    before_each_plan_is_done(monkeypatch, lambda: Leaf(1).save(f"{new_id()}", run_id))

    with pytest.raises(ConflictError, match="keep saving below it") as caught:
        await artigraph.delete(run_id)

    assert "try again" in str(caught.value)
    assert run_id in await node_ids()


async def test_a_save_whose_parent_goes_meanwhile_is_refused(
    database_url: str, tmp_path: Path
) -> None:
    """Its data is on the way then: it was recorded, so that a collection finds it."""
    storage = Gated(tmp_path / "files")
    set_database(database_url, storage=storage)
    run_id, _ = await run_with_leaf()
    saving = asyncio.create_task(album(1).save("late", run_id))
    await storage.reached.wait()

    await artigraph.delete(run_id)
    storage.opened.set()

    with pytest.raises(NodeNotFoundError, match=f"parent node {run_id}"):
        await saving
    assert (await node_ids(), await states()) == (set(), ["pending"])


@pytest.mark.usefixtures("files")
async def test_saves_and_a_deletion_at_once_leave_nothing_half() -> None:
    """Either there was a save to delete, or nowhere to save; whoever is first."""
    chance = random.Random(1)
    for _ in range(15):
        run_id, _ = await run_with_leaf()
        works = [
            artigraph.delete(run_id),
            *(Leaf(number).save(f"leaf {number}", run_id) for number in range(3)),
            album(1).save("album", run_id),
        ]
        chance.shuffle(works)

        deleted, *saved = sorted(await together(works), key=lambda result: result[0])

        assert isinstance(deleted[1], Deletion)
        assert all(isinstance(result, UUID | NodeNotFoundError) for _, result in saved)
        assert await node_ids() == set()
        assert "live" not in await states()


@pytest.mark.usefixtures("files")
async def test_several_may_delete_the_same_at_once() -> None:
    """Or one what the other's is in: who comes late finds nothing, or less."""
    for _ in range(10):
        async with RunManager(Run()) as outer:
            async with RunManager(Run()) as inner:
                await inner.save_artifacts({f"{number}": Leaf(number) for number in range(20)})
                await inner.save_artifact("album", album(1))
        works = [artigraph.delete(run.run.node_id) for run in (outer, inner, outer, inner)]

        results = [result for _, result in await together(works)]

        assert all(isinstance(result, Deletion | NodeNotFoundError) for result in results)
        assert any(isinstance(result, Deletion) for result in results)
        assert await node_ids() == set()
        assert "live" not in await states()


@pytest.mark.usefixtures("files")
async def test_a_load_beside_a_deletion_finds_all_or_nothing() -> None:
    """It reads its rows with one statement; the data stays until it is collected."""
    for _ in range(10):
        one = album(2)
        album_id = await one.save("album")
        works = [*(Album.load(album_id) for _ in range(3)), artigraph.delete(album_id)]

        *loaded, _ = [result for _, result in await together(works)]

        assert all(found == one or isinstance(found, NodeNotFoundError) for found in loaded)


@pytest.mark.usefixtures("files")
async def test_a_cancelled_deletion_is_whole_or_did_nothing() -> None:
    """F12: wherever it is hit; the next one works at once, and no connection stays behind."""
    run_id = await run_with_album()
    turns = await turns_of(artigraph.delete(run_id))

    for turn in range(0, turns, max(1, turns // 25)):
        run_id = await run_with_album()
        await cancelled_after(turn, artigraph.delete(run_id))

        left = len(await node_ids())
        assert (left, (await states()).count("live")) in ((0, 0), (4, 1))
        if left:
            await artigraph.delete(run_id)

    pool: Any = (await current_database()._get()).engine.pool
    assert pool.checkedout() == 0


# The rows, and what is done to them


async def execute(statement: Any, rows: Sequence[dict[str, Any]] | None = None) -> None:
    await current_database().write(lambda connection: connection.execute(statement, rows))


async def scalars(query: Any) -> list[Any]:
    return list(await current_database().read(lambda each: each.scalars(query).all()))


async def node_ids() -> set[UUID]:
    return set(await scalars(select(NODE.node_id)))


async def states() -> list[str]:
    """Of all blobs."""
    return sorted(await scalars(select(blob_table.c.blob_state)))


async def count_links() -> int:
    return (await scalars(select(func.count()).select_from(link_table)))[0]


async def everything() -> list[tuple[Any, ...]]:
    """All rows of all tables."""
    rows: list[tuple[Any, ...]] = []
    for table in (node_table, blob_table, link_table):
        query = select(table).order_by(*table.primary_key)
        rows += await current_database().read(
            lambda connection, query=query: [tuple(row) for row in connection.execute(query)]
        )
    return rows


async def link(source_id: UUID, target_id: UUID) -> None:
    """Record that the one was made of the other."""
    await execute(
        insert(link_table),
        [
            {
                "link_source_id": source_id,
                "link_target_id": target_id,
                "link_role": "used",
                "link_created_at": datetime.now(UTC),
            }
        ],
    )


def leaf_row(node_id: UUID, parent_id: UUID | None) -> dict[str, Any]:
    """Of an artifact, made by hand, since saving so many takes its time."""
    return {
        "node_id": node_id,
        "node_type": "model",
        "node_parent_id": parent_id,
        "node_created_at": LONG_AGO,
        "node_updated_at": LONG_AGO,
        "artifact_label": f"{node_id}",
        "artifact_tree_id": node_id,
    }


async def parts_of(artifact_id: UUID) -> list[UUID]:
    query = select(NODE.node_id).where(NODE.artifact_tree_id == artifact_id)
    return await scalars(query.where(NODE.node_id != artifact_id).order_by(NODE.node_id))


async def delete_by_hand(node_id: UUID) -> None:
    """One row, as somebody does who knows only of foreign keys."""
    below = update(node_table).where(NODE.node_parent_id == node_id)
    await execute(below.values(node_parent_id=None))
    await execute(delete(node_table).where(NODE.node_id == node_id))


async def run_with_leaf(label: str = "run") -> tuple[UUID, UUID]:
    """The ids of a run that has ended, and of the artifact in it."""
    async with RunManager(Run(label=label)) as manager:
        leaf_id = await manager.save_artifact("leaf", Leaf(1))
    return manager.run.node_id, leaf_id


async def run_with_album() -> UUID:
    async with RunManager(Run()) as manager:
        await manager.save_artifact("album", album(1))
    return manager.run.node_id


def owner(**changed: Any) -> str:
    return json.dumps({**json.loads(owner_of_this_process()), **changed})


# Others at work


async def together(works: Sequence[Any]) -> list[tuple[bool, Any]]:
    """What each returns or raises, marked by whether it is no deletion's."""
    results = await asyncio.gather(*works, return_exceptions=True)
    return [(not isinstance(result, Deletion), result) for result in results]


def before_each_plan_is_done(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any], *, times: int = 100
) -> None:
    """Do some work after a deletion has looked what there is, and before it deletes that."""
    plan = deletion._plan
    left = [None] * times

    async def plan_and_work(*arguments: Any, **options: Any) -> Any:
        planned = await plan(*arguments, **options)
        if left:
            left.pop()
            await work()
        return planned

    monkeypatch.setattr(deletion, "_plan", plan_and_work)


@dataclass
class Worker:
    process: subprocess.Popen[str]
    ids: list[UUID]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)


@contextmanager
def in_another_process(url: str) -> Iterator[Worker]:
    """A process in a run, and in one in that."""
    program = """
import asyncio, sys
import artigraph
from artigraph import Run, RunManager

async def main():
    async with RunManager(Run(label="outer")) as outer, RunManager(Run()) as inner:
        await outer.save_artifact("kept", 1)
        print(outer.run.node_id, inner.run.node_id, flush=True)
        await asyncio.Event().wait()

artigraph.set_database(sys.argv[1])
asyncio.run(main())
"""
    command = [sys.executable, "-c", program, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Worker(process, [UUID(each) for each in process.stdout.readline().split()])
        finally:
            process.kill()
