"""Data that a thread writes, on its way to the event loop that sends it."""

import asyncio
import hashlib
import io
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from artigraph.loop import to_the_end
from artigraph.memory import new_memory
from artigraph_aws.body import Body
from artigraph_aws.multipart import MOST_PARTS
from artigraph_aws.window import PART

_GROWS_AFTER = MOST_PARTS // 10

_LOOKS_AFTER = 5.0
"""Seconds in which a thread that waits for a loop looks whether it is still there."""


def part_size(number: int) -> int:
    """Of the part of this number, from 1: some TiB have to fit into as many parts as S3 takes."""
    return PART << (number - 1) // _GROWS_AFTER


class Written:
    """The parts of what a function writes to a file, in a thread of its own, during the block.

    The thread fills one part, and goes on when the next is asked for. At the end of the block it
    has ended too; where the function is not through by then, its file has raised the error that
    ended the block. What the function itself raises is raised at the end, as it is.
    """

    def __init__(self, write: Callable[[BinaryIO], object]) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Body | None] = asyncio.Queue()
        self._asked = threading.Semaphore(0)
        self._is_over = asyncio.Event()
        self._stopped_by: BaseException | None = None
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        # Not one of the loop's threads: of these are few, and others wait for what they do.
        threading.Thread(
            target=copy_context().run, args=(self._run,), name="artigraph-s3", daemon=True
        ).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stopped_by = error or asyncio.CancelledError()
        self._asked.release()
        await to_the_end(self._ended())
        if isinstance(error, _WriteError) and self._failure is not None:
            raise self._failure

    async def pull(self) -> Body | None:
        """The next part, or None if all was written; one caller at a time."""
        if self._is_over.is_set() and self._parts.empty():
            self._raise_failure()
            return None
        self._asked.release()
        part = await self._parts.get()
        if part is None:
            self._raise_failure()
        return part

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise _WriteError

    async def _ended(self) -> None:
        await self._is_over.wait()

    def _run(self) -> None:
        try:
            self._wait()
            file = _Parts(self)
            self._write(cast("BinaryIO", file))
            file.hand_over_rest()
        except BaseException as error:
            self._failure = error
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._parts.put_nowait(None)
        self._is_over.set()

    def hand_over(self, part: Body) -> None:
        """Let the loop have a part, and wait until it asks for another; called in the thread."""
        self.check()
        self._loop.call_soon_threadsafe(self._parts.put_nowait, part)
        self._wait()

    def check(self) -> None:
        """Raise what has ended the block, if it has ended."""
        if self._stopped_by is not None:
            raise self._stopped_by

    def _wait(self) -> None:
        while not self._asked.acquire(timeout=_LOOKS_AFTER):
            if self._loop.is_closed():
                raise asyncio.CancelledError
        self.check()


class _WriteError(Exception):
    """Ends the block; what the function has raised takes its place."""


class _Parts(io.RawIOBase):
    """The file: it takes data, in any pieces, and nothing else."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._number = 0
        self._size = 0
        self._begin_part()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any, /) -> int:
        if self.closed:
            raise ValueError("write to closed file")
        self._written.check()
        given = memoryview(data)
        view = given.cast("B") if given.nbytes else memoryview(b"")
        taken = 0
        while taken < len(view):
            taken += self._take(view[taken:])
        self._size += taken
        return taken

    def hand_over_rest(self) -> None:
        """Hand over what was written since the last full part."""
        if self._filled:
            self._hand_over()

    def _take(self, view: memoryview) -> int:
        taken = min(len(view), len(self._part) - self._filled)
        self._part[self._filled : self._filled + taken] = view[:taken]
        self._filled += taken
        if self._filled == len(self._part):
            self._hand_over()
            self._begin_part()
        return taken

    def _hand_over(self) -> None:
        data = self._part[: self._filled]
        self._filled = 0
        self._written.hand_over(Body(data, hashlib.sha256(data).digest()))

    def _begin_part(self) -> None:
        self._number += 1
        self._part = new_memory(part_size(self._number))
        self._filled = 0
