"""Rows and data that were altered behind Artigraph's back: told, and never decoded."""

import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, select, text, update

import artigraph
from artigraph import (
    ArtifactLoadError,
    ArtifactMapping,
    ArtifactModel,
    ArtifactSequence,
    BlobMissingError,
    CorruptBlobError,
    CorruptModelError,
    CorruptRowError,
    Run,
    StorageError,
    artifact_field,
    graph,
)
from artigraph.database import current_database
from artigraph.serializer.text import TextSerializer
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table, node_table
from artigraph.tree import digest_of

NODE = node_table.c

on_sqlite = pytest.mark.parametrize(
    "new_database_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)
on_mysql = pytest.mark.parametrize(
    "new_database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)


@dataclass
class Leaf(ArtifactModel, version=1):
    number: int
    text: str = artifact_field(serializer=TextSerializer(), default="some text")


@dataclass
class Root(ArtifactModel, version=1):
    leaf: Leaf
    leaves: ArtifactMapping[str, Leaf]
    large: bytes = b"x" * 100_000


@pytest.fixture
async def saved(database_url: str, tmp_path: Path) -> UUID:
    """The id of a saved tree whose `large` is in a file."""
    artigraph.set_database(database_url, storage=FileSystem(tmp_path / "files"))
    return await Root(Leaf(1), ArtifactMapping(a=Leaf(2), b=Leaf(3))).save("root")


async def execute(*statements: Any) -> None:
    def work(connection: Any) -> None:
        for statement in statements:
            connection.execute(statement)

    await current_database().write(work)


def where(label: str) -> Any:
    return NODE.artifact_label == label


def changed(label: str, **columns: Any) -> Any:
    return update(node_table).where(where(label)).values(**columns)


async def forge(root_id: UUID) -> None:
    """Make the digest right again, as somebody would who can write rows."""
    nodes = await current_database().read(lambda each: graph.read_tree(each, root_id).nodes())
    digest = digest_of(nodes)
    await execute(
        update(node_table).where(NODE.node_id == root_id).values(artifact_tree_digest=digest)
    )


@pytest.mark.parametrize(
    "statement",
    [
        delete(node_table).where(where("text")),
        changed("leaf", artifact_label="other"),
        changed("leaf", artifact_position=7),
        changed("leaf", model_fields='{"number":2}'),
        changed("leaf", model_fields="not JSON"),
        changed("leaf", model_fields="[" * 100_000),
        changed("leaf", model_fields=None),
        changed("leaf", model_name="Root"),
        changed("leaf", model_version=2),
        changed("leaf", model_version=None),
        changed("leaf", node_type="mapping"),
        changed("text", artifact_serializer="bytes"),
        changed("text", artifact_size=3),
        changed("text", artifact_sha256="0" * 64),
        changed("root", artifact_tree_digest="0" * 64),
        changed("root", artifact_tree_digest=None),
        changed("large", artifact_label="text", node_parent_id=None),
    ],
    ids=lambda statement: " ".join(str(statement).split())[:80],
)
async def test_an_altered_row_is_told(saved: UUID, statement: Any) -> None:
    """C4: the digest of the tree holds all of its rows, whatever was done to one of them."""
    await execute(statement)

    with pytest.raises(CorruptModelError, match="artifact"):
        await Root.load(saved)


async def test_an_added_row_is_told(saved: UUID) -> None:
    """C4: also one that could be a field."""
    row = {
        **graph.EMPTY_ARTIFACT,
        "node_id": Run().node_id,
        "node_type": "artifact",
        "node_parent_id": saved,
        "node_created_at": datetime.now(UTC),
        "node_updated_at": datetime.now(UTC),
        "artifact_label": "extra",
        "artifact_tree_id": saved,
    }
    await execute(insert(node_table).values(row))

    with pytest.raises(CorruptModelError, match="rows are not those that were saved"):
        await Root.load(saved)


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        (changed("leaf", model_fields="not JSON"), CorruptRowError, "can't be read"),
        (changed("leaf", model_fields="[" * 100_000), CorruptRowError, "can't be read"),
        (changed("leaf", model_fields="[]"), CorruptRowError, "is no object"),
        (changed("leaf", model_fields='{"$x": 1}'), CorruptRowError, "can't be read"),
        (changed("leaf", model_fields='{"number": {"$enum": 5}}'), CorruptRowError, "can't be"),
        (changed("leaf", model_fields='{"number": {"$enum": ["A", []]}}'), CorruptRowError, "can"),
        (changed("leaf", model_fields='{"number": {"$dict": 5}}'), CorruptRowError, "can't be"),
        (changed("leaf", model_fields='{"number": {"$set": [[]]}}'), CorruptRowError, "can't be"),
        (changed("leaf", model_fields='{"number": {"$path": 5}}'), CorruptRowError, "can't be"),
        (changed("leaf", model_fields=f'{{"number": {"9" * 5000}}}'), CorruptRowError, "can't be"),
        (changed("leaf", model_fields='{"number": NaN}'), CorruptRowError, "can't be read"),
        (changed("leaf", node_parent_id=NODE.node_id), CorruptModelError, "is in none of it"),
        (changed("leaf", model_version=None), CorruptRowError, "version"),
        (changed("leaf", model_name="os.system"), ArtifactLoadError, "no class of this name"),
        (changed("leaf", node_parent_id=None), CorruptModelError, "'leaf' .* is in none of it"),
        (changed("leaf", node_type="artifact"), CorruptModelError, "'text' .* is in none of it"),
        (changed("leaf", node_type="nonsense"), CorruptRowError, "type 'nonsense'"),
        (changed("leaves", model_fields='{"keys":[1]}'), CorruptRowError, "keys"),
        (changed("leaves", model_fields='{"keys":5}'), CorruptRowError, "keys"),
        (changed("leaves", model_fields="{}"), CorruptRowError, "keys"),
        (changed("leaves", model_fields='{"keys":[[],1]}'), CorruptRowError, "keys"),
        (changed("text", artifact_serializer="os.system"), ArtifactLoadError, "is not here"),
        (changed("text", artifact_serializer=None), CorruptRowError, "names no serializer"),
        (changed("text", artifact_data=None), CorruptRowError, "where its data is"),
        (changed("text", artifact_size=-1), CorruptBlobError, "more than its -1 bytes"),
        (changed("text", artifact_size=2**62), CorruptBlobError, "of its 4611686018427387904"),
        (changed("text", artifact_size=None), CorruptRowError, "or how much"),
        (changed("text", artifact_sha256=None), CorruptRowError, "or how much"),
        (changed("text", artifact_sha256="x"), CorruptBlobError, "is altered"),
        (changed("text", artifact_data=b"same text"), CorruptBlobError, "is altered"),
        (changed("text", artifact_data=b"short"), CorruptBlobError, "5 of its 9 bytes"),
    ],
    ids=lambda value: " ".join(str(value).split())[:80],
)
async def test_a_forged_row_is_an_error_of_ours(
    saved: UUID, statement: Any, error: type[Exception], words: str
) -> None:
    """H3: whoever can write the digest too gets no further than a clear error."""
    await execute(statement)
    await forge(saved)

    with pytest.raises(error, match=words):
        await Root.load(saved)


