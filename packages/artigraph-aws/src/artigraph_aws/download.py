"""Objects, received in ranges of which several are on their way at once."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiobotocore.response import StreamingBody
from botocore.exceptions import ClientError, IncompleteReadError
from botocore.parsers import ResponseParserError

from artigraph.errors import StorageError
from artigraph.loop import to_the_end
from artigraph.memory import new_memory
from artigraph_aws.refusals import BROKEN_OFF, NO_SUCH_RANGE, REPLACED, code_of, given
from artigraph_aws.window import PART, Window

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

T = TypeVar("T")

_TRIES = 3
_PIECE = 2**18
_GATHERED = 2**20


class ReplacedError(Exception):
    """What has been received so far and what comes now are of two objects."""


@dataclass(frozen=True)
class Place(Generic[T]):
    """Where an object is received."""

    result: T
    """What there is when all has been received."""
    put: Callable[[int, list[bytes]], Awaitable[None]]
    """Puts pieces, one after the other, at an offset."""
    gathers: int
    """How many bytes it would like to have at once."""


MakePlace = Callable[[int], AbstractAsyncContextManager[Place[T]]]
"""Makes a place for so many bytes, which is given up if the block fails."""


async def download(
    client: "S3Client",
    target: Mapping[str, Any],
    make_place: MakePlace[T],
    window: Window,
    limit: int | None = None,
) -> T:
    """Receive one object, or its beginning.

    Args:
        client: Of the running event loop.
        target: The bucket and the key.
        make_place: For as many bytes as there are to receive.
        window: What may be on its way.
        limit: How many bytes to receive of an object that has more; at least one.

    Raises:
        ReplacedError: Another object has taken its place.
    """
    with closing(await _open(client, target, range(min(PART, limit or PART)))) as source:
        size = source.size if limit is None else min(source.size, limit)
        async with make_place(size) as place:
            if size <= PART or not source.is_ranged:
                await source.receive(range(size), place)
            else:
                await window.each(_cut(size), lambda part: source.receive(part, place))
            return place.result


@asynccontextmanager
async def in_memory(size: int) -> AsyncGenerator[Place[memoryview]]:
    """A place in memory, which has its size from the beginning."""
    whole = new_memory(size)

    async def put(at: int, pieces: list[bytes]) -> None:
        for piece in pieces:
            whole[at : at + len(piece)] = piece
            at += len(piece)

    yield Place(whole, put, 1)


@asynccontextmanager
async def in_file(storage: str, path: Path) -> AsyncGenerator[Place[Path]]:
    """A new file, which is removed if the block fails."""
    with _told(storage, path):
        file = FileIO(path, "x")

    async def put(at: int, pieces: list[bytes]) -> None:
        with _told(storage, path):
            # To the end, since the descriptor is closed after a cancellation.
            await to_the_end(asyncio.to_thread(_write, file.fileno(), b"".join(pieces), at))

    try:
        yield Place(path, put, _GATHERED)
        with _told(storage, path):
            file.close()
    except BaseException:
        await to_the_end(asyncio.to_thread(_remove, file, path))
        raise


class _Source:
    """An object as it was at the first answer."""

    def __init__(
        self, client: "S3Client", target: Mapping[str, Any], answer: Any, asked: range
    ) -> None:
        self._client = client
        self._target = target
        self._first: StreamingBody | None = answer["Body"]
        self._etag = given(answer, "ETag")
        self.is_ranged = "ContentRange" in answer
        """Whether the server has answered with a range; of nothing there is none."""
        self.size = _total(answer, asked) if self.is_ranged else given(answer, "ContentLength")

    def close(self) -> None:
        if self._first is not None:
            self._first.close()

    async def receive(self, part: range, place: Place[Any]) -> None:
        """Put a range of it, up to its end, in its place."""
        for _ in range(_TRIES - 1):
            # The client repeats requests by itself, but not for a body that breaks off.
            with suppress(*BROKEN_OFF):
                return await self._receive(part, place)
        return await self._receive(part, place)

    async def _receive(self, part: range, place: Place[Any]) -> None:
        put = received = part.start
        pieces: list[bytes] = []
        with closing(await self._body(part)) as body:
            while received < part.stop:
                piece = await body.read(min(_PIECE, part.stop - received))
                if not piece:
                    raise IncompleteReadError(actual_bytes=received, expected_bytes=part.stop)
                pieces.append(piece)
                received += len(piece)
                if received - put >= place.gathers or received == part.stop:
                    await place.put(put, pieces)
                    put, pieces = received, []

    async def _body(self, part: range) -> StreamingBody:
        if part.start == 0 and self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            answer = await self._client.get_object(
                **self._target, Range=_header(part), IfMatch=self._etag
            )
        except ClientError as error:
            if code_of(error) in REPLACED:
                raise ReplacedError from error
            raise
        with _closed_on_error(answer):
            self._check(answer, part)
        return answer["Body"]

    def _check(self, answer: Any, part: range) -> None:
        """Refuse what some server gives that knows neither conditions nor ranges."""
        if given(answer, "ETag") != self._etag:
            raise ReplacedError
        if "ContentRange" in answer:
            size = _total(answer, part)
        else:
            size = given(answer, "ContentLength") if part.start == 0 else None
        if size != self.size:
            raise ResponseParserError("an answer with another range than was asked for")


async def _open(client: "S3Client", target: Mapping[str, Any], asked: range) -> _Source:
    """Ask for the first range, and learn from the answer how much there is."""
    try:
        answer = await client.get_object(**target, Range=_header(asked))
    except ClientError as error:
        if code_of(error) not in NO_SUCH_RANGE:
            raise
        answer = await client.get_object(**target)
    with _closed_on_error(answer):
        return _Source(client, target, answer, asked)


def _cut(size: int) -> Callable[[], Awaitable[range | None]]:
    ranges = (range(start, min(start + PART, size)) for start in range(0, size, PART))

    async def pull() -> range | None:
        return next(ranges, None)

    return pull


def _header(part: range) -> str:
    return f"bytes={part.start}-{part.stop - 1}"


def _total(answer: Mapping[str, Any], asked: range) -> int:
    """The size of the object, from an answer with the range that was asked for."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer["ContentRange"])
    start, last, size = map(int, found.groups()) if found else (-1, -1, -1)
    if (start, last + 1) != (asked.start, min(asked.stop, size)):
        raise ResponseParserError("an answer with another range than was asked for")
    return size


@contextmanager
def _closed_on_error(answer: Mapping[str, Any]) -> Generator[None]:
    try:
        yield
    except BaseException:
        answer["Body"].close()
        raise


@contextmanager
def _told(storage: str, path: Path) -> Generator[None]:
    """Tell an error of this machine's disk from one of the connection."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(storage, f"write {str(path)!r}", reason, _REMEDY) from error


_REMEDY = "Check that there are space and the right to write."


def _write(descriptor: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest = rest[written:]
        at += written


def _remove(file: FileIO, path: Path) -> None:
    with suppress(OSError):
        file.close()
    path.unlink(missing_ok=True)
