"""What has to be true of a database and its storage whatever has died, and when."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from crashing import Album, Place, Told, album
from servers import wait_until
from sqlalchemy import Connection, make_url, select, text, update
from sqlalchemy import delete as delete_rows

import artigraph
from artigraph import ArtifactQuery, RunQuery, blobs, check, collect, delete, use_database
from artigraph.database import current_database
from artigraph.engine import Database
from artigraph.tables import blob_table, link_table, node_table

_OTHERS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist"
    " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}
"""How many other connections there are."""


class Store:
    """A place, and what is really in it."""

    def __init__(self, place: Place, s3: Any = None) -> None:
        self.place = place
        self._storage = place.storage()  # one, so that there is one client of S3
        self._s3 = s3

    @asynccontextmanager
    async def reopened(self) -> AsyncGenerator[Database]:
        """The database, with nothing of it open before or after the block."""
        share_data = self.place.share_data
        with use_database(self.place.url, storage=self._storage, share_data=share_data):
            try:
                await self._wait_for_the_dead()
                yield current_database()
            finally:
                await artigraph.close()

    async def save(self, label: str, told: Told) -> None:
        """Save from here, which works whoever has died there."""
        told.begun.add(label)
        told.saved[label] = await album(label).save(label)

    async def assert_sound(self, told: Told, *, then_empty: bool = False) -> None:
        """The one invariant: what was acknowledged is there, and of the rest nothing stays.

        Args:
            told: What those who have died had told.
            then_empty: Delete what is there; then nothing is left at all.
        """
        async with self.reopened() as database:
            await self._assert_whole_or_absent(told)
            assert (await check(deep=True)).findings == []
            # The writers are dead: first their leases end, and then the time that a late one has.
            for _ in range(2):
                await expire_leases()
                assert (await collect(grace=0)).failures == []
            assert self.objects() == await live_locations()
            if then_empty:
                await delete(ArtifactQuery(), RunQuery())
                await expire_leases()
                await collect(grace=0)
                assert await database.read(blobs.count) == {}
                assert self.objects() == set()
        self._assert_intact()

    def objects(self) -> set[str]:
        """Everything that is in the storage, finished or not."""
        if self._s3 is None:
            return {str(path.relative_to(self.place.directory)) for path in self.paths()}
        return self._keys("list_objects_v2", "Contents") | self._keys(
            "list_multipart_uploads", "Uploads"
        )

    def paths(self) -> list[Path]:
        """Of all files that are in a directory."""
        return [path for path in Path(self.place.directory).rglob("*") if path.is_file()]

    async def _wait_for_the_dead(self) -> None:
        """Until the servers have ended what they had begun for processes that are no more."""
        if others := _OTHERS.get(make_url(self.place.url).get_backend_name()):
            count = text(others)
            while await current_database().read(lambda connection: connection.scalar(count)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if self._s3 is not None:
            port = make_url(self.place.s3["endpoint_url"]).port
            wait_until(lambda: port not in ports_left(), 10, "S3 has ended its work")

    def _keys(self, operation: str, kind: str) -> set[str]:
        prefix = f"{self.place.s3['prefix']}/"
        pages = self._s3.get_paginator(operation).paginate(
            Bucket=self.place.s3["bucket"], Prefix=prefix
        )
        return {each["Key"].removeprefix(prefix) for page in pages for each in page.get(kind, ())}

    async def _assert_whole_or_absent(self, told: Told) -> None:
        found = await roots()
        for label in told.begun:
            ids = found.pop(label, [])
            if label not in told.deleting:
                most = 1 if label in told.committing else 0
                expected = [[told.saved[label]]] if label in told.saved else [[], ids[:most]]
                assert ids in expected, label
            assert len(ids) == 0 or label not in told.deleted
            for album_id in ids:
                assert await Album.load(album_id) == album(label)
        assert found == {}

    def _assert_intact(self) -> None:
        url = make_url(self.place.url)
        if url.get_backend_name() != "sqlite":
            return
        with closing(sqlite3.connect(url.database or "")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def roots() -> dict[str, list[UUID]]:
    """The ids of everything that is saved, by label."""
    query = select(node_table.c.artifact_label, node_table.c.node_id).where(
        node_table.c.artifact_tree_id == node_table.c.node_id
    )
    found: dict[str, list[UUID]] = {}
    for label, node_id in await current_database().read(lambda each: each.execute(query).all()):
        found.setdefault(label, []).append(node_id)
    return found


async def live_locations() -> set[str]:
    """Of all blobs that there are: each is live, and some node names it."""
    query = select(blob_table.c.blob_id, blob_table.c.blob_location, blob_table.c.blob_state)
    blobs = await current_database().read(lambda each: each.execute(query).all())
    naming = select(node_table.c.artifact_blob_id).where(node_table.c.artifact_blob_id.is_not(None))
    named = set(await current_database().read(lambda each: each.scalars(naming).all()))
    assert {blob_id: state for blob_id, _, state in blobs} == dict.fromkeys(named, "live")
    return {location for _, location, _ in blobs}


async def expire_leases() -> None:
    """Let so much time pass that nobody has a lease any more."""
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    await current_database().write(
        lambda connection: connection.execute(update(blob_table).values(blob_lease_until=long_ago))
    )


def ports_left() -> set[int]:
    """Ports of this machine with connections that the other end has closed, and they have not.

    The other end is that of a process which was killed; here a server is still at work for it. A
    client that has not noticed yet that its server closes what is idle has no such port.
    """
    ports: set[int] = set()
    for table in Path("/proc/net").glob("tcp*"):
        for line in table.read_text().splitlines()[1:]:
            _, here, there, state = line.split()[:4]
            if state == "08":  # CLOSE_WAIT
                ports.add(int(here.rpartition(":")[2], 16))
            elif state in ("04", "05"):  # FIN_WAIT1, FIN_WAIT2
                ports.add(int(there.rpartition(":")[2], 16))
    return ports


def clear(connection: Connection) -> None:
    """Delete all rows, whatever state they are in."""
    connection.execute(delete_rows(link_table))
    connection.execute(update(node_table).values(node_parent_id=None))
    connection.execute(delete_rows(node_table))
    connection.execute(delete_rows(blob_table))
