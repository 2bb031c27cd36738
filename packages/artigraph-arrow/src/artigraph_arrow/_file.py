"""Arrow tables as Feather and Parquet files, and back, with the schema that they had."""

from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from artigraph.serializer.footer import refuse_extension_types
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


def _read_feather(data: Data) -> pa.Table:
    refuse_extension_types(data)
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    table.validate(full=True)
    return table


def _write_parquet(table: pa.Table) -> Data:
    sink = BytesIO()
    # zstd makes files a fifth smaller than snappy, at the same speed. Without the "compliant" names
    # lists keep the name of their items.
    pq.write_table(table, sink, compression="zstd", use_compliant_nested_type=False)
    return sink.getbuffer()


def _read_parquet(data: Data) -> pa.Table:
    refuse_extension_types(data)
    limit = min(len(data), 2**31 - 1)  # metadata may be larger than the usual 100 MB
    file = pq.ParquetFile(
        pa.BufferReader(pa.py_buffer(data)),
        thrift_string_size_limit=limit,
        thrift_container_size_limit=limit,
    )
    # Parquet has fewer types than Arrow: what was seconds comes back as milliseconds.
    schema = b64decode(file.metadata.metadata[b"ARROW:schema"])
    table = file.read().cast(pa.ipc.read_schema(pa.py_buffer(schema)))
    table.validate(full=True)
    return table


def _is_kept_by_parquet(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return all(_is_kept_by_parquet(field.type) for field in kind)
    if pa.types.is_map(kind):
        return _is_kept_by_parquet(kind.key_type) and _is_kept_by_parquet(kind.item_type)
    if any(is_list(kind) for is_list in _LISTS):
        # Lists of the fixed size 0 are written and can't be read.
        return getattr(kind, "list_size", 1) > 0 and _is_kept_by_parquet(kind.value_type)
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return kind.unit != "s"
    return not any(is_of(kind) for is_of in _ALTERED)


_LISTS: tuple[Callable[[pa.DataType], bool], ...] = (
    *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
    *(pa.types.is_list_view, pa.types.is_large_list_view),
)

# Some of them are refused by Parquet already; is_nested is for unions and run-end encoding.
_ALTERED = (pa.types.is_nested, pa.types.is_dictionary, pa.types.is_date64)

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
