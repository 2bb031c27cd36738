"""Checks: all damage is found and named, nothing else is, and what has a copy is mended."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from observing import statements
from sqlalchemy import delete, select, text, update

import artigraph
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    NodeNotFoundError,
    Run,
    RunManager,
    StorageError,
    artifact_field,
    set_database,
)
from artigraph.checking import Checked, Finding
from artigraph.database import current_database
from artigraph.ids import new_id
from artigraph.serializer.text import TextSerializer
from artigraph.spec import Data
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table, node_table
from artigraph.testing.process import in_fresh_process

NODE = node_table.c
BLOB = blob_table.c
SIZE = 70_000
"""Of a picture: too large for a row, in a database with a storage."""

numbers = count()

on_sqlite = pytest.mark.parametrize(
    "new_database_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)
on_mysql = pytest.mark.parametrize(
    "new_database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)


@dataclass
class Page(ArtifactModel, version=1, name="checking.Page"):
    number: int
    text: str = artifact_field(serializer=TextSerializer(), default="some text")


@dataclass
class Album(ArtifactModel, version=1, name="checking.Album"):
    cover: bytes
    pages: ArtifactMapping[str, Page]


@dataclass
class Chain(ArtifactModel, version=1, name="checking.Chain"):
    text: str = artifact_field(serializer=TextSerializer(), default="some text")
    next: "Chain | None" = None


def picture() -> bytes:
    """Data like no other's."""
    return next(numbers).to_bytes(4) * (SIZE // 4)


def album() -> Album:
    """Three values with data of their own: one in a storage, two in rows."""
    return Album(picture(), ArtifactMapping(first=Page(1), second=Page(2)))


IN_ROWS = 2 * len("some text")


class Refusing(FileSystem):
    """A directory that refuses whatever it is asked, once it is told to."""

    error: Exception | None = None

    def refuse(self) -> None:
        if self.error is not None:
            raise self.error

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.refuse()
        return await super().create(data, location=location)

    async def read_up_to(self, location: str, size: int) -> bytes:
        self.refuse()
        return await super().read_up_to(location, size)

    async def exists(self, location: str) -> bool:
        self.refuse()
        return await super().exists(location)


class Counting(FileSystem):
    """A directory that knows how much was read at once."""

    reading = 0
    most = 0

    async def read_up_to(self, location: str, size: int) -> bytes:
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            return await super().read_up_to(location, size)
        finally:
            self.reading -= 1


@pytest.fixture
def files(database_url: str, tmp_path: Path) -> Path:
    """The directory of the large values of the database."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    return tmp_path / "files"


# What is looked at


@pytest.mark.usefixtures("files")
async def test_what_is_intact_has_no_findings() -> None:
    """A deep check reads what is in storages too; both tell what they have looked at."""
    for _ in range(3):
        await album().save("album")
    await Chain().save("chain")

    in_rows = 3 * IN_ROWS + len("some text")
    assert await artigraph.check() == Checked(artifacts=4, parts=10, size=in_rows)
    deep = await artigraph.check(deep=True)
    assert deep == Checked(artifacts=4, parts=10, size=in_rows + 3 * SIZE)


async def test_an_empty_database_is_intact(database_url: str) -> None:
    """It has nothing to look at, and needs no storage."""
    set_database(database_url)

    assert await artigraph.check(deep=True) == Checked()


async def test_a_run_is_checked_with_the_runs_below_it(files: Path) -> None:
    """And nothing beside it."""
    async with RunManager(Run()) as outer:
        await outer.save_artifact("album", album())
        async with RunManager(Run()) as inner:
            await inner.save_artifact("album", album())
            async with RunManager(Run()) as innermost:
                await innermost.save_artifact("album", album())
    async with RunManager(Run()) as other:
        await other.save_artifact("album", album())
    await album().save("root")
    for path in pictures(files):
        path.unlink()

    checked = [await artigraph.check(run.run.node_id) for run in (outer, inner, innermost, other)]

    assert [each.artifacts for each in checked] == [3, 2, 1, 1]
    assert [len(each.findings) for each in checked] == [3, 2, 1, 1]
    assert await artigraph.check(f"{outer.run.node_id}") == checked[0]
    assert (await artigraph.check()).artifacts == 5


@pytest.mark.usefixtures("files")
async def test_a_run_is_checked_with_what_is_below_its_artifacts() -> None:
    """The same as a deletion of the run would take."""
    async with RunManager(Run()) as manager:
        top = await manager.save_artifact("top", Page(1))
        await Page(2).save("below", top)

    checked = await artigraph.check(manager.run.node_id)

    deleted = await artigraph.delete(manager.run.node_id)
    assert checked.artifacts == deleted.artifacts == 2


@pytest.mark.usefixtures("files")
async def test_only_a_run_can_be_checked_by_its_id() -> None:
    """The error says that there is no such run."""
    album_id = await album().save("album")

    for unknown in (album_id, new_id(), "nonsense"):
        with pytest.raises(NodeNotFoundError, match=f"no run .*{unknown}"):
            await artigraph.check(unknown)


async def test_a_storage_is_checked_by_its_name(files: Path, tmp_path: Path) -> None:
    """As rows have it: `default` is the database's own. Rows are looked at in any case."""
    lake = FileSystem(tmp_path / "lake", name="lake").register()

    @dataclass
    class InLake(ArtifactModel, version=1, name="checking.InLake"):
        data: bytes = artifact_field(storage=lake)

    in_lake_id = await InLake(bytes(5)).save("in the lake")
    album_id = await album().save("album")
    for path in (*pictures(files), *pictures(lake.directory)):
        path.unlink()

    by_storage = {
        name: await artigraph.check(storage=name) for name in ("lake", "default", "other", None)
    }

    found = {
        name: [each.artifact_id for each in checked.findings]
        for name, checked in by_storage.items()
    }
    assert found["lake"] == [in_lake_id]
    assert found["default"] == [album_id]
    assert found["other"] == []
    assert sorted(found[None]) == sorted([in_lake_id, album_id])
    assert [each.parts for each in by_storage.values()] == [1, 1, 0, 4]
    assert {each.artifacts for each in by_storage.values()} == {2}


def test_a_check_needs_neither_the_classes_nor_their_serializers(
    database_url: str, tmp_path: Path
) -> None:
    """Nothing is decoded: another program can do it, on a machine with nothing but the core."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    asyncio.run(save_albums(2))
    program = """
import asyncio, sys
import artigraph

artigraph.set_database(sys.argv[1], storage=f"file:{sys.argv[2]}")
print(asyncio.run(artigraph.check(deep=True)))
"""

    told = in_fresh_process(program, database_url, f"{tmp_path / 'files'}").decode()

    expected = Checked(artifacts=2, parts=6, size=2 * (IN_ROWS + SIZE))
    assert told.strip() == f"{expected}"


# Damage to data


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_a_link(file: Path) -> None:
    file.rename(file.with_suffix(".moved"))
    file.symlink_to(file.with_suffix(".moved"))


def replace_by_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("damage", "expected", "words"),
    [
        (Path.unlink, "missing", "has nothing at"),
        (shorten, "truncated", f"{SIZE - 1} of its {SIZE} bytes"),
        (empty, "truncated", f"0 of its {SIZE} bytes"),
        (lengthen, "altered", f"more than its {SIZE} bytes"),
        (flip, "altered", "SHA-256"),
        (replace_by_a_folder, "unreachable", "Is a directory"),
        (replace_by_a_link, "unreachable", "symbolic links"),
        (replace_by_a_pipe, "unreachable", "Not a regular file"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_damaged_data_is_found_and_named(
    files: Path, damage: Callable[[Path], None], expected: str, words: str
) -> None:
    """C1, C3: with the label of the artifact, the field, its node and what is wrong."""
    await save_albums(2)
    album_id = await album().save("the album")
    (cover,) = await nodes_labelled("cover", album_id)
    damage(files / cover.blob_location)

    checked = await artigraph.check(deep=True)

    (finding,) = checked.findings
    assert finding.damage == expected
    assert (finding.artifact_id, finding.node_id) == (album_id, cover.node_id)
    assert finding.blob_id == cover.artifact_blob_id
    for word in ("'the album'", "checking.Album.cover", f"{album_id}", f"{cover.node_id}", words):
        assert word in finding.message
    assert (checked.artifacts, checked.parts) == (3, 9)
    assert checked.size == 3 * IN_ROWS + 2 * SIZE


async def test_a_check_that_is_not_deep_finds_only_what_is_missing(files: Path) -> None:
    """It opens nothing."""
    labels = ("missing", "truncated", "altered")
    ids = {label: await album().save(label) for label in labels}
    for label, damage in zip(labels, (Path.unlink, shorten, flip), strict=True):
        (cover,) = await nodes_labelled("cover", ids[label])
        damage(files / cover.blob_location)

    checked = await artigraph.check()

    (finding,) = checked.findings
    assert (finding.damage, finding.artifact_id) == ("missing", ids["missing"])
    for word in ("'missing'", "checking.Album.cover", f"{finding.node_id}", "has nothing at"):
        assert word in finding.message


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [(b"some", "truncated", "4 of its 9 bytes"), (b"same text", "altered", "SHA-256")],
)
async def test_damaged_data_in_a_row_is_found(
    deep: bool, data: bytes, expected: str, words: str
) -> None:
    """Also without a deep check. The way to it leads over the mapping that it is in."""
    album_id = await album().save("album")
    part = (await nodes_labelled("text", album_id))[1]
    await execute(update(node_table).where(NODE.node_id == part.node_id).values(artifact_data=data))

    (finding,) = (await artigraph.check(deep=deep)).findings

    assert (finding.damage, finding.node_id) == (expected, part.node_id)
    assert "checking.Album.pages[1].text" in finding.message
    assert words in finding.message


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("columns", "expected", "words"),
    [
        ({"blob_storage": "lake"}, "unreachable", "no storage is registered as 'lake'"),
        ({"blob_state": "unused"}, "rows", "not a live one"),
        ({"blob_location": "../../victim"}, "rows", "not a location that Artigraph makes"),
    ],
    ids=str,
)
async def test_data_that_can_not_be_looked_for_is_told(
    files: Path, tmp_path: Path, deep: bool, columns: dict[str, str], expected: str, words: str
) -> None:
    """H1: with the same words and names as what is damaged; nothing outside is touched."""
    (tmp_path / "victim").write_bytes(bytes(SIZE))
    (files.parent.parent / "victim").write_bytes(bytes(SIZE))
    album_id = await album().save("album")
    await execute(update(blob_table).values(**columns))

    (finding,) = (await artigraph.check(deep=deep)).findings

    assert (finding.damage, finding.artifact_id) == (expected, album_id)
    for word in ("'album'", "checking.Album.cover", f"{finding.node_id}", words):
        assert word in finding.message


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StorageError("lake", "be reached", "it is away"), "it is away"),
        (PermissionError(13, "secret"), "PermissionError"),
        (KeyError("secret"), "KeyError"),
    ],
)
async def test_a_storage_that_refuses_is_told(
    database_url: str, tmp_path: Path, deep: bool, error: Exception, words: str
) -> None:
    """F4: a stranger's may raise anything. The rest is looked at."""
    storage = Refusing(tmp_path / "files")
    set_database(database_url, storage=storage)
    album_id = await album().save("album")
    storage.error = error

    checked = await artigraph.check(deep=deep)

    (finding,) = checked.findings
    assert (finding.damage, finding.artifact_id) == ("unreachable", album_id)
    for word in ("'album'", "checking.Album.cover", f"{finding.node_id}", words):
        assert word in finding.message
    assert "secret" not in finding.message
    assert (checked.artifacts, checked.parts, checked.size) == (1, 3, IN_ROWS)


async def test_a_database_whose_storage_is_not_set_is_told(
    database_url: str, tmp_path: Path
) -> None:
    """Nothing is known of what is there."""
    with artigraph.use_database(database_url, storage=FileSystem(tmp_path / "files")):
        await album().save("album")
        await artigraph.close()
    set_database(database_url)

    (finding,) = (await artigraph.check()).findings

    assert finding.damage == "unreachable"
    assert "set_database(url, storage=...)" in finding.message


# Damage to rows


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("label", "columns"),
    [
        ("pages", {"model_fields": "{}"}),
        ("0", {"model_version": 7}),
        ("cover", {"artifact_serializer": "text"}),
        ("cover", {"artifact_sha256": "0" * 64}),
        ("cover", {"artifact_size": 5}),
        ("album", {"artifact_tree_digest": None}),
        ("pages", {"node_parent_id": None}),
    ],
    ids=str,
)
async def test_altered_rows_are_found(label: str, columns: dict[str, Any]) -> None:
    """C4: by the digest of the artifact that they are in; the others are intact."""
    await save_albums(2)
    album_id = await album().save("album")
    (node,) = await nodes_labelled(label, album_id)
    await execute(update(node_table).where(NODE.node_id == node.node_id).values(**columns))

    checked = await artigraph.check()

    found = {finding.artifact_id for finding in checked.findings if finding.damage == "rows"}
    assert found == {album_id}
    assert {finding.artifact_id for finding in checked.findings} == {album_id}
    assert checked.artifacts == 3


