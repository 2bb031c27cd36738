"""Arrow tables as Feather and Parquet files, and back, with the schema that they had."""

from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from artigraph.serializer.columns import find_columns
from artigraph.serializer.footer import refuse_extension_types, without_extension_types
from artigraph.serializer.ipc import measure_ipc
from artigraph.serializer.once import check_once
from artigraph.serializer.parquet import measure_parquet
from artigraph.serializer.sink import ParquetSink, Sink
from artigraph.spec import Data, LocalFile
from artigraph_arrow._dictionaries import dictionaries_of, dictionaries_of_unseen

BATCH = 16 * 2**20
"""Of arrays whose bitmaps and offsets have to be copied, in bytes: what is written at once."""


class Format(NamedTuple):
    """A kind of file that keeps Arrow tables."""

    write: Callable[[Iterable[pa.Table], pa.Schema, Sink, pa.Table | None], None]
    """Writes tables of one schema, one after the other; the last is all that will come, if it is
    known."""
    read: Callable[[Data], pa.Table]
    select: Callable[[LocalFile, Sequence[str] | None, int, int | None], pa.Table]
    """Reads columns, and rows from one to before another."""
    scan: Callable[[LocalFile], ds.Dataset]
    keeps: Callable[[pa.DataType], bool]
    """Whether every column of a type comes back exactly, if it can be written at all. One of
    another type has to prove it."""
    remedy: str


def map_feather(file: LocalFile) -> pa.Table:
    """The table in a Feather file, whose arrays lie in it; they are checked only once."""
    table = _view_feather(file.data)
    check_once(file, "values", lambda: table.validate(full=True))
    return table


def _view_feather(data: Data) -> pa.Table:
    """The table in Feather data, whose arrays lie in it, and may be anything."""
    refuse_extension_types(data)
    measure_ipc(data)
    return pa.ipc.open_file(pa.py_buffer(data)).read_all()


def _write_feather(
    tables: Iterable[pa.Table], schema: pa.Schema, sink: Sink, everything: pa.Table | None
) -> None:
    # Beside the schema the footer has only numbers, so it is enough to look at that of no rows.
    empty = BytesIO()
    pa.ipc.new_file(empty, schema).close()
    without_extension_types(empty.getbuffer())
    with pa.ipc.new_file(sink, schema) as writer:
        for table in tables:
            writer.write_table(table, _batch_rows(table))
            if not table.num_rows and all(column.num_chunks for column in table.columns):
                # A table without rows has no batches, and still a dictionary.
                arrays = [column.chunk(0) for column in table.columns]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=table.schema))


