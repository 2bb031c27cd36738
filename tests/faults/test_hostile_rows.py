"""Rows that somebody else wrote, with every digest made to fit: told, and nothing done for them."""

import json
import sqlite3
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

import artigraph
import artigraph.serializer.numpy  # a name that begins with its key may import it
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    ArtigraphError,
    DatabaseError,
    Run,
    RunManager,
    artifact_field,
    graph,
)
from artigraph.database import current_database
from artigraph.errors import SerializerNotFoundError
from artigraph.serializer import get_serializer
from artigraph.serializer.text import TextSerializer
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table, node_table
from artigraph.testing.storage import HOSTILE
from artigraph.tree import digest_of

LONG = "x" * 255
"""As long as most columns of a server's take."""

HUGE = "x" * 10**6

TERMINAL = "a\x1b[2J\nERROR: all is well\x07\u202e"
"""Clears the screen of whoever prints it, adds a line to a log, and turns what follows around."""

NAMES = [
    *("", "os.system", "builtins:eval", "this", "antigravity", "pickle.loads", "json.tool"),
    *("numpy.nothing", "artigraph.testing", "__main__", "../evil", "/etc/passwd", "a b"),
]
"""Of code that is there, and of nothing."""

VALUES = [
    '{"$path": ["WindowsPath", "a"]}',
    '{"$path": ["os.system", "a"]}',
    '{"$path": "abc"}',
    '{"$datetime": ["2020-01-01T00:00:00", 0, "America"]}',
    '{"$datetime": ["2020-01-01T00:00:00", 0, "../../../etc/passwd"]}',
    '{"$datetime": ["2020-01-01T00:00:00", 0, "/etc/passwd"]}',
    '{"$datetime": ["2020-01-01T00:00:00", 0, "os"]}',
    '{"$datetime": ["2020-01-01T00:00:00", 0, [[9e99, 0, 0], null]]}',
    '{"$datetime": ["2020-01-01T00:00:00", 1e400, null]}',
    '{"$time": ["25:00:00", 0, null]}',
    f'{{"$date": "{HUGE}"}}',
    f'{{"$float": "{HUGE}"}}',
    f'{{"$int": "{HUGE}"}}',
    '{"$int": 5}',
    '{"$timedelta": [1e308, 0, 0]}',
    '{"$decimal": "one"}',
    '{"$fraction": ["1", "0"]}',
    '{"$complex": ["x"]}',
    '{"$uuid": "x"}',
    '{"$text": "/w=="}',
    '{"$bytes": "\\u00e9"}',
    '{"$tuple": 5}',
    '{"$set": [{"$decimal": "sNaN"}]}',
    '{"$frozenset": [{}]}',
    '{"$dict": [[[], 1]]}',
    '{"$dict": [1]}',
    '{"$enum": ["os.system", "x"]}',
    '{"$enum": [["os"], "x"]}',
    '{"$flag": ["RegexFlag", 1]}',
    '{"$pickle": "gASVDgAAAAAAAACMAm9zlIwGc3lzdGVtlJOULg=="}',
    '{"$float": "nan", "a": 1}',
    "9" * 10**7,
    "NaN",
]
"""In the place of a number in a fields document: most of them forged tags."""

DOCUMENTS = [
    *(
        "",
        "import os",
        "[1]",
        "5",
        '"a"',
        '{"number": 1}{"number": 2}',
        '{"number": 1, "other": 2}',
    ),
    *("[" * 10**6, '{"number":' * 10**6, '{"$tuple":[' * 10**5 + "]}" * 10**5),
    f'["{HUGE}"]',
    *(f'{{"number": {value}}}' for value in VALUES),
]


@dataclass(frozen=True)
class Lies:
    """What somebody puts into a column of the row that has this label, one after the other."""

    label: str
    column: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.column} of {self.label}"


def lies(label: str, column: str, *values: Any) -> Lies:
    return Lies(label, column, values)