@pytest.mark.usefixtures("files")
async def test_a_row_that_was_deleted_by_hand_is_found() -> None:
    """C4: what is left of the artifact is looked at."""
    album_id = await album().save("album")
    (part, _) = await nodes_labelled("text", album_id)
    await execute(delete(node_table).where(NODE.node_id == part.node_id))

    checked = await artigraph.check(deep=True)

    (finding,) = checked.findings
    assert (finding.damage, finding.artifact_id) == ("rows", album_id)
    assert "'album'" in finding.message
    assert "rows are not those that were saved" in finding.message
    assert (checked.parts, checked.size) == (2, len("some text") + SIZE)


@pytest.mark.usefixtures("files")
async def test_a_root_that_was_deleted_by_hand_is_found() -> None:
    """By the rows that it has left behind."""
    album_id = await album().save("album")
    await execute(
        update(node_table).where(NODE.node_parent_id == album_id).values(node_parent_id=None),
        delete(node_table).where(NODE.node_id == album_id),
    )

    checked = await artigraph.check()

    (finding,) = checked.findings
    assert (finding.damage, finding.artifact_id) == ("rows", album_id)
    assert "the row of its root is missing" in finding.message
    assert checked.artifacts == 1


@pytest.mark.usefixtures("files")
async def test_parents_in_a_circle_are_found() -> None:
    """C4: and don't keep a check from its end."""
    album_id = await album().save("album")
    pages, first = await nodes_labelled("pages", album_id), await nodes_labelled("0", album_id)
    await execute(
        update(node_table)
        .where(NODE.node_id == pages[0].node_id)
        .values(node_parent_id=first[0].node_id)
    )

    (finding,) = (await artigraph.check()).findings

    assert (finding.damage, finding.artifact_id) == ("rows", album_id)


