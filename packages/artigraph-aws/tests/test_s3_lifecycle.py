"""What becomes of objects in S3: deleted, collected, checked and mended, on a real server."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError
from sqlalchemy import select, update

import artigraph
from artigraph import (
    ArtifactModel,
    ArtifactSequence,
    LeaseExpiredError,
    blobs,
    set_database,
)
from artigraph.collection import Collected
from artigraph.database import current_database
from artigraph.dialects import FromNow
from artigraph.ids import new_id
from artigraph.spec import new_location
from artigraph.tables import blob_table
from artigraph_aws import S3Storage, bucket, multipart

pytestmark = pytest.mark.s3

BLOB = blob_table.c
SIZE = 70_000
"""Of a picture: too large for a row, in a database with a storage."""

IN_PARTS = 16 * 2**20 + 1
"""Bytes that are sent in parts."""


@dataclass
class Album(ArtifactModel, version=1, name="s3_lifecycle.Album"):
    pictures: ArtifactSequence[bytes]


def album(count: int) -> Album:
    return Album(ArtifactSequence(uuid4().bytes * (SIZE // 16) for _ in range(count)))


@dataclass
class Large(ArtifactModel, version=1, name="s3_lifecycle.Large"):
    data: bytes


class Behind:
    """What is in the bucket below the prefix of the test."""

    def __init__(self, s3: Any, storage: S3Storage) -> None:
        self.s3 = s3
        self.bucket = storage.bucket
        self.prefix = f"{storage.prefix}/"

    def objects(self) -> set[str]:
        return self._keys("list_objects_v2", "Contents")

    def uploads(self) -> set[str]:
        """Those that were begun, and neither completed nor aborted."""
        return self._keys("list_multipart_uploads", "Uploads")

    def begin_upload(self, location: str) -> None:
        """Send a part, and die."""
        target = {"Bucket": self.bucket, "Key": self.prefix + location}
        upload_id = self.s3.create_multipart_upload(**target)["UploadId"]
        self.s3.upload_part(**target, UploadId=upload_id, PartNumber=1, Body=b"part")

    def put(self, location: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=self.prefix + location, Body=data)

    def get(self, location: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=self.prefix + location)["Body"].read()

    def remove(self, location: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=self.prefix + location)

    def _keys(self, operation: str, kind: str) -> set[str]:
        pages = self.s3.get_paginator(operation).paginate(Bucket=self.bucket, Prefix=self.prefix)
        found = [each["Key"] for page in pages for each in page.get(kind, ())]
        return {key.removeprefix(self.prefix) for key in found}


@pytest.fixture
def storage(s3_server: Any) -> S3Storage:
    return S3Storage(s3_server.bucket, uuid4().hex)


@pytest.fixture
def behind(s3: Any, storage: S3Storage, database_url: str) -> Behind:
    """What is behind the storage, which is that of the database."""
    set_database(database_url, storage=storage)
    return Behind(s3, storage)


# Collecting


async def test_deleted_data_is_removed_after_the_grace(behind: Behind) -> None:
    """Nothing else is."""
    kept = album(1)
    kept_id = await kept.save("kept")
    await artigraph.delete(await album(3).save("album"))

    assert await artigraph.collect() == Collected(waiting=3)
    assert len(behind.objects()) == 4
    assert await artigraph.collect(grace=0) == Collected(removed=3, removed_size=3 * SIZE)

    assert behind.objects() == await live_locations()
    assert await Album.load(kept_id) == kept


async def test_unfinished_uploads_of_a_dead_writer_are_aborted(behind: Behind) -> None:
    """F11: of what it had not published, and of nothing else; others may upload there too."""
    abandoned = await begin_save()
    await expire("pending")
    pending = await begin_save()
    others = {f"{abandoned}.part", f"{abandoned}/part", f"{abandoned[:-1]}", pending, "ab/theirs"}
    for location in (abandoned, abandoned, *others):
        behind.begin_upload(location)

    collected = await artigraph.collect(grace=0)

    assert (collected.abandoned, collected.failures) == (1, [])
    assert behind.objects() == {pending}
    assert behind.uploads() == others


async def test_a_writer_that_was_killed_leaves_nothing_behind(
    behind: Behind, database_url: str, storage: S3Storage
) -> None:
    """F1: neither what was finished, nor parts that cost money for ever."""
    program = """
from artigraph_aws import S3Storage, multipart

