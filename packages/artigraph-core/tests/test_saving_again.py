"""Saves that failed, were cut off or cancelled: saving the same object again stores it once."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from observing import turns_of
from sqlalchemy import make_url, select

import artigraph
from artigraph import (
    ArtifactModel,
    ArtifactSequence,
    ConflictError,
    DatabaseUnavailableError,
    Run,
    RunManager,
    SaveOutcomeUnknownError,
    StorageError,
    UnsupportedValueError,
    collect,
    delete,
    set_database,
    use_database,
)
from artigraph.database import current_database
from artigraph.spec import Data
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table, node_table

on_servers = pytest.mark.parametrize(
    "new_database_url",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
    indirect=True,
)


@dataclass
class Draft(ArtifactModel, version=1, name="saving_again.Draft"):
    text: str


@dataclass
class Album(ArtifactModel, version=1, name="saving_again.Album"):
    pictures: ArtifactSequence[bytes]


@dataclass(frozen=True)
class Frozen(ArtifactModel, version=1, name="saving_again.Frozen"):
    picture: bytes


class Unreliable(FileSystem):
    """A directory on a disk that is full at some moment, and later not."""

    def __init__(self, directory: Path, *, fails_at: int) -> None:
        super().__init__(directory)
        self.fails_at = fails_at
        self.calls = 0

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.calls += 1
        if self.calls == self.fails_at:
            raise StorageError(self.name, "create", "No space left on device")
        return await super().create(data, location=location)


class Watchful(FileSystem):
    """A directory that looks what the database says at each creation."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.seen: list[tuple[list[str], int]] = []

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.seen.append((await blob_states(), len(await saved_ids("album"))))
        return await super().create(data, location=location)


def album(count: int = 5) -> Album:
    return Album(ArtifactSequence(bytes([number]) * 70_000 for number in range(count)))


async def test_intents_come_before_bytes_and_nodes_after(database_url: str, tmp_path: Path) -> None:
    """Whatever dies when: no object is unknown to the database, and no row names a missing one."""
    storage = Watchful(tmp_path / "files")
    set_database(database_url, storage=storage)

    await album().save("album")

    assert storage.seen == [(["pending"] * 5, 0)] * 5
    assert await blob_states() == ["live"] * 5
    assert len(await saved_ids("album")) == 1


@pytest.mark.parametrize("fails_at", [1, 3, 5])
async def test_a_storage_that_fails_leaves_nothing_of_the_save(
    database_url: str, tmp_path: Path, fails_at: int
) -> None:
    """F4: what it had written is pending until it is collected; the next takes new places."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", fails_at=fails_at))
    one = album()

    with pytest.raises(StorageError, match="No space left"):
        await one.save("album")

    assert await saved_ids("album") == []
    assert await blob_states() == ["pending"] * 5
    album_id = await one.save("album")
    assert await Album.load(album_id) == one
    assert await saved_ids("album") == [album_id]
    assert await blob_states() == ["live"] * 5 + ["pending"] * 5


async def test_a_frozen_model_can_be_saved_again(database_url: str, tmp_path: Path) -> None:
    """Nothing is written into the object itself."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", fails_at=1))
    model = Frozen(bytes(70_000))
    with pytest.raises(StorageError):
        await model.save("frozen")

    model_id = await model.save("frozen")

    assert await Frozen.load(model_id) == model
    assert await saved_ids("frozen") == [model_id]


async def test_after_a_success_the_next_save_is_a_new_artifact(database_url: str) -> None:
    """Only an attempt without a good end is remembered."""
    set_database(database_url)
    draft = Draft("one")

    ids = [await draft.save("draft"), await draft.save("draft")]

    assert await saved_ids("draft") == ids


async def test_a_failed_save_is_not_continued_with_other_content(
    database_url: str, tmp_path: Path
) -> None:
    """B1: it may have been saved as it was; with its old content it goes on."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", fails_at=1))
    one = album(1)
    with pytest.raises(StorageError):
        await one.save("album")
    one.pictures.append(b"more")

    with pytest.raises(ConflictError, match="was changed since") as caught:
        await one.save("album")

    assert "Album" in str(caught.value)
    assert "another label" in str(caught.value)
    one.pictures.pop()
    album_id = await one.save("album")
    assert await saved_ids("album") == [album_id]


async def test_another_label_is_another_artifact(database_url: str, tmp_path: Path) -> None:
    """A failed save under the one says nothing about the other, nor does other content matter."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", fails_at=1))
    one = album(1)
    with pytest.raises(StorageError):
        await one.save("album")
    one.pictures.append(b"more")

    other_id = await one.save("another")

    assert await Album.load(other_id) == one
    assert await saved_ids("album") == []


