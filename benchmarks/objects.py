"""S3: one big array, and many small values, against aioboto3 by hand.

By hand is: parts of 16 MiB, sent and fetched by eight tasks; small objects by 32 tasks. The raw
sides keep no row, hash nothing, and decode nothing.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import aioboto3
import numpy as np
from benchmarks.big import array
from benchmarks.measuring import Stage
from benchmarks.places import S3, S3Server
from botocore.config import Config

from artigraph import ArtifactModel, ArtifactSequence, artifact_field, use_database
from artigraph.storage.aws import S3Storage

T = TypeVar("T")

PART = 16 << 20
PARTS_AT_ONCE = 8
SMALL = 10_000
SMALL_AT_ONCE = 32


@dataclass
class Array(ArtifactModel, version=1):
    value: np.ndarray[Any, Any]


def small_arrays(count: int) -> list[np.ndarray[Any, Any]]:
    return [np.frombuffer(os.urandom(SMALL), np.uint8) for _ in range(count)]


async def raw_big(stage: Stage) -> None:
    """Send an array's bytes in parts, fetch them in ranges."""
    data = array(stage.size).tobytes()
    starts = range(0, len(data), PART)
    async with _client(stage) as client:
        at = {"Bucket": _server(stage).bucket, "Key": f"raw/{uuid4()}"}
        async with stage.watched("save"):
            upload = await client.create_multipart_upload(**at)

            async def send(start: int) -> dict[str, Any]:
                number = start // PART + 1
                answer = await client.upload_part(
                    **at,
                    UploadId=upload["UploadId"],
                    PartNumber=number,
                    Body=data[start : start + PART],
                )
                return {"PartNumber": number, "ETag": answer["ETag"]}

            parts = await _all(PARTS_AT_ONCE, map(send, starts))
            await client.complete_multipart_upload(
                **at, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
            )
        async with stage.watched("load", value_bytes=len(data)):
            whole = bytearray(len(data))

            async def fetch(start: int) -> None:
                asked = f"bytes={start}-{start + PART - 1}"
                answer = await client.get_object(**at, Range=asked)
                whole[start : start + PART] = await answer["Body"].read()

            await _all(PARTS_AT_ONCE, map(fetch, starts))
        assert whole == data
        await client.delete_object(**at)


async def big(stage: Stage) -> None:
    """Save an array as the field of a model, load it."""
    value = array(stage.size)
    with use_database(str(stage.url), storage=_storage(stage)):
        await Array(array(1)).save("first use")
        async with stage.watched("save"):
            node_id = await Array(value).save("value")
        async with stage.watched("load", value_bytes=value.nbytes):
            loaded = await Array.load(node_id)
    assert np.array_equal(loaded.value, value)


async def raw_small(stage: Stage) -> None:
    """Put objects, get them."""
    values = [value.tobytes() for value in small_arrays(stage.size)]
    bucket, prefix = _server(stage).bucket, uuid4()
    async with _client(stage) as client:

        async def put(number: int) -> None:
            await client.put_object(Bucket=bucket, Key=f"{prefix}/{number}", Body=values[number])

        async def get(number: int) -> bytes:
            answer = await client.get_object(Bucket=bucket, Key=f"{prefix}/{number}")
            return await answer["Body"].read()

        with stage.timed("save"):
            await _all(SMALL_AT_ONCE, map(put, range(stage.size)))
        with stage.timed("load"):
            loaded = await _all(SMALL_AT_ONCE, map(get, range(stage.size)))
    assert loaded == values


async def small(stage: Stage) -> None:
    """Save as many arrays as a sequence in one model, load it."""
    storage, values = _storage(stage), small_arrays(stage.size)

    @dataclass
    class Many(ArtifactModel, version=1):
        values: ArtifactSequence[np.ndarray[Any, Any]] = artifact_field(storage=storage)

    with use_database(str(stage.url)):
        await Many(ArtifactSequence(values[:1])).save("first use")
        with stage.timed("save"):
            node_id = await Many(ArtifactSequence(values)).save("values")
        with stage.timed("load"):
            loaded = await Many.load(node_id)
    assert all(map(np.array_equal, loaded.values, values))


def _server(stage: Stage) -> S3Server:
    assert isinstance(stage.place, S3)
    return stage.place.server


def _session(server: S3Server) -> aioboto3.Session:
    return aioboto3.Session(
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    )


@asynccontextmanager
async def _client(stage: Stage) -> AsyncGenerator[Any]:
    """A client that has been used before."""
    server = _server(stage)
    config = Config(max_pool_connections=64)
    endpoint = server.endpoint_url
    async with _session(server).client("s3", endpoint_url=endpoint, config=config) as client:
        await client.head_bucket(Bucket=server.bucket)
        yield client


def _storage(stage: Stage) -> S3Storage:
    server = _server(stage)
    return S3Storage(
        server.bucket,
        f"ours/{uuid4()}",
        endpoint_url=server.endpoint_url,
        session=_session(server),
    )


async def _all(at_once: int, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, of which some run at the same time."""
    turns = asyncio.Semaphore(at_once)

    async def one(each: Coroutine[Any, Any, T]) -> T:
        async with turns:
            return await each

    return await asyncio.gather(*map(one, work))