async def stop(*arguments, **options):
    print("reached", flush=True)
    await asyncio.Event().wait()

async def main():
    values = [bytes(70_000), bytes(int(sys.argv[4]))]
    await Album(ArtifactSequence(values)).save("killed")

multipart.Upload.complete = stop
artigraph.set_database(sys.argv[1], storage=S3Storage(sys.argv[2], sys.argv[3]))
asyncio.run(main())
"""
    arguments = (database_url, storage.bucket, storage.prefix, IN_PARTS)
    async with working(program, *arguments) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"reached\n"

    assert await artigraph.collect(grace=0) == Collected()
    assert len(behind.uploads()) == 1
    await expire("pending")
    collected = await artigraph.collect(grace=0)
    assert (collected.abandoned, collected.failures) == (2, [])
    assert (behind.uploads(), behind.objects()) == (set(), set())


@pytest.mark.parametrize("step", ["_send", "complete"])
async def test_a_writer_whose_upload_was_aborted_is_told(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It has begun, or sent all parts, and is late: nothing is saved, and nothing is left."""
    go_on = getattr(multipart.Upload, step)
    reached, opened = asyncio.Event(), asyncio.Event()

    async def stop(*arguments: Any, **options: Any) -> None:
        reached.set()
        await opened.wait()
        await go_on(*arguments, **options)

    monkeypatch.setattr(multipart.Upload, step, stop)
    saving = asyncio.create_task(Large(bytes(IN_PARTS)).save("large"))
    await reached.wait()
    await expire("pending")
    assert (await artigraph.collect(grace=0)).abandoned == 1

    opened.set()

    with pytest.raises(LeaseExpiredError, match="was given up"):
        await saving
    assert (await artigraph.collect(grace=0)).failures == []
    assert (behind.uploads(), behind.objects()) == (set(), set())