async def test_another_database_is_another_place(
    new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    """What failed in the one is not continued in the other."""
    one = album(1)
    broken = Unreliable(tmp_path / "broken", fails_at=1)
    with use_database(new_database_url(), storage=broken):
        with pytest.raises(StorageError):
            await one.save("album")
        one.pictures.append(b"more")

        with use_database(new_database_url(), storage=FileSystem(tmp_path / "files")):
            assert await Album.load(await one.save("album")) == one


async def test_all_artifacts_of_a_failed_call_can_be_saved_again(
    database_url: str, tmp_path: Path
) -> None:
    """One object under two labels, and what has no identity, included."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", fails_at=3))
    one = album(1)
    artifacts = {"a": one, "b": one, "c": bytes(70_000), "d": 5}
    async with RunManager(Run()) as manager:
        with pytest.raises(StorageError):
            await manager.save_artifacts(artifacts)
        assert await manager.load_artifacts() == {}

        await manager.save_artifacts(artifacts)

        assert await manager.load_artifacts() == artifacts


async def test_the_same_object_twice_is_two_artifacts_again(
    database_url: str, tmp_path: Path
) -> None:
    """An attempt counts for one of them; afterwards the object is saved as any other."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", fails_at=1))
    one = album(1)
    with pytest.raises(StorageError):
        await artigraph.save_many([one, one], labels=["album", "album"])

    ids = await artigraph.save_many([one, one], labels=["album", "album"])
    last_id = await one.save("album")

    assert await saved_ids("album") == [*sorted(ids), last_id]
    assert [await Album.load(node_id) for node_id in (*ids, last_id)] == [one] * 3


async def test_artifacts_stay_in_order_when_they_are_saved_again(
    database_url: str, tmp_path: Path
) -> None:
    """Models do, whether or not they have data, of which some could not be kept at first."""
    set_database(database_url, storage=Unreliable(tmp_path / "files", fails_at=2))
    artifacts = {"a": Draft("a"), "b": album(1), "c": Draft("c"), "d": album(1), "e": Draft("e")}
    async with RunManager(Run()) as manager:
        with pytest.raises(StorageError):
            await manager.save_artifacts(artifacts)
        await manager.save_artifacts(artifacts)

        assert [*(await manager.load_artifacts()).items()] == [*artifacts.items()]


async def test_what_was_saved_after_all_is_known_until_a_save_returns(database_url: str) -> None:
    """One in between that is refused, for something else in it, makes nobody forget."""
    set_database(database_url)
    drafts = {f"{number}": Draft(f"{number}") for number in range(600)}
    async with RunManager(Run()) as manager:
        saving = asyncio.create_task(manager.save_artifacts(drafts))
        while len(asyncio.all_tasks()) < 3:  # noqa: ASYNC110  # until its transaction has one
            await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        before = await manager.load_artifacts()
        with pytest.raises(UnsupportedValueError):
            await manager.save_artifacts({**drafts, "refused": object()})

        ids = await manager.save_artifacts(drafts)

        assert before == drafts
        assert await manager.load_artifacts() == drafts
        assert await Draft.load(ids["599"]) == drafts["599"]
        with pytest.raises(ConflictError):
            await manager.save_artifacts(drafts)


