"""Removing data from storages that no artifact names.

In two phases: a blob is given up, by a committed row, and after a grace its data is removed, and
then its row. What a collection works on are our own rows; no storage is listed, since others may
share it. Any number of collections may run at once, and beside any saves and loads.
"""

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from artigraph import blobs
from artigraph.blobs import Condemned
from artigraph.database import current_database
from artigraph.engine import Database
from artigraph.errors import (
    ArtifactLoadError,
    CorruptRowError,
    StorageError,
    UnsupportedValueError,
    shown,
)
from artigraph.spec import check_location
from artigraph.transfer import MAX_TRANSFERS, get_blob_storage, in_words

T = TypeVar("T")

GRACE: Final = 3600.0
"""How long what was given up is kept by default, in seconds."""

_FOR_EVER: Final = 100 * 365 * 86_400.0
"""In seconds: longer than all data has been there, and within what databases reckon with."""

_PAGE: Final = 1_000


@dataclass
class Collected:
    """What a collection did, or would do."""

    abandoned: int = 0
    """Blobs given up now whose writers have died."""
    unused: int = 0
    """Blobs given up now that no node names any more."""
    removed: int = 0
    """Objects that were removed from their storages."""
    removed_size: int = 0
    """Of these, in bytes."""
    waiting: int = 0
    """Blobs that are given up and not forgotten yet: their data is kept for the grace, or could not
    be removed, or might still be written by one who stalls."""
    failures: list[str] = field(default_factory=list[str])
    """Why some data could not be removed, which is tried again the next time: one line for each
    storage and reason, with the number of objects and the location of one of them."""


async def collect(*, grace: float = GRACE, dry_run: bool = False) -> Collected:
    """Give up what no artifact names, and remove the data of what was given up before.

    Interrupted at any moment it goes on the next time.

    Args:
        grace: How long ago data has to be given up to be removed, in seconds; with
            `float("inf")` none is. After a loss of power, databases that are set to answer before
            a commit is durable may go back by some seconds: 0 is for those that are not.
        dry_run: Only count.

    Raises:
        DatabaseError: The database refused.
    """
    if math.isnan(grace):
        raise UnsupportedValueError(
            "collect(grace=...)", "nan", "Pass seconds, such as 3600.", "is no time"
        )
    database = current_database()
    report = Collected()
    grace = min(grace, _FOR_EVER)
    if dry_run:
        await _count(database, grace, report)
        return report
    report.abandoned = await _write(database, blobs.condemn_abandoned)
    after = _FIRST
    while page := await _unused(database, after):
        after = page[-1]
        report.unused += await _write(
            database, lambda connection, page=page: blobs.condemn_unused(connection, page)
        )
    after = _FIRST
    failures = _Failures()
    while condemned := await _condemned(database, after, grace):
        after = condemned[-1].blob_id
        await _remove(database, condemned, report, failures)
    report.failures = failures.lines()
    report.waiting = await _waiting(database)
    return report


_FIRST: Final = UUID(int=0)


async def _unused(database: Database, after: UUID) -> list[UUID]:
    return await database.read(lambda connection: blobs.read_unused(connection, after, _PAGE))


async def _condemned(database: Database, after: UUID, grace: float) -> list[Condemned]:
    return await database.read(
        lambda connection: blobs.read_condemned(connection, after, _PAGE, grace=grace)
    )


async def _remove(
    database: Database, condemned: Sequence[Condemned], report: Collected, failures: "_Failures"
) -> None:
    """Remove the data of a page of blobs, and then the rows of those that are gone."""
    turns = asyncio.Semaphore(MAX_TRANSFERS)

    async def remove(blob: Condemned) -> bool:
        async with turns:
            try:
                await _remove_data(database, blob)
            except Exception as error:  # a stranger's storage may raise anything
                failures.add(blob, error)
                return False
        return True

    gone = await asyncio.gather(*map(remove, condemned))
    removed = [blob for blob, is_gone in zip(condemned, gone, strict=True) if is_gone]
    if not removed:
        return
    forgotten = await _write(
        database, lambda connection: blobs.forget(connection, [blob.blob_id for blob in removed])
    )
    report.removed += forgotten.number
    report.removed_size += forgotten.size