LIES = [
    lies("text", "artifact_serializer", None, "json", LONG, TERMINAL, *NAMES),
    lies("text", "artifact_size", None, -1, 0, 2**31, 2**62, 2**63 - 1),
    lies("text", "artifact_sha256", None, "", "0" * 64, "F" * 64),
    lies("text", "artifact_data", None, b"", b"x"),
    lies("text", "node_type", "run", "model", "sequence", "", "\x1b[2J"),
    lies("text", "artifact_label", "", "other", LONG),
    lies("leaf", "artifact_label", None, "other", "keys", LONG),
    lies("leaf", "node_type", "run", "artifact", "mapping", "", "\x1b[2J"),
    lies("leaf", "node_parent_id", None, node_table.c.node_id),
    lies("leaf", "model_name", None, "Root", LONG, TERMINAL, *NAMES),
    lies("leaf", "model_version", None, -1, 0, 2, 2**62),
    lies("leaf", "model_fields", None, *DOCUMENTS),
    lies("1", "artifact_label", None, "7", "keys", "-1", LONG, TERMINAL),
    lies("leaves", "model_fields", "{}", '{"keys": 5}', '{"keys": [[], 1]}', '{"keys": [1]}'),
]

UNSHORTENED = [
    lies("leaf", "artifact_label", TERMINAL),
    lies("text", "artifact_label", TERMINAL),
    lies("leaf", "model_fields", f'{{"number": 1, "{HUGE}": 2}}'),
    lies("leaf", "model_fields", '{"number": 1, "\\u001b[2J\\nall is well": 2}'),
    lies("leaf", "model_fields", json.dumps(dict.fromkeys(map(str, range(10**5))))),
    lies("text", "artifact_serializer", HUGE),
    lies("root", "model_name", HUGE),
]
"""Names that errors repeat."""

BELIEVED = [
    lies("text", "artifact_serializer", "bytes"),
    lies("text", "artifact_label", "number"),
    lies("text", "artifact_tree_id", None, UUID(int=0)),
    lies("leaf", "model_module", "os", HUGE, TERMINAL),
    lies("text", "artifact_distribution", "evil", LONG, TERMINAL),
    lies("text", "artifact_position", -1),
]
"""What can't be told from what was saved, by those who can write digests."""