@pytest.mark.parametrize(
    "location",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "ab/../../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "AB/AB000000000000000000000000000000",
        "",
        ".",
    ],
)
async def test_a_location_that_is_none_is_not_touched(saved: UUID, location: str) -> None:
    """H1: it is refused before any path is made of it."""
    await execute(update(blob_table).values(blob_location=location))

    with pytest.raises(CorruptRowError, match=r"Root\.large.*not a location that Artigraph makes"):
        await Root.load(saved)


async def test_an_unknown_storage_is_not_made(saved: UUID) -> None:
    """H2: a row can't choose where is read."""
    await execute(update(blob_table).values(blob_storage="file:/etc"))

    with pytest.raises(ArtifactLoadError, match="no storage is registered as 'file:/etc'"):
        await Root.load(saved)


@pytest.mark.parametrize("state", ["pending", "deleting", "nonsense"])
async def test_a_blob_that_is_not_live_is_not_read(saved: UUID, state: str) -> None:
    """It may be about to go."""
    await execute(update(blob_table).values(blob_state=state))

    with pytest.raises(CorruptRowError, match="is not a live one"):
        await Root.load(saved)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[50_000] ^= 1
    file.write_bytes(data)


def replace_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_a_link(file: Path) -> None:
    file.rename(file.with_suffix(".moved"))
    file.symlink_to(file.with_suffix(".moved"))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (flip, CorruptBlobError, "is altered"),
        (lambda file: file.write_bytes(b""), CorruptBlobError, "has 0 of its 100000 bytes"),
        (
            lambda file: file.write_bytes(b"x" * 100_001),
            CorruptBlobError,
            "has more than its 100000",
        ),
        (Path.unlink, BlobMissingError, "has nothing at"),
        (replace_by_a_folder, StorageError, "can't"),
        (replace_by_a_link, StorageError, "can't"),
    ],
    ids=["flipped", "emptied", "longer", "removed", "a folder", "a link"],
)
async def test_damaged_data_is_told(
    saved: UUID,
    tmp_path: Path,
    damage: Callable[[Path], None],
    error: type[Exception],
    words: str,
) -> None:
    """C1, C3: with the field, and what is wrong with it."""
    (file,) = [file for file in (tmp_path / "files").rglob("*") if file.is_file()]
    damage(file)

    with pytest.raises(error, match=words) as caught:
        await Root.load(saved)
    assert "Root.large" in "".join(traceback.format_exception_only(caught.value))