async def _remove_data(database: Database, blob: Condemned) -> None:
    columns: list[object] = [blob.location, blob.storage]
    if not all(isinstance(value, str) for value in columns):  # SQLite has any type in any column
        raise CorruptRowError(f"blob {blob.blob_id}", _NO_TEXT)
    check_location(blob.location)
    storage = get_blob_storage(blob.storage, "its data", database)
    # A writer that died may have left unfinished data, too.
    remove = storage.discard if blob.state == "abandoned" else storage.delete
    await remove(blob.location)


_NO_TEXT: Final = "its storage or location is no text, and was not looked at."

_MOST_REASONS: Final = 100
"""That are told by themselves: a storage may find another for every object."""


@dataclass
class _Failure:
    """Objects that could not be removed, and why the first could not."""

    storage: str
    location: str
    reason: str
    number: int = 0

    def __str__(self) -> str:
        objects = "1 object" if self.number == 1 else f"{self.number:,} objects"
        example = "at" if self.number == 1 else "such as that at"
        return (
            f"{self.storage}: {objects} could not be removed, {example} {self.location}:"
            f" {self.reason}"
        )


class _Failures:
    """What could not be removed, by storage and reason."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], _Failure] = {}

    def add(self, blob: Condemned, error: Exception) -> None:
        storage, reason = f"storage {shown(blob.storage)}", _reason(error)
        if isinstance(error, StorageError) and error.storage != blob.storage:
            storage += f", which is {shown(error.storage, 300)}"
        key = (storage, type(error).__name__, _unplaced(reason, blob.location))
        if key not in self._found and len(self._found) >= _MOST_REASONS:
            key, storage = (), "storages, for other reasons"
        failure = self._found.setdefault(key, _Failure(storage, shown(blob.location), reason))
        failure.number += 1

    def lines(self) -> list[str]:
        return [str(failure) for failure in self._found.values()]


def _reason(error: Exception) -> str:
    """What an error tells beside the object that it is about."""
    if isinstance(error, StorageError):
        return f"{error.reason}. {error.remedy}".strip()
    return error.reason if isinstance(error, ArtifactLoadError) else in_words(error)


def _unplaced(reason: str, location: str) -> str:
    """A reason as it is for all objects: without the parts of one's location in it."""
    folder, _, name = str(location).partition("/")
    if not name:
        return reason
    # What is unfinished has a name of its own, behind that of the object.
    reason = re.sub(rf"{re.escape(name)}(\.[0-9a-f]{{32}})?", "*", reason)
    return re.sub(rf"/{re.escape(folder)}(?![^/\s'\".])", "/*", reason)


async def _write(database: Database, work: Callable[[Connection], T]) -> T:
    """What `work` gives, which can be done again: where the answer to its commit is lost, it is."""
    results: list[T] = []
    await database.write_once(
        lambda connection: results.append(work(connection)), lambda connection: False
    )
    return results[0]  # of a second time, nothing may be left to do


async def _waiting(database: Database) -> int:
    counts = await database.read(blobs.count)
    return sum(counts[state].number for state in counts if state in ("abandoned", "unused"))


async def _count(database: Database, grace: float, report: Collected) -> None:
    counts = await database.read(
        lambda connection: blobs.count_collectable(connection, grace=grace)
    )
    count = defaultdict(blobs.Count, counts)
    removable = [count["removable"]]
    if grace <= 0:
        removable.append(count["unused"])
    report.abandoned = count["abandoned"].number
    report.unused = count["unused"].number
    report.removed = sum(each.number for each in removable)
    report.removed_size = sum(each.size for each in removable)
    report.waiting = sum(each.number for each in counts.values()) - report.removed
