"""Data too large for one request, sent in parts."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from artigraph.loop import to_the_end
from artigraph.spec import Data
from artigraph_aws.body import Body, hashed
from artigraph_aws.refusals import code_of, given
from artigraph_aws.window import PART, Window

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

MOST_PARTS = 10_000
"""That S3 takes."""

Pull = Callable[[], Awaitable[Body | None]]
"""Gives one part after the other, and None when there are no more."""


class Upload:
    """An object that is not there before all its parts are."""

    def __init__(self, client: "S3Client", target: Mapping[str, Any]) -> None:
        self._client = client
        self._target = target
        self._upload_id: str | None = None
        self._parts: dict[int, CompletedPartTypeDef] = {}
        self.size = 0
        """Of all parts that were pulled, in bytes."""

    @property
    def is_open(self) -> bool:
        """Whether the server has begun it, and neither completed nor aborted it."""
        return self._upload_id is not None

    async def begin(self, metadata: Mapping[str, str]) -> None:
        answer = await self._client.create_multipart_upload(
            **self._target, ChecksumAlgorithm="SHA256", Metadata=metadata
        )
        self._upload_id = given(answer, "UploadId")

    async def send(self, pull: Pull, window: Window) -> None:
        """Send all parts, in the order in which they are pulled."""
        number = 0

        async def pull_numbered() -> "_Numbered | None":
            nonlocal number
            body = await pull()
            if body is None:
                return None
            number += 1
            self.size += len(body)
            return _Numbered(number, body)

        await window.each(pull_numbered, self._send)

    async def complete(self, **condition: Any) -> None:
        """Let the object appear, unless the key does not meet the condition."""
        parts = [part for _, part in sorted(self._parts.items())]
        answer = await self._client.complete_multipart_upload(
            **self._begun, MultipartUpload={"Parts": parts}, **condition
        )
        given(answer, "ETag")
        self._upload_id = None

    async def abort(self, error: BaseException) -> None:
        """Let the server forget it; where it does not, a note at the error says so."""
        try:
            await self._client.abort_multipart_upload(**self._begun)
        except (BotoCoreError, ClientError) as failure:
            error.add_note(f"The upload {self._upload_id} could not be aborted: {failure}")
        self._upload_id = None

    async def _send(self, part: "_Numbered") -> None:
        checksum = part.body.checksum
        answer = await self._client.upload_part(
            **self._begun,
            PartNumber=part.number,
            Body=part.body.for_client,
            ChecksumSHA256=checksum,
        )
        self._parts[part.number] = {
            "PartNumber": part.number,
            "ETag": given(answer, "ETag"),
            "ChecksumSHA256": checksum,
        }

    @property
    def _begun(self) -> dict[str, Any]:
        return {**self._target, "UploadId": self._upload_id}


class _Numbered:
    def __init__(self, number: int, body: Body) -> None:
        self.number = number
        self.body = body

    def __len__(self) -> int:
        return len(self.body)


@asynccontextmanager
async def upload(
    client: "S3Client", target: Mapping[str, Any], metadata: Mapping[str, str]
) -> AsyncGenerator[Upload]:
    """An upload that is aborted unless it is completed in the block.

    Args:
        client: Of the running event loop.
        target: The bucket and the key.
        metadata: Of the object.
    """
    begun = Upload(client, target)
    try:
        # Also a cancellation on the way: by the time it arrives the server has begun it.
        await to_the_end(begun.begin(metadata))
        yield begun
    except BaseException as error:
        if begun.is_open:
            await to_the_end(begun.abort(error))
        raise


def cut(data: Data) -> Pull:
    """The parts of data that is in memory, where they lie."""
    whole = memoryview(data)
    size = max(PART, -(-len(whole) // MOST_PARTS))
    starts = iter(range(0, len(whole), size))

    async def pull() -> Body | None:
        start = next(starts, None)
        return None if start is None else await hashed(whole[start : start + size])

    return pull


def after(early: Iterable[Body], pull: Pull) -> Pull:
    """Parts that were pulled already, and then all others."""
    waiting = deque(early)

    async def pull_all() -> Body | None:
        return waiting.popleft() if waiting else await pull()

    return pull_all


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