@on_sqlite
@pytest.mark.parametrize(
    "assignment",
    [
        "artifact_data = 'same text'",
        "artifact_size = 'long'",
        "artifact_sha256 = X'00'",
        "artifact_serializer = X'00'",
        "artifact_blob_id = X'0102'",
        "model_fields = X'7B7D'",
        "model_version = 'first'",
    ],
)
async def test_a_value_of_another_type_is_told(saved: UUID, assignment: str) -> None:
    """H3: SQLite keeps any value in any column; with its foreign keys off any reference too."""
    url = current_database().name.replace("+aiosqlite", "")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        label = "leaf" if assignment.startswith("model") else "text"
        connection.execute(
            f"UPDATE artigraph_node SET {assignment} WHERE artifact_label = ?", [label]
        )
        connection.commit()

    with pytest.raises((CorruptModelError, CorruptRowError, CorruptBlobError)):
        await Root.load(saved)


@on_mysql
async def test_a_label_that_is_no_text_is_told(saved: UUID) -> None:
    """Labels are bytes there, so that they compare as such."""
    await execute(text("UPDATE artigraph_node SET artifact_label = X'FF' WHERE artifact_size = 9"))

    with pytest.raises(CorruptRowError, match=str(saved)):
        await Root.load(saved)


async def test_swapped_data_is_told(saved: UUID) -> None:
    """C3: it is intact, and not that of which the row has the digest."""
    other_id = await Root(Leaf(1), ArtifactMapping(), large=b"y" * 100_000).save("other")
    theirs = select(NODE.artifact_blob_id).where(NODE.artifact_tree_id == other_id, where("large"))
    blob_id = await current_database().read(lambda connection: connection.scalar(theirs))
    await execute(changed("large", artifact_blob_id=blob_id))

    with pytest.raises(CorruptBlobError, match=r"Root\.large.*is altered"):
        await Root.load(saved)


async def test_a_place_far_down_is_named(database_url: str, tmp_path: Path) -> None:
    """Also three thousand sequences down, and in a message of ordinary length."""
    artigraph.set_database(database_url, storage=FileSystem(tmp_path / "files"))
    value: Any = b"x" * 100_000
    for _ in range(3_000):
        value = ArtifactSequence([value])
    async with artigraph.RunManager(Run()) as manager:
        await manager.save_artifact("deep", value)
    await execute(update(blob_table).values(blob_state="deleting"))

    with pytest.raises(CorruptRowError, match=r"'deep' .*\[0\].*not a live one") as caught:
        await manager.load_artifact("deep")

    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("run_attributes", "not JSON"),
        ("run_attributes", '{"a": {"$x": 1}}'),
        ("run_attributes", "[" * 100_000),
        *(("run_attributes", each) for each in ("", "[]", "null", "5", '"a"', '{"$tuple": []}')),
        ("run_status", "done"),
    ],
)
async def test_an_altered_run_is_told(database_url: str, column: str, value: str) -> None:
    """By its id, by itself and among those below another; nothing of the value is in the text."""
    artigraph.set_database(database_url)
    async with artigraph.RunManager(Run()) as outer, artigraph.RunManager(Run()) as manager:
        pass
    run_id = manager.run.node_id
    await execute(update(node_table).where(NODE.node_id == run_id).values({column: value}))

    for loading in (Run.load(run_id), outer.load_descendant_runs()):
        with pytest.raises(CorruptRowError, match=str(run_id)):
            await loading


@on_sqlite
@pytest.mark.parametrize("column", ["run_label", "run_error_type", "run_error_message"])
async def test_a_text_of_a_run_that_is_none_is_told(database_url: str, column: str) -> None:
    """SQLite keeps anything in any column."""
    artigraph.set_database(database_url)
    async with artigraph.RunManager(Run()) as manager:
        pass
    await execute(text(f"UPDATE artigraph_node SET {column} = X'00'"))

    with pytest.raises(CorruptRowError, match=rf"{manager.run.node_id}.*{column}.*bytes"):
        await Run.load(manager.run.node_id)


@on_sqlite
async def test_a_time_that_is_none_is_told(database_url: str) -> None:
    """SQLite has no type for it."""
    artigraph.set_database(database_url)
    async with artigraph.RunManager(Run()) as manager:
        pass
    await execute(text("UPDATE artigraph_node SET run_started_at = 'yesterday'"))

    with pytest.raises(CorruptRowError, match=str(manager.run.node_id)):
        await Run.load(manager.run.node_id)


async def test_runs_in_a_circle_end(database_url: str) -> None:
    """C4: each is below the other, and is listed once."""
    artigraph.set_database(database_url)
    async with artigraph.RunManager(Run()) as outer:
        async with artigraph.RunManager(Run()) as inner:
            await inner.save_artifact("x", 1)
    ids = {outer.run.node_id, inner.run.node_id}
    await execute(
        update(node_table)
        .where(NODE.node_id == outer.run.node_id)
        .values(node_parent_id=inner.run.node_id)
    )

    assert {run.node_id for run in await outer.load_descendant_runs()} == ids
    assert set(await inner.load_descendant_artifacts()) == ids
