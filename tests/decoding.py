"""What decoders are given that somebody else wrote, and how a load of it goes."""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from artigraph.artifact import deserialize
from artigraph.errors import DeserializeError
from artigraph.graph import Node
from artigraph.plugins import takes
from artigraph.spec import Serializer

MEMORY = 4 << 30
"""The address space of a child, in bytes: more than it takes to read anything that is allowed."""

NAMES = (
    *("json", "text", "bytes", "numpy.array", "numpy.scalar"),
    *("pandas.dataframe.parquet", "pandas.dataframe.feather"),
    *("pandas.series.parquet", "pandas.series.feather"),
    *("polars.dataframe.parquet", "polars.dataframe.ipc"),
    *("polars.series.parquet", "polars.series.ipc"),
    *("pyarrow.table.feather", "pyarrow.table.parquet"),
    *("pyarrow.recordbatch.feather", "pyarrow.recordbatch.parquet"),
)

"""All serializers that come with Artigraph."""


class Refused(Exception):
    """Data that a decoder does not take; the cause is what it raised."""


def load(serializer: Serializer[Any], data: bytes) -> Any:
    """The value of data; any other exception than `Refused` is a flaw."""
    try:
        value = deserialize(node_of(serializer), "the artifact", data, None, ())
    except DeserializeError as error:
        told = str(error)
        if len(told) > 200 or not told.isprintable():
            raise AssertionError("the error is no short line") from error
        raise Refused from error.__cause__
    assert not serializer.types or takes(serializer, type(value)), type(value)
    return value


def outcome(serializer: Serializer[Any], data: bytes) -> str:
    """How a load goes, and a look at the value."""
    try:
        value = load(serializer, data)
    except Refused:
        return "refused"
    try:
        look_at(value)
    except Exception:
        return "odd"
    return "read"


def node_of(serializer: Serializer[Any]) -> Node:
    """A row that names a serializer, and nothing else."""
    nothing = dict.fromkeys(Node._fields)
    return Node(**{**nothing, "serializer": serializer.name})  # type: ignore[arg-type]


def look_at(value: Any) -> None:
    """Read every cell, as far as it isn't many."""
    if isinstance(value, pl.Series | pl.DataFrame):
        repr(value.to_frame().rows() if isinstance(value, pl.Series) else value.rows())
    elif isinstance(value, pa.Table | pa.RecordBatch):
        if value.num_rows < 10_000:
            repr(value.to_pylist())
    elif isinstance(value, pd.Series | pd.DataFrame):
        repr(value.to_dict())
    elif isinstance(value, np.ndarray | np.generic):
        repr(value.tolist())
    else:
        repr(value)


def values_for(serializer: Serializer[Any]) -> list[Any]:
    """Some of what the serializer takes, of many types."""
    key, kind = serializer.name.split(".")[0], serializer.name.split(".")[1:2]
    values: list[Any] = VALUES[".".join([key, *kind])]()
    return values


def frames() -> list[pd.DataFrame]:
    many = pd.DataFrame(
        {
            "int": range(50),
            "float": np.linspace(0, 1, 50),
            "text": ["a", "bb", None, "é", "x" * 30] * 10,
            "objects": [{"a": [1]}, 2, (3,), None, "t"] * 10,
            "texts": pd.Series(["a", None] * 25, dtype=object),
            "python": pd.array(["a", None] * 25, pd.StringDtype("python")),
            "category": pd.Categorical(["u", "v", "u", None, "v"] * 10),
            "zoned": pd.date_range("2020", periods=50, tz="Europe/Berlin"),
            "nullable": pd.array([1, None] * 25, "Int64"),
            "complex": [1j, 2] * 25,
        }
    )
    labels = pd.MultiIndex.from_tuples([(1, "a"), (2, "b"), (2, "c")])
    nested = pd.arrays.ArrowExtensionArray(pa.array([[1, 2], None, []]))
    odd = pd.DataFrame({"list": nested, "interval": pd.interval_range(0, 3)}).set_index(labels)
    return [many, odd, many[:0]]


