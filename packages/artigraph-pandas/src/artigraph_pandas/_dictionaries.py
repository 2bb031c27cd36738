"""Which columns of a Parquet file get a dictionary, so that the file can be read again.

A reader copies a text out of the dictionary for every row. A file in which a long one might be in
every row is taken for an attack, so columns with texts of too different lengths get no dictionary.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artigraph.serializer.expansion import is_allowed

MOST = 16
"""How many times its size a column's texts may take if each were as long as the longest."""

ROWS = 1 << 20
"""How many texts of a column are looked at at once."""


def dictionaries_of(table: pa.Table, file: pq.ParquetSchema) -> tuple[list[str], list[int]]:
    """What Parquet calls those columns; and of each column the longest text that may be copied."""
    longest = [_longest(column) for column in table.columns]
    copies = [table.num_rows * length for length in longest]
    is_small = is_allowed(2 * sum(copies), 0)
    for i, column in enumerate(table.columns):
        if _is_nested_text(column.type) or (copies[i] > MOST * column.nbytes and not is_small):
            longest[i] = -1
    paths = [file.column(leaf).path for leaf in range(len(file))]
    # Columns of one name get one together, or none.
    without = {
        path for path, top in zip(paths, tops_of(table.schema), strict=True) if longest[top] < 0
    }
    return [path for path in paths if path not in without], [max(each, 0) for each in longest]


def tops_of(schema: pa.Schema) -> list[int]:
    """For each column of Parquet the place of the column that it is, or is a part of."""
    return [i for i, field in enumerate(schema) for _ in _leaf_types(field.type)]


def _longest(column: pa.ChunkedArray) -> int:
    """The length of the longest text in a column that is not nested, in bytes."""
    if column.type.num_fields or not _is_text(column.type):
        return 0
    longest = 0
    for chunk in column.chunks:
        for start in range(0, len(chunk), ROWS):
            lengths = pc.call_function("binary_length", [chunk.slice(start, ROWS)])
            longest = max(longest, pc.call_function("max", [lengths]).as_py() or 0)
    return longest


def _is_nested_text(kind: pa.DataType) -> bool:
    return bool(kind.num_fields) and any(map(_is_text, _leaf_types(kind)))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    is_large = types.is_large_string(kind) or types.is_large_binary(kind)
    return types.is_string(kind) or types.is_binary(kind) or is_large


def _leaf_types(kind: pa.DataType) -> Iterator[pa.DataType]:
    if not kind.num_fields:
        yield kind
    for i in range(kind.num_fields):
        yield from _leaf_types(kind.field(i).type)
