"""Serializers of polars data frames and series, through polars' own Parquet and IPC.

Exact: every dtype of polars with its parameters, nested ones too (decimals, enumerations and
categories, units, zones, 128-bit integers), names, nulls, NaN, and frames without rows or columns.
How the values lie in chunks, and the marks on sorted columns, are not kept.

Refused: subclasses, objects, dtypes of extensions, and what a format lacks: structs without fields
in Parquet, arrays of width 0 in IPC.
"""

from abc import abstractmethod
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import polars as pl
from polars.exceptions import PanicException, PolarsError

from artigraph.errors import FieldTypeError, UnsupportedValueError, shown
from artigraph.serializer.footer import refuse_extension_types
from artigraph.spec import Data, Serializer

D = TypeVar("D")


class Format(NamedTuple):
    """A kind of file that polars writes and reads."""

    write: Callable[[pl.DataFrame, BytesIO], Any]
    read: Callable[[bytes], pl.DataFrame]


PARQUET = Format(pl.DataFrame.write_parquet, pl.read_parquet)
IPC = Format(pl.DataFrame.write_ipc, pl.read_ipc)


class FrameSerializer(Serializer[D]):
    """What frames and series have in common: both are kept as a frame."""

    def __init__(self, name: str, file_format: Format) -> None:
        self.name = name
        self._format = file_format

    @abstractmethod
    def to_frame(self, value: D) -> pl.DataFrame:
        """The frame that holds `value`."""

    @abstractmethod
    def from_frame(self, frame: pl.DataFrame) -> D:
        """The value of which `to_frame` made `frame`."""

    def serialize(self, value: D) -> Data:
        (expected,) = self.types
        if type(value) is not expected:
            got = f"{type(value).__module__}.{type(value).__qualname__}"
            takes = f"a polars.{expected.__name__} and no subclass"
            raise FieldTypeError("value", self.name, takes, got)
        frame = self.to_frame(value)
        for column in frame:
            _check_column(column, self._format)
        return _write(frame, self._format)

    def deserialize(self, data: Data) -> D:
        return self.from_frame(_read(data, self._format))


class DataFrameSerializer(FrameSerializer[pl.DataFrame]):
    """Data frames."""

    types = (pl.DataFrame,)

    def to_frame(self, value: pl.DataFrame) -> pl.DataFrame:
        return value

    def from_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame


class SeriesSerializer(FrameSerializer[pl.Series]):
    """Series, with their name."""

    types = (pl.Series,)

    def to_frame(self, value: pl.Series) -> pl.DataFrame:
        return value.to_frame()

    def from_frame(self, frame: pl.DataFrame) -> pl.Series:
        (series,) = frame
        return series


dataframe_serializer = DataFrameSerializer("polars.dataframe.parquet", PARQUET)
polars_serializer = dataframe_serializer
dataframe_ipc_serializer = DataFrameSerializer("polars.dataframe.ipc", IPC)
series_serializer = SeriesSerializer("polars.series.parquet", PARQUET)
series_ipc_serializer = SeriesSerializer("polars.series.ipc", IPC)
