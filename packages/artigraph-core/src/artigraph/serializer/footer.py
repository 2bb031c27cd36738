"""The footer of Parquet and Arrow IPC files, looked at before a library reads them.

pyarrow and polars run the code of every registered extension type that a file names, with
parameters out of the file. A serializer that writes no extension types calls
`refuse_extension_types` on what it reads, so that no data chooses which code runs.
"""

from base64 import b64encode

from artigraph.spec import Data

EXTENSION_KEY = b"ARROW:extension:name"
"""The key in the metadata of a field that makes it one of an extension type.
https://arrow.apache.org/docs/format/Columnar.html#extension-types"""


def refuse_extension_types(data: Data) -> None:
    """Refuse a Parquet or Arrow IPC file whose schema names an extension type.

    Raises:
        ValueError: It names one, or is no such file.
    """
    footer = _footer(memoryview(data))
    if any(mark in footer for mark in _MARKS):
        raise ValueError("a column is of an extension type, whose code would run")


def _footer(data: memoryview) -> bytes:
    tail = bytes(data[-10:])
    if tail.endswith(b"ARROW1"):
        end, size = len(data) - 10, tail[:4]
    elif tail.endswith(b"PAR1"):
        end, size = len(data) - 8, tail[2:6]
    else:
        raise ValueError("neither a Parquet nor an Arrow IPC file, or cut off")
    return bytes(data[max(end - int.from_bytes(size, "little"), 0) : end])


def _mark(shift: int) -> bytes:
    """What base64 makes of the key where it begins `shift` bytes after a group of three."""
    encoded = b64encode(b"\0" * shift + EXTENSION_KEY)
    return encoded[-(-8 * shift // 6) : 8 * (shift + len(EXTENSION_KEY)) // 6]


# Parquet keeps the Arrow schema as base64 among the metadata.
_MARKS = (EXTENSION_KEY, *(_mark(shift) for shift in range(3)))
