"""From prepared rows to committed trees: intents, then data, then one transaction for all rows."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Connection

from artigraph import blobs, graph
from artigraph.blobs import Blob
from artigraph.engine import Database
from artigraph.errors import DatabaseError, StorageError
from artigraph.graph import Row
from artigraph.transfer import Transfer, new_blob, write_blobs
from artigraph.tree import Tree

Chunks: TypeAlias = Callable[[], Iterable[Sequence[Row]]]
"""Gives rows from the first on, each time that it is called; all of a tree together."""


class Written(NamedTuple):
    """Blobs whose data is in its storages, for the nodes that are to name them."""

    blob_ids: Sequence[UUID] = ()
    measured: Sequence[Blob] = ()
    """Those that were streamed, with what was written."""


async def write_data(database: Database, trees: Sequence[Tree]) -> Written:
    """Write the data of trees; nobody sees it before `write_rows` has published it.

    Raises:
        ArtigraphError: A storage refused, or a value can't be kept.
    """
    transfers = [transfer for tree in trees for transfer in tree.transfers]
    written = await _write_data(database, transfers) if transfers else Written()
    named = {blob_id for tree in trees for blob_id in tree.blob_ids}
    return written._replace(blob_ids=[*written.blob_ids, *named.difference(written.blob_ids)])


async def write_rows(database: Database, chunks: Chunks, written: Written) -> None:
    """Write rows of whole sealed trees, all or none, and publish their data.

    Raises:
        IntegrityError: The database refused a row; no row is there.
        ArtigraphError: Something else was in the way; no row is there.
        SaveOutcomeUnknownError: The connection broke during the commit, and it can't be looked up.
    """
    given = iter(chunks())
    rows = next(given)
    is_all = not written.blob_ids and next(given, None) is None

    def were_saved(connection: Connection) -> bool:
        # All trees are written by one transaction: the first stands for all.
        digest = graph.find_digest(connection, rows[0]["node_id"])
        return digest == rows[0]["artifact_tree_digest"]

    def write(connection: Connection) -> None:
        if written.blob_ids:
            blobs.publish(connection, *written)
        for chunk in chunks():
            graph.insert_artifacts(connection, chunk)

    statement_rows = len(rows) if is_all else 0
    await database.write_once(write, were_saved, statement_rows=statement_rows)


async def _write_data(database: Database, transfers: Sequence[Transfer]) -> Written:
    """Write data where it is not there already."""
    planned = _planned(transfers, is_shared=database.shares_data)
    new = [blob for blob, _ in planned]
    now = transfers[0].row["node_created_at"]
    held: Mapping[UUID, Blob] = {}

    def record(connection: Connection) -> None:
        nonlocal held
        held = blobs.hold_equal(connection, new) if database.shares_data else {}
        blobs.insert_intents(connection, [blob for blob in new if blob.blob_id not in held], now)

    def were_recorded(connection: Connection) -> bool:
        # All are recorded by one transaction: the first stands for all. Where everything is held
        # nothing tells, and it can be held again.
        recorded = [blob.blob_id for blob in new if blob.blob_id not in held][:1]
        return bool(recorded) and blobs.are_recorded(connection, recorded)

    await database.write_once(record, were_recorded)
    writes: list[tuple[Transfer, Blob, bool]] = []
    for blob, same in planned:
        used = held.get(blob.blob_id, blob)
        writes.append((same[0], used, used is blob))
        for transfer in same:
            transfer.row["artifact_blob_id"] = used.blob_id
    blob_ids = [used.blob_id for _, used, _ in writes]
    async with leased(database, blob_ids):
        try:
            await write_blobs(writes)
        except StorageError as error:
            # A collection may have removed what was to be finished.
            if await _were_given_up(database, blob_ids):
                raise blobs.lease_expired(database.name) from error
            raise
    measured = [
        blob._replace(size=transfer.row["artifact_size"], sha256=transfer.row["artifact_sha256"])
        for transfer, blob, _ in writes
        if transfer.is_streamed
    ]
    return Written(blob_ids, measured)


def _planned(
    transfers: Sequence[Transfer], *, is_shared: bool
) -> list[tuple[Blob, list[Transfer]]]:
    """A new blob for all data, or, where it is shared, for all different data."""
    if not is_shared:
        return [(new_blob(transfer), [transfer]) for transfer in transfers]
    by_content: dict[tuple[object, ...], list[Transfer]] = {}
    for transfer in transfers:
        # Of a stream the content is known too late to share it.
        known = id(transfer) if transfer.is_streamed else transfer.row["artifact_sha256"]
        content = (transfer.storage_name, transfer.row["artifact_size"], known)
        by_content.setdefault(content, []).append(transfer)
    return [(new_blob(same[0]), same) for same in by_content.values()]


@asynccontextmanager
async def leased(database: Database, blob_ids: Sequence[UUID]) -> AsyncGenerator[None]:
    """Renew the leases of blobs for as long as the block takes."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(blobs.LEASE / 3)
            # Where it fails and the leases run out, publishing finds that out.
            with suppress(DatabaseError):
                await database.write(lambda connection: blobs.renew_leases(connection, blob_ids))

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait({renewing})


async def _were_given_up(database: Database, blob_ids: Sequence[UUID]) -> bool:
    try:
        return not await database.read(lambda connection: blobs.are_kept(connection, blob_ids))
    except DatabaseError:
        return False  # it is not known; the storage's error is