on_sqlite = pytest.mark.parametrize(
    "new_database_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)


@dataclass
class Leaf(ArtifactModel, version=1, name="hostile.Leaf"):
    number: Any
    text: Any = artifact_field(serializer=TextSerializer(), default="some text")


@dataclass
class Root(ArtifactModel, version=1, name="hostile.Root"):
    leaf: Leaf
    leaves: ArtifactMapping[str, Leaf]
    large: bytes = b"x" * 100_000


Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Saved:
    """A run with a tree in it, of which `large` is in a file; and what reading it opens."""

    manager: RunManager
    root_id: UUID
    node_ids: dict[str | None, UUID]
    """By their labels; of several the last."""
    opened: set[str]

    @property
    def run_id(self) -> UUID:
        return self.manager.run.node_id

    @property
    def loads(self) -> list[Call]:
        """All that gives values."""
        return [
            lambda: Root.load(self.root_id),
            lambda: self.manager.load_artifact("root"),
            self.manager.load_artifacts,
        ]

    @property
    def looks(self) -> list[Call]:
        """All that goes through rows beside that."""
        return [
            lambda: Run.load(self.run_id),
            self.manager.load_descendant_artifacts,
            self.manager.load_descendant_runs,
            lambda: artigraph.check(self.run_id),
            self.check_and_repair,
            lambda: artigraph.delete(self.run_id, dry_run=True),
            lambda: artigraph.collect(dry_run=True),
            lambda: artigraph.collect(grace=0),
        ]

    async def check_and_repair(self) -> None:
        found = (await artigraph.check(deep=True)).findings
        for finding in found:
            assert_readable(finding.message)
        await artigraph.repair(found)

    @contextmanager
    def allowed(self) -> Iterator[set[str]]:
        """What may be opened: what is for an honest row, zones by their names, own processes."""
        opened: set[str] = set()
        with watched(opened):
            yield opened
        opened -= {each for each in opened if "/zoneinfo/" in each or "/proc/" in each}


@pytest.fixture
async def saved(database_url: str, tmp_path: Path) -> Saved:
    artigraph.set_database(database_url, storage=FileSystem(tmp_path / "files"))
    async with RunManager(Run(label="run")) as manager:
        async with RunManager(Run(label="inner")):
            pass
        root = Root(Leaf(1), ArtifactMapping(a=Leaf(2), b=Leaf(3)))
        root_id = await manager.save_artifact("root", root)
    with suppress(SerializerNotFoundError):
        get_serializer("acme.thing")  # looks what is installed, once
    with suppress(OSError, LookupError):
        ZoneInfo("America")  # looks where zones are
    nodes = await current_database().read(lambda each: graph.read_tree(each, root_id).nodes())
    saved = Saved(manager, root_id, {node.label: node.node_id for node in nodes}, set())
    for _ in range(2):  # what is imported and connected once, is in the first
        saved.opened.clear()
        with watched(saved.opened):
            for call in (*saved.loads, *saved.looks):
                await call()
    return saved


@pytest.mark.parametrize("lies", LIES, ids=str)
async def test_a_lie_is_told(saved: Saved, lies: Lies) -> None:
    """H2, H3: by every load, as an error of ours that fits on a screen; nothing is done for it."""
    wrong: list[str] = []

    async for value in told(lies, saved):
        wrong += [f"{ascii(value)[:60]}: {each}" for each in await harm_done(saved)]

    assert not wrong


@pytest.mark.parametrize("lies", UNSHORTENED, ids=lambda lies: f"{lies}: {lies.values[0][:40]!a}")
async def test_a_name_is_told_so_that_it_can_be_read(saved: Saved, lies: Lies) -> None:
    """Short, and without what a terminal would obey."""
    async for _ in told(lies, saved):
        assert not await harm_done(saved)


@pytest.mark.parametrize("lies", BELIEVED, ids=str)
async def test_a_lie_that_is_believed_harms_nothing(saved: Saved, lies: Lies) -> None:
    """H2: it gives other values than those that were saved, and no more than that."""
    async for _ in told(lies, saved):
        assert not await harm_done(saved, loads=True)


@pytest.mark.parametrize("distribution", ["evil; rm -rf ~", "evil\nrm -rf ~", "--index-url=evil"])
async def test_a_row_gives_nobody_a_command(saved: Saved, distribution: str) -> None:
    """What an error tells to type may hold the name of a distribution, and nothing else."""
    async for _ in told(lies("text", "artifact_serializer", "acme.thing"), saved):
        async for _ in told(lies("text", "artifact_distribution", distribution), saved):
            with pytest.raises(artigraph.ArtifactLoadError, match=r"acme\.thing") as caught:
                await Root.load(saved.root_id)

            assert "pip install" not in str(caught.value)


@on_sqlite
async def test_a_document_of_a_hundred_megabytes_is_told(saved: Saved) -> None:
    """H5: it is read as a whole, as all rows are."""
    async for _ in told(lies("leaf", "model_fields", '["' + "x" * 10**8 + '"]'), saved):
        with pytest.raises(artigraph.CorruptRowError, match="is no object"):
            await Root.load(saved.root_id)


LOCATIONS = [
    *(location for location in HOSTILE if len(location) <= 64),
    *("../../victim", "tmp/../../victim", "ab/ab/../../../victim", "./ab/" + "ab" * 16),
]

STORAGES = [
    *("file:", "file:/etc", "file:///etc", "s3://other-bucket/prefix", "s3://", "default ", ""),
    *("os.system", "../..", "/etc"),
]


BLOBS = {
    "blob_location": LOCATIONS,
    "blob_storage": STORAGES,
    "blob_state": ["", "pending", "nonsense"],
}


@pytest.mark.parametrize("column", BLOBS)
async def test_a_lie_about_where_data_is_opens_nothing(saved: Saved, column: str) -> None:
    """H1: neither a load nor a repair, nor a collection, which would remove it."""
    victims = plant_victims()
    wrong: list[str] = []

    for value in BLOBS[column]:
        async with blob_altered({column: value}) as is_altered:
            harm = await harm_done(replace(saved, opened=set())) if is_altered else []
            wrong += [f"{value!a}: {each}" for each in harm]

    assert not wrong
    assert victims == {path: path.read_bytes() for path in victims}


@on_sqlite
async def test_the_name_of_a_storage_is_told_so_that_it_can_be_read(saved: Saved) -> None:
    """Also in the findings of a check and the failures of a collection."""
    async with blob_altered({"blob_storage": HUGE}):
        assert not await harm_done(replace(saved, opened=set()))


@pytest.mark.parametrize("state", ["unused", "abandoned"])
@pytest.mark.parametrize("column", ["blob_location", "blob_storage"])
async def test_a_collection_removes_nothing_that_is_not_a_blob(
    saved: Saved, state: str, column: str
) -> None:
    """H1: what is given up can have any location or storage in its row; it is told, and stays."""
    gone = {"blob_state": state, "blob_lease_until": datetime(2000, 1, 1, tzinfo=UTC)}
    await execute(update(node_table).values(artifact_blob_id=None))
    victims = plant_victims()

    for value in BLOBS[column]:
        async with blob_altered({**gone, column: value}) as is_altered:
            if is_altered:
                with watched() as opened:
                    collected = await artigraph.collect(grace=0)
                assert (collected.removed, len(collected.failures)) == (0, 1)
                assert_readable(collected.failures[0])
                assert opened == set()

    assert victims == {path: path.read_bytes() for path in victims}


@pytest.mark.parametrize("size", [-1, 0, 2**62, 2**63 - 1])
async def test_a_collection_does_not_go_by_sizes(saved: Saved, size: int) -> None:
    """They are for the report."""
    await execute(update(node_table).values(artifact_blob_id=None))
    gone = {"blob_state": "unused", "blob_lease_until": datetime(2000, 1, 1, tzinfo=UTC)}
    await execute(update(blob_table).values({**gone, "blob_size": size}))

    collected = await artigraph.collect(grace=0)

    assert (collected.removed, collected.removed_size, collected.failures) == (1, size, [])


def plant_victims() -> dict[Path, bytes]:
    """Files beside the storage's, and in it, that no row may reach."""
    victims = {Path("victim"): b"victim", Path("files/victim"): b"victim"}
    for path, content in victims.items():
        path.write_bytes(content)
    return victims


RUNS = {
    "run_attributes": [
        *("not JSON", "[" * 10**6, '{"a": {"$x": 1}}', f'{{"a": {{"$date": "{HUGE}"}}}}'),
    ],
    "run_owner": ["not JSON", "[" * 10**6, '{"process": 1e999}', '{"process": "x"}', "5", HUGE],
    "run_status": ["running", "nonsense", ""],
    "run_label": [TERMINAL, LONG],
}


@pytest.mark.parametrize("column", RUNS)
async def test_a_lie_about_a_run_is_an_error_of_ours(saved: Saved, column: str) -> None:
    """Or believed, if it can't be told from what Artigraph writes."""
    wrong: list[str] = []

    for value in RUNS[column]:
        is_run = node_table.c.node_id == saved.run_id
        try:
            await execute(update(node_table).where(is_run).values({column: value}))
        except DatabaseError:
            continue
        wrong += [f"{value[:60]!a}: {each}" for each in await harm_done(saved, loads=True)]
        if column == "run_attributes" and not await error_of(lambda: Run.load(saved.run_id)):
            wrong.append(f"{value[:60]!a} is believed")

    assert not wrong


ODD = ("X'00'", "5", "-1", "1.5", "1e300", "9223372036854775807", "'long'")
"""SQLite keeps values of any type in any column."""

ODD_PLACES = {
    "artigraph_node WHERE artifact_label = 'text'": (
        *("node_type", "artifact_label", "artifact_position", "artifact_serializer"),
        *("artifact_distribution", "artifact_data", "artifact_blob_id", "artifact_size"),
        *("artifact_sha256", "artifact_tree_id", "artifact_tree_digest", "node_created_at"),
    ),
    "artigraph_node WHERE artifact_label = 'leaf'": (
        *("node_type", "artifact_label", "model_name", "model_module", "model_version"),
        *("model_fields", "artifact_size", "artifact_tree_id"),
    ),
    "artigraph_node WHERE artifact_label = 'root'": (
        *("node_type", "artifact_label", "artifact_tree_digest", "model_name", "node_parent_id"),
    ),
    "artigraph_node WHERE node_type = 'run'": (
        *("run_label", "run_status", "run_started_at", "run_finished_at", "run_owner"),
        *("run_error_type", "run_error_message", "run_attributes", "node_created_at"),
    ),
    "artigraph_blob WHERE true": (
        *("blob_id", "blob_storage", "blob_location", "blob_size", "blob_sha256", "blob_state"),
        *("blob_lease_until", "blob_created_at"),
    ),
}


@on_sqlite
@pytest.mark.parametrize("place", ODD_PLACES)
async def test_a_value_of_another_type_is_an_error_of_ours(saved: Saved, place: str) -> None:
    """H3: whatever is in whichever column, and whatever reads it."""
    escaped: list[str] = []
    for column in ODD_PLACES[place]:
        for value in ODD:
            with odd_value(place, column, value):
                with suppress(ArtigraphError, TypeError, ValueError):
                    await forge(saved.root_id)
                for call in (*saved.loads, *saved.looks):
                    try:
                        await error_of(call)
                    except Exception as error:
                        escaped.append(f"{column} = {value}: {type(error).__name__}: {error}")

    assert not escaped


@contextmanager
def odd_value(place: str, column: str, value: str) -> Iterator[None]:
    """A value in a column, until the end of the block; by a stranger to its foreign keys."""
    table, _, condition = place.partition(" WHERE ")
    path = current_database().name.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT rowid, {column} FROM {table} WHERE {condition}"
        before = connection.execute(query).fetchall()
        is_first = "rowid = (SELECT min(rowid) FROM {table} WHERE {condition})"
        update = f"UPDATE {table} SET {column} = {value} WHERE {is_first}"
        connection.execute(update.format(table=table, condition=condition))
        connection.commit()
        yield
        for rowid, old in before:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (old, rowid))
        connection.commit()


