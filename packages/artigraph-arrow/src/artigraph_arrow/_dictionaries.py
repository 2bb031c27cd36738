"""Which columns of a Parquet file get a dictionary, so that the file can be read again.

A reader copies a text out of the dictionary for every row. A file in which a long one might be in
every row is taken for an attack, so columns with texts of too different lengths get no dictionary.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artigraph.serializer.expansion import is_allowed

MOST = 16
"""How many times its size a column's texts may take if each were as long as the longest."""

ROWS = 1 << 20
"""How many texts of a column are looked at at once."""


class Dictionaries(NamedTuple):
    """Of each column whether it gets one, and the longest text that may be copied out of it."""

    has_one: list[bool]
    longest: list[int]
    """In bytes."""

    def paths(self, schema: pa.Schema, file: pq.ParquetSchema) -> list[str]:
        """What Parquet calls those columns and their parts."""
        tops = [i for i, field in enumerate(schema) for _ in range(_count_leaves(field.type))]
        paths = [(file.column(leaf).path, self.has_one[top]) for leaf, top in enumerate(tops)]
        # Columns of one name get one together, or none.
        without = {path for path, has_one in paths if not has_one}
        return [path for path, _ in paths if path not in without]


def dictionaries_of(table: pa.Table) -> Dictionaries:
    """The dictionaries with which a table can be read."""
    found = [_measure(column) for column in table.columns]
    is_small = is_allowed(2 * sum(copies for _, copies in found), 0)
    has_one = [
        is_small or copies <= MOST * column.nbytes
        for column, (_, copies) in zip(table.columns, found, strict=True)
    ]
    pairs = zip(found, has_one, strict=True)
    return Dictionaries(has_one, [longest if has else 0 for (longest, _), has in pairs])


def dictionaries_of_unseen(schema: pa.Schema) -> Dictionaries:
    """The dictionaries with which every table of a schema can be read."""
    has_one = [not any(map(_is_text, _leaf_types(field.type))) for field in schema]
    return Dictionaries(has_one, [0 for _ in schema])


def _measure(column: pa.ChunkedArray) -> tuple[int, int]:
    """The longest text in a column, and what all would take if they were as long, in bytes."""
    kind = column.type
    # Of a dictionary that is one, the reader makes one.
    if pa.types.is_dictionary(kind) or not any(map(_is_text, _leaf_types(kind))):
        return 0, 0
    longest = count = 0
    for chunk in column.chunks:
        for start in range(0, len(chunk), ROWS):
            for texts, number in _texts(chunk.slice(start, ROWS)):
                lengths = pc.call_function("binary_length", [texts])
                longest = max(longest, pc.call_function("max", [lengths]).as_py() or 0)
                count += number
    return longest, longest * count


def _texts(array: pa.Array) -> Iterator[tuple[pa.Array, int]]:
    """The arrays of texts in an array, and how often there is one of each."""
    kind = array.type
    if pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            yield from _texts(array.field(i))
    elif pa.types.is_map(kind):
        yield from _texts(array.keys)
        yield from _texts(array.items)
    elif pa.types.is_dictionary(kind):
        yield from ((texts, len(array)) for texts, _ in _texts(array.dictionary))
    elif kind.num_fields:
        yield from _texts(array.flatten())
    elif pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        yield array.cast(pa.large_binary()), len(array)
    elif _is_text(kind):
        yield array, len(array)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    is_large = types.is_large_string(kind) or types.is_large_binary(kind)
    is_view = types.is_string_view(kind) or types.is_binary_view(kind)
    return types.is_string(kind) or types.is_binary(kind) or is_large or is_view


def _leaf_types(kind: pa.DataType) -> Iterator[pa.DataType]:
    if pa.types.is_dictionary(kind):
        yield from _leaf_types(kind.value_type)
    elif kind.num_fields:
        for i in range(kind.num_fields):
            yield from _leaf_types(kind.field(i).type)
    else:
        yield kind


def _count_leaves(kind: pa.DataType) -> int:
    return sum(1 for _ in _leaf_types(kind))
