"""How far data has come on its way to a storage or back."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

from artigraph.errors import ProgressHookError


class Progress(NamedTuple):
    """Data that is on its way."""

    direction: Literal["save", "load"]
    value: str
    """What messages call it, as in `Report.table`."""
    done: int
    """Bytes that are through, of this value."""
    total: int | None
    """Bytes that there are; None while that is not known."""


@contextmanager
def on_progress(hook: Callable[[Progress], object]) -> Generator[None]:
    """Call `hook` for the data of large values that are saved and loaded inside the block.

    At the beginning, after each piece of some MiB, and at the end with `done == total`, of each
    value. It is called in worker threads too, and should return at once. What it raises ends
    the save or the load, as the cause of a `ProgressHookError`.
    """
    token = _hook.set(hook)
    try:
        yield
    finally:
        _hook.reset(token)


def report(progress: Progress) -> None:
    """Tell the hook of this context, if there is one.

    Raises:
        ProgressHookError: It raised.
    """
    hook = _hook.get()
    if hook is None:
        return
    try:
        hook(progress)
    except Exception as error:
        raise ProgressHookError(progress.value) from error


_hook: ContextVar[Callable[[Progress], object] | None] = ContextVar(
    "artigraph_progress", default=None
)
