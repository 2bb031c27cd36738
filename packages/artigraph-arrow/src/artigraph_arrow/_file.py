"""Arrow tables as Feather and Parquet files, and back, with the schema that they had."""

from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from artigraph.errors import LimitError
from artigraph.serializer.footer import refuse_extension_types
from artigraph.serializer.ipc import measure_ipc
from artigraph.serializer.parquet import measure_parquet
from artigraph.spec import Data


class Format(NamedTuple):
    """A kind of file that keeps Arrow tables."""

    write: Callable[[pa.Table], Data]
    read: Callable[[Data], pa.Table]
    keeps: Callable[[pa.DataType], bool]
    """Whether every column of a type comes back exactly, if it can be written at all. One of
    another type has to prove it."""
    remedy: str


def _write_feather(table: pa.Table) -> Data:
    counter = pa.MockOutputStream()
    _write_ipc(table, counter)
    # Of the right size from the start: a stream that grows would take twice the memory.
    buffer = pa.allocate_buffer(counter.size())
    _write_ipc(table, pa.FixedSizeBufferWriter(buffer))
    return memoryview(buffer).cast("B")


def _write_ipc(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
        if not table.num_rows and all(column.num_chunks for column in table.columns):
            # A table without rows has no batches, and still a dictionary.
            arrays = [column.chunk(0) for column in table.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=table.schema))


def _read_feather(data: Data) -> pa.Table:
    refuse_extension_types(data)
    measure_ipc(data)
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    table.validate(full=True)
    return table


def _write_parquet(table: pa.Table) -> Data:
    # zstd makes files a fifth smaller than snappy, at the same speed.
    data = _parquet_file(table, compression="zstd")
    try:
        _measure_parquet(data)
    except LimitError:
        # So small was it made that it would not be read, as what some attacks send.
        data = _parquet_file(table, compression=None, use_dictionary=False)
        _measure_parquet(data)
    return data


def _parquet_file(table: pa.Table, **options: Any) -> Data:
    sink = BytesIO()
    # Without the "compliant" names lists keep the name of their items.
    pq.write_table(table, sink, use_compliant_nested_type=False, **options)
    return sink.getbuffer()


def _measure_parquet(data: Data) -> int:
    return measure_parquet(data, decompress=_decompress)


def _read_parquet(data: Data) -> pa.Table:
    refuse_extension_types(data)
    _measure_parquet(data)
    limit = min(len(data), 2**31 - 1)  # metadata may be larger than the usual 100 MB
    file = pq.ParquetFile(
        pa.BufferReader(pa.py_buffer(data)),
        thrift_string_size_limit=limit,
        thrift_container_size_limit=limit,
    )
    table = file.read()
    table.validate(full=True)
    encoded = b64decode(file.metadata.metadata[b"ARROW:schema"])
    schema = pa.ipc.read_schema(pa.py_buffer(encoded))
    return _with_schema(table, schema)


def _decompress(codec: str, data: bytes, size: int) -> bytes:
    return pa.Codec(codec).decompress(data, size, asbytes=True)


def _with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the types that it was written with: Parquet makes milliseconds of seconds."""
    columns = [
        column if found.equals(field, check_metadata=True) else column.cast(field.type)
        for column, found, field in zip(table.columns, table.schema, schema, strict=True)
    ]
    return table if not columns else pa.Table.from_arrays(columns, schema=schema)


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
    keeps=lambda kind: True,
    remedy="Cast the column to another type; dictionaries need table.unify_dictionaries().",
)
"""Feather 2 is the Arrow IPC file format: https://arrow.apache.org/docs/format/Columnar.html"""

PARQUET = Format(
    _write_parquet,
    _read_parquet,
    keeps=_is_kept_by_parquet,
    remedy="Cast the column to a type that Parquet has, or choose a feather serializer.",
)
"""https://parquet.apache.org/docs/file-format/"""
