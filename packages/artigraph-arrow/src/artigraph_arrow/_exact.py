"""Writes a table to a file that is known to give it back."""

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from artigraph.errors import ArtigraphError, LimitError, UnsupportedValueError, shown
from artigraph.serializer.sink import Sink
from artigraph_arrow._file import Format

PART = 32 * 2**20
"""How much of a column, or of what a reader yields, is looked at at once, in bytes."""

_ERRORS = (pa.ArrowException, OSError, ValueError)


def write_exactly(table: pa.Table, file: BinaryIO, file_format: Format) -> None:
    """Write the file of `table`.

    The schema is proven on a table without rows, and the values of a column where the format is
    known to alter some of its type.

    Raises:
        UnsupportedValueError: It would not come back exactly; the error names the column.
    """
    _check(table.slice(0, 0), file_format)
    if table.num_columns == 0:
        _check(table, file_format)
    _check_values(table, file_format)
    sink = Sink(file)
    try:
        table.validate(full=True)
        with sink.passing_errors():
            file_format.write((table,), table.schema, sink, table)
    except ArtigraphError:
        raise
    except _ERRORS:
        if sink.failure is None:
            _check(table, file_format)
        raise


def write_all_exactly(reader: pa.RecordBatchReader, file: BinaryIO, file_format: Format) -> None:
    """Write the file of a table of all batches that `reader` yields.

    Raises:
        UnsupportedValueError: As `write_exactly`, as soon as it is seen.
    """
    schema = reader.schema
    _check(schema.empty_table(), file_format)
    with Sink(file).passing_errors() as sink:
        tables = _checked(_gathered(reader), file_format)
        file_format.write(tables, schema, sink, None)


def _gathered(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Tables of some batches each, so that a row group is made of more than one."""
    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size >= PART:
            yield pa.Table.from_batches(batches)
            batches, size = [], 0
    if batches:
        yield pa.Table.from_batches(batches)


def _checked(tables: Iterable[pa.Table], file_format: Format) -> Iterator[pa.Table]:
    dictionaries: dict[int, pa.Array] = {}
    for table in tables:
        table.validate(full=True)
        if table.num_columns == 0:
            _check(table, file_format)
        _check_values(table, file_format)
        for i, column in enumerate(table.columns):
            if pa.types.is_dictionary(column.type):
                for chunk in column.chunks:
                    if not dictionaries.setdefault(i, chunk.dictionary).equals(chunk.dictionary):
                        raise _differing_dictionaries(table.field(i).name)
        yield table


def _differing_dictionaries(name: str) -> UnsupportedValueError:
    remedy = "Decode them, or give all batches one dictionary."
    return UnsupportedValueError(f"column {shown(name)}", "a changing dictionary", remedy)


def _check_values(table: pa.Table, file_format: Format) -> None:
    for i, field in enumerate(table.schema):
        has_forbidden_nulls = not field.nullable and table.column(i).null_count
        if has_forbidden_nulls or not file_format.keeps(field.type):
            for part in _parts(table.select([i])):
                _check(part, file_format)


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    """A table of one column in parts of a bounded size, but where all have one dictionary."""
    rows = max(1, PART * table.num_rows // max(table.nbytes, 1))
    if rows >= table.num_rows or "dictionary<" in str(table.schema.field(0).type):
        yield table
        return
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


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
    file = BytesIO()
    try:
        table.validate(full=True)
        file_format.write((table,), table.schema, Sink(file), table)
        found = file_format.read(file.getbuffer())
    except LimitError:
        raise
    except (UnsupportedValueError, *_ERRORS):
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