async def test_data_that_comes_too_late_is_removed_later(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single request can't be stopped: its object is there after it was removed."""
    put = bucket.Bucket._put
    reached, opened = asyncio.Event(), asyncio.Event()

    async def stop(*arguments: Any, **options: Any) -> None:
        reached.set()
        await opened.wait()
        await put(*arguments, **options)

    monkeypatch.setattr(bucket.Bucket, "_put", stop)
    late = album(1)
    saving = asyncio.create_task(late.save("album"))
    await reached.wait()
    await expire("pending")
    assert await artigraph.collect(grace=0) == Collected(abandoned=1, waiting=1)

    opened.set()

    with pytest.raises(LeaseExpiredError, match="was given up"):
        await saving
    assert len(behind.objects()) == 1
    album_id = await late.save("album")
    await expire("abandoned")
    assert (await artigraph.collect(grace=0)).removed == 1
    assert behind.objects() == await live_locations()
    assert await Album.load(album_id) == late


async def test_several_collections_at_once_do_the_work_once(behind: Behind) -> None:
    """None of them is told that another has aborted an upload first."""
    await artigraph.delete(await album(4).save("album"))
    for _ in range(6):
        behind.begin_upload(await begin_save())
    await expire("pending")

    collected = await asyncio.gather(*(artigraph.collect(grace=0) for _ in range(3)))

    assert [failure for each in collected for failure in each.failures] == []
    assert sum(each.abandoned for each in collected) == 6
    assert sum(each.removed for each in collected) == 4
    assert (behind.uploads(), behind.objects()) == (set(), set())


async def test_an_upload_that_another_has_aborted_is_no_failure(
    behind: Behind, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two collections one is told so by Amazon, and by other servers."""
    behind.begin_upload(await begin_save())
    await expire("pending")
    client = (await storage._bucket.get())._client
    abort = client.abort_multipart_upload

    async def abort_late(**target: Any) -> None:
        await abort(**target)
        raise ClientError({"Error": {"Code": "NoSuchUpload"}}, "AbortMultipartUpload")

    monkeypatch.setattr(client, "abort_multipart_upload", abort_late)

    collected = await artigraph.collect(grace=0)

    assert (collected.abandoned, collected.failures) == (1, [])
    assert (behind.uploads(), behind.objects()) == (set(), set())


async def test_a_server_that_does_not_answer_stops_no_collection(
    behind: Behind, database_url: str, storage: S3Storage
) -> None:
    """F10: it is told, and tried again the next time."""
    await artigraph.delete(await album(2).save("album"))
    away = S3Storage(
        storage.bucket,
        storage.prefix,
        name="away",
        endpoint_url="http://127.0.0.1:9",
        client_options={"config": AioConfig(retries={"total_max_attempts": 1})},
    )
    with artigraph.use_database(database_url, storage=away):
        collected = await artigraph.collect(grace=0)
        await artigraph.close()
    await away.close()

    assert (collected.removed, collected.waiting) == (0, 2)
    (failure,) = collected.failures
    assert "'away': 2 objects could not be removed" in failure
    assert "http://127.0.0.1:9 can't be reached" in failure
    assert (await artigraph.collect(grace=0)).removed == 2
    assert behind.objects() == set()


# Checking


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (None, "missing", "has nothing at"),
        (b"", "truncated", "has 0 of its"),
        (bytes(SIZE - 17), "truncated", "of its"),
        (bytes(SIZE + 1), "altered", "more than its"),
        (bytes(SIZE), "altered", "SHA-256"),
    ],
    ids=["missing", "empty", "shorter", "longer", "other"],
)
async def test_damaged_data_is_found_and_mended(
    behind: Behind, data: bytes | None, expected: str, words: str
) -> None:
    """C1: it is named with its field; an equal copy elsewhere takes its place."""
    one = album(1)
    damaged_id = await one.save("damaged")
    (location,) = await live_locations()
    copy_id = await one.save("copy")
    intact = behind.get(location)
    if data is None:
        behind.remove(location)
    else:
        behind.put(location, data)

    shallow, deep = await artigraph.check(), await artigraph.check(deep=True)

    assert [each.damage for each in shallow.findings] == (["missing"] if data is None else [])
    (finding,) = deep.findings
    assert (finding.damage, finding.artifact_id) == (expected, damaged_id)
    for word in ("'damaged'", "s3_lifecycle.Album.pictures[0]", f"{finding.node_id}", words):
        assert word in finding.message
    assert (await artigraph.repair(deep.findings)).mended == deep.findings
    assert (await artigraph.check(deep=True)).findings == []
    assert behind.get(location) == intact
    for album_id in (damaged_id, copy_id):
        assert await Album.load(album_id) == one


async def test_a_bucket_that_is_not_there_is_told(
    database_url: str, behind: Behind, storage: S3Storage
) -> None:
    """Of the data nothing is known then: neither is it missing, nor is it damaged."""
    album_id = await album(2).save("album")
    elsewhere = S3Storage("no-such-bucket", storage.prefix)

    with artigraph.use_database(database_url, storage=elsewhere):
        findings = [
            *(await artigraph.check()).findings,
            *(await artigraph.check(deep=True)).findings,
        ]
        assert (await artigraph.repair(findings)).mended == []
        await artigraph.close()
    await elsewhere.close()

    assert [finding.damage for finding in findings] == ["unreachable"] * 4
    assert {finding.artifact_id for finding in findings} == {album_id}
    assert all("there is no such bucket" in finding.message for finding in findings)
    assert len(behind.objects()) == 2


# The rows, and others at work


async def live_locations() -> set[str]:
    query = select(BLOB.blob_location).where(BLOB.blob_state == "live")
    return set(await current_database().read(lambda each: each.scalars(query).all()))


async def execute(statement: Any) -> None:
    await current_database().write(lambda connection: connection.execute(statement))


async def begin_save() -> str:
    """Record data and write it, and go no further; return its location."""
    location = new_location()
    data = uuid4().bytes
    intent = blobs.Blob(new_id(), "default", location, len(data), hashlib.sha256(data).hexdigest())
    await current_database().write(
        lambda connection: blobs.insert_intents(connection, [intent], datetime.now(UTC))
    )
    storage = current_database().storage
    assert storage is not None
    return await storage.create(data, location=location)


async def expire(state: str) -> None:
    """Let the leases of blobs run out, by the clock of the database."""
    moment = FromNow(-10 * blobs.LEASE)
    await execute(
        update(blob_table).where(BLOB.blob_state == state).values(blob_lease_until=moment)
    )


PRELUDE = """
import asyncio, sys
from dataclasses import dataclass
import artigraph
from artigraph import ArtifactModel, ArtifactSequence

@dataclass
class Album(ArtifactModel, version=1, name="s3_lifecycle.Album"):
    pictures: ArtifactSequence[bytes]
"""


@asynccontextmanager
async def working(program: str, *arguments: object) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A process that does something until it is killed."""
    command = [sys.executable, "-c", PRELUDE + program, *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
