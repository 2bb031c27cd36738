"""Memory for much data, without the interpreter's lock."""

from io import BytesIO
from mmap import MAP_PRIVATE, mmap
from typing import Final

_MUCH: Final = 4 * 2**20
"""Bytes that take CPython some milliseconds to clear, copy or free, while it holds its lock."""

_PIECE: Final = 2**18
"""Bytes that are copied at once, which takes much less than a millisecond."""


def new_memory(size: int) -> memoryview:
    """Memory of zeros that may be written to.

    However much it is, that takes no time: CPython would hold its lock while it clears a
    bytearray, and while it frees one.

    Raises:
        MemoryError: There is not so much.
    """
    if size <= _MUCH:
        return memoryview(bytearray(size))
    try:
        return memoryview(mmap(-1, size, flags=MAP_PRIVATE))
    except OSError as error:
        raise MemoryError from error


def as_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """The same, if it is that, or a copy, beside whose making other threads run."""
    if isinstance(data, bytes) or len(data) <= _MUCH:
        return bytes(data)
    copy = BytesIO()
    for start in range(0, len(data), _PIECE):
        copy.write(data[start : start + _PIECE])
    return copy.getvalue()
