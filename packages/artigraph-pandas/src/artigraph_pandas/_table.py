"""Data frames and series as Arrow tables, exactly, and back.

The columns come first, then the arrays of the index. All are found by position: their names are for
other readers of the file.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa

from artigraph.errors import shown
from artigraph.serializer.columns import find_columns
from artigraph_pandas._array import values_of
from artigraph_pandas._file import Description, describe, description_of
from artigraph_pandas._index import (
    decode_index,
    decode_values,
    encode_index,
    encode_values,
    pack_index,
    unpack_index,
)

D = TypeVar("D", pd.DataFrame, "pd.Series[Any]")

_Column = tuple[pa.Array, Description]


def table_of_frame(frame: pd.DataFrame) -> pa.Table:
    """The table that holds `frame`.

    Raises:
        ArtigraphError: It would not come back exactly; the error names the column.
    """
    columns = [
        encode_values(values_of(column), f"column {shown(label)}")
        for label, column in frame.items()
    ]
    details = {"columns": pack_index(frame.columns, "column labels")}
    return _assemble("frame", frame, columns, frame.columns, details)


def frame_of_table(table: pa.Table) -> pd.DataFrame:
    """The frame of which `table_of_frame` made `table`."""
    description = description_of(table)
    labels = unpack_index(description["columns"])
    return _frame(table, description, labels)


def choose_columns(schema: pa.Schema, wanted: Sequence[str] | None) -> list[int]:
    """The places of the columns with these labels, and of all that is in the index.

    Raises:
        LookupError: There is no column of a label, or more than one.
    """
    description = description_of(schema)
    labels = unpack_index(description["columns"])
    number = len(description["values"])
    return [*find_columns(list(labels), wanted), *range(number, len(schema))]


def frame_of_selected(table: pa.Table, wanted: Sequence[str] | None, rows: slice) -> pd.DataFrame:
    """The frame of a table that has only the chosen columns, and these rows."""
    description = dict(description_of(table))
    labels = unpack_index(description["columns"])
    places = find_columns(list(labels), wanted)
    index = description["index"]
    if "range" in index:
        kept: Any = pd.RangeIndex(*index["range"])[rows]
        index = {**index, "range": [kept.start, kept.stop, kept.step]}
    description["index"] = index
    description["values"] = [description["values"][place] for place in places]
    return _frame(table, description, labels if wanted is None else labels[places])


def _frame(table: pa.Table, description: Description, labels: "pd.Index[Any]") -> pd.DataFrame:
    columns, index = _take_apart(table, description)
    frame = pd.DataFrame(dict(enumerate(columns)), index=index, copy=False)
    frame.columns = labels
    return _finish(frame, description)


def table_of_series(series: "pd.Series[Any]") -> pa.Table:
    """The table that holds `series`.

    Raises:
        ArtigraphError: It would not come back exactly.
    """
    column = encode_values(values_of(series), "series")
    return _assemble("series", series, [column], [series.name], {"name": series.name})


def series_of_table(table: pa.Table) -> "pd.Series[Any]":
    """The series of which `table_of_series` made `table`."""
    description = description_of(table)
    (series,), _ = _take_apart(table, description)
    series.name = description["name"]
    return _finish(series, description)


def _assemble(
    where: str, data: Any, columns: list[_Column], labels: Iterable[object], details: Description
) -> pa.Table:
    index_arrays, index = encode_index(data.index, "index")
    arrays = [*(array for array, _ in columns), *index_arrays]
    names = [str(label) for label in (*labels, *data.index.names)][: len(arrays)]
    printable = [name.encode("utf-8", "replace").decode() for name in names]
    description = {
        "values": [description for _, description in columns],
        "index": index,
        "attrs": data.attrs,
        "allows_duplicate_labels": data.flags.allows_duplicate_labels,
        **details,
    }
    return describe(pa.Table.from_arrays(arrays, names=printable), description, where)


def _take_apart(
    table: pa.Table, description: Description
) -> tuple[list["pd.Series[Any]"], "pd.Index[Any]"]:
    arrays = iter([column.combine_chunks() for column in table.columns])
    columns = [decode_values(next(arrays), details) for details in description["values"]]
    index = decode_index(arrays, description["index"])
    # As series, since a frame would guess a dtype for arrays of objects.
    return [pd.Series(values, index, values.dtype, copy=False) for values in columns], index


def _finish(data: D, description: Description) -> D:
    data.attrs = description["attrs"]
    flags: Any = data.flags
    flags.allows_duplicate_labels = description["allows_duplicate_labels"]
    return data
