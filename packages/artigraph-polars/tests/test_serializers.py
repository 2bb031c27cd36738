import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from io import BytesIO
from typing import Any

import polars as pl
import pytest
from hypothesis import strategies as st
from polars.exceptions import PanicException
from polars.testing import assert_frame_equal, assert_series_equal
from polars.testing.parametric import dataframes, series

from artigraph.testing.serializer import SerializerTests
from artigraph_polars import (
    dataframe_ipc_serializer,
    dataframe_serializer,
    series_ipc_serializer,
    series_serializer,
)
from artigraph_polars.plugin import artigraph_serializers

NAN = float("nan")
FRAME_SERIALIZERS = [dataframe_serializer, dataframe_ipc_serializer]


class Frame(pl.DataFrame):
    """A subclass of DataFrame."""


def column(values: Any, dtype: Any = None) -> pl.Series:
    return pl.Series("a", values, dtype)


def ticks(dtype: Any) -> pl.Series:
    return column([2**62, -(2**63), None], pl.Int64).cast(dtype)


COLUMNS: dict[str, pl.Series] = {
    **{
        str(dtype): column([1, None, 2], dtype)
        for dtype in (
            *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32),
            *(pl.Float16, pl.Float32),
        )
    },
    "UInt64": column([2**64 - 1, None], pl.UInt64),
    "Int128": column([2**127 - 1, -(2**127), None], pl.Int128),
    "UInt128": column([2**128 - 1, None], pl.UInt128),
    "signed zeros, infinities": column([NAN, -0.0, 0.0, None, float("inf"), -float("inf"), 5e-324]),
    "Boolean": column([True, None]),
    "String": column(["x", "", None, "é\0b"]),
    "Binary": column([b"\xff", b"", None]),
    "Null": column([None, None]),
    "Date": column([date(1, 1, 1), None]),
    "Time": column([time(23, 59, 59, 999_999), None]),
    **{f"Datetime in {unit}": ticks(pl.Datetime(unit)) for unit in ("ms", "us", "ns")},
    **{f"Duration in {unit}": ticks(pl.Duration(unit)) for unit in ("ms", "us", "ns")},
    "Datetime in Berlin": column([0, None], pl.Int64).cast(pl.Datetime("ms", "Europe/Berlin")),
    "Decimal": column([Decimal("1.10"), None], pl.Decimal(38, 2)),
    "Decimal without fraction": column([Decimal(1)], pl.Decimal(20, 0)),
    "Enum": column(["x", "y", None], pl.Enum(["y", "unused", "x"])),
    "Enum of nothing": column([None], pl.Enum([])),
    "Categorical": column(["x", "y", None], pl.Categorical),
    "named Categorical": column(["x"], pl.Categorical(pl.Categories("n", "s", pl.UInt8))),
    "List": column([[1], None, [], [None]]),
    "List of List": column([[[NAN, -0.0]], None, [None, []]]),
    "List of Enum": column([["x"], None], pl.List(pl.Enum(["x", "y"]))),
    "List of nothing": column([[None], []]),
    "List of Int128": column([[2**100]], pl.List(pl.Int128)),
    "Array": column([[1, 2], None, [None, 3]], pl.Array(pl.Int8, 2)),
    "Array of two dimensions": column([[[1], [2]]], pl.Array(pl.Int8, (2, 1))),
    "Struct": column([{"x": 1, "y": NAN}, None, {"x": None, "y": None}]),
    "Struct of Categorical": column([{"c": "x"}], pl.Struct({"c": pl.Categorical})),
    "List of Struct": column([[{"x": [Decimal("0.1")]}], [], None]),
    "no rows": column([], pl.List(pl.Struct({"x": pl.Enum(["a"])}))),
}

FRAMES: dict[str, pl.DataFrame] = {
    "nothing": pl.DataFrame(),
    "rows without columns": pl.DataFrame(height=3),
    "columns without rows": pl.DataFrame(schema={"a": pl.Int8, "b": pl.List(pl.String)}),
    "the mark of extension types": pl.DataFrame({"a": ["ARROW:extension:name"]}),
    "odd names": pl.DataFrame({"": [1], "a.b": [2], "a\0b": [3], "é": [4], "a" * 1000: [5]}),
    "chunks": pl.concat([pl.DataFrame({"a": [1, None]}), pl.DataFrame({"a": [2]})], rechunk=False),
}