async def error_of(call: Call) -> ArtigraphError | None:
    """The error of a call, which is one of ours and can be shown to anybody."""
    try:
        await call()
    except ArtigraphError as error:
        assert_readable("".join([str(error), *getattr(error, "__notes__", ())]))
        return error
    return None


def assert_readable(text: str) -> None:
    """A few lines that no terminal obeys."""
    assert len(text) < 1_500
    assert text.isprintable()


async def harm_done(saved: Saved, *, loads: bool = False) -> list[str]:
    """All that must not happen because of a row.

    Args:
        saved: What is read, in all ways.
        loads: Whether it may be loaded.
    """
    wrong: list[str] = []
    modules = set(sys.modules)
    with saved.allowed() as opened:
        for number, call in enumerate((*saved.loads, *saved.looks)):
            try:
                error = await error_of(call)
            except Exception as error:
                wrong.append(f"{type(error).__name__} in call {number}: {error}"[:200])
            else:
                if error is None and number < len(saved.loads) and not loads:
                    wrong.append(f"loaded in call {number}")
    wrong += sorted(opened - saved.opened)
    wrong += sorted(set(sys.modules) - modules)
    return wrong


async def told(lies: Lies, saved: Saved) -> AsyncGenerator[Any]:
    """Write one lie after the other that the database takes, and the digest that hides it."""
    is_it = node_table.c.node_id == saved.node_ids[lies.label]
    column = node_table.c[lies.column]
    before = await current_database().read(
        lambda connection: connection.scalar(select(column).where(is_it))
    )
    taken = 0
    for value in lies.values:
        with suppress(DatabaseError, IntegrityError):  # what it refuses is no danger
            await execute(update(node_table).where(is_it).values({column: value}))
            taken += 1
            with suppress(ArtigraphError):  # what is read is no tree any more
                await forge(saved.root_id)
            yield value
            await execute(update(node_table).where(is_it).values({column: before}))
            await forge(saved.root_id)
    if not taken:
        pytest.skip("the database refuses it")


