"""Writes a table to a file that is known to give it back."""

import pyarrow as pa
import pyarrow.compute as pc

from artigraph.errors import LimitError, UnsupportedValueError, shown
from artigraph.serializer.footer import without_extension_types
from artigraph.spec import Data
from artigraph_arrow._file import Format

_ERRORS = (pa.ArrowException, OSError, ValueError)


def write_exactly(table: pa.Table, file_format: Format) -> Data:
    """The file of `table`.

    The schema is proven on a table without rows, and the values of a column where the format is
    known to alter some of its type.

    Raises:
        UnsupportedValueError: It would not come back exactly; the error names the column.
        LimitError: It takes so much more memory than the file that it would not be read.
    """
    _check(table.slice(0, 0), file_format)
    for i, field in enumerate(table.schema):
        has_forbidden_nulls = not field.nullable and table.column(i).null_count
        if has_forbidden_nulls or not file_format.keeps(field.type):
            _check(table.select([i]), file_format)
    if table.num_columns == 0:
        _check(table, file_format)
    try:
        table.validate(full=True)
        return without_extension_types(file_format.write(table))
    except LimitError:
        raise
    except _ERRORS:
        _check(table, file_format)
        raise


def _check(table: pa.Table, file_format: Format) -> None:
    if _is_kept(table, file_format):
        return
    for i, field in enumerate(table.schema):
        if not _is_kept(table.select([i]).replace_schema_metadata(None), file_format):
            kind = f"type {field.type}" if field.nullable else f"type {field.type} not null"
            raise UnsupportedValueError(f"column {shown(field.name)}", kind, file_format.remedy)
    if table.num_rows and not table.num_columns:
        raise UnsupportedValueError("table", "rows without columns", file_format.remedy)
    remedy = "Remove the keys that begin with 'ARROW:'."
    raise UnsupportedValueError("table", "the metadata of its schema", remedy)


def _is_kept(table: pa.Table, file_format: Format) -> bool:
    try:
        table.validate(full=True)
        found = file_format.read(file_format.write(table))
    except LimitError:
        raise
    except _ERRORS:
        return False
    return (
        found.schema.equals(table.schema, check_metadata=True)
        and found.num_rows == table.num_rows
        and all(map(_is_equal_column, found.columns, table.columns))
    )


def _is_equal_column(found: pa.ChunkedArray, column: pa.ChunkedArray) -> bool:
    if found.equals(column):
        return True
    # Chunk by chunk: combined, they would agree on one dictionary.
    array, start = found.combine_chunks(), 0
    for chunk in column.chunks:
        if not _is_equal(array.slice(start, len(chunk)), chunk):
            return False
        start += len(chunk)
    return True


def _is_equal(found: pa.Array, array: pa.Array) -> bool:
    """Whether two arrays of one type are equal, where a NaN equals itself."""
    kind = array.type
    if found.equals(array):
        return True
    if pa.types.is_floating(kind):
        bits = _BITS[kind.bit_width]
        return found.view(bits).equals(array.view(bits))
    if pa.types.is_map(kind):
        entries = pa.list_(kind.field(0))
        return _is_equal(found.view(entries), array.view(entries))
    if not pa.types.is_nested(kind) or not found.is_null().equals(array.is_null()):
        return False
    if pa.types.is_struct(kind):
        return all(map(_is_equal, found.flatten(), array.flatten()))
    lengths, found_lengths = (
        pc.call_function("list_value_length", [lists]) for lists in (array, found)
    )
    return found_lengths.equals(lengths) and _is_equal(found.flatten(), array.flatten())


_BITS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