def polars_frames() -> list[pl.DataFrame]:
    many = pl.DataFrame(
        {
            "int": range(50),
            "float": [i / 7 for i in range(50)],
            "text": ["a", "bb", None, "é", "x" * 30] * 10,
            "list": [[1, 2], None, [], [3], [4]] * 10,
            "bool": [True, None] * 25,
            "struct": [{"x": 1, "y": "a"}] * 50,
            "category": pl.Series(["u", "v"] * 25, dtype=pl.Categorical),
            "enum": pl.Series(["u", "v"] * 25, dtype=pl.Enum(["u", "v"])),
            "decimal": pl.Series(["1.5"] * 50).cast(pl.Decimal(10, 2)),
            "binary": [b"ab", None] * 25,
            "array": pl.Series([[1, 2], None] * 25, dtype=pl.Array(pl.Int8, 2)),
        }
    )
    return [many, many.head(0), many.select("int", "text"), pl.DataFrame()]


def tables() -> list[pa.Table]:
    many = pa.table(
        {
            "int": range(50),
            "float": [i / 7 for i in range(50)],
            "text": ["a", "bb", None, "é", "x" * 30] * 10,
            "list": [[1, 2], None, [], [3], [4]] * 10,
            "bool": [True, None] * 25,
            "struct": [{"x": 1, "y": "a"}] * 50,
            "dictionary": pa.array(["u", "v"] * 25).dictionary_encode(),
            "fixed": pa.array([b"ab", None] * 25, pa.binary(2)),
            "seconds": pa.array(range(50), pa.timestamp("s")),
            "null": pa.nulls(50),
        }
    )
    return [many, many[:0], many.select(["int", "text"])]


def batches() -> list[pa.RecordBatch]:
    return [table.combine_chunks().to_batches()[0] for table in tables() if table.num_rows]


VALUES: dict[str, Callable[[], list[Any]]] = {
    "json": lambda: [{"a": [1, None, 0.5], "b": (1, {2}), "c": [b"x", 10**30]}, [[[[True]]]] * 5],
    "text": lambda: ["hello é \ud800", "x" * 300],
    "bytes": lambda: [b"hello", b"x" * 300],
    "numpy.array": lambda: [
        *(np.arange(10), np.zeros((3, 4), "f4", order="F"), np.array(["abc", "d"])),
        *(np.array([(1, "a")], [("a", "i4"), ("b", "U3")]), np.array(["2020"], "M8[D]")),
    ],
    "numpy.scalar": lambda: [np.float64(1.5), np.str_("abc"), np.datetime64("2020", "s")],
    "pandas.dataframe": frames,
    "pandas.series": lambda: [frame[label] for frame in frames()[:2] for label in frame],
    "polars.dataframe": polars_frames,
    "polars.series": lambda: list(polars_frames()[0]),
    "pyarrow.table": tables,
    "pyarrow.recordbatch": batches,
}


def valid_data(serializer: Serializer[Any]) -> list[bytes]:
    """What is altered: data of ours, and the same in all the ways in which IPC is compressed."""
    values = values_for(serializer)
    data = [bytes(serializer.serialize(value)) for value in values]
    for each in data[:2]:
        if each[:6] == b"ARROW1":
            data += [compressed(each, codec) for codec in ("lz4", "zstd")]
    for each in data:
        assert outcome(serializer, each) != "refused"
    return data


def compressed(data: bytes, codec: str) -> bytes:
    """An IPC file with its buffers compressed."""
    table = pa.ipc.open_file(data).read_all()
    return ipc_file(table, codec)


