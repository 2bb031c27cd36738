"""Turns at what does one thing at a time: those who wait while it is done share the next time."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from artigraph.loop import to_the_end

W = TypeVar("W")

MAX_SHARED: Final = 256
"""How many share one time at most."""


@dataclass(frozen=True, eq=False)
class _Turn(Generic[W]):
    work: W
    outcome: "asyncio.Future[Any]"


class Turns(Generic[W]):
    """The turns of the tasks of one event loop, in the order in which they came.

    Args:
        do: Does some works, all or none, and returns what each gives. Where it raises for several,
            each is done by itself, so that one that is refused is in the way of no other.
    """

    def __init__(self, do: Callable[[Sequence[W]], Coroutine[Any, Any, Sequence[Any]]]) -> None:
        self._do = do
        self._waiting: list[_Turn[W]] = []
        self._busy = asyncio.Lock()

    async def take(self, work: W) -> Any:
        """What `work` gives, once it is done.

        A cancellation takes it back if it has not begun; else that waits for the outcome, and then
        goes on.
        """
        turn = _Turn(work, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            async with self._busy:
                while not turn.outcome.done():
                    together = self._waiting[:MAX_SHARED]
                    del self._waiting[:MAX_SHARED]
                    await to_the_end(self._settle(together))
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                await to_the_end(_seen(turn.outcome))
            raise
        return turn.outcome.result()

    async def _settle(self, together: Sequence[_Turn[W]]) -> None:
        try:
            results = await self._do([turn.work for turn in together])
        except BaseException as error:
            if len(together) > 1 and isinstance(error, Exception):
                for turn in together:
                    await self._settle([turn])
                return
            for turn in together:
                turn.outcome.set_exception(error)
        else:
            for turn, result in zip(together, results, strict=True):
                turn.outcome.set_result(result)


async def _seen(outcome: "asyncio.Future[Any]") -> None:
    """Wait for an outcome that nobody will ask for."""
    await asyncio.wait({outcome})
    outcome.exception()
