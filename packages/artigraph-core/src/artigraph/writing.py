"""From prepared rows to a committed tree: intents, then data, then one transaction for all rows."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from sqlalchemy import Connection

from artigraph import blobs, graph
from artigraph.artifact import Transfer, new_blob, write_blobs
from artigraph.blobs import Blob
from artigraph.database import Database
from artigraph.errors import DatabaseError
from artigraph.tree import Tree


async def write_trees(database: Database, trees: Sequence[Tree]) -> None:
    """Write the data and the rows of trees, all or none of the rows.

    Raises:
        IntegrityError: The database refused a row; no row is there.
        ArtigraphError: Something else was in the way; no row is there.
        SaveOutcomeUnknownError: The connection broke during the commit, and it can't be looked up.
    """
    rows = [row for tree in trees for row in tree.rows]
    transfers = [transfer for tree in trees for transfer in tree.transfers]
    first = trees[0]

    def were_saved(connection: Connection) -> bool:
        # All trees are written by one transaction: the first stands for all.
        return graph.find_digest(connection, first.root_id) == first.digest

    if not transfers:
        await database.write_once(
            lambda connection: graph.insert_artifacts(connection, rows), were_saved
        )
        return
    blob_ids = await _write_data(database, transfers)

    def publish(connection: Connection) -> None:
        blobs.publish(connection, blob_ids)
        graph.insert_artifacts(connection, rows)

    await database.write_once(publish, were_saved)


async def _write_data(database: Database, transfers: Sequence[Transfer]) -> list[UUID]:
    """Write data where it is not there already, and return the blobs that the rows name."""
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
    async with _leased(database, blob_ids):
        await write_blobs(writes)
    return blob_ids


def _planned(
    transfers: Sequence[Transfer], *, is_shared: bool
) -> list[tuple[Blob, list[Transfer]]]:
    """A new blob for all data, or, where it is shared, for all different data."""
    if not is_shared:
        return [(new_blob(transfer), [transfer]) for transfer in transfers]
    by_content: dict[tuple[object, ...], list[Transfer]] = {}
    for transfer in transfers:
        content = (transfer.storage_name, len(transfer.data), transfer.row["artifact_sha256"])
        by_content.setdefault(content, []).append(transfer)
    return [(new_blob(same[0]), same) for same in by_content.values()]


@asynccontextmanager
async def _leased(database: Database, blob_ids: Sequence[UUID]) -> AsyncGenerator[None]:
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