@on_sqlite
@pytest.mark.parametrize(
    "assignment",
    [
        "artifact_size = 'long'",
        "artifact_sha256 = X'00'",
        "artifact_data = 'same text'",
        "artifact_label = X'00'",
        "artifact_serializer = 5",
        "artifact_blob_id = X'0102'",
        "model_fields = X'7B7D'",
        "model_fields = X'FF'",
        "model_version = 'first'",
        "node_parent_id = X'0102'",
        "node_type = 5",
    ],
)
@pytest.mark.parametrize("label", ["text", "cover"])
async def test_a_value_of_another_type_is_found(files: Path, assignment: str, label: str) -> None:
    """SQLite keeps any value in any column: one row is in the way of no other's."""
    await save_albums(2)
    album_id = await album().save("album")
    (node, *_) = await nodes_labelled(label, album_id)
    by_hand(f"UPDATE artigraph_node SET {assignment} WHERE node_id = ?", node.node_id.bytes)

    checked = await artigraph.check(deep=True)

    assert {finding.artifact_id for finding in checked.findings} == {album_id}
    assert all(f"{album_id}" in finding.message for finding in checked.findings)
    assert checked.artifacts == 3


@on_sqlite
@pytest.mark.parametrize("column", ["blob_storage", "blob_location", "blob_state"])
async def test_a_blob_with_a_value_of_another_type_is_found(files: Path, column: str) -> None:
    """It is the same with the rows of blobs."""
    album_id = await album().save("album")
    by_hand(f"UPDATE artigraph_blob SET {column} = ?", b"\0")

    (finding,) = (await artigraph.check()).findings

    assert (finding.damage, finding.artifact_id) == ("rows", album_id)