def ipc_file(table: pa.Table, codec: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def altered(originals: Sequence[bytes], numbers: random.Random) -> bytes:
    """One of some data of ours, altered in one of all ways."""
    original = numbers.choice(originals)
    ways = [alter_bytes, alter_words]
    ways.append(alter_structures if original.startswith(b"PAR1") else alter_words)
    return numbers.choice(ways)(original, numbers)


def alter_bytes(data: bytes, numbers: random.Random) -> bytes:
    """One or a few bits and bytes: flipped, overwritten, inserted, cut out or off."""
    altered = bytearray(data)
    for _ in range(numbers.choice([1, 1, 1, 2, 4])):
        size = len(altered)
        first, last = numbers.choice([(0, size), (0, min(size, 300)), (max(size - 300, 0), size)])
        at = numbers.randrange(first, max(last, first + 1))
        width = numbers.choice([1, 4, 8])
        inserted = numbers.choice([bytes(width), b"\xff" * width, numbers.randbytes(width)])
        change = numbers.randrange(8)
        if change < 3 and at < size:
            altered[at] ^= 1 << numbers.randrange(8)
        elif change == 7:
            del altered[at:]
        else:
            altered[at : at + (0 if change == 6 else width)] = b"" if change == 5 else inserted
    return bytes(altered)


EXTREMES = (
    *(-1, 0, 1, 2, 7, 8, 63, 64, 255, 2**15, 2**16, 2**20, 2**24, 2**28, 2**30, 2**31 - 1),
    *(-(2**31), 2**32, 2**33, 2**40, 2**62, 2**63 - 1, -(2**63)),
)
"""What sizes, lengths and places say that are meant to attack."""


def alter_words(data: bytes, numbers: random.Random) -> bytes:
    """Numbers of a fixed width, as in flatbuffers and the ends of files."""
    altered = bytearray(data)
    for _ in range(numbers.choice([1, 1, 1, 2, 3])):
        at = numbers.randrange(len(data)) & ~numbers.choice([1, 3, 7])
        width = numbers.choice([1, 2, 4, 8])
        number = int.from_bytes(data[at : at + width], "little") + numbers.choice([-8, -1, 1, 8])
        number = numbers.choice([number, number, *EXTREMES])
        altered[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(altered)


def alter_structures(data: bytes, numbers: random.Random) -> bytes:
    """Numbers in the footer of a Parquet file, or before its pages, with all the rest fitted."""
    footer, pages = parquet_parts(data)
    headers = [header for chunk in pages for header, _ in chunk]
    try:
        if headers and numbers.random() < 0.5:
            tell_lies(numbers.choice(headers), numbers)
        body = fitted(footer, pages)
        if not headers or numbers.random() < 0.6:
            tell_lies(footer, numbers)
        return body + parquet_end(footer)
    except (ValueError, OverflowError):
        return alter_bytes(data, numbers)  # a number that can't be written there


def tell_lies(structure: "Structure", numbers: random.Random) -> None:
    for _ in range(numbers.choice([1, 1, 1, 2, 3])):
        where, place = numbers.choice(list(places(STRUCTURE, structure)))
        where[place] = numbers.choice([*EXTREMES, where[place] + 1, where[place] - 1])


# Thrift's compact protocol, which Parquet is described in: a structure is a list of fields, each of
# which is [number, kind, value]; a list is [kind, items, length].
INTEGERS, BINARY, LIST, STRUCTURE = (4, 5, 6), 8, 9, 12

Structure = list[list[Any]]


def parsed(kind: int, data: bytes, at: int) -> tuple[Any, int]:
    """The value that begins there, and where it ends."""
    if kind in (1, 2):
        return None, at
    if kind == 3:
        return data[at], at + 1
    if kind == 7:
        if len(data) < at + 8:
            raise IndexError("cut off")
        return data[at : at + 8], at + 8
    if kind == STRUCTURE:
        fields: Structure = []
        number = 0
        while head := data[at]:
            number += head >> 4
            at += 1
            if not head >> 4:
                number, at = parsed(4, data, at)
            value, at = parsed(head & 15, data, at)
            fields.append([number, head & 15, value])
        return fields, at + 1
    if kind == LIST:
        item_kind, length, at = data[at] & 15, data[at] >> 4, at + 1
        if length == 15:
            length, at = varint(data, at)
        items: list[Any] = []
        for _ in range(length):
            item, at = parsed(max(item_kind, 3), data, at)
            items.append(item)
        return [item_kind, items, length], at
    number, at = varint(data, at)
    if kind == BINARY:
        return data[at : at + number], at + number
    return number >> 1 ^ -(number & 1), at


def varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return number, at


def written(kind: int, value: Any) -> bytes:
    """What `parsed` makes the value of."""
    if kind in (1, 2):
        return b""
    if kind == 3:
        return bytes([value])
    if kind == 7:
        return value
    if kind == STRUCTURE:
        parts, last = [], 0
        for number, field_kind, field in value:
            step = number - last
            head = [step << 4 | field_kind] if 0 < step < 16 else [field_kind, *written(4, number)]
            parts.append(bytes(head) + written(field_kind, field))
            last = number
        return b"".join(parts) + b"\0"
    if kind == LIST:
        item_kind, items, length = value
        head = [length << 4 | item_kind] if 0 <= length < 15 else [0xF0 | item_kind]
        size = b"" if len(head) == 1 and head[0] < 0xF0 else digits(length)
        item_kind = max(item_kind, 3)
        return bytes(head) + size + b"".join(written(item_kind, item) for item in items)
    if kind == BINARY:
        return digits(len(value)) + value
    return digits(value << 1 ^ value >> 63)


def digits(number: int) -> bytes:
    if number < 0:
        raise ValueError("no length")
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def places(kind: int, value: Any) -> Iterator[tuple[list[Any], int]]:
    """Where the numbers of a structure are: those of fields, what they hold, lengths of lists."""
    if kind == STRUCTURE:
        for field in value:
            yield field, 0
            if field[1] in INTEGERS:
                yield field, 2
            else:
                yield from places(field[1], field[2])
    elif kind == LIST:
        yield value, 2
        for place, item in enumerate(value[1]):
            if value[0] in INTEGERS:
                yield value[1], place
            else:
                yield from places(value[0], item)


def field_of(structure: Structure, number: int) -> list[Any]:
    return next((field for field in structure if field[0] == number), [number, 0, None])


Pages = list[list[tuple[Structure, bytes]]]


def parquet_parts(data: bytes) -> tuple[Structure, Pages]:
    """The footer of a file, and for each chunk of a column its pages, with their headers."""
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer, _ = parsed(STRUCTURE, data, end)
    pages: Pages = []
    for chunk in chunks_of(footer):
        data_start, dictionary_start = field_of(chunk, 9)[2], field_of(chunk, 11)[2]
        at = data_start if dictionary_start is None else dictionary_start
        stop = at + field_of(chunk, 7)[2]
        pages.append([])
        while at < stop:
            header, start = parsed(STRUCTURE, data, at)
            at = start + field_of(header, 3)[2]
            if at < start:
                raise ValueError("a page of less than nothing")
            pages[-1].append((header, data[start:at]))
    return footer, pages


def chunks_of(footer: Structure) -> list[Structure]:
    groups = field_of(footer, 4)[2][1]
    columns = [column for group in groups for column in field_of(group, 1)[2][1]]
    return [field_of(column, 3)[2] for column in columns]


def fitted(footer: Structure, pages: Pages) -> bytes:
    """The file up to its footer, which is told where the pages are now."""
    body = bytearray(b"PAR1")
    for chunk, parts in zip(chunks_of(footer), pages, strict=True):
        starts: list[int] = []
        for header, content in parts:
            starts.append(len(body))
            body += written(STRUCTURE, header) + content
        if starts:
            data_start, dictionary_start = field_of(chunk, 9), field_of(chunk, 11)
            has_dictionary = dictionary_start[2] is not None
            dictionary_start[2] = starts[0] if has_dictionary else None
            data_start[2] = starts[min(has_dictionary, len(starts) - 1)] if data_start[2] else 0
            field_of(chunk, 7)[2] = len(body) - starts[0]
    return bytes(body)


def parquet_end(footer: Structure) -> bytes:
    end = written(STRUCTURE, footer)
    return end + len(end).to_bytes(4, "little") + b"PAR1"
