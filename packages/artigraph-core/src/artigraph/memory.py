"""Memory for much data, without the interpreter's lock."""

import ctypes
import time
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from io import BytesIO
from mmap import MAP_PRIVATE, mmap
from typing import Any, Final, TypeVar

S = TypeVar("S", str, bytes, bytearray, memoryview, bytes | bytearray | memoryview)

_MUCH: Final = 4 * 2**20
"""Bytes that take CPython some milliseconds to clear, copy or free, while it holds its lock."""

AT_ONCE: Final = 2**18
"""Bytes or letters that CPython copies, encodes or decodes in about a millisecond, at most."""

_PAUSE: Final = 50e-6
"""Seconds: enough for a thread that waits to wake up."""


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
    for piece in pieces_of(data):
        copy.write(piece)
    return copy.getvalue()


def give_way() -> None:
    """Let other threads go on that wait for the interpreter's lock.

    CPython takes it from a thread after five milliseconds only, and an event loop waits for it
    more than once in a turn.
    """
    time.sleep(_PAUSE)


def pieces_of(whole: S) -> Iterator[S]:
    """A text or bytes in pieces, at least one, between which other threads have their turns."""
    for start in range(0, len(whole) or 1, AT_ONCE):
        if start:
            give_way()
        yield whole[start : start + AT_ONCE]


def let_go(items: list[Any], at_once: int) -> None:
    """Empty a list, so many items at a time: to free many takes long, and is one step."""
    while items:
        del items[-at_once:]
        give_way()


def text_of(data: bytes | bytearray | memoryview) -> str:
    """The text of UTF-8, in which unpaired surrogates may stand too.

    Raises:
        UnicodeDecodeError: It is something else.
    """
    if len(data) <= AT_ONCE:
        return str(data, "utf-8", "surrogatepass")
    return joined(_Decoded(data))


class _Decoded:
    """The pieces of a text, decoded each time that they are asked for."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = data

    def __iter__(self) -> Iterator[str]:
        decoder = getincrementaldecoder("utf-8")("surrogatepass")
        for piece in pieces_of(self._data):
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)


def joined(pieces: Iterable[str]) -> str:
    """The pieces as one text, which is never copied in one step, as `str.join` would.

    Args:
        pieces: Of at most some hundred thousand letters each; they are asked for twice.
    """
    length, widest = 0, 0
    for piece in pieces:
        length += len(piece)
        widest = max(widest, _widest(piece))
    address = _new_text(length, widest)
    try:
        end = 0
        for piece in pieces:
            end += _copy_text(address, end, piece, 0, len(piece))
        text: str = ctypes.cast(address, ctypes.py_object).value
        return text
    finally:
        ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(address))


def _widest(text: str) -> int:
    """The last letter of those for which CPython has the narrowest form that takes the text."""
    if text.isascii():
        return 0x7F
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        units = len(text.encode("utf-16-le", "surrogatepass")) // 2
        return 0xFFFF if units == len(text) else 0x10FFFF
    return 0xFF


# https://docs.python.org/3/c-api/unicode.html: the only way to make a text step by step.
_new_text = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_uint32)(
    ("PyUnicode_New", ctypes.pythonapi)
)
_copy_text = ctypes.PYFUNCTYPE(
    ctypes.c_ssize_t,
    ctypes.c_void_p,
    ctypes.c_ssize_t,
    ctypes.py_object,
    ctypes.c_ssize_t,
    ctypes.c_ssize_t,
)(("PyUnicode_CopyCharacters", ctypes.pythonapi))
