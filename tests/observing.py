"""What a test sees of work that is under way: turns of the event loop, and statements."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


async def turns_of(work: Awaitable[Any]) -> int:
    """How often the loop turns until the work is done."""
    task = asyncio.ensure_future(work)
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    task.result()
    return turns


async def cancelled_after(turns: int, work: Awaitable[Any]) -> None:
    """Cancel the work in the midst of it; it ends as cancelled, or is done."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() or task.exception() is None


@contextmanager
def statements() -> Iterator[list[str]]:
    """Those that are sent, as they happen."""
    seen: list[str] = []

    def execute(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", execute)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", execute)
