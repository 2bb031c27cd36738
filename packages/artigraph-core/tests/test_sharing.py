"""Equal data that is kept once: `set_database(..., share_data=True)`."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from artigraph import (
    ArtifactModel,
    ArtifactSequence,
    DatabaseError,
    Run,
    RunManager,
    StorageError,
    artifact_field,
    blobs,
    check,
    collect,
    delete,
    set_database,
)
from artigraph.database import current_database
from artigraph.dialects import FromNow
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table

LARGE = bytes(range(256)) * 400


@dataclass
class Photo(ArtifactModel, version=1, name="sharing.Photo"):
    pixels: bytes
    others: ArtifactSequence[bytes] = field(default_factory=ArtifactSequence)


@pytest.fixture
def files(database_url: str, tmp_path: Path) -> Callable[[], list[Path]]:
    """The files of the storage of a database that shares its data."""
    folder = tmp_path / "files"
    set_database(database_url, storage=FileSystem(folder), share_data=True)
    return lambda: sorted(folder.glob("??/*"))


async def expire_leases() -> None:
    """As if an hour had passed."""
    expire = update(blob_table).values(blob_lease_until=FromNow(-1))
    await current_database().write(lambda connection: connection.execute(expire))


async def test_equal_data_is_kept_once(files: Callable[[], list[Path]]) -> None:
    """By whatever call it is saved, and whatever else is saved with it."""
    ids = [await Photo(LARGE).save(f"{number}") for number in range(3)]
    ids.append(await Photo(LARGE, ArtifactSequence([LARGE, LARGE])).save("four"))
    async with RunManager(Run()) as manager:
        ids += (await manager.save_artifacts({"five": Photo(LARGE), "six": LARGE})).values()

    assert len(files()) == 1
    assert (await Photo.load(ids[3])).others == [LARGE, LARGE]
    assert (await check(deep=True)).findings == []


async def test_other_data_is_not(files: Callable[[], list[Path]], tmp_path: Path) -> None:
    """Nor is equal data in another storage."""
    other = FileSystem(tmp_path / "other")

    @dataclass
    class Elsewhere(ArtifactModel, version=1):
        pixels: bytes = artifact_field(storage=other)

    await Photo(LARGE).save("one")
    await Photo(LARGE[::-1]).save("two")
    await Elsewhere(LARGE).save("three")

    assert len(files()) == 2
    assert len(list((tmp_path / "other").glob("??/*"))) == 1


async def test_by_default_each_has_its_own(database_url: str, tmp_path: Path) -> None:
    """It costs space, and no statement."""
    set_database(database_url, storage=FileSystem(tmp_path / "files"))

    for number in range(2):
        await Photo(LARGE).save(f"{number}")

    assert len(list((tmp_path / "files").glob("??/*"))) == 2


async def test_deleting_one_of_twenty_never_hurts_the_others(
    files: Callable[[], list[Path]],
) -> None:
    """The data goes with the last that names it."""
    ids = [await Photo(LARGE).save(f"{number}") for number in range(20)]
    await expire_leases()

    for number, node_id in enumerate(ids, 1):
        plan = await delete(node_id, dry_run=True)
        await delete(node_id)
        await collect(grace=0)

        assert plan.blobs == int(number == 20)
        assert len(files()) == int(number < 20)
        for other in ids[number:]:
            assert (await Photo.load(other)).pixels == LARGE


async def test_data_that_a_save_counts_on_is_not_given_up(files: Callable[[], list[Path]]) -> None:
    """The last that names it is deleted between the intent and the publication of another."""
    storage = current_database().storage
    assert storage is not None
    first = await Photo(LARGE).save("first")
    await expire_leases()
    exists = storage.exists

    async def delete_first(location: str) -> bool:
        await delete(first)
        await collect(grace=0)
        return await exists(location)

    storage.exists = delete_first  # type: ignore[method-assign]  # the moment in between
    second = await Photo(LARGE).save("second")
    storage.exists = exists  # type: ignore[method-assign]

    assert (await Photo.load(second)).pixels == LARGE
    await delete(second)
    await expire_leases()
    await collect(grace=0)
    assert files() == []


async def test_data_that_is_missing_is_written_again(files: Callable[[], list[Path]]) -> None:
    """A save does not count on what is not there, and mends the others."""
    first = await Photo(LARGE).save("first")
    files()[0].unlink()

    second = await Photo(LARGE).save("second")

    assert (await Photo.load(first)).pixels == (await Photo.load(second)).pixels == LARGE
    assert len(files()) == 1


@contextmanager
def short_leases(seconds: float) -> Iterator[None]:
    before, blobs.LEASE = blobs.LEASE, seconds  # type: ignore[misc]
    try:
        yield
    finally:
        blobs.LEASE = before  # type: ignore[misc]


def race(url: str, folder: str, role: str, turns: int) -> list[tuple[UUID, int]]:
    """Save, delete and collect equal data; what is left at the end is told."""
    set_database(url, storage=FileSystem(folder), share_data=True)

    async def work() -> list[tuple[UUID, int]]:
        kept: list[tuple[UUID, int]] = []
        for turn in range(turns):
            if role == "collect":
                await expire_leases()
                await collect(grace=0)
                continue
            content = turn % 3
            try:
                node_id = await Photo(bytes([content]) * 100_000).save(f"{role} {turn}")
            except (DatabaseError, StorageError):
                continue  # its lease was taken from it, and what it was writing: nothing was saved
            if turn % 4 == 3:
                kept.append((node_id, content))
            else:
                await delete(node_id)
        return kept

    return asyncio.run(work())


def test_savers_deleters_and_collectors_lose_nothing(database_url: str, tmp_path: Path) -> None:
    """In several processes, over three contents, with leases that are made to run out."""
    folder = str(tmp_path / "files")
    set_database(database_url, storage=FileSystem(folder), share_data=True)
    asyncio.run(Photo(LARGE).save("first use"))
    roles = [("one", 24), ("two", 24), ("collect", 24)]

    with get_context("spawn").Pool(len(roles)) as pool:
        left = pool.starmap(race, [(database_url, folder, *role) for role in roles])

    async def look() -> None:
        for node_id, content in (each for some in left for each in some):
            assert (await Photo.load(node_id)).pixels == bytes([content]) * 100_000
        assert (await check(deep=True)).findings == []
        for _ in range(2):
            await expire_leases()
            await collect(grace=0)
        assert (await check(deep=True)).findings == []

    async def count_live() -> int:
        live = select(func.count()).where(blob_table.c.blob_state == "live")
        return await current_database().read(lambda connection: connection.scalar(live)) or 0

    asyncio.run(look())
    # Two that save the same for the first time at the same moment make two.
    assert len(list(Path(folder).glob("??/*"))) == asyncio.run(count_live()) < 12
