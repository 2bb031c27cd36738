"""Serializers of Arrow tables and record batches, as Feather and as Parquet.

Exact: values, types, nullability, names, and the metadata of the schema and its fields. Arrays out
of a Feather file are views of the data, without a copy. A loaded table may be in other chunks, and
Parquet loses the dictionary of a column without rows; Arrow calls such tables equal.

Refused: extension types, whose code would run on load; nulls in a field that declares none;
dictionaries that differ between the chunks of a column; and in Parquet what it lacks or alters, as
unions, run-end encoding, dictionaries of other things than strings, or rows without columns.
"""

from abc import abstractmethod
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from artigraph.errors import FieldTypeError
from artigraph.spec import (
    Data,
    LocalFile,
    MappingSerializer,
    ScanningSerializer,
    SelectingSerializer,
    StreamingSerializer,
)
from artigraph_arrow._exact import write_all_exactly, write_exactly
from artigraph_arrow._file import FEATHER, PARQUET, Format, map_feather

D = TypeVar("D")


class ArrowSerializer(StreamingSerializer[D]):
    """What tables and record batches have in common: both are kept as a table."""

    deterministic = False
    """Feather data also has the chunks, and what lies under nulls; Parquet data has what is unused
    in a nested dictionary."""

    def __init__(self, name: str, file_format: Format) -> None:
        self.name = name
        self._format = file_format

    @abstractmethod
    def to_table(self, value: D) -> pa.Table:
        """The table that holds `value`."""

    @abstractmethod
    def from_table(self, table: pa.Table) -> D:
        """The value of which `to_table` made `table`."""

    def serialize(self, value: D) -> Data:
        self._check_type(value)
        file = BytesIO()
        self.dump(value, file)
        return file.getbuffer()

    def deserialize(self, data: Data) -> D:
        return self.from_table(self._format.read(data))

    def estimate(self, value: Any) -> int:
        return value.nbytes

    def dump(self, value: D, file: BinaryIO) -> None:
        self._check_type(value)
        write_exactly(self.to_table(value), file, self._format)

    def _check_type(self, value: object) -> None:
        (expected,) = self.types
        if type(value) is not expected:
            got = f"{type(value).__module__}.{type(value).__qualname__}"
            raise FieldTypeError("value", self.name, f"a PyArrow {expected.__name__}", got)


class TableSerializer(
    ArrowSerializer[pa.Table], SelectingSerializer[pa.Table], ScanningSerializer[pa.Table]
):
    """Tables; or all batches of a reader, which are loaded as one."""

    types = (pa.Table,)
    sources = (pa.RecordBatchReader,)

    def dump(self, value: pa.Table | pa.RecordBatchReader, file: BinaryIO) -> None:
        if isinstance(value, pa.RecordBatchReader):
            write_all_exactly(value, file, self._format)
        else:
            super().dump(value, file)

    def to_table(self, value: pa.Table) -> pa.Table:
        return value

    def from_table(self, table: pa.Table) -> pa.Table:
        return table

    def select(
        self, file: LocalFile, columns: Sequence[str] | None, rows: slice | None
    ) -> pa.Table:
        rows = rows or slice(None)
        return self._format.select(file, columns, rows.start or 0, rows.stop)

    def scan(self, file: LocalFile) -> Any:
        """A `pyarrow.dataset.Dataset`."""
        return self._format.scan(file)


class RecordBatchSerializer(ArrowSerializer[pa.RecordBatch]):
    """Record batches."""

    types = (pa.RecordBatch,)

    def to_table(self, value: pa.RecordBatch) -> pa.Table:
        return pa.Table.from_batches([value])

    def from_table(self, table: pa.Table) -> pa.RecordBatch:
        if table.num_rows:
            return table.combine_chunks().to_batches()[0]
        arrays = [
            column.chunk(0) if column.num_chunks else pa.array([], column.type)
            for column in table.columns
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=table.schema)


class FeatherTableSerializer(TableSerializer, MappingSerializer[pa.Table]):
    """Tables whose arrays can stay in the file."""

    def map(self, file: LocalFile) -> pa.Table:
        return self.from_table(map_feather(file))


class FeatherRecordBatchSerializer(RecordBatchSerializer, MappingSerializer[pa.RecordBatch]):
    """Record batches whose arrays can stay in the file."""

    def map(self, file: LocalFile) -> pa.RecordBatch:
        return self.from_table(map_feather(file))


feather_serializer = FeatherTableSerializer("pyarrow.table.feather", FEATHER)
parquet_serializer = TableSerializer("pyarrow.table.parquet", PARQUET)
feather_batch_serializer = FeatherRecordBatchSerializer("pyarrow.recordbatch.feather", FEATHER)
parquet_batch_serializer = RecordBatchSerializer("pyarrow.recordbatch.parquet", PARQUET)
