"""Arrow tables as Parquet and Arrow IPC files, and back."""

from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from io import BytesIO
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from artigraph.serializer.codec import Packer, dumps, loads
from artigraph.serializer.footer import refuse_extension_types, without_extension_types
from artigraph.serializer.ipc import measure_ipc
from artigraph.serializer.once import check_once
from artigraph.serializer.parquet import measure_parquet
from artigraph.serializer.sink import IpcSink, ParquetSink
from artigraph.spec import Data, LocalFile
from artigraph_pandas._dictionaries import dictionaries_of, tops_of
from artigraph_pandas._memory import spend

Choose: TypeAlias = Callable[[pa.Schema], list[int]]
"""Tells the places of the columns that are wanted, in their order."""

Description: TypeAlias = Mapping[str, Any]
"""What Arrow types do not say about pandas data, in values that the JSON serializer keeps."""

_KEY = b"artigraph"


def describe(table: pa.Table, description: Description, where: str) -> pa.Table:
    """`table` with a description of what it stands for in its metadata.

    Raises:
        ArtigraphError: The description holds what the JSON serializer does not keep.
    """
    return table.replace_schema_metadata({_KEY: dumps(Packer(where).pack(description))})


def description_of(table: pa.Table | pa.Schema) -> Description:
    """What `describe` put into the metadata.

    Raises:
        ValueError: There is none.
    """
    schema = table if isinstance(table, pa.Schema) else table.schema
    metadata = schema.metadata or {}
    if _KEY not in metadata:
        raise ValueError("the table was not written by this serializer")
    return loads(metadata[_KEY].decode("ascii"))


def write_parquet(table: pa.Table, file: BinaryIO, spent: int) -> None:
    """Write a Parquet file: https://parquet.apache.org/docs/file-format/.

    Args:
        table: What is in it.
        file: Gets it piece by piece.
        spent: What the value takes in memory beside the file's, in bytes.
    """
    bare = table.replace_schema_metadata(None)
    empty = BytesIO()
    pq.ParquetWriter(empty, bare.schema, **_OPTIONS).close()
    paths, longest = dictionaries_of(bare, pq.ParquetFile(empty).schema)
    options: Any = {"use_dictionary": paths, **_OPTIONS}
    with ParquetSink(file, per_value=_NUMPY) as sink:
        with sink.passing_errors():
            with pq.ParquetWriter(sink, bare.schema, **options) as writer:
                writer.write_table(bare)
                # As metadata of the schema it would be there twice.
                writer.add_key_value_metadata(table.schema.metadata)
                sink.hold()
        sink.finish(longest=longest, spent=spent)


# Without the "compliant" names lists keep the name of their items. zstd makes files a fifth smaller
# than snappy, at the same speed.
_OPTIONS: dict[str, Any] = {"use_compliant_nested_type": False, "compression": "zstd"}


def read_parquet(data: Data) -> pa.Table:
    """The table in a Parquet file, with the Arrow types that it was written with."""
    refuse_extension_types(data)
    spend(_measure_parquet(data))
    file = _parquet_file(data)
    schema = _parquet_schema(file)
    return _checked(file.read(), schema)


def select_parquet(data: Data, choose: Choose, start: int, stop: int | None) -> pa.Table:
    """Some columns and rows of the table in a Parquet file."""
    refuse_extension_types(data)
    file = _parquet_file(data)
    schema = _parquet_schema(file)
    places = choose(schema)
    spend(_measure_parquet(data, places))
    groups, first = _groups(file, start, stop)
    leaves = [leaf for leaf, top in enumerate(tops_of(schema)) if top in set(places)]
    table = file.reader.read_row_groups(groups, column_indices=leaves)
    # What was read is in the order of the file, and has each column once.
    order = {place: i for i, place in enumerate(sorted(places))}
    table = table.select([order[place] for place in places])
    table = _rows(table, start - first, None if stop is None else stop - first)
    wanted = pa.schema([schema.field(place) for place in places], schema.metadata)
    return _checked(table, wanted)


