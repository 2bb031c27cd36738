"""Serializers of Arrow tables and record batches, as Feather and as Parquet.

Exact: values, types, nullability, names, and the metadata of the schema and its fields. Arrays out
of a Feather file are views of the data, without a copy. A loaded table may be in other chunks, and
Parquet loses the dictionary of a column without rows; Arrow calls such tables equal.

Refused: extension types, whose code would run on load; nulls in a field that declares none;
dictionaries that differ between the chunks of a column; and in Parquet what it lacks or alters, as
unions, run-end encoding, dictionaries of other things than strings, or rows without columns.
"""

from abc import abstractmethod
from typing import TypeVar

import pyarrow as pa

from artigraph.errors import FieldTypeError
from artigraph.spec import Data, Serializer
from artigraph_arrow._exact import write_exactly
from artigraph_arrow._file import FEATHER, PARQUET, Format

D = TypeVar("D")


class ArrowSerializer(Serializer[D]):
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
        (expected,) = self.types
        if type(value) is not expected:
            got = f"{type(value).__module__}.{type(value).__qualname__}"
            raise FieldTypeError("value", self.name, f"a PyArrow {expected.__name__}", got)
        return write_exactly(self.to_table(value), self._format)

    def deserialize(self, data: Data) -> D:
        return self.from_table(self._format.read(data))


class TableSerializer(ArrowSerializer[pa.Table]):
    """Tables."""

    types = (pa.Table,)

    def to_table(self, value: pa.Table) -> pa.Table:
        return value

    def from_table(self, table: pa.Table) -> pa.Table:
        return table


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


feather_serializer = TableSerializer("pyarrow.table.feather", FEATHER)
parquet_serializer = TableSerializer("pyarrow.table.parquet", PARQUET)
feather_batch_serializer = RecordBatchSerializer("pyarrow.recordbatch.feather", FEATHER)
parquet_batch_serializer = RecordBatchSerializer("pyarrow.recordbatch.parquet", PARQUET)
