"""The storage as users make it. Nothing of AWS is imported before something is kept or read."""

import asyncio
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from artigraph.errors import StorageError
from artigraph.loop import LoopLocal
from artigraph.spec import Data, StreamingStorage, check_location, new_location

if TYPE_CHECKING:
    import aioboto3

    from artigraph_aws.bucket import Bucket


class S3Storage(StreamingStorage):
    """Keeps data as objects in a bucket, which must be there.

    Without further arguments everything comes from the standard settings: the environment, the
    files in `~/.aws`, or the role of the machine. Data over 16 MiB is sent in parts, and appears
    whole or not at all. Each event loop has a client of its own, which is closed with it.

    What is written by `create_from` takes less than 128 MiB of memory, up to 120 GB; of more the
    parts have to grow, and two of them are in memory. All that is sent and received in parts at
    the same time shares six requests.

    Args:
        bucket: Its name, or the ARN of an access point.
        prefix: What the keys begin with; slashes at its ends don't matter.
        name: What rows call the storage, by default `s3://bucket/prefix`.
        endpoint_url: Of a server that is not Amazon's.
        region_name: Where the bucket is.
        session: An `aioboto3.Session`, for its profile or credentials.
        client_options: More arguments for `session.client("s3", ...)`. A `config` goes on top of
            ours: 5 s to connect, 30 s to wait for an answer, 4 tries.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        name: str | None = None,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        session: "aioboto3.Session | None" = None,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.name = name or f"s3://{bucket}/{self.prefix}".rstrip("/")
        self._session = session
        self._client_options = {
            "endpoint_url": endpoint_url,
            "region_name": region_name,
            **(client_options or {}),
        }
        _refuse_secrets(bucket, self._client_options["endpoint_url"])
        self._bucket = LoopLocal(self._open, self._close)

    def __repr__(self) -> str:
        return f"S3Storage({self.bucket!r}, {self.prefix!r}, name={self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        # A class that is sent to another process may hold a storage; the clients stay here.
        return {key: value for key, value in vars(self).items() if key != "_bucket"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bucket = LoopLocal(self._open, self._close)

    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        await (await self._bucket.get()).create(location, data)
        return location

    async def read(self, location: str) -> memoryview:
        check_location(location)
        return await (await self._bucket.get()).read(location)

    async def read_up_to(self, location: str, size: int) -> memoryview:
        check_location(location)
        return await (await self._bucket.get()).read(location, size)

    async def create_from(
        self, write: Callable[[BinaryIO], object], *, location: str | None = None
    ) -> str:
        location = new_location() if location is None else location
        check_location(location)
        await (await self._bucket.get()).create_from(location, write)
        return location

    async def fetch(self, location: str, folder: Path) -> Path:
        check_location(location)
        path = folder / location.rpartition("/")[2]
        await (await self._bucket.get()).fetch(location, path)
        return path

    async def update(self, location: str, data: Data) -> None:
        check_location(location)
        await (await self._bucket.get()).update(location, data)

    async def delete(self, location: str) -> None:
        check_location(location)
        await (await self._bucket.get()).delete(location)

    async def discard(self, location: str) -> None:
        check_location(location)
        await (await self._bucket.get()).discard(location)

    async def exists(self, location: str) -> bool:
        check_location(location)
        return await (await self._bucket.get()).exists(location)

    async def close(self) -> None:
        """Close the client of the running event loop.

        The next call makes a new one, with the credentials of that moment. A loop that is shut
        down, as `asyncio.run` does, closes it by itself.
        """
        await self._bucket.close()

    async def _open(self) -> "Bucket":
        # In a thread, since it takes half a second and the loop has other things to do.
        await asyncio.to_thread(import_module, "artigraph_aws.bucket")
        from artigraph_aws.bucket import open_bucket

        return await open_bucket(
            self.name, self.bucket, self.prefix, self._session, self._client_options
        )

    async def _close(self, bucket: "Bucket") -> None:
        await bucket.close()


_BUCKET = re.compile(r"[\w.-]+|arn:[\w.:/-]+", re.ASCII)


def _refuse_secrets(bucket: str, endpoint_url: str | None) -> None:
    """Refuse what would carry a user's name and password into rows and messages."""
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(
            "s3:",
            "be opened",
            "what should be a bucket's name is none",
            "Write S3Storage('bucket', 'prefix'); credentials come from the AWS settings.",
        )
    if endpoint_url is not None and "@" in endpoint_url:
        raise StorageError(
            f"s3://{bucket}",
            "be opened",
            "its endpoint_url holds a user or a password",
            "Leave them out; credentials come from the AWS settings.",
        )
