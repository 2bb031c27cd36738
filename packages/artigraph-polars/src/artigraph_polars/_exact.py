"""Writes a frame to a file that is known to give it back."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, BinaryIO

import polars as pl
from polars.exceptions import PolarsError

from artigraph.errors import ArtigraphError, LimitError, UnsupportedValueError, shown
from artigraph_polars._file import Format, read, write

# By name: the older releases lack some.
_DTYPES = {
    getattr(pl, name, None)
    for name in (
        *("Boolean", "Int8", "Int16", "Int32", "Int64", "Int128"),
        *("UInt8", "UInt16", "UInt32", "UInt64", "UInt128"),
        *("Float16", "Float32", "Float64", "Decimal"),
        *("Date", "Datetime", "Duration", "Time"),
        *("String", "Binary", "Categorical", "Enum", "Null"),
        *("List", "Array", "Struct"),
    )
}

_ERRORS = (PolarsError, ValueError)

PART = 32 * 2**20
"""How much of a nested column is looked at at once, in bytes."""


def write_exactly(frame: pl.DataFrame, file: BinaryIO, file_format: Format) -> None:
    """Write the file of `frame`; nested columns have to prove that they come back.

    Raises:
        ArtigraphError: One does not, or the file would not be read.
    """
    _check_schema(frame.schema, file_format)
    _check_nested(frame, file_format)
    try:
        write(frame, file, file_format)
    except ArtigraphError:
        raise
    except _ERRORS:
        for column in frame:
            _check(column, file_format)
        raise


def write_all_exactly(frame: pl.LazyFrame, file: BinaryIO, file_format: Format) -> None:
    """Write the file of what a lazy frame makes, while it makes it.

    Raises:
        ArtigraphError: As `write_exactly`.
    """
    schema = frame.collect_schema()
    _check_schema(schema, file_format)
    refusals: list[ArtigraphError] = []

    def checked(part: pl.DataFrame) -> pl.DataFrame:
        try:
            _check_nested(part, file_format)
        except ArtigraphError as error:  # which polars may make another of
            refusals.append(error)
            raise
        return part

    if any(dtype.is_nested() for dtype in schema.values()):
        frame = frame.map_batches(checked, schema=schema, streamable=True)
    try:
        write(frame, file, file_format)
    except Exception:
        if refusals:
            raise refusals[0] from None
        raise


def _check_schema(schema: Mapping[str, pl.DataType], file_format: Format) -> None:
    for name, dtype in schema.items():
        for part in _parts(dtype):
            if part.base_type() not in _DTYPES:
                raise _refusal(name, f"dtype {part.base_type()}", file_format)


def _check_nested(frame: pl.DataFrame, file_format: Format) -> None:
    for column in frame:
        if column.dtype.is_nested():
            rows = max(1, PART * len(column) // max(int(column.estimated_size()), 1))
            for start in range(0, max(len(column), 1), rows):
                _check(column.slice(start, rows), file_format)


def _check(column: pl.Series, file_format: Format) -> None:
    refusal = _refusal(column.name, f"this dtype {column.dtype.base_type()}", file_format)
    file = BytesIO()
    try:
        write(column.to_frame(), file, file_format)
        (found,) = read(file.getbuffer(), file_format)
    except LimitError:
        raise
    except _ERRORS as error:
        raise refusal from error
    if not found.equals(column, check_dtypes=True, check_names=True):
        raise refusal


def _refusal(column: str, name: str, file_format: Format) -> UnsupportedValueError:
    where = f"column {shown(column)}"
    remedy = f"{file_format.write.__name__}() does not keep it: cast it, or choose another format."
    return UnsupportedValueError(where, name, remedy)


def _parts(dtype: Any) -> Iterator[Any]:
    """A dtype and every dtype within it."""
    yield dtype
    if isinstance(dtype, pl.List | pl.Array):
        yield from _parts(dtype.inner)
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _parts(field.dtype)