REFUSED: dict[str, tuple[pl.Series, str]] = {
    "objects": (column([object()], pl.Object), "column 'a': dtype Object"),
    "a dtype of an extension": (
        column([1]).ext.to(pl.Extension("artigraph.tests.some", pl.Int64)),
        "column 'a': dtype Extension",
    ),
    "a nested dtype of an extension": (
        pl.DataFrame(column([1]).ext.to(pl.Extension("artigraph.tests.some", pl.Int64)))
        .to_struct()
        .alias("s"),
        "column 's': dtype Extension",
    ),
}


def of_frames(refused: dict[str, tuple[pl.Series, str]]) -> dict[str, tuple[Any, str]]:
    return {name: (column.to_frame(), words) for name, (column, words) in refused.items()} | {
        "a subclass": (Frame({"a": [1]}), "no subclass"),
        "a series": (pl.Series([1]), "takes a polars.DataFrame"),
        "a name that marks extension types": (
            pl.DataFrame({"ARROW:extension:name": [1]}),
            "the mark of an extension type",
        ),
        "a lazy frame": (pl.LazyFrame({"a": [1]}), "LazyFrame"),
    }


def assert_same(loaded: Any, saved: Any) -> None:
    """Equal in names, dtypes and every bit of the numbers."""
    assert type(loaded) is type(saved)
    assert loaded.shape == saved.shape
    if isinstance(saved, pl.DataFrame):
        assert_frame_equal(loaded, saved, check_exact=True, categorical_as_str=False)
        assert repr(loaded.schema) == repr(saved.schema)
        for found, expected in zip(loaded, saved, strict=True):
            assert_same(found, expected)
    else:
        assert_series_equal(loaded, saved, check_exact=True, categorical_as_str=False)
        assert repr(loaded.dtype) == repr(saved.dtype)
        if saved.dtype.is_float() or saved.dtype.is_nested():
            assert repr(loaded.to_list()) == repr(saved.to_list())


ODD_DTYPES = [pl.Object, pl.Extension]  # refused

lists = st.none() | st.lists(st.none() | st.floats() | st.sampled_from([NAN, -0.0]), max_size=3)
nested_columns = st.lists(lists, max_size=5).map(lambda cells: column(cells, pl.List(pl.Float64)))
structs = nested_columns.map(lambda cells: pl.DataFrame({"x": cells}).to_struct())


NAMED = pl.DataFrame(
    {
        "number": [1, None, 3, 4, 5, 6, 7],
        "a.b": pl.Series([1, 2, 3, 4, 5, 6, 7], dtype=pl.Int128),
        "": [[1], [], None, [2, 3], [4], [5], [6]],
        "text": pl.Series(["x", "y", "x", None, "x", "x", "x"], dtype=pl.Enum(["x", "y"])),
    }
)


