"""Serializers of pandas data frames and series.

Exact: values and dtypes, among them datetimes of every unit and zone, categories with their order,
nullable and Arrow dtypes, periods, intervals, complex numbers, and objects that the JSON serializer
keeps; the index of rows and of columns with its type, names and frequency, duplicates included;
`attrs` and the flag for duplicate labels. A NaN comes back as a NaN. The Parquet data of equal
frames is equal; Feather data also has what lies under nulls.

Refused: subclasses; sparse and foreign extension dtypes; object columns with other things in them,
as `pandas.NA` among numbers; Arrow dtypes that Parquet alters (dictionaries, maps, seconds, unions,
extension types); `longlong` and long double; zones that are neither `zoneinfo` nor `datetime` ones;
frequencies that their text does not say in full.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple, TypeVar

import pandas as pd
import pyarrow as pa

from artigraph.errors import FieldTypeError
from artigraph.spec import (
    Data,
    LocalFile,
    MappingSerializer,
    SelectingSerializer,
    StreamingSerializer,
)
from artigraph_pandas._file import (
    Choose,
    map_ipc,
    read_ipc,
    read_parquet,
    select_ipc,
    select_parquet,
    write_ipc,
    write_parquet,
)
from artigraph_pandas._memory import counting
from artigraph_pandas._table import (
    choose_columns,
    frame_of_selected,
    frame_of_table,
    series_of_table,
    table_of_frame,
    table_of_series,
)

D = TypeVar("D")


class Format(NamedTuple):
    """A kind of file that keeps Arrow tables."""

    write: Callable[[pa.Table, BinaryIO, int], None]
    read: Callable[[Data], pa.Table]
    select: Callable[[Data, Choose, int, int | None], pa.Table]


PARQUET = Format(write_parquet, read_parquet, select_parquet)
FEATHER = Format(write_ipc, read_ipc, select_ipc)


class TableSerializer(StreamingSerializer[D]):
    """What a frame and a series have in common: both are kept as an Arrow table."""

    def __init__(self, name: str, file_format: Format) -> None:
        self.name = name
        self.deterministic = file_format is PARQUET
        self._format = file_format

    @abstractmethod
    def to_table(self, value: D) -> pa.Table:
        """The table that holds `value`."""

    @abstractmethod
    def from_table(self, table: pa.Table) -> D:
        """The value of which `to_table` made `table`."""

    def serialize(self, value: D) -> Data:
        file = BytesIO()
        self.dump(value, file)
        return file.getbuffer()

    def deserialize(self, data: Data) -> D:
        with counting(len(data)):
            return self.from_table(self._format.read(data))

    def estimate(self, value: Any) -> int:
        memory = value.memory_usage(index=True, deep=False)
        return int(memory.sum() if isinstance(value, pd.DataFrame) else memory)

    def dump(self, value: D, file: BinaryIO) -> None:
        (expected,) = self.types
        if type(value) is not expected:
            got = f"{type(value).__module__}.{type(value).__qualname__}"
            takes = f"a pandas.{expected.__name__} and no subclass"
            raise FieldTypeError("value", self.name, takes, got)
        with counting() as account:
            table = self.to_table(value)
            self._format.write(table, file, account.spent)


class DataFrameSerializer(TableSerializer[pd.DataFrame], SelectingSerializer[pd.DataFrame]):
    """Data frames."""

    types = (pd.DataFrame,)

    def to_table(self, value: pd.DataFrame) -> pa.Table:
        return table_of_frame(value)

    def from_table(self, table: pa.Table) -> pd.DataFrame:
        return frame_of_table(table)

    def select(
        self, file: LocalFile, columns: Sequence[str] | None, rows: slice | None
    ) -> pd.DataFrame:
        rows = rows or slice(None)
        with counting(len(file.data)):
            table = self._format.select(
                file.data,
                lambda schema: choose_columns(schema, columns),
                rows.start or 0,
                rows.stop,
            )
            return frame_of_selected(table, columns, rows)


class SeriesSerializer(TableSerializer["pd.Series[Any]"]):
    """Series, with their name."""

    types = (pd.Series,)

    def to_table(self, value: "pd.Series[Any]") -> pa.Table:
        return table_of_series(value)

    def from_table(self, table: pa.Table) -> "pd.Series[Any]":
        return series_of_table(table)


class FeatherDataFrameSerializer(DataFrameSerializer, MappingSerializer[pd.DataFrame]):
    """Data frames whose numbers, moments and texts can stay in the file."""

    def map(self, file: LocalFile) -> pd.DataFrame:
        with counting(len(file.data), is_mapped=True):
            return self.from_table(map_ipc(file))


class FeatherSeriesSerializer(SeriesSerializer, MappingSerializer["pd.Series[Any]"]):
    """Series whose numbers, moments and texts can stay in the file."""

    def map(self, file: LocalFile) -> "pd.Series[Any]":
        with counting(len(file.data), is_mapped=True):
            return self.from_table(map_ipc(file))


dataframe_serializer = DataFrameSerializer("pandas.dataframe.parquet", PARQUET)
pandas_serializer = dataframe_serializer
dataframe_feather_serializer = FeatherDataFrameSerializer("pandas.dataframe.feather", FEATHER)
series_serializer = SeriesSerializer("pandas.series.parquet", PARQUET)
series_feather_serializer = FeatherSeriesSerializer("pandas.series.feather", FEATHER)
