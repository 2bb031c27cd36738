"""Serializers of polars data frames and series, through polars' own Parquet and IPC.

Exact: every dtype of polars with its parameters, nested ones too (decimals, enumerations and
categories, units, zones, 128-bit integers), names, nulls, NaN, and frames without rows or columns.
How the values lie in chunks, and the marks on sorted columns, are not kept. The Parquet data of
equal frames is equal; IPC data also has what lies under nulls.

Refused: subclasses, objects, dtypes of extensions, and what a format lacks: structs without fields
in Parquet, arrays of width 0 in IPC.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import polars as pl
from polars.exceptions import PanicException, PolarsError

from artigraph.errors import FieldTypeError, LimitError, UnsupportedValueError, shown
from artigraph.serializer.footer import refuse_extension_types, without_extension_types
from artigraph.serializer.ipc import measure_ipc
from artigraph.serializer.parquet import measure_parquet
from artigraph.spec import Data, Serializer

D = TypeVar("D")

# By name: the older releases lack some.
_DTYPES = {
    getattr(pl, name, None)
    for name in (
        *("Boolean", "Int8", "Int16", "Int32", "Int64", "Int128"),
        *("UInt8", "UInt16", "UInt32", "UInt64", "UInt128"),
        *("Float16", "Float32", "Float64", "Decimal"),
        *("Date", "Datetime", "Duration", "Time"),
        *("String", "Binary", "Categorical", "Enum", "Null"),
        *("List", "Array", "Struct"),
    )
}

_ERRORS = (PolarsError, ValueError)


class Format(NamedTuple):
    """A kind of file that polars writes and reads."""

    write: Callable[[pl.DataFrame, BytesIO], Any]
    read: Callable[[bytes], pl.DataFrame]
    measure: Callable[[Data], int]
    """What a file takes in memory; refuses those for which polars would end the process."""


PARQUET = Format(pl.DataFrame.write_parquet, pl.read_parquet, measure_parquet)
IPC = Format(pl.DataFrame.write_ipc, pl.read_ipc, partial(measure_ipc, per_value=8))


class FrameSerializer(Serializer[D]):
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
        (expected,) = self.types
        if type(value) is not expected:
            got = f"{type(value).__module__}.{type(value).__qualname__}"
            takes = f"a polars.{expected.__name__} and no subclass"
            raise FieldTypeError("value", self.name, takes, got)
        return _write_exactly(self.to_frame(value), self._format)

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
dataframe_ipc_serializer = DataFrameSerializer("polars.dataframe.ipc", IPC)
series_serializer = SeriesSerializer("polars.series.parquet", PARQUET)
series_ipc_serializer = SeriesSerializer("polars.series.ipc", IPC)


def _write_exactly(frame: pl.DataFrame, file_format: Format) -> Data:
    """The file of `frame`; nested columns have to prove that they come back."""
    for column in frame:
        for dtype in _parts(column.dtype):
            if dtype.base_type() not in _DTYPES:
                raise _refusal(column, f"dtype {dtype.base_type()}", file_format)
        if column.dtype.is_nested():
            _check(column, file_format)
    try:
        data = without_extension_types(_write(frame, file_format))
    except _ERRORS:
        for column in frame:
            _check(column, file_format)
        raise
    file_format.measure(data)
    return data


def _check(column: pl.Series, file_format: Format) -> None:
    refusal = _refusal(column, f"this dtype {column.dtype.base_type()}", file_format)
    try:
        (found,) = _read(_write(column.to_frame(), file_format), file_format)
    except LimitError:
        raise
    except _ERRORS as error:
        raise refusal from error
    if not found.equals(column, check_dtypes=True, check_names=True):
        raise refusal


def _refusal(column: pl.Series, name: str, file_format: Format) -> UnsupportedValueError:
    where = f"column {shown(column.name)}"
    remedy = f"{file_format.write.__name__}() does not keep it: cast it, or choose another format."
    return UnsupportedValueError(where, name, remedy)


def _parts(dtype: Any) -> Iterator[Any]:
    """A dtype and every dtype within it."""
    yield dtype
    if isinstance(dtype, pl.List | pl.Array):
        yield from _parts(dtype.inner)
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _parts(field.dtype)


def _write(frame: pl.DataFrame, file_format: Format) -> Data:
    sink = BytesIO()
    try:
        file_format.write(frame, sink)
    except PanicException as panic:
        raise _error(panic) from panic
    return sink.getbuffer()


def _read(data: Data, file_format: Format) -> pl.DataFrame:
    refuse_extension_types(data)
    file_format.measure(data)
    try:
        return file_format.read(bytes(data))
    except PanicException as panic:
        raise _error(panic) from panic


def _error(panic: BaseException) -> ValueError:
    """An ordinary exception: a panic is none, so `except Exception` misses it."""
    return ValueError(f"polars panicked: {panic}")
