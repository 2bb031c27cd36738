"""Data as it is sent: not copied, and hashed once."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.handlers import add_expect_header

from artigraph.spec import Data

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

PIECE = 2**18
"""How many bytes go to a connection before other work of the event loop has its turn."""

_AT_ONCE = 2**16
"""Up to so many bytes are hashed sooner than a thread takes them."""


class Body:
    """Data in one request, with its SHA-256.

    The client takes it for a file, which it reads only to sign it where our signer is not asked;
    and a connection for an iterator of pieces, which it sends as it has room for them.
    """

    def __init__(self, data: Data, sha256: bytes) -> None:
        self.data = memoryview(data)
        self.sha256 = sha256
        self._at = 0

    def __len__(self) -> int:
        return len(self.data)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self.data), PIECE):
            yield self.data[start : start + PIECE]

    def read(self, size: int = -1) -> bytes:
        stop = len(self.data) if size < 0 else self._at + size
        piece = bytes(self.data[self._at : stop])
        self._at += len(piece)
        return piece

    def seek(self, at: int) -> int:
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    @property
    def checksum(self) -> str:
        """The SHA-256 as headers have it."""
        return b64encode(self.sha256).decode()

    @property
    def for_client(self) -> Any:
        """What a request takes; it does not know that there are files without bytes."""
        return self if len(self) else b""


async def hashed(data: Data) -> Body:
    """A body of the data, which stays where it is."""
    if len(data) <= _AT_ONCE:
        return Body(data, hashlib.sha256(data).digest())
    return Body(data, (await asyncio.to_thread(hashlib.sha256, data)).digest())


def adapt(client: "S3Client") -> None:
    """Let a client send bodies without hashing them again, and without asking whether it may."""
    events = client.meta.events
    choose: Any = _choose_signer  # its stub knows only handlers that give nothing
    for operation in ("PutObject", "UploadPart"):
        events.register(f"choose-signer.s3.{operation}", choose)
    # Which costs a round trip, and some servers never answer.
    events.unregister("before-call.s3", add_expect_header)


class _Signer(S3SigV4Auth):
    """Signs the SHA-256 that is known already, over plain HTTP as well as over TLS."""

    def payload(self, request: Any) -> str:
        if isinstance(request.body, Body):
            return request.body.sha256.hex()
        return super().payload(request)


_SIGNER = "artigraph-s3v4"
AUTH_TYPE_MAPS[_SIGNER] = _Signer


def _choose_signer(context: dict[str, Any], **_: Any) -> str | None:
    # Any other is somebody's choice: of no signature, or of a kind of bucket that has its own.
    return _SIGNER if context.get("auth_type") == "v4" else None