@asynccontextmanager
async def blob_altered(columns: dict[str, Any]) -> AsyncGenerator[bool]:
    """Something else in the row of the only blob; whether the database takes it."""
    query = select(*(blob_table.c[column] for column in columns))
    before = await current_database().read(lambda connection: connection.execute(query).one())
    try:
        await execute(update(blob_table).values(columns))
    except DatabaseError:
        yield False
        return
    yield True
    await execute(update(blob_table).values(before._asdict()))


async def execute(*statements: Any) -> None:
    def work(connection: Any) -> None:
        for statement in statements:
            connection.execute(statement)

    await current_database().write(work)


async def forge(root_id: UUID) -> None:
    """Make the digest of the tree right again, as somebody would who can write rows."""
    nodes = await current_database().read(lambda each: graph.read_tree(each, root_id).nodes())
    digest = digest_of(nodes)
    is_root = node_table.c.node_id == root_id
    await execute(update(node_table).where(is_root).values(artifact_tree_digest=digest))


_watching: list[set[str]] = []
_EVENTS = ("open", "os.", "shutil.", "socket.connect", "subprocess.", "exec", "compile", "import")


@contextmanager
def watched(opened: set[str] | None = None) -> Iterator[set[str]]:
    """What the interpreter reports of files, connections, modules and code, in all threads."""
    if not _watching:
        sys.addaudithook(_watch)  # for the life of the process: there is no way to remove one
        _watching.append(set())
    seen: set[str] = set() if opened is None else opened
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if len(_watching) > 1 and event.startswith(_EVENTS):
        what = arguments[1:2] if event == "socket.connect" else arguments[:1]
        _watching[-1].add(f"{event} {what}")
