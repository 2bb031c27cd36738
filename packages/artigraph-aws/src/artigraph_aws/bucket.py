"""The objects of one bucket, over one client: the only module that talks to aioboto3."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.response import StreamingBody
from botocore import UNSIGNED
from botocore.exceptions import ClientError, NoCredentialsError

from artigraph.errors import ArtigraphError, BlobMissingError, StorageError
from artigraph.spec import Data
from artigraph_aws.multipart import abort_all, upload
from artigraph_aws.refusals import BROKEN_OFF, MISSING, REFUSALS, TAKEN, code_of, explain, given

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

SINGLE_PUT = 16 * 2**20
"""Up to this size, in bytes, data is sent in one request."""

DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 30,
    "retries": {"mode": "standard", "total_max_attempts": 4},
    "max_pool_connections": 64,
    # What is sent brings its SHA-256; what is read is verified once, against its row.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

_TRIES = 3
_PIECE = 2**18


async def open_bucket(
    storage: str,
    bucket: str,
    prefix: str,
    session: Any,
    options: Mapping[str, Any],
) -> "Bucket":
    """The bucket, over a new client of the running event loop.

    Raises:
        StorageError: There are no credentials, or the settings are not right.
    """
    stack = AsyncExitStack()
    with _explained(storage, "connect", str(options.get("endpoint_url") or "S3")):
        # Credentials that renew themselves belong to a loop: each client has its own session.
        session = session or aioboto3.Session()
        config = _config(options.get("config"))
        finds_credentials = not options.get("aws_access_key_id")
        if finds_credentials and config.signature_version is not UNSIGNED:
            await _check_credentials(session)
        client = session.client("s3", **{**options, "config": config})
        return Bucket(storage, bucket, prefix, await stack.enter_async_context(client), stack)


class Bucket:
    """What a storage does, in requests to S3. Locations are checked before they come here."""

    def __init__(
        self, storage: str, bucket: str, prefix: str, client: "S3Client", stack: AsyncExitStack
    ) -> None:
        self._storage = storage
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = client
        self._stack = stack
        self._takes_conditions = True

    async def close(self) -> None:
        await self._stack.aclose()

    async def create(self, location: str, data: Data) -> None:
        with self._explained("create", location):
            digest = (await asyncio.to_thread(hashlib.sha256, data)).digest()
            for attempt in range(_TRIES):
                await asyncio.sleep(attempt / 2)
                if await self._put_new(location, data, digest):
                    return
                found = await self._find(location)
                if found == (len(data), digest.hex()):
                    return
                if found is not None:
                    raise self._refusal("create", location, "other data is there")
            raise self._refusal("create", location, "it is being written by something else")

    async def read(self, location: str) -> bytearray:
        with self._explained("read", location):
            for _ in range(_TRIES - 1):
                # The client repeats requests by itself, but not for a body that breaks off.
                with suppress(*BROKEN_OFF):
                    return await self._get(location)
            return await self._get(location)

    async def update(self, location: str, data: Data) -> None:
        if not await self.exists(location):
            raise self._missing(location)
        with self._explained("update", location):
            digest = (await asyncio.to_thread(hashlib.sha256, data)).digest()
            await self._put(location, data, digest)

    async def delete(self, location: str) -> None:
        with self._explained("delete", location):
            try:
                await self._client.delete_object(**self._target(location))
            except ClientError as error:
                if code_of(error) not in MISSING:
                    raise

    async def discard(self, location: str) -> None:
        target = self._target(location)
        with self._explained("discard", location):
            await abort_all(self._client, target)
        await self.delete(location)

    async def exists(self, location: str) -> bool:
        with self._explained("look for", location):
            if await self._find(location) is not None:
                return True
            # An answer to HEAD has no text that tells a missing object from a missing bucket.
            with suppress(BlobMissingError):
                (await self._open(location)).close()
                return True
            return False

    async def _put_new(self, location: str, data: Data, digest: bytes) -> bool:
        """Put an object where there is none; False if there is one, or one is being written."""
        if not self._takes_conditions:
            # The next best: locations are unique, so that nothing appears between the two.
            is_free = await self._find(location) is None
            if is_free:
                await self._put(location, data, digest)
            return is_free
        try:
            await self._put(location, data, digest, IfNoneMatch="*")
        except ClientError as error:
            if code_of(error) in TAKEN:
                return False
            if code_of(error) != "NotImplemented":
                raise
            self._takes_conditions = False
            return await self._put_new(location, data, digest)
        return True

    async def _put(self, location: str, data: Data, digest: bytes, **condition: Any) -> None:
        target = self._target(location)
        metadata = {"sha256": digest.hex()}
        if len(data) > SINGLE_PUT:
            await upload(self._client, target, data, metadata=metadata, condition=condition)
            return
        answer = await self._client.put_object(
            **target,
            Body=bytes(data),
            ChecksumSHA256=b64encode(digest).decode(),
            Metadata=metadata,
            **condition,
        )
        given(answer, "ETag")

    async def _find(self, location: str) -> tuple[int, str | None] | None:
        """The size and SHA-256 of the object as it was sent, or None if there is no object."""
        try:
            head = await self._client.head_object(**self._target(location))
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        given(head, "ETag")
        return given(head, "ContentLength"), given(head, "Metadata").get("sha256")

    async def _get(self, location: str) -> bytearray:
        body = await self._open(location)
        data = bytearray()
        async with body:
            # The body compares its length at the end with the one that was announced.
            async for piece in body.iter_chunks(_PIECE):
                data += piece
        return data

    async def _open(self, location: str) -> StreamingBody:
        try:
            answer = await self._client.get_object(**self._target(location))
        except ClientError as error:
            if code_of(error) in MISSING:
                raise self._missing(location) from error
            raise
        return answer["Body"]

    def _target(self, location: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + location}

    def _explained(self, operation: str, location: str) -> AbstractContextManager[None]:
        return _explained(
            self._storage, f"{operation} {location!r}", self._client.meta.endpoint_url
        )

    def _refusal(self, operation: str, location: str, reason: str) -> StorageError:
        return StorageError(
            self._storage, f"{operation} {location!r}", reason, "It was not replaced."
        )

    def _missing(self, location: str) -> BlobMissingError:
        return BlobMissingError(
            f"the data at location {location!r}", f"storage {self._storage!r} has none there."
        )


async def _check_credentials(session: Any) -> None:
    # Before there is a client: one that is made without credentials stays without.
    if await session.get_credentials() is None:
        raise NoCredentialsError


def _config(given: Any) -> Any:
    defaults = AioConfig(getattr(given, "connector_args", None), **DEFAULTS)
    return defaults if given is None else defaults.merge(given)


@contextmanager
def _explained(storage: str, operation: str, endpoint: str) -> Generator[None]:
    try:
        yield
    except ArtigraphError:
        raise
    except REFUSALS as error:
        raise StorageError(storage, operation, *explain(error, endpoint)) from error