@on_mysql
@pytest.mark.usefixtures("files")
async def test_a_label_that_is_no_text_is_found() -> None:
    """Labels are bytes there, so that they compare as such."""
    await save_albums(2)
    album_id = await album().save("album")
    (cover,) = await nodes_labelled("cover", album_id)
    await execute(
        text("UPDATE artigraph_node SET artifact_label = X'FF' WHERE node_id = :id").bindparams(
            id=cover.node_id.bytes
        )
    )

    checked = await artigraph.check()

    (finding,) = checked.findings
    assert (finding.damage, finding.artifact_id) == ("rows", album_id)
    assert (checked.artifacts, checked.parts) == (3, 6)


# How much at once


@pytest.mark.usefixtures("files")
async def test_everything_is_read_by_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two statements for each, and one that finds the end; of a run as well."""
    monkeypatch.setattr("artigraph.checking._PAGE", 3)
    async with RunManager(Run()) as manager:
        await manager.save_artifacts({f"{number}": album() for number in range(7)})
    await save_albums(1)

    with statements() as seen:
        checked = await artigraph.check(deep=True)
        assert len(seen) == 2 * 3 + 1
        of_run = await artigraph.check(manager.run.node_id)

    assert (checked.artifacts, checked.parts, checked.findings) == (8, 24, [])
    assert (of_run.artifacts, of_run.parts, of_run.findings) == (7, 21, [])
    assert len(seen) == 2 * 3 + 1 + 1 + 2 * 3 + 1


@pytest.mark.usefixtures("files")
async def test_more_than_a_page_is_checked() -> None:
    """Without any change to how long one is."""
    async with RunManager(Run()) as manager:
        await manager.save_artifacts({f"{number}": Page(number) for number in range(450)})

    checked = await artigraph.check(manager.run.node_id)

    assert (checked.artifacts, checked.parts, checked.findings) == (450, 450, [])


async def test_a_deep_check_has_few_objects_in_memory(database_url: str, tmp_path: Path) -> None:
    """Each may be large."""
    storage = Counting(tmp_path / "files")
    set_database(database_url, storage=storage)
    await save_albums(20)

    assert (await artigraph.check(deep=True)).size == 20 * (IN_ROWS + SIZE)

    assert storage.most <= 4


@pytest.mark.usefixtures("files")
async def test_a_long_way_to_a_value_is_shortened() -> None:
    """Also of thousands of models in each other, and soon."""
    chain = Chain("the last")
    for _ in range(3_000):
        chain = Chain(next=chain)
    await chain.save("chain")
    last = (await nodes_labelled("text"))[-1]
    await execute(update(node_table).where(NODE.node_id == last.node_id).values(artifact_data=b""))

    checked = await artigraph.check()

    (finding,) = checked.findings
    assert (finding.damage, finding.node_id, checked.parts) == ("truncated", last.node_id, 3_001)
    assert "checking.Chain.next.next" in finding.message
    assert "next.text" in finding.message
    assert len(finding.message) < 600


# Beside others


class Deleting(FileSystem):
    """A directory whose data goes as soon as somebody looks for it."""

    album_id: UUID | None = None

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.going = asyncio.Lock()

    async def exists(self, location: str) -> bool:
        await self.go()
        return await super().exists(location)

    async def read_up_to(self, location: str, size: int) -> bytes:
        await self.go()
        return await super().read_up_to(location, size)

    async def go(self) -> None:
        async with self.going:
            album_id, self.album_id = self.album_id, None
            if album_id is not None:
                await artigraph.delete(album_id)
                assert (await artigraph.collect(grace=0)).removed == 1


@pytest.mark.parametrize("deep", [False, True])
async def test_what_is_deleted_meanwhile_is_no_finding(
    database_url: str, tmp_path: Path, deep: bool
) -> None:
    """Its data was removed after its rows were read; what is really missing is still found."""
    storage = Deleting(tmp_path / "files")
    set_database(database_url, storage=storage)
    missing_id = await album().save("missing")
    for path in pictures(storage.directory):
        path.unlink()
    storage.album_id = await album().save("deleted")

    checked = await artigraph.check(deep=deep)

    assert [finding.artifact_id for finding in checked.findings] == [missing_id]


@pytest.mark.usefixtures("files")
async def test_a_check_beside_saves_and_deletions_finds_nothing() -> None:
    """It reads every artifact with one statement."""
    checks = [artigraph.check(deep=True) for _ in range(10)]
    ids = [await album().save(f"{number}") for number in range(10)]
    works = [album().save(f"more {number}") for number in range(10)]
    deletions = [artigraph.delete(album_id) for album_id in ids]

    checked, *_ = await asyncio.gather(
        asyncio.gather(*checks), asyncio.gather(*works), asyncio.gather(*deletions)
    )

    assert [each.findings for each in checked] == [[]] * 10


# Repair


@pytest.mark.parametrize("damage", [Path.unlink, shorten, flip, lengthen, empty])
async def test_damaged_data_is_mended_from_an_equal_copy(
    files: Path, damage: Callable[[Path], None]
) -> None:
    """Then it can be loaded again; the copy is as it was."""
    one = album()
    damaged_id, copy_id = await one.save("damaged"), await one.save("copy")
    await save_albums(2)
    (cover,) = await nodes_labelled("cover", damaged_id)
    damage(files / cover.blob_location)
    findings = (await artigraph.check(deep=True)).findings

    assert (await artigraph.repair(findings)).mended == findings

    assert len(findings) == 1
    assert (await artigraph.check(deep=True)).findings == []
    assert await Album.load(damaged_id) == await Album.load(copy_id) == one
    assert len(objects(files)) == 4


async def test_a_copy_may_be_in_another_storage(files: Path, tmp_path: Path) -> None:
    """It is the size and the SHA-256 that count, not who has saved it where, or as what."""
    lake = FileSystem(tmp_path / "lake", name="lake").register()

    @dataclass
    class InLake(ArtifactModel, version=1, name="checking.AlsoInLake"):
        data: bytes = artifact_field(storage=lake)

    one = album()
    await InLake(one.cover).save("copy")
    album_id = await one.save("album")
    for path in pictures(files):
        path.unlink()

    assert len((await artigraph.repair((await artigraph.check()).findings)).mended) == 1

    assert await Album.load(album_id) == one


async def test_without_an_intact_copy_nothing_is_mended(files: Path) -> None:
    """There is none; or it is damaged, too, and would make things no better."""
    one, other = album(), album()
    await one.save("alone")
    await other.save("damaged")
    await other.save("copy, damaged as well")
    for number, path in enumerate(pictures(files)):
        (flip, Path.unlink, shorten)[number](path)
    before = contents(files)
    findings = (await artigraph.check(deep=True)).findings

    assert (await artigraph.repair(findings)).mended == []

    assert len(findings) == 3
    assert contents(files) == before


async def test_of_several_copies_an_intact_one_is_taken(files: Path) -> None:
    """Wherever it stands among them; then it mends all others."""
    one = album()
    ids = [await one.save(f"{number}") for number in range(5)]
    for number, album_id in enumerate(ids):
        (cover,) = await nodes_labelled("cover", album_id)
        if number != 3:
            (flip, Path.unlink, shorten, flip, empty)[number](files / cover.blob_location)
    findings = (await artigraph.check(deep=True)).findings

    assert (await artigraph.repair(findings)).mended == findings

    assert len(findings) == 4
    for album_id in ids:
        assert await Album.load(album_id) == one


@pytest.mark.parametrize("error", [StorageError("lake", "be reached", "away"), KeyError("x")])
async def test_a_storage_that_refuses_stops_no_other_repair(
    files: Path, tmp_path: Path, error: Exception
) -> None:
    """Where it has the copy, and where it would take it; the rest is mended."""
    lake = Refusing(tmp_path / "lake", name="lake").register()

    @dataclass
    class InLake(ArtifactModel, version=1, name="checking.InRefusingLake"):
        data: bytes = artifact_field(storage=lake)

    one, other, third = album(), album(), album()
    for each in (one, other):
        await InLake(each.cover).save("in the lake")
        await each.save("album")
    await third.save("third")
    third_id = await third.save("its copy")
    in_files, in_lake = pictures(files), pictures(lake.directory)
    for path in (in_files[0], in_lake[1], in_files[3]):
        path.unlink()
    findings = (await artigraph.check(deep=True)).findings
    lake.error = error

    repaired = await artigraph.repair(findings)
    mended = repaired.mended

    assert len(findings) == 3
    assert [finding.artifact_id for finding in mended] == [third_id]
    told = str(error) if isinstance(error, StorageError) else "it raised KeyError"
    assert repaired.failures
    assert all(failure.endswith(told) for failure in repaired.failures)
    assert await Album.load(third_id) == third


async def test_what_is_not_known_is_not_mended(files: Path) -> None:
    """Neither rows nor what is out of reach; nor what was damaged by a finding from elsewhere."""
    one = album()
    album_id = await one.save("album")
    await one.save("copy")
    (cover,) = await nodes_labelled("cover", album_id)
    before = contents(files)
    finding = Finding("rows", album_id, cover.node_id, "", cover.artifact_blob_id)
    unknown = Finding("missing", new_id(), new_id(), "", new_id())
    in_row = Finding("altered", album_id, cover.node_id, "", None)

    findings = [finding, replace(finding, damage="unreachable"), unknown, in_row]
    assert (await artigraph.repair(findings)).mended == []
    assert (await artigraph.repair([])).mended == []

    assert contents(files) == before


async def test_what_was_deleted_meanwhile_is_not_mended(files: Path) -> None:
    """Its data does not come back."""
    one = album()
    album_id = await one.save("album")
    copy_id = await one.save("copy")
    for path in pictures(files):
        path.unlink()
        break
    findings = (await artigraph.check()).findings
    for each in (album_id, copy_id):
        await artigraph.delete(each)

    assert (await artigraph.repair(findings)).mended == []

    await artigraph.collect(grace=0)
    assert objects(files) == set()


# The rows, the files, and what is done to them


async def execute(*statements: Any) -> None:
    def work(connection: Any) -> None:
        for statement in statements:
            connection.execute(statement)

    await current_database().write(work)


def by_hand(statement: str, *parameters: object) -> None:
    """As by somebody who opens SQLite's file, which then looks after no foreign keys."""
    url = current_database().name
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute(statement, parameters).rowcount == 1
        connection.commit()


async def nodes_labelled(label: str, tree_id: UUID | None = None) -> list[Any]:
    """Their rows and those of their blobs, in the order in which they were saved."""
    query = (
        select(node_table, BLOB.blob_location)
        .select_from(node_table.outerjoin(blob_table))
        .where(NODE.artifact_label == label)
        .order_by(NODE.node_id)
    )
    if tree_id is not None:
        query = query.where(NODE.artifact_tree_id == tree_id)
    return list(await current_database().read(lambda each: each.execute(query).all()))


async def save_albums(number: int) -> None:
    for _ in range(number):
        await album().save("another")


def objects(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()}


def pictures(directory: Path) -> list[Path]:
    """The files of a directory, in the order in which they were written."""
    return sorted(objects(directory), key=lambda path: path.stat().st_mtime_ns)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in objects(directory)}
