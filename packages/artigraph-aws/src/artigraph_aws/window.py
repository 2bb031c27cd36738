"""How much is on its way at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sized
from typing import Any, Final, TypeVar

T = TypeVar("T", bound=Sized)

PART: Final = 8 * 2**20
"""What large data is cut into, in bytes, unless there would be too many parts."""

SHARES: Final = 6
"""How many parts of this size are on their way at once, for all that a client does."""


class Window:
    """The parts that a client sends and receives at one time, by their size."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(SHARES)
        self._turn = asyncio.Lock()

    async def each(
        self, pull: Callable[[], Awaitable[T | None]], work: Callable[[T], Awaitable[Any]]
    ) -> None:
        """Do some work for each part, until `pull` gives none; the first failure stops all.

        A part is pulled when the one before is on its way.
        """
        pulling = asyncio.Lock()

        async def worker() -> None:
            while True:
                async with pulling:
                    part = await pull()
                    if part is None:
                        return
                    shares = await self._take(len(part))
                try:
                    await work(part)
                finally:
                    self._give_back(shares)

        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(SHARES):
                    group.create_task(worker())
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
        if failure is not None:
            raise failure

    async def _take(self, size: int) -> int:
        wanted = max(1, min(SHARES, size // PART))
        taken = 0
        try:
            async with self._turn:  # so that two that want several don't wait for each other
                while taken < wanted:
                    await self._free.acquire()
                    taken += 1
        except BaseException:
            self._give_back(taken)
            raise
        return wanted

    def _give_back(self, shares: int) -> None:
        for _ in range(shares):
            self._free.release()