async def test_a_cancelled_save_can_be_repeated(database_url: str, tmp_path: Path) -> None:
    """F12: wherever it was hit, and whether it was saved after all: it is there once."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))
    chance = random.Random(2)
    turns = await turns_of(album().save("first"))

    for number in range(20):
        one = album()
        task = asyncio.create_task(one.save(f"{number}"))
        for _ in range(chance.randrange(turns)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        before = await saved_ids(f"{number}")

        album_id = task.result() if not task.cancelled() else await one.save(f"{number}")

        assert await saved_ids(f"{number}") == [album_id]
        assert before in ([], [album_id])


@on_servers
async def test_a_connection_that_breaks_before_the_commit_is_replaced(database_url: str) -> None:
    """F9: the save begins again over another one, and is there once."""
    async with wire(database_url) as cut:
        cut.at(b"INSERT INTO artigraph_node")

        draft_id = await Draft("one").save("draft")

        assert cut.word is None
        assert await saved_ids("draft") == [draft_id]


@on_servers
@pytest.mark.parametrize("was_saved", [False, True])
async def test_a_commit_without_an_answer_is_looked_up(database_url: str, was_saved: bool) -> None:
    """F9: the save finds out if it was done, and does it where it was not: it is there once."""
    async with wire(database_url) as cut:
        draft = Draft("one")
        cut.at(decisive_word(database_url), after=was_saved)

        draft_id = await draft.save("draft")

        assert cut.word is None
        assert await saved_ids("draft") == [draft_id]
        assert await draft.save("draft") != draft_id


@on_servers
@pytest.mark.parametrize("was_saved", [False, True])
async def test_an_outcome_that_can_not_be_looked_up_is_told(
    database_url: str, was_saved: bool
) -> None:
    """B1, F9: the error says that it is not known; the same object, saved again, is there once."""
    async with wire(database_url) as cut:
        draft = Draft("one")
        cut.at(decisive_word(database_url), after=was_saved, for_good=True)

        with pytest.raises(SaveOutcomeUnknownError, match="Do the same again"):
            await draft.save("draft")

        cut.mend()
        before = await saved_ids("draft")
        assert len(before) == int(was_saved)
        draft_id = await draft.save("draft")
        assert await saved_ids("draft") == [draft_id]
        assert before in ([], [draft_id])
        assert await draft.save("draft") != draft_id


@on_servers
@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("commit", [1, 2])
@pytest.mark.parametrize("was_saved", [False, True])
async def test_a_save_with_blobs_survives_each_lost_commit(
    database_url: str, tmp_path: Path, commit: int, was_saved: bool, for_good: bool
) -> None:
    """F9: that of the intents, and that of the nodes; by itself, or when it is saved again."""
    async with wire(database_url, storage=FileSystem(tmp_path / "files")) as cut:
        one = album(2)
        cut.at(COMMIT, after=was_saved, skip=commit - 1, for_good=for_good)
        if for_good:
            with pytest.raises(SaveOutcomeUnknownError):
                await one.save("album")
            cut.mend()

        album_id = await one.save("album")

        assert await saved_ids("album") == [album_id]
        assert await Album.load(album_id) == one
        assert (await blob_states()).count("live") == 2


@on_servers
async def test_content_that_changed_after_a_lost_answer_is_refused(database_url: str) -> None:
    """What is there is what it was."""
    async with wire(database_url) as cut:
        draft = Draft("one")
        cut.at(decisive_word(database_url), after=True, for_good=True)
        with pytest.raises(SaveOutcomeUnknownError):
            await draft.save("draft")
        cut.mend()
        draft.text = "two"

        with pytest.raises(ConflictError):
            await draft.save("draft")

        (draft_id,) = await saved_ids("draft")
        assert await Draft.load(draft_id) == Draft("one")


@on_servers
async def test_a_refusal_after_a_lost_connection_is_told(database_url: str) -> None:
    """F9: what was lost is not there, and can't be; it is told why, and not that it is unknown."""
    async with wire(database_url) as cut, RunManager(Run()) as manager:
        await manager.save_artifact("taken", Draft("one"))
        cut.at(decisive_word(database_url))

        with pytest.raises(ConflictError, match="taken"):
            await manager.save_artifact("taken", Draft("two"))

        assert cut.word is None
        assert await manager.load_artifacts() == {"taken": Draft("one")}


@on_servers
async def test_a_lost_answer_in_a_run_is_no_conflict(database_url: str) -> None:
    """The label that is taken is taken by the object itself; also beside others in one call."""
    async with wire(database_url) as cut, RunManager(Run()) as manager:
        drafts = {"a": Draft("one"), "b": Draft("two")}
        cut.at(decisive_word(database_url, 2), after=True, for_good=True)
        with pytest.raises(SaveOutcomeUnknownError):
            await manager.save_artifacts(drafts)
        cut.mend()

        ids = await manager.save_artifacts({**drafts, "c": Draft("three")})

        assert list(await manager.load_artifacts()) == ["a", "b", "c"]
        assert await saved_ids("a") == [ids["a"]]


@on_servers
@pytest.mark.parametrize("was_done", [False, True])
@pytest.mark.parametrize("commit", [1, 2])
async def test_a_run_begins_and_ends_once(database_url: str, was_done: bool, commit: int) -> None:
    """F9, F14: where the answer to a commit of its own is lost, it is looked up."""
    async with wire(database_url) as cut:
        cut.at(COMMIT, after=was_done, skip=commit - 1)

        async with RunManager(Run(label="run")) as manager:
            pass

        assert cut.word is None
        assert (await Run.load(manager.run.node_id)).status == "succeeded"


