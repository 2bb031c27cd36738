"""Serializers of polars data frames and series, through polars' own Parquet and IPC.

Exact: every dtype of polars with its parameters, nested ones too (decimals, enumerations and
categories, units, zones, 128-bit integers), names, nulls, NaN, and frames without rows or columns.
How the values lie in chunks, and the marks on sorted columns, are not kept. The Parquet data of
equal frames is equal; IPC data also has what lies under nulls.

Refused: subclasses, objects, dtypes of extensions, and what a format lacks: structs without fields
in Parquet, arrays of width 0 in IPC.
"""

from abc import abstractmethod
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO, Final, TypeVar

import polars as pl

from artigraph.errors import FieldTypeError
from artigraph.spec import (
    Data,
    LocalFile,
    MappingSerializer,
    ScanningSerializer,
    SelectingSerializer,
    StreamingSerializer,
)
from artigraph_polars._exact import write_all_exactly, write_exactly
from artigraph_polars._file import IPC, PARQUET, Format, map_ipc, read, scan, select

D = TypeVar("D")

_SEEN: Final = 10_000
"""Rows by which a size is estimated."""


class FrameSerializer(StreamingSerializer[D]):
    """What frames and series have in common: both are kept as a frame."""

    def __init__(self, name: str, file_format: Format) -> None:
        self.name = name
        self.deterministic = file_format is PARQUET
        self._format = file_format

    @abstractmethod
    def to_frame(self, value: D) -> pl.DataFrame:
        """The frame that holds `value`."""

    @abstractmethod
    def from_frame(self, frame: pl.DataFrame) -> D:
        """The value of which `to_frame` made `frame`."""

    def serialize(self, value: D) -> Data:
        self._check_type(value)
        file = BytesIO()
        self.dump(value, file)
        return file.getbuffer()

    def deserialize(self, data: Data) -> D:
        return self.from_frame(read(data, self._format))

    def estimate(self, value: Any) -> int | None:
        # Of all rows, polars would look at every string, with the interpreter's lock.
        seen = value.head(_SEEN)
        return int(seen.estimated_size()) * len(value) // max(len(seen), 1)

    def dump(self, value: D, file: BinaryIO) -> None:
        self._check_type(value)
        write_exactly(self.to_frame(value), file, self._format)

    def _check_type(self, value: object) -> None:
        (expected,) = self.types
        if type(value) is not expected:
            got = f"{type(value).__module__}.{type(value).__qualname__}"
            takes = f"a polars.{expected.__name__} and no subclass"
            raise FieldTypeError("value", self.name, takes, got)


class DataFrameSerializer(
    FrameSerializer[pl.DataFrame],
    SelectingSerializer[pl.DataFrame],
    ScanningSerializer[pl.DataFrame],
):
    """Data frames; or what a lazy frame makes, while it makes it."""

    types = (pl.DataFrame,)
    sources = (pl.LazyFrame,)

    def dump(self, value: pl.DataFrame | pl.LazyFrame, file: BinaryIO) -> None:
        if isinstance(value, pl.LazyFrame):
            write_all_exactly(value, file, self._format)
        else:
            super().dump(value, file)

    def to_frame(self, value: pl.DataFrame) -> pl.DataFrame:
        return value

    def from_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame

    def select(
        self, file: LocalFile, columns: Sequence[str] | None, rows: slice | None
    ) -> pl.DataFrame:
        return select(file, columns, rows or slice(None), self._format)

    def scan(self, file: LocalFile) -> pl.LazyFrame:
        return scan(file, self._format)


class SeriesSerializer(FrameSerializer[pl.Series]):
    """Series, with their name."""

    types = (pl.Series,)

    def to_frame(self, value: pl.Series) -> pl.DataFrame:
        return value.to_frame()

    def from_frame(self, frame: pl.DataFrame) -> pl.Series:
        (series,) = frame
        return series


class IpcDataFrameSerializer(DataFrameSerializer, MappingSerializer[pl.DataFrame]):
    """Data frames that can stay in the file, where pyarrow is installed."""

    def map(self, file: LocalFile) -> pl.DataFrame:
        return self.from_frame(map_ipc(file))


class IpcSeriesSerializer(SeriesSerializer, MappingSerializer[pl.Series]):
    """Series that can stay in the file, where pyarrow is installed."""

    def map(self, file: LocalFile) -> pl.Series:
        return self.from_frame(map_ipc(file))


dataframe_serializer = DataFrameSerializer("polars.dataframe.parquet", PARQUET)
dataframe_ipc_serializer = IpcDataFrameSerializer("polars.dataframe.ipc", IPC)
series_serializer = SeriesSerializer("polars.series.parquet", PARQUET)
series_ipc_serializer = IpcSeriesSerializer("polars.series.ipc", IPC)
