"""What the parts of the data that is read, or written, take in memory: they count together."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import pyarrow as pa

from artigraph.serializer.expansion import check_expansion


@dataclass
class Account:
    """What has been counted so far, in bytes, and the size of the data, once it is known."""

    spent: int = 0
    size: int | None = None
    is_mapped: bool = False


_account: ContextVar[Account | None] = ContextVar("artigraph_pandas_account", default=None)


@contextmanager
def counting(size: int | None = None, *, is_mapped: bool = False) -> Generator[Account]:
    """Count all that is spent in the block, against the size of the data if that is given.

    What is mapped stays where it lies, if it can.
    """
    account = Account(size=size, is_mapped=is_mapped)
    token = _account.set(account)
    try:
        yield account
    finally:
        _account.reset(token)


def spend(expanded: int) -> None:
    """Count what is about to be made.

    Raises:
        LimitError: With what was made before it is more than the data may take.
    """
    account = _account.get()
    if account is not None:
        account.spent += expanded
        if account.size is not None:
            check_expansion(account.spent, account.size)


def is_mapped() -> bool:
    """Whether the data may be kept as it is."""
    account = _account.get()
    return account is not None and account.is_mapped


def size_of_objects(texts: pa.Array, *, is_json: bool) -> int:
    """What the Python objects that are made of texts, or of JSON, take at most."""
    size = len(texts) * _OBJECT + texts.nbytes * _CHARACTER
    buffer = texts.buffers()[2]
    if is_json and buffer is not None:
        text = buffer.to_pybytes()
        size += sum(text.count(mark) * weight for mark, weight in _WEIGHTS.items())
    return size


_OBJECT = 64
"""What a short string takes, and the place where it is."""

_CHARACTER = 4
"""What a character takes in a string that has an emoji."""

_WEIGHTS = {b"{": 260, b"[": 120, b",": 100, b":": 100}
"""What CPython takes for what begins, or is added to, with these characters."""
