"""The objects of one bucket, over one client: the only module that talks to aioboto3."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    contextmanager,
)
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from uuid import uuid4

import aioboto3
from aiobotocore.config import AioConfig
from botocore import UNSIGNED
from botocore.exceptions import ClientError, NoCredentialsError

from artigraph.errors import ArtigraphError, BlobMissingError, StorageError
from artigraph.loop import to_the_end
from artigraph.spec import Data
from artigraph_aws.body import Body, adapt, hashed
from artigraph_aws.download import MakePlace, ReplacedError, download, in_file, in_memory
from artigraph_aws.multipart import abort_all, after, cut, upload
from artigraph_aws.refusals import MISSING, REFUSALS, TAKEN, code_of, explain, given
from artigraph_aws.stream import Written
from artigraph_aws.window import Window

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

T = TypeVar("T")

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
        client = await stack.enter_async_context(
            session.client("s3", **{**options, "config": config})
        )
        adapt(client)
        return Bucket(storage, bucket, prefix, client, stack)


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
        self._window = Window()
        self._takes_conditions = True

    async def close(self) -> None:
        await self._stack.aclose()

    async def create(self, location: str, data: Data) -> None:
        with self._explained("create", location):
            await self._create_whole(location, await hashed(data))

    async def create_from(self, location: str, write: Callable[[BinaryIO], object]) -> None:
        async with Written(write) as written:
            with self._explained("create", location):
                await self._create_from(location, written)

    async def read(self, location: str, limit: int | None = None) -> memoryview:
        with self._explained("read", location):
            return await self._download(location, in_memory, limit)

    async def fetch(self, location: str, path: Path) -> None:
        with self._explained("read", location):
            await self._download(location, lambda _: in_file(self._storage, path))

    async def update(self, location: str, data: Data) -> None:
        if not await self.exists(location):
            raise self._missing(location)
        with self._explained("update", location):
            await self._put(location, await hashed(data))

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
            try:
                answer = await self._client.get_object(**self._target(location))
            except ClientError as error:
                if code_of(error) in MISSING:
                    return False
                raise
            answer["Body"].close()
            return True

    async def _create_whole(self, location: str, body: Body) -> None:
        await self._create(location, len(body), _mark(body), partial(self._put, location, body))

    async def _create_from(self, location: str, written: Written) -> None:
        """Create what is being written, as it would be if it were whole, or in parts."""
        pull = written.pull
        early: list[Body] = []
        while sum(map(len, early)) <= SINGLE_PUT:
            part = await pull()
            if part is None:
                await self._create_whole(location, await _joined(early))
                return
            early.append(part)
        # Its SHA-256 is not known before it is sent: it is told by this whether it is there.
        mark = {"upload": uuid4().hex}
        async with upload(self._client, self._target(location), mark) as begun:
            await begun.send(after(early, pull), self._window)
            await to_the_end(self._create(location, begun.size, mark, begun.complete))

    async def _create(
        self,
        location: str,
        size: int,
        mark: Mapping[str, str],
        put: Callable[..., Awaitable[None]],
    ) -> None:
        """Put an object where there is none, until there is one of this size and mark.

        Args:
            location: Of the object.
            size: In bytes.
            mark: Metadata that tells it from all others.
            put: Puts it, under a condition.
        """
        for attempt in range(_TRIES):
            await asyncio.sleep(attempt / 2)
            if await self._put_new(location, put):
                return
            found = await self._find(location)
            if found is None:
                continue
            if found[0] == size and mark.items() <= found[1].items():
                return
            raise self._refusal("create", location, "other data is there")
        raise self._refusal("create", location, "it is being written by something else")

    async def _put_new(self, location: str, put: Callable[..., Awaitable[None]]) -> bool:
        """Put an object where there is none; False if there is one, or one is being written."""
        if not self._takes_conditions:
            # The next best: locations are unique, so that nothing appears between the two.
            is_free = await self._find(location) is None
            if is_free:
                await put()
            return is_free
        try:
            await put(IfNoneMatch="*")
        except ClientError as error:
            if code_of(error) in TAKEN:
                return False
            if code_of(error) != "NotImplemented":
                raise
            self._takes_conditions = False
            return await self._put_new(location, put)
        return True

    async def _put(self, location: str, body: Body, **condition: Any) -> None:
        target = self._target(location)
        if len(body) > SINGLE_PUT:
            async with upload(self._client, target, _mark(body)) as begun:
                await begun.send(cut(body.data), self._window)
                await to_the_end(begun.complete(**condition))
            return
        answer = await self._client.put_object(
            **target,
            Body=body.for_client,
            ChecksumSHA256=body.checksum,
            Metadata=_mark(body),
            **condition,
        )
        given(answer, "ETag")

    async def _find(self, location: str) -> tuple[int, Mapping[str, str]] | None:
        """The size and the metadata of the object, or None if there is no object."""
        try:
            head = await self._client.head_object(**self._target(location))
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        given(head, "ETag")
        return given(head, "ContentLength"), given(head, "Metadata")

    async def _download(
        self, location: str, make_place: MakePlace[T], limit: int | None = None
    ) -> T:
        target = self._target(location)
        for _ in range(_TRIES):
            try:
                return await download(self._client, target, make_place, self._window, limit)
            except ReplacedError:
                continue
            except ClientError as error:
                if code_of(error) in MISSING:
                    raise self._missing(location) from error
                raise
        raise StorageError(
            self._storage,
            f"read {location!r}",
            "it was replaced again and again while it was read",
            "Try again.",
        )

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


def _mark(body: Body) -> dict[str, str]:
    return {"sha256": body.sha256.hex()}


async def _joined(parts: Sequence[Body]) -> Body:
    return parts[0] if len(parts) == 1 else await hashed(b"".join(part.data for part in parts))


@contextmanager
def _explained(storage: str, operation: str, endpoint: str) -> Generator[None]:
    try:
        yield
    except ArtigraphError:
        raise
    except REFUSALS as error:
        raise StorageError(storage, operation, *explain(error, endpoint)) from error
