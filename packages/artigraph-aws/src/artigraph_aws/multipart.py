"""Data too large for one request, sent in parts."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from artigraph.loop import to_the_end
from artigraph.spec import Data
from artigraph_aws.refusals import code_of, given

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

PART = 8 * 2**20
"""The size of a part in bytes, unless there would be more than `MOST_PARTS`."""

MOST_PARTS = 10_000
"""That S3 takes."""

IN_FLIGHT = 4
"""How many parts are sent at once; while it is sent, a part is in memory a second time."""


async def upload(
    client: "S3Client",
    target: Mapping[str, Any],
    data: Data,
    *,
    metadata: Mapping[str, str],
    condition: Mapping[str, Any],
) -> None:
    """Put an object at once when all its parts are there, or leave nothing behind.

    Args:
        client: Of the running event loop.
        target: The bucket and the key.
        data: At least one byte.
        metadata: Of the object.
        condition: What the last request demands of the key.
    """
    async with _started(client, target, metadata) as started:
        parts = await _send(client, started, data)
    await to_the_end(_complete(client, started, parts, condition))


async def abort_all(client: "S3Client", target: Mapping[str, Any]) -> None:
    """Abort every upload to a key that was begun and not completed.

    Of a server that can't list uploads it is not known whether there is one: none is aborted.
    """
    for upload_id in await _begun(client, target):
        try:
            await client.abort_multipart_upload(**target, UploadId=upload_id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":  # somebody else has aborted it
                raise


_CAN_NOT_LIST = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405"})


async def _begun(client: "S3Client", target: Mapping[str, Any]) -> list[str]:
    """The ids of the uploads to a key, or none where the server does not list them."""
    pages = client.get_paginator("list_multipart_uploads")
    uploads: list[Mapping[str, Any]] = []
    try:
        async for page in pages.paginate(Bucket=target["Bucket"], Prefix=target["Key"]):
            uploads += page.get("Uploads", ())
    except ClientError as error:
        if code_of(error) not in _CAN_NOT_LIST:
            raise
    return [given(each, "UploadId") for each in uploads if each.get("Key") == target["Key"]]


@asynccontextmanager
async def _started(
    client: "S3Client", target: Mapping[str, Any], metadata: Mapping[str, str]
) -> AsyncGenerator[dict[str, Any]]:
    """An upload that is aborted unless the block comes to its end."""
    started: dict[str, Any] = {}

    async def start() -> None:
        answer = await client.create_multipart_upload(
            **target, ChecksumAlgorithm="SHA256", Metadata=metadata
        )
        started.update(target, UploadId=given(answer, "UploadId"))

    try:
        await to_the_end(start())
        yield started
    except BaseException as error:
        # Also a cancellation on the way: by the time it arrives the server has begun an upload.
        if started:
            await to_the_end(_abort(client, started, error))
        raise


async def _send(
    client: "S3Client", started: Mapping[str, Any], data: Data
) -> "list[CompletedPartTypeDef]":
    whole = memoryview(data)
    size = max(PART, -(-len(whole) // MOST_PARTS))
    free = asyncio.Semaphore(IN_FLIGHT)

    async def send(number: int, start: int) -> "CompletedPartTypeDef":
        async with free:
            part = bytes(whole[start : start + size])
            digest = (await asyncio.to_thread(hashlib.sha256, part)).digest()
            checksum = b64encode(digest).decode()
            answer = await client.upload_part(
                **started, PartNumber=number, Body=part, ChecksumSHA256=checksum
            )
        return {"PartNumber": number, "ETag": given(answer, "ETag"), "ChecksumSHA256": checksum}

    try:
        async with asyncio.TaskGroup() as group:
            starts = range(0, len(whole), size)
            sending = [group.create_task(send(*part)) for part in enumerate(starts, 1)]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in sending]


async def _complete(
    client: "S3Client",
    started: Mapping[str, Any],
    parts: "list[CompletedPartTypeDef]",
    condition: Mapping[str, Any],
) -> None:
    try:
        answer = await client.complete_multipart_upload(
            **started, MultipartUpload={"Parts": parts}, **condition
        )
        given(answer, "ETag")
    except BaseException as error:
        await _abort(client, started, error)
        raise


async def _abort(client: "S3Client", started: Mapping[str, Any], error: BaseException) -> None:
    try:
        await client.abort_multipart_upload(**started)
    except (BotoCoreError, ClientError) as failure:
        error.add_note(f"The upload {started['UploadId']} could not be aborted: {failure}")
