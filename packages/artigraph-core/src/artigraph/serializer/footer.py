"""The footer of Parquet and Arrow IPC files, looked at before a library reads them.

pyarrow and polars run the code of every registered extension type that a file names, with
parameters out of the file. A serializer that writes no extension types calls
`refuse_extension_types` on what it reads, so that no data chooses which code runs, and
`without_extension_types` on what it writes, so that it never refuses its own files.
"""

from base64 import b64encode

from artigraph.errors import UnsupportedValueError
from artigraph.spec import Data

EXTENSION_KEY = b"ARROW:extension:name"
"""The key in the metadata of a field that makes it one of an extension type.
https://arrow.apache.org/docs/format/Columnar.html#extension-types"""


def refuse_extension_types(data: Data) -> None:
    """Refuse a Parquet or Arrow IPC file whose schema names an extension type.

    Raises:
        ValueError: It names one, or is no such file.
    """
    if _names_extension_type(memoryview(data)):
        raise ValueError("a column is of an extension type, whose code would run")


def without_extension_types(data: Data) -> Data:
    """The file as it is, if `refuse_extension_types` will let it pass.

    Raises:
        UnsupportedValueError: It names an extension type, or a text looks as if it did.
    """
    if _names_extension_type(memoryview(data)):
        remedy = f"Rename what contains {EXTENSION_KEY.decode()!r}, as it is or in base64."
        raise UnsupportedValueError("the data", "the mark of an extension type", remedy)
    return data


def footer_of(data: Data) -> bytes:
    """The footer of a Parquet or Arrow IPC file, of which this is all, or the end.

    Raises:
        ValueError: It is no such file, or the footer begins before `data`.
    """
    view = memoryview(data)
    tail = bytes(view[-10:])
    size, end = (tail[:4], len(view) - 10) if tail.endswith(_IPC) else (tail[2:6], len(view) - 8)
    start = end - int.from_bytes(size, "little")
    if not tail.endswith((_IPC, b"PAR1")) or start < 0:
        raise ValueError("neither a Parquet nor an Arrow IPC file, or cut off")
    return bytes(view[start:end])


def _names_extension_type(data: memoryview) -> bool:
    marks = (EXTENSION_KEY,) if bytes(data[-6:]) == _IPC else _BASE64_MARKS
    footer = footer_of(data)
    return any(mark in footer for mark in marks)


_IPC = b"ARROW1"
"""How an Arrow IPC file ends."""


def _base64_mark(shift: int) -> bytes:
    """What base64 makes of the key where it begins `shift` bytes after a group of three."""
    encoded = b64encode(b"\0" * shift + EXTENSION_KEY)
    return encoded[-(-8 * shift // 6) : 8 * (shift + len(EXTENSION_KEY)) // 6]


# Parquet keeps the Arrow schema as base64 among its metadata.
_BASE64_MARKS = tuple(map(_base64_mark, range(3)))
