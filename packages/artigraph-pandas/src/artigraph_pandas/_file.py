"""Arrow tables as Parquet and Arrow IPC files, and back."""

from base64 import b64decode
from collections.abc import Mapping
from io import BytesIO
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from artigraph.errors import LimitError
from artigraph.serializer.footer import refuse_extension_types, without_extension_types
from artigraph.serializer.ipc import measure_ipc
from artigraph.serializer.json import Packer, dumps, loads
from artigraph.serializer.parquet import measure_parquet
from artigraph.spec import Data
from artigraph_pandas._memory import check_all, spend

Description: TypeAlias = Mapping[str, Any]
"""What Arrow types do not say about pandas data, in values that the JSON serializer keeps."""

_KEY = b"artigraph"


def describe(table: pa.Table, description: Description, where: str) -> pa.Table:
    """`table` with a description of what it stands for in its metadata.

    Raises:
        ArtigraphError: The description holds what the JSON serializer does not keep.
    """
    return table.replace_schema_metadata({_KEY: dumps(Packer(where).pack(description))})


def description_of(table: pa.Table) -> Description:
    """What `describe` put into the metadata.

    Raises:
        ValueError: There is none.
    """
    metadata = table.schema.metadata or {}
    if _KEY not in metadata:
        raise ValueError("the table was not written by this serializer")
    return loads(metadata[_KEY].decode("ascii"))


def write_parquet(table: pa.Table) -> Data:
    """A Parquet file: https://parquet.apache.org/docs/file-format/."""
    # zstd makes files a fifth smaller than snappy, at the same speed.
    data = _write_parquet(table, compression="zstd")
    try:
        check_all(_measure_parquet(data), len(data))
    except LimitError:
        # So small was it made that it would not be read, as what some attacks send.
        data = _write_parquet(table, compression=None, use_dictionary=False)
        check_all(_measure_parquet(data), len(data))
    return data


def read_parquet(data: Data) -> pa.Table:
    """The table in a Parquet file, with the Arrow types that it was written with."""
    refuse_extension_types(data)
    spend(_measure_parquet(data))
    limit = min(len(data), 2**31 - 1)  # metadata may be larger than the usual 100 MB
    file = pq.ParquetFile(
        pa.BufferReader(pa.py_buffer(data)),
        thrift_string_size_limit=limit,
        thrift_container_size_limit=limit,
    )
    table = file.read()
    table.validate(full=True)
    metadata = file.metadata.metadata
    schema = pa.ipc.read_schema(pa.py_buffer(b64decode(metadata[b"ARROW:schema"])))
    # Parquet makes milliseconds of seconds.
    columns = [
        column if found.type == field.type else column.cast(field.type)
        for column, found, field in zip(table.columns, table.schema, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema.with_metadata(metadata))


def write_ipc(table: pa.Table) -> Data:
    """An Arrow IPC file, also called Feather 2: https://arrow.apache.org/docs/format/IPC.html."""
    data = _ipc_file(table, None)
    check_all(_measure_ipc(data), len(data))
    return data


def write_part(table: pa.Table) -> Data:
    """An Arrow IPC file that becomes a part of another file."""
    data = _ipc_file(table, "zstd")
    spend(_measure_ipc(data))
    return data


def read_ipc(data: Data) -> pa.Table:
    """The table in an Arrow IPC file; what is not compressed are views of `data`."""
    refuse_extension_types(data)
    spend(_measure_ipc(data))
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    table.validate(full=True)
    return table


def _ipc_file(table: pa.Table, compression: str | None) -> Data:
    counter = pa.MockOutputStream()
    _write_ipc(table, counter, compression)
    # Of the right size from the start: a stream that grows would take twice the memory.
    buffer = pa.allocate_buffer(counter.size())
    _write_ipc(table, pa.FixedSizeBufferWriter(buffer), compression)
    return without_extension_types(memoryview(buffer).cast("B"))


def _write_ipc(table: pa.Table, sink: pa.NativeFile, compression: str | None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)


def _write_parquet(table: pa.Table, **options: Any) -> Data:
    sink = BytesIO()
    bare = table.replace_schema_metadata(None)
    # Without the "compliant" names lists keep the name of their items.
    with pq.ParquetWriter(sink, bare.schema, use_compliant_nested_type=False, **options) as writer:
        writer.write_table(bare)
        # As metadata of the schema it would be there twice.
        writer.add_key_value_metadata(table.schema.metadata)
    return without_extension_types(sink.getbuffer())


def _measure_parquet(data: Data) -> int:
    return measure_parquet(data, per_value=_NUMPY, decompress=_decompress)


def _measure_ipc(data: Data) -> int:
    return measure_ipc(data, per_value=_NUMPY)


_NUMPY = 8
"""What numpy takes for a value, also where Arrow only knows how many there are, in bytes."""


def _decompress(codec: str, data: bytes, size: int) -> bytes:
    return pa.Codec(codec).decompress(data, size, asbytes=True)