@on_servers
@pytest.mark.parametrize("was_done", [False, True])
async def test_a_deletion_and_its_collection_are_done_once(
    database_url: str, tmp_path: Path, was_done: bool
) -> None:
    """F9: where the answer to a commit of theirs is lost, it is looked up, or done again."""
    files = tmp_path / "files"
    async with wire(database_url, storage=FileSystem(files)) as cut:
        album_id = await album(2).save("album")

        cut.at(COMMIT, after=was_done)
        deleted = await delete(album_id)
        assert cut.word is None
        cut.at(COMMIT, after=was_done, skip=1)
        collected = await collect(grace=0)

        assert cut.word is None
        assert await saved_ids("album") == []
        assert (deleted.blobs, collected.failures, collected.waiting) == (2, [], 0)
        assert not list(files.glob("??/*"))
        assert await blob_states() == []


@on_servers
async def test_a_load_after_a_broken_connection_works(database_url: str) -> None:
    """F8: the broken one is told once, and replaced."""
    async with wire(database_url) as cut:
        draft_id = await Draft("one").save("draft")
        cut.at(b"")
        with suppress(DatabaseUnavailableError):
            await Draft.load(draft_id)

        assert await Draft.load(draft_id) == Draft("one")


COMMIT = rb"COMMIT\b"


def decisive_word(url: str, drafts: int = 1) -> bytes:
    """What commits the save of drafts: PostgreSQL is told the values, and nothing else."""
    if url.startswith("postgresql"):
        return rb'{"text":'
    return rb"INSERT\b" if drafts == 1 else COMMIT


class Cut:
    """Where a wire breaks: at a word from the client, or at the answer to it."""

    def __init__(self) -> None:
        self.word: bytes | None = None
        self.after = False
        self.skip = 0
        self.is_for_good = False
        self.is_broken = False

    def at(
        self, word: bytes, *, after: bool = False, skip: int = 0, for_good: bool = False
    ) -> None:
        self.word, self.after, self.skip, self.is_for_good = word, after, skip, for_good

    def is_at(self, data: bytes) -> bool:
        if self.word is None or not re.search(self.word, data):
            return False
        self.skip -= 1
        if self.skip >= 0:
            return False
        self.word, self.is_broken = None, self.is_for_good
        return True

    def mend(self) -> None:
        self.is_broken = False


@asynccontextmanager
async def wire(url: str, **settings: Any) -> AsyncGenerator[Cut]:
    """The database, made and connected to through a TCP proxy that can break."""
    target = make_url(url)
    cut = Cut()
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        if cut.is_broken:
            to_client.transport.abort()
            return
        from_server, to_server = await asyncio.open_connection(target.host, target.port)
        is_deaf = False

        async def carry_requests() -> None:
            nonlocal is_deaf
            while data := await from_client.read(1 << 20):
                if cut.is_at(data):
                    if not cut.after:
                        return
                    is_deaf = True
                to_server.write(data)

        async def carry_answers() -> None:
            while (data := await from_server.read(1 << 20)) and not is_deaf:
                to_client.write(data)

        carriers = [asyncio.create_task(carry_requests()), asyncio.create_task(carry_answers())]
        await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)
        to_client.transport.abort()
        to_server.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxied = target.set(port=server.sockets[0].getsockname()[1])
    if target.get_backend_name() == "postgresql":
        proxied = proxied.update_query_dict({"ssl": "disable"})
    with use_database(proxied.render_as_string(hide_password=False), **settings):
        assert await saved_ids("nothing") == []  # the first use, which makes the tables
        yield cut
        await artigraph.close()
    server.close()
    await asyncio.gather(*filter(None, serving))


async def saved_ids(label: str) -> list[UUID]:
    """Of the roots with this label, in the order in which they were made."""
    query = select(node_table.c.node_id).where(
        node_table.c.artifact_label == label,
        node_table.c.node_id == node_table.c.artifact_tree_id,
    )
    found = await current_database().read(lambda each: each.scalars(query).all())
    return sorted(found)


async def blob_states() -> list[str]:
    query = select(blob_table.c.blob_state).order_by(blob_table.c.blob_state)
    return list(await current_database().read(lambda each: each.scalars(query).all()))
