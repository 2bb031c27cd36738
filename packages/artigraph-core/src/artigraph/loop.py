"""What belongs to one event loop: a database engine, an S3 client."""

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import AsyncGeneratorType
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """One `T` for each event loop: opened on first use there, closed when that loop shuts down.

    `asyncio.run` closes what is open before it closes its loop; a loop that is dropped without
    being shut down takes its `T` with it, unclosed. Until then the `T` stays open, also when
    nobody has the `LoopLocal` any more. A forked child opens its own and never touches what it
    inherited.

    Args:
        open: Makes a `T` for the running loop.
        close: Closes it, on the same loop.
    """

    def __init__(
        self, open: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[None]]
    ) -> None:
        self._open = open
        self._close = close
        self._slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Slot[T]] = (
            weakref.WeakKeyDictionary()
        )
        self.was_open_at_fork = False
        """Whether this process was forked while its parent had a `T` open."""
        _all.add(self)

    async def get(self) -> T:
        """The `T` of the running loop. Tasks that ask for it at once share one opening."""
        loop = asyncio.get_running_loop()
        slot = self._slots.get(loop)
        if slot is None or slot.is_failed:
            _forget_closed_loops(self._slots)
            slot = self._slots[loop] = _Slot(self._open, self._close)
        return await slot.get()

    async def close(self) -> None:
        """Close what is open on the running loop; the next `get` opens it anew."""
        slot = self._slots.pop(asyncio.get_running_loop(), None)
        if slot is not None:
            await slot.close()

    def abandon(self) -> None:
        """Forget every `T` without closing it: in a forked child they belong to the parent."""
        _inherited.append(dict(self._slots))
        self.was_open_at_fork |= any(slot.is_open for slot in self._slots.values())
        self._slots = weakref.WeakKeyDictionary()


async def engine_room() -> None:
    """Import what works behind models and runs, in a thread: it takes some tenths of a second."""
    global _is_imported
    if not _is_imported:
        # Not in the loop's own threads: a child that is forked later would wait for them at its
        # end, and they are not in it.
        with ThreadPoolExecutor(1, "artigraph-import") as thread:
            await asyncio.get_running_loop().run_in_executor(thread, _import)
        _is_imported = True


def _import() -> None:
    for module in ("gathering", "loading"):
        import_module(f"artigraph.{module}")


_is_imported = False


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; a cancellation that comes meanwhile waits for its end, then goes on."""
    task = _SteadfastTask(work)
    is_done = Steadfast[None]()
    task.add_done_callback(lambda _: is_done.set_result(None))
    try:
        await outcome_of(is_done)
    except asyncio.CancelledError:
        if not task.cancelled():
            task.exception()  # seen: what the caller gets is the cancellation
        raise
    return task.result()


class _SteadfastTask(asyncio.Task[T]):
    """Goes on to its end although a loop that shuts down cancels every task, and waits for it."""

    def cancel(self, msg: Any = None) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return super().cancel(msg)  # a time-out inside the work


class Steadfast(asyncio.Future[T]):
    """Can't be cancelled: who waits for it is told of a cancellation once it is done."""

    def cancel(self, msg: Any = None) -> bool:
        return False


async def outcome_of(future: Steadfast[T]) -> T:
    """What it gives. A cancellation that comes meanwhile goes on then, or is held back."""
    try:
        return await future
    except asyncio.CancelledError as error:
        held_back = _held_back.get()
        if held_back is None:
            future.exception()  # seen: what the caller gets is the cancellation
            raise
        held_back.append(error)
        return future.result()


@contextmanager
def cancellation_held_back() -> Generator[None]:
    """Of a block: one that comes while it waits for a `Steadfast` goes on at its end.

    It takes fewer turns of the loop than `to_the_end`, and no task.
    """
    held_back: list[asyncio.CancelledError] = []
    token = _held_back.set(held_back)
    try:
        yield
    finally:
        _held_back.reset(token)
        if held_back:
            raise held_back[-1]


_held_back: ContextVar[list[asyncio.CancelledError] | None] = ContextVar(
    "artigraph_cancellations", default=None
)


class _Slot(Generic[T]):
    def __init__(
        self, open: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[None]]
    ) -> None:
        # Event loops finalise the asynchronous generators that began on them when they shut
        # down, which is the one hook that every loop offers for closing something in time.
        self._holder = _hold(open, close)
        self._opening: asyncio.Task[T] | None = None

    async def get(self) -> T:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(_first(self._holder))
        if self._opening.done():
            return self._opening.result()
        return await asyncio.shield(self._opening)

    @property
    def is_open(self) -> bool:
        return cast("AsyncGeneratorType[T, None]", self._holder).ag_frame is not None

    @property
    def is_failed(self) -> bool:
        opening = self._opening
        return (
            opening is not None
            and opening.done()
            and (opening.cancelled() or opening.exception() is not None)
        )

    async def close(self) -> None:
        if self._opening is not None:
            await asyncio.wait({self._opening})
        await self._holder.aclose()
        _holders.get(asyncio.get_running_loop(), set()).discard(self._holder)


async def _hold(
    open: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[None]]
) -> AsyncGenerator[T]:
    process = os.getpid()
    resource = await open()
    try:
        yield resource
    finally:
        # A child that was forked by a task may go on to shut down the loop that it inherited.
        if os.getpid() == process:
            await close(resource)


async def _first(holder: AsyncGenerator[T]) -> T:
    resource = await anext(holder)
    # One that is collected earlier is finalised in a task, which a loop that ends cancels.
    _forget_closed_loops(_holders)
    _holders.setdefault(asyncio.get_running_loop(), set()).add(holder)
    return resource


def _forget_closed_loops(
    by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any],
) -> None:
    # What is open on a loop refers to it, so that its weak key alone would live for ever.
    for loop in [loop for ref in by_loop.keyrefs() if (loop := ref()) is not None]:
        if loop.is_closed():
            by_loop.pop(loop, None)


_all: "weakref.WeakSet[LoopLocal[Any]]" = weakref.WeakSet()
_holders: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, set[AsyncGenerator[Any]]] = (
    weakref.WeakKeyDictionary()
)
_inherited: list[object] = []
"""Kept for ever in a forked child, so that no finaliser runs on the parent's connections."""


def _abandon_all() -> None:
    global _holders
    _inherited.append(dict(_holders))
    _holders = weakref.WeakKeyDictionary()
    for local in list(_all):
        local.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