def _groups(file: pq.ParquetFile, start: int, stop: int | None) -> tuple[list[int], int]:
    """The row groups that have some of the rows, and the first row of the first of them."""
    groups: list[int] = []
    first = at = 0
    for number in range(file.num_row_groups):
        end = at + file.metadata.row_group(number).num_rows
        if end > start and (stop is None or at < stop):
            first = first if groups else at
            groups.append(number)
        at = end
    return groups, first if groups else start


def _parquet_file(data: Data) -> pq.ParquetFile:
    limit = min(len(data), 2**31 - 1)  # metadata may be larger than the usual 100 MB
    return pq.ParquetFile(
        pa.BufferReader(pa.py_buffer(data)),
        thrift_string_size_limit=limit,
        thrift_container_size_limit=limit,
    )


def _parquet_schema(file: pq.ParquetFile) -> pa.Schema:
    metadata = file.metadata.metadata
    schema = pa.ipc.read_schema(pa.py_buffer(b64decode(metadata[b"ARROW:schema"])))
    return schema.with_metadata(metadata)


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the types that it was written with: Parquet makes milliseconds of seconds."""
    table.validate(full=True)
    columns = [
        column if found.type == field.type else column.cast(field.type)
        for column, found, field in zip(table.columns, table.schema, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def write_ipc(table: pa.Table, file: BinaryIO, spent: int) -> None:
    """Write an Arrow IPC file, also called Feather 2; the arguments are those of `write_parquet`.

    The format: https://arrow.apache.org/docs/format/IPC.html.
    """
    empty = BytesIO()
    pa.ipc.new_file(empty, table.schema).close()
    with IpcSink(file, empty.getbuffer(), per_value=_NUMPY) as sink:
        with sink.passing_errors(), pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, _batch_rows(table))
        sink.finish(spent=spent)


def _batch_rows(table: pa.Table) -> int | None:
    """How many rows to write at once; None where no array has to be copied for it."""
    if not any(chunk.offset for column in table.columns for chunk in column.chunks):
        return None
    return max(1, _BATCH * table.num_rows // max(table.nbytes, 1))


_BATCH = 16 * 2**20
"""Of arrays whose bitmaps and offsets have to be copied, in bytes: what is written at once."""


def write_part(table: pa.Table) -> Data:
    """An Arrow IPC file that becomes a part of another file."""
    file = BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)
    data = without_extension_types(file.getbuffer())
    spend(_measure_ipc(data))
    return data


def read_ipc(data: Data) -> pa.Table:
    """The table in an Arrow IPC file; what is not compressed are views of `data`."""
    table = _view_ipc(data)
    table.validate(full=True)
    return table


def map_ipc(file: LocalFile) -> pa.Table:
    """The table in an Arrow IPC file, whose arrays lie in it; they are checked only once."""
    table = _view_ipc(file.data)
    check_once(file, "values", lambda: table.validate(full=True))
    return table


def select_ipc(data: Data, choose: Choose, start: int, stop: int | None) -> pa.Table:
    """Some columns and rows of the table in an Arrow IPC file."""
    table = _view_ipc(data)
    table = _rows(table.select(choose(table.schema)), start, stop)
    table.validate(full=True)
    return table


def _view_ipc(data: Data) -> pa.Table:
    refuse_extension_types(data)
    spend(_measure_ipc(data))
    return pa.ipc.open_file(pa.py_buffer(data)).read_all()


def _rows(table: pa.Table, start: int, stop: int | None) -> pa.Table:
    return table.slice(start, None if stop is None else max(stop - start, 0))


def _measure_parquet(data: Data, columns: Collection[int] | None = None) -> int:
    return measure_parquet(data, per_value=_NUMPY, decompress=_decompress, columns=columns)


def _measure_ipc(data: Data) -> int:
    return measure_ipc(data, per_value=_NUMPY)


_NUMPY = 8
"""What numpy takes for a value, also where Arrow only knows how many there are, in bytes."""


def _decompress(codec: str, data: bytes, size: int) -> bytes:
    return pa.Codec(codec).decompress(data, size, asbytes=True)