def _batch_rows(table: pa.Table) -> int | None:
    """How many rows to write at once; None where no array has to be copied for it."""
    if not any(chunk.offset for column in table.columns for chunk in column.chunks):
        return None
    return max(1, BATCH * table.num_rows // max(table.nbytes, 1))


def _read_feather(data: Data) -> pa.Table:
    table = _view_feather(data)
    table.validate(full=True)
    return table


def _select_feather(
    file: LocalFile, columns: Sequence[str] | None, start: int, stop: int | None
) -> pa.Table:
    table = _view_feather(file.data)
    table = _rows(table.select(find_columns(table.column_names, columns)), start, stop)
    table.validate(full=True)
    return table


def _scan_feather(file: LocalFile) -> ds.Dataset:
    map_feather(file)
    return ds.dataset(str(file.path), format="ipc")


def _write_parquet(
    tables: Iterable[pa.Table], schema: pa.Schema, sink: Sink, everything: pa.Table | None
) -> None:
    dictionaries = (
        dictionaries_of_unseen(schema) if everything is None else dictionaries_of(everything)
    )
    empty = BytesIO()
    pq.ParquetWriter(empty, schema, **_OPTIONS).close()
    paths: Any = dictionaries.paths(schema, pq.ParquetFile(empty).schema)
    with ParquetSink(sink) as parquet:
        with pq.ParquetWriter(parquet, schema, use_dictionary=paths, **_OPTIONS) as writer:
            for table in tables:
                writer.write_table(table)
            parquet.hold()
        parquet.finish(longest=dictionaries.longest)


# Without the "compliant" names lists keep the name of their items. zstd makes files a fifth smaller
# than snappy, at the same speed.
_OPTIONS: dict[str, Any] = {"use_compliant_nested_type": False, "compression": "zstd"}


def _read_parquet(data: Data) -> pa.Table:
    refuse_extension_types(data)
    measure_parquet(data, decompress=_decompress)
    file = _parquet_file(data)
    return _checked(file.read(), _schema(file))


def _select_parquet(
    file: LocalFile, columns: Sequence[str] | None, start: int, stop: int | None
) -> pa.Table:
    refuse_extension_types(file.data)
    parquet = _parquet_file(file.data)
    schema = _schema(parquet)
    places = find_columns(schema.names, columns)

    def measure() -> None:
        measure_parquet(file.data, decompress=_decompress, columns=places)

    check_once(file, ("sizes", *places), measure)
    groups, first = _groups(parquet, start, stop)
    table = parquet.read_row_groups(groups, None if columns is None else list(columns))
    if columns is not None:
        table = table.select(columns)
    table = _rows(table, start - first, None if stop is None else stop - first)
    wanted = pa.schema([schema.field(place) for place in places], schema.metadata)
    return _checked(table, wanted)


def _groups(parquet: pq.ParquetFile, start: int, stop: int | None) -> tuple[list[int], int]:
    """The row groups that have some of the rows, and the first row of the first of them."""
    groups: list[int] = []
    first = at = 0
    for number in range(parquet.num_row_groups):
        end = at + parquet.metadata.row_group(number).num_rows
        if end > start and (stop is None or at < stop):
            first = first if groups else at
            groups.append(number)
        at = end
    return groups, first if groups else start


def _scan_parquet(file: LocalFile) -> ds.Dataset:
    refuse_extension_types(file.data)
    check_once(file, "sizes", lambda: measure_parquet(file.data, decompress=_decompress))
    return ds.dataset(str(file.path), _schema(_parquet_file(file.data)), format="parquet")


def _parquet_file(data: Data) -> pq.ParquetFile:
    limit = min(len(data), 2**31 - 1)  # metadata may be larger than the usual 100 MB
    return pq.ParquetFile(
        pa.BufferReader(pa.py_buffer(data)),
        thrift_string_size_limit=limit,
        thrift_container_size_limit=limit,
    )


def _schema(file: pq.ParquetFile) -> pa.Schema:
    encoded = b64decode(file.metadata.metadata[b"ARROW:schema"])
    return pa.ipc.read_schema(pa.py_buffer(encoded))


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the types that it was written with: Parquet makes milliseconds of seconds."""
    table.validate(full=True)
    columns = [
        column if found.equals(field, check_metadata=True) else column.cast(field.type)
        for column, found, field in zip(table.columns, table.schema, schema, strict=True)
    ]
    return table if not columns else pa.Table.from_arrays(columns, schema=schema)


def _decompress(codec: str, data: bytes, size: int) -> bytes:
    return pa.Codec(codec).decompress(data, size, asbytes=True)


def _rows(table: pa.Table, start: int, stop: int | None) -> pa.Table:
    return table.slice(start, None if stop is None else max(stop - start, 0))


def _is_kept_by_parquet(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_struct(kind) or types.is_list(kind) or types.is_large_list(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        # Nulls where there may be none are replaced without a word by older releases.
        return all(field.nullable and _is_kept_by_parquet(field.type) for field in fields)
    if types.is_timestamp(kind) or types.is_time(kind):
        return kind.unit != "s"
    return not (types.is_nested(kind) or types.is_dictionary(kind) or types.is_date64(kind))


FEATHER = Format(
    _write_feather,
    _read_feather,
    _select_feather,
    _scan_feather,
    keeps=lambda kind: True,
    remedy="Cast the column to another type; dictionaries need table.unify_dictionaries().",
)
"""Feather 2 is the Arrow IPC file format: https://arrow.apache.org/docs/format/Columnar.html"""

PARQUET = Format(
    _write_parquet,
    _read_parquet,
    _select_parquet,
    _scan_parquet,
    keeps=_is_kept_by_parquet,
    remedy="Cast the column to a type that Parquet has, or choose a feather serializer.",
)
"""https://parquet.apache.org/docs/file-format/"""
