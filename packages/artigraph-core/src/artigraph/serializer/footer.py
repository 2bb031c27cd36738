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


def _names_extension_type(data: memoryview) -> bool:
    tail = bytes(data[-10:])
    if tail.endswith(b"ARROW1"):
        size, end, marks = tail[:4], len(data) - 10, (EXTENSION_KEY,)
    elif tail.endswith(b"PAR1"):
        size, end, marks = tail[2:6], len(data) - 8, _BASE64_MARKS
    else:
        raise ValueError("neither a Parquet nor an Arrow IPC file, or cut off")
    footer = bytes(data[max(end - int.from_bytes(size, "little"), 0) : end])
    return any(mark in footer for mark in marks)


def _base64_mark(shift: int) -> bytes:
    """What base64 makes of the key where it begins `shift` bytes after a group of three."""
    encoded = b64encode(b"\0" * shift + EXTENSION_KEY)
    return encoded[-(-8 * shift // 6) : 8 * (shift + len(EXTENSION_KEY)) // 6]


# Parquet keeps the Arrow schema as base64 among its metadata.
_BASE64_MARKS = tuple(map(_base64_mark, range(3)))