def large_frame() -> pl.DataFrame:
    """A quarter of a gigabyte in one chunk of each column."""
    numbers = pl.int_range(2**28 // 50, eager=True)
    texts = numbers.cast(pl.String)
    return pl.DataFrame({"a": numbers, "b": numbers * 2, "c": texts, "d": "number " + texts})


SOURCES: dict[str, tuple[Any, Any]] = {
    "a query": (
        lambda: NAMED.lazy().with_columns(pl.col("number") * 2).filter(pl.col("number") > 2),
        NAMED[2:].with_columns(pl.col("number") * 2),
    ),
    "no rows": (lambda: NAMED.lazy().clear(), NAMED.clear()),
    "no columns": (pl.LazyFrame, pl.DataFrame()),
}


class FrameTests(SerializerTests):
    table = NAMED
    names = NAMED.columns
    sources = SOURCES
    large = staticmethod(large_frame)
    values = FRAMES | {name: column.to_frame() for name, column in COLUMNS.items()}
    strategy = dataframes(excluded_dtypes=ODD_DTYPES) | (nested_columns | structs).map(
        pl.Series.to_frame
    )
    survives_damage = False  # it aborts on an impossible size

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert_same(loaded, saved)

    def alter(self, value: pl.DataFrame) -> None:
        for i, column in enumerate(value):
            if len(column):
                value[0, i] = column[-1]

    def part(self, table: pl.DataFrame, columns: Sequence[str], rows: slice) -> pl.DataFrame:
        return table[rows].select(columns)

    def collect(self, scanned: pl.LazyFrame) -> pl.DataFrame:
        return scanned.collect()


class TestParquetFrames(FrameTests):
    serializer = dataframe_serializer
    extra_memory = 128 * 2**20
    refused = of_frames(
        REFUSED | {"a Struct without fields": (column([{}], pl.Struct([])), "this dtype Struct")}
    )


class TestIpcFrames(FrameTests):
    serializer = dataframe_ipc_serializer
    refused = of_frames(
        REFUSED | {"an Array of width 0": (column([[]], pl.Array(pl.Int8, 0)), "this dtype Array")}
    )


NAMES = {repr(name): pl.Series(name, [1]) for name in ("", "a.\0é")}


class SeriesTests(SerializerTests):
    values = NAMES | {
        "an enumeration": COLUMNS["Enum"],
        "nothing": pl.Series(),
    }
    refused = REFUSED | {"a frame": (pl.DataFrame(), "takes a polars.Series")}
    strategy = series(excluded_dtypes=ODD_DTYPES) | nested_columns | structs
    survives_damage = False

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert_same(loaded, saved)


class TestParquetSeries(SeriesTests):
    serializer = series_serializer


class TestIpcSeries(SeriesTests):
    serializer = series_ipc_serializer


def test_only_parquet_data_of_equal_frames_is_equal() -> None:
    """What lies under a null is in IPC data, and can't be seen in the frame."""
    frame = pl.DataFrame({"a": [1, None]})
    masked = pl.DataFrame({"a": [1, 5]}).select(pl.when(pl.col("a") == 1).then(pl.col("a")))
    assert_same(masked, frame)

    for serializer, is_deterministic in (
        (dataframe_serializer, True),
        (dataframe_ipc_serializer, False),
    ):
        is_equal = serializer.serialize(masked) == serializer.serialize(frame)
        assert (is_equal, serializer.deterministic) == (is_deterministic, is_deterministic)


def test_the_first_serializer_of_a_type_is_parquet() -> None:
    """Core takes the first of a plugin for values that name no serializer."""
    assert [serializer.name for serializer in artigraph_serializers()] == [
        "polars.dataframe.parquet",
        "polars.dataframe.ipc",
        "polars.series.parquet",
        "polars.series.ipc",
    ]


def test_neither_pandas_nor_pyarrow_is_imported() -> None:
    """Polars writes and reads its formats by itself."""
    code = """
import sys
import polars as pl
from artigraph_polars.plugin import artigraph_serializers
for serializer in artigraph_serializers():
    value = pl.DataFrame({"a": [[1.5]], "b": ["x"]})
    value = value if serializer.types[0] is pl.DataFrame else value["a"]
    assert serializer.deserialize(serializer.serialize(value)).equals(value)
print(sorted({"pandas", "pyarrow", "numpy"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("serializer", FRAME_SERIALIZERS)
def test_a_panic_becomes_an_ordinary_error(
    serializer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panic of polars is no Exception, and would pass every handler above."""

    def panic(*_: Any) -> None:
        raise PanicException("index out of bounds")

    frame = pl.DataFrame({"a": [1]})
    data = serializer.serialize(frame)
    broken = serializer._format._replace(write=panic, read=panic)
    monkeypatch.setattr(serializer, "_format", broken)

    for call in (lambda: serializer.serialize(frame), lambda: serializer.deserialize(data)):
        with pytest.raises((ValueError, TypeError), match=r"panicked|can't be kept"):
            call()


def test_two_columns_are_no_series() -> None:
    """The data of a frame is not mistaken for a series."""
    data = dataframe_serializer.serialize(pl.DataFrame({"a": [1], "b": [2]}))

    with pytest.raises(ValueError, match="unpack"):
        series_serializer.deserialize(data)


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The calls of a registered extension dtype's code."""
    calls: list[str] = []

    class Spy(pl.BaseExtension):
        def __init__(self) -> None:
            super().__init__("artigraph.tests.spy", pl.Int64)

        @classmethod
        def ext_from_params(cls, name: str, *_: Any) -> "Spy":
            calls.append(name)
            return cls()

    pl.register_extension_type("artigraph.tests.spy", Spy)
    yield calls
    pl.unregister_extension_type("artigraph.tests.spy")


@pytest.mark.parametrize("serializer", FRAME_SERIALIZERS)
def test_no_code_of_an_extension_type_runs(serializer: Any, asked: list[str]) -> None:
    """A file that names a registered dtype is refused before polars asks the dtype."""
    frame = pl.DataFrame({"a": [1]}).select(
        pl.col("a").ext.to(pl.get_extension_type("artigraph.tests.spy")())
    )
    file = BytesIO()
    serializer._format.write(frame, file)
    asked.clear()

    with pytest.raises(ValueError, match="extension type"):
        serializer.deserialize(file.getvalue())

    assert asked == []
