from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from artigraph.testing.serializer import SerializerTests
from artigraph_pandas import (
    dataframe_feather_serializer,
    dataframe_serializer,
    pandas_serializer,
    series_feather_serializer,
    series_serializer,
)
from artigraph_pandas.plugin import artigraph_serializers

NAN = float("nan")
BERLIN = ZoneInfo("Europe/Berlin")
NAT = np.iinfo("i8").min


class Text(str):
    """A subclass of str, which would come back as str."""


class Frame(pd.DataFrame):
    """A subclass of DataFrame, as geopandas has."""


def moments(unit: str, zone: Any = None) -> pd.Series:
    values = pd.Series(np.array([0, -1, 1_604_217_600, NAT]).view(f"M8[{unit}]"))
    return values.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else values


def objects(*values: Any) -> pd.Series:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return pd.Series(array, dtype=object)


def arrow(values: Any, kind: Any = None) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values, kind)))


def codes(categories: Any, *, ordered: bool = False) -> pd.Series:
    """A column of two cells, one of them missing, and all categories, most of them unused."""
    dtype = pd.CategoricalDtype(categories, ordered)
    return pd.Series(pd.Categorical.from_codes([0, -1], dtype=dtype))


COLUMNS: dict[str, pd.Series] = {
    **{
        name: pd.Series(np.array([0, 1, 2]).astype(name))
        for name in ("bool", "int8", "uint64", "float16", "float32", ">i4", ">f8", "c8", ">c16")
    },
    **{
        name: pd.Series([1, None, 3], dtype=name)
        for name in ("Int8", "Int64", "UInt16", "UInt64", "Float32", "Float64")
    },
    **{name: pd.Series(["a", None, ""], dtype=name) for name in ("string[python]", "str")},
    "signed zeros, infinities": pd.Series([NAN, -0.0, 0.0, np.inf, -np.inf, 5e-324]),
    "bytes of fixed size": pd.Series(np.array([b"ab\0", b"c"])),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "NaN beside NA": pd.Series(
        pd.arrays.FloatingArray(np.array([1.5, NAN, -0.0]), np.array([False, False, True]))
    ),
    "string[pyarrow]": pd.Series(["a", None, "é\0"], dtype="string[pyarrow]"),
    "str in Python": pd.Series(["a", NAN], dtype=pd.StringDtype("python", na_value=np.nan)),
    **{f"moments in {unit}": moments(unit) for unit in ("s", "ms", "us", "ns")},
    **{
        f"durations in {unit}": pd.Series(np.array([0, 2**62, NAT]).view(f"m8[{unit}]"))
        for unit in ("s", "ms", "us", "ns")
    },
    "seconds in Berlin": moments("s", BERLIN),
    "nanoseconds in UTC": moments("ns", "UTC"),
    "the zone UTC": moments("us", ZoneInfo("UTC")),
    "an offset": moments("ms", "+05:30"),
    "an offset with a name": moments("us", timezone(timedelta(hours=1), "X")),
    "periods": pd.Series(pd.PeriodIndex(["2020-01-01", None], freq="Q-NOV")),
    "long periods": pd.Series(pd.PeriodIndex(["2020-01-01"], freq="3D")),
    **{
        f"intervals, closed {side}": pd.Series(
            pd.arrays.IntervalArray.from_tuples([(1, 2), (3, 4)], closed=side)
        )
        for side in ("left", "both", "neither")
    },
    "intervals, one missing": pd.Series(pd.arrays.IntervalArray.from_tuples([(1, 2), None])),
    "intervals of time": pd.Series(pd.interval_range(pd.Timestamp("2020", tz=BERLIN), periods=2)),
    "no intervals": pd.Series([], dtype="interval[int64, right]"),
    "categories": codes(["b", "a", "c"]),
    "ordered categories": codes(["c", "b", "a"], ordered=True),
    "numbers as categories": codes([3, 1, 2]),
    "a range as categories": codes(pd.RangeIndex(0, 6, 2)),
    "dates as categories": codes(pd.date_range("2020", periods=3, tz=BERLIN, name=("x", 1))),
    "intervals as categories": pd.cut(pd.Series([1, 5, NAN]), 3),
    "objects as categories": codes(pd.Index([1, "a", (2.5,)], dtype=object)),
    "no categories": pd.Series(pd.Categorical([], categories=[])),
    "300 categories": pd.Series(pd.Categorical([str(i) for i in range(300)])),
    "text": objects("a", "", "é\0"),
    "text and None": objects("a", None),
    "text and NaN": objects("a", NAN),
    "text and NA": objects(pd.NA, "a"),
    "text and NaT": objects("a", pd.NaT),
    "text, None and NaN": objects("a", None, NAN),
    "surrogates": objects("\ud800", None, NAN),
    "no objects": objects(),
    "only None": objects(None, None),
    "only NaN": objects(NAN, NAN),
    "numbers as objects": objects(1, 1.0, True, 2**80, -0.0, NAN, None),
    "dicts": objects({"x": 1}, {"y": 2}, {1: "a"}),
    "lists and tuples": objects([1, 2], (1, 2), [[]], ({"a": (1,)},)),
    "plain objects": objects(
        *(b"a", date(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), timedelta(1)),
        *(Decimal("1.10"), UUID(int=1), {1, 2}, "text"),
    ),
    **{
        f"Arrow {array.type}": arrow(array)
        for array in (
            *(pa.array([1, None], pa.int8()), pa.array([NAN, None, -0.0]), pa.nulls(2)),
            *(pa.array([True, None]), pa.array(["a", None]), pa.array(["a"], pa.large_string())),
            *(pa.array([b"\xff"]), pa.array([Decimal("1.10")]), pa.array([1], pa.date32())),
            *(pa.array([1], pa.timestamp("ns", "UTC")), pa.array([1], pa.duration("s"))),
            *(pa.array([1], pa.time64("ns")), pa.array([1.5], pa.float16())),
            *(pa.array([[{"a": [1]}, None], None, []]), pa.array([{"a": None}, None])),
        )
    },
}

REFUSED_COLUMNS: dict[str, tuple[pd.Series, str]] = {
    "sparse": (pd.Series(pd.arrays.SparseArray([0, 0, 1])), "dtype Sparse[int64, 0]"),
    "longlong": (pd.Series(np.array([1], "q")), "dtype int64 (longlong)"),
    "long double": (pd.Series(np.array([1], "g")), "(longdouble)"),
    "void": (pd.Series(np.array([b"a"], "V1")), "(void)"),
    "seconds beyond milliseconds": (pd.Series(np.array([2**61], "M8[s]")), "datetime64[s]"),
    "a zone of dateutil": (
        pd.Series(pd.date_range("2020", periods=2, tz="dateutil/Europe/Berlin")),
        "dateutil.tz",
    ),
    "a subclass of str": (pd.Series([Text("a")], dtype="string[python]"), "Text in a column"),
    "numpy's str": (pd.Series([np.str_("a")], dtype="string[python]"), "str_ in a column"),
    "a surrogate": (pd.Series(["\ud800"], dtype="string[python]"), "dtype string"),
    "numpy numbers as objects": (objects(1, np.int64(1)), "[1]: a value of type numpy.int64"),
    "NA among numbers": (objects(1, pd.NA), "[1]: a value of type pandas"),
    "None and NA": (objects("a", None, pd.NA), "[2]: a value of type pandas"),
    "a subclass among text": (objects("a", Text("b")), "Text"),
    "timestamps as objects": (objects(pd.Timestamp("2020"), "a"), "pandas.Timestamp"),
    "arrays as objects": (objects(np.array([1])), "numpy.ndarray"),
    "any object": (objects(object()), "type object"),
    "a timestamp among categories": (
        codes(pd.Index([pd.Timestamp("2020"), "a"], dtype=object)),
        "categories[0]: a value of type pandas.Timestamp",
    ),
    "Arrow dictionaries": (arrow(pa.array(["a"]).dictionary_encode()), "dictionary<"),
    "Arrow seconds": (arrow([1], pa.timestamp("s")), "timestamp[s]"),
    "Arrow dates of 64 bits": (arrow([0], pa.date64()), "date64"),
    "Arrow maps": (arrow([[("a", 1)]], pa.map_(pa.string(), pa.int8())), "map<"),
    "Arrow extension types": (arrow([b"0" * 16], pa.uuid()), "extension<arrow.uuid>"),
    "Arrow structs without fields": (arrow([{}], pa.struct([])), "struct<>"),
    "Arrow text that is not UTF-8": (
        pd.Series(pd.arrays.ArrowExtensionArray(pa.array([b"\xff"]).view(pa.string()))),
        "string[pyarrow]",
    ),
}


def two_levels() -> pd.MultiIndex:
    dates = pd.date_range("2020", periods=3, freq="D")
    return pd.MultiIndex.from_product([["b", "a"], dates], names=["x", ("y", 1)])


INDEXES: dict[str, pd.Index] = {
    "a range": pd.RangeIndex(10, 4, -2, name="r"),
    "numbers": pd.Index([3, 1, 3], name=0),
    "floats": pd.Index([NAN, -0.0], dtype="float32"),
    "text": pd.Index(["b", "a"], name=""),
    "text as objects": pd.Index(["b", None], dtype=object),
    "tuples": pd.Index([("a", 1), ("b", 2)], tupleize_cols=False, name=("x", None)),
    "mixed": pd.Index([1, "a", None, ("x", 1), 2.5, True], dtype=object),
    "booleans": pd.Index([True, False]),
    "nullable": pd.Index([1, None], dtype="Int64"),
    "Arrow": pd.Index(pd.arrays.ArrowExtensionArray(pa.array([1, None]))),
    "categories": pd.CategoricalIndex(["a", None], categories=["b", "a"], ordered=True),
    "intervals": pd.interval_range(0, 3),
    "periods": pd.period_range("2020", periods=3, freq="M"),
    "moments": pd.DatetimeIndex(["2020", None]),
    "days": pd.date_range("2020-03-28", periods=3, freq="D", tz=BERLIN, unit="s"),
    "hours over a change of clocks": pd.date_range("2020-03-28", periods=40, freq="h", tz=BERLIN),
    "business days": pd.date_range("2020", periods=3, freq="B"),
    "months, backwards": pd.date_range("2020", periods=3, freq="-1ME"),
    "no days": pd.date_range("2020", periods=0, freq="D"),
    "durations": pd.timedelta_range("1D", periods=3, freq="6h"),
    "two levels": two_levels(),
    "levels with unused labels": two_levels()[:2],
    "sorted levels": two_levels().sort_values(),
    "levels of nothing": two_levels()[:0],
    "levels with missing labels": pd.MultiIndex.from_tuples([("a", None), (None, 1.5)]),
    "levels of one name": pd.MultiIndex.from_arrays([[1, 1], [2, 2]], names=["a", "a"]),
    "one level": pd.MultiIndex.from_arrays([pd.CategoricalIndex(["a"])]),
}

REFUSED_INDEXES: dict[str, tuple[pd.Index, str]] = {
    "holidays": (
        pd.date_range("2020", periods=3, freq=pd.offsets.CDay(holidays=["2020-01-02"])),
        "frequency C",
    ),
    "an offset without text": (
        pd.date_range("2020", periods=3, freq=pd.DateOffset(months=2, days=3)),
        "frequency <DateOffset",
    ),
    "a name of numpy's": (pd.Index([1], name=np.int64(1)), "numpy.int64"),
    "a timestamp as a name": (pd.Index([1], name=pd.Timestamp("2020")), "pandas.Timestamp"),
    "objects": (pd.Index([np.float64(1), "a"], dtype=object), "[0]: a value of type numpy.float64"),
    "objects in a level": (
        pd.MultiIndex.from_arrays([[1], pd.Index([np.str_("a")], dtype=object)]),
        "level 1[0]: a value of type numpy.str_",
    ),
}


def with_attrs(**attrs: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = attrs
    return frame


FRAMES: dict[str, pd.DataFrame] = {
    "nothing": pd.DataFrame(),
    "rows without columns": pd.DataFrame(index=[3, 1, 1]),
    "columns without rows": pd.DataFrame({"a": pd.Series([], dtype="int8"), "b": codes([1])[:0]}),
    "equal column names": pd.DataFrame([[1, "a", 2.5]], columns=["x", "x", "y"]),
    "equal labels": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=["i", "i"]),
    "columns by number": pd.DataFrame(np.arange(6).reshape(2, 3)),
    "a block of numbers": pd.DataFrame(np.arange(6.0).reshape(2, 3)[:, ::-1], columns=list("abc")),
    "attrs": with_attrs(x=(1, 2), y={1: [None]}, z=NAN),
    "the mark of extension types": pd.DataFrame({"a": ["ARROW:extension:name"]}),
    "no equal labels allowed": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
}

REFUSED_FRAMES: dict[str, tuple[Any, str]] = {
    "a subclass": (Frame({"a": [1]}), "no subclass"),
    "a series": (pd.Series([1]), "takes a pandas.DataFrame"),
    "a dict": ({"a": [1]}, "takes a pandas.DataFrame"),
    "attrs": (with_attrs(x=pd.Index([1])), "frame['attrs']['x']: a value of type pandas.Index"),
    "a label that marks extension types": (
        pd.DataFrame({"ARROW:extension:name": [1]}),
        "the mark of an extension type",
    ),
    "two columns, one of them sparse": (
        pd.DataFrame({"a": [1], "b": pd.arrays.SparseArray([0])}),
        "column 'b': dtype Sparse",
    ),
}


def frame_of(column: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"first": ["x"] * len(column), ("the", "column"): column})


def rows_with(index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame({"a": range(len(index))}, index=index)


def columns_with(index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame([range(len(index))] * 2, columns=index)


def refusing(make: Callable[[Any], Any], values: dict[str, tuple[Any, str]]) -> dict[str, Any]:
    return {name: (make(value), words) for name, (value, words) in values.items()}


def assert_same_frame(loaded: Any, saved: Any) -> None:
    """Equal in all that pandas shows."""
    assert type(loaded) is type(saved) is pd.DataFrame
    assert loaded.shape == saved.shape
    assert_same_index(loaded.columns, saved.columns)
    assert_same_index(loaded.index, saved.index)
    for i in range(saved.shape[1]):
        assert_same_values(loaded.iloc[:, i], saved.iloc[:, i])
    assert cell(loaded.attrs) == cell(saved.attrs)
    assert loaded.flags == saved.flags


def assert_same_series(loaded: Any, saved: Any) -> None:
    assert type(loaded) is type(saved) is pd.Series
    assert cell(loaded.name) == cell(saved.name)
    assert_same_index(loaded.index, saved.index)
    assert_same_values(loaded, saved)
    assert cell(loaded.attrs) == cell(saved.attrs)
    assert loaded.flags == saved.flags


def assert_same_index(loaded: Any, saved: Any) -> None:
    assert type(loaded) is type(saved)
    assert cell(list(loaded.names)) == cell(list(saved.names))
    assert getattr(loaded, "freq", None) == getattr(saved, "freq", None)
    if isinstance(saved, pd.MultiIndex):
        assert loaded.sortorder == saved.sortorder
        for level, saved_level in zip(loaded.levels, saved.levels, strict=True):
            assert_same_index(level, saved_level)
        assert [list(code) for code in loaded.codes] == [list(code) for code in saved.codes]
    elif isinstance(saved, pd.RangeIndex):
        assert repr(loaded) == repr(saved)
    else:
        assert_same_values(loaded, saved)


def assert_same_values(loaded: Any, saved: Any) -> None:
    assert type(loaded.dtype) is type(saved.dtype)
    assert loaded.dtype == saved.dtype
    assert repr(loaded.dtype) == repr(saved.dtype)
    assert type(loaded.array) is type(saved.array)
    if isinstance(saved.dtype, pd.CategoricalDtype):
        assert_same_index(loaded.dtype.categories, saved.dtype.categories)
    if isinstance(saved.dtype, np.dtype):
        assert loaded.dtype.type is saved.dtype.type
    if getattr(saved.dtype, "kind", "") in "fcmM" and isinstance(saved.dtype, np.dtype):
        assert loaded.to_numpy().tobytes() == saved.to_numpy().tobytes()
    else:
        assert list(map(cell, loaded)) == list(map(cell, saved))


def cell(value: Any) -> Any:
    """What is equal for equal cells of one type, a NaN included."""
    if isinstance(value, list | tuple):
        return type(value), [cell(part) for part in value]
    if isinstance(value, dict):
        return [(cell(key), cell(part)) for key, part in value.items()]
    return type(value), repr(value)


def under(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{kind}: {name}": value for name, value in values.items()}


labels = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.tuples(parts, parts),
    max_leaves=3,
)

words = st.text(max_size=3)
numbers = st.floats() | st.sampled_from([NAN, -0.0])
integers = st.integers(-128, 127)
times = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001  # naive, on purpose

CELLS: dict[Any, st.SearchStrategy[Any]] = {
    "float64": numbers,
    "int8": integers,
    "Int8": st.none() | integers,
    "Float32": st.none() | st.floats(width=32, allow_nan=False),
    "boolean": st.none() | st.booleans(),
    "str": st.none() | words,
    "string[python]": st.none() | words,
    "datetime64[ns]": st.none() | times,
    "datetime64[us, Europe/Berlin]": st.none() | times,
    "timedelta64[s]": st.none() | st.integers(-(2**40), 2**40).map(lambda s: pd.Timedelta(s, "s")),
    "category": st.none() | words,
    "object": st.none() | numbers | words | st.booleans() | st.integers() | st.tuples(integers),
    "double[pyarrow]": st.none() | numbers,
    "large_string[pyarrow]": st.none() | words,
}


def columns_of(rows: int) -> st.SearchStrategy[pd.Series]:
    """Columns of that many cells, of every kind of dtype."""
    return st.sampled_from(list(CELLS)).flatmap(
        lambda dtype: st.lists(CELLS[dtype], min_size=rows, max_size=rows).map(
            lambda cells: objects(*cells).astype(dtype)
        )
    )


def indexes_of(rows: int) -> st.SearchStrategy[pd.Index]:
    own = st.builds(
        lambda labels, name: pd.Index(labels, tupleize_cols=False, name=name),
        st.lists(labels, min_size=rows, max_size=rows),
        labels,
    )
    return own | columns_of(rows).map(pd.Index) | st.just(pd.RangeIndex(rows))


def frames_of(rows: int) -> st.SearchStrategy[pd.DataFrame]:
    def framed(columns: list[pd.Series], names: list[Any], index: pd.Index) -> pd.DataFrame:
        frame = pd.DataFrame(dict(enumerate(columns)), index=range(rows)).set_axis(index)
        return frame.set_axis(pd.Index(names[: len(columns)], tupleize_cols=False), axis=1)

    some_names = st.lists(labels, min_size=3, max_size=3)
    return st.builds(framed, st.lists(columns_of(rows), max_size=3), some_names, indexes_of(rows))


def series_of(rows: int) -> st.SearchStrategy[pd.Series]:
    return st.builds(
        lambda column, index, name: column.set_axis(index).rename(name),
        columns_of(rows),
        indexes_of(rows),
        labels,
    )


COLUMN_FRAMES = {name: frame_of(column) for name, column in COLUMNS.items()}
INDEX_FRAMES = under("index", {name: rows_with(index) for name, index in INDEXES.items()})
LABEL_FRAMES = under("labels", {name: columns_with(index) for name, index in INDEXES.items()})


NAMED = pd.DataFrame(
    {
        "number": np.arange(7),
        "text": pd.Series(["a", None, "c", "d", "e", "f", "g"], dtype="str"),
        "": objects(1, "x", None, (2,), [3], {}, 4),
        "kind": pd.Series(pd.Categorical(list("xyxyxxy"))),
        "list": arrow([[1], [], None, [2], [3], [4, 5], [6]]),
    },
    index=pd.date_range("2020", periods=7, tz=BERLIN, name="when"),
)


def large_frame() -> pd.DataFrame:
    """A quarter of a gigabyte of numbers, which pandas keeps as one block."""
    return pd.DataFrame({name: np.arange(2**28 // 64) for name in "abcdefgh"})


class FrameTests(SerializerTests):
    table = NAMED
    names = tuple(NAMED.columns)
    large = staticmethod(large_frame)
    strategy = st.integers(0, 4).flatmap(frames_of)
    refused = (
        REFUSED_FRAMES
        | refusing(frame_of, REFUSED_COLUMNS)
        | under("index", refusing(rows_with, REFUSED_INDEXES))
        | under("labels", refusing(columns_with, REFUSED_INDEXES))
    )

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert_same_frame(loaded, saved)

    def alter(self, value: pd.DataFrame) -> None:
        for i in range(value.shape[1]):
            with suppress(Exception):
                value.iloc[:, i].array[:] = value.iloc[-1, i]

    def part(self, table: pd.DataFrame, columns: Sequence[str], rows: slice) -> pd.DataFrame:
        return table[list(columns)][rows]


class TestParquetFrames(FrameTests):
    serializer = dataframe_serializer
    extra_memory = 128 * 2**20
    values = FRAMES | COLUMN_FRAMES | INDEX_FRAMES


class TestFeatherFrames(FrameTests):
    serializer = dataframe_feather_serializer
    values = FRAMES


@pytest.mark.parametrize(
    "frame", (frames := COLUMN_FRAMES | INDEX_FRAMES | LABEL_FRAMES).values(), ids=frames
)
def test_both_formats_keep_the_same(frame: pd.DataFrame) -> None:
    """Which is chosen is a question of size and time alone."""
    for serializer in (dataframe_serializer, dataframe_feather_serializer):
        assert_same_frame(serializer.deserialize(serializer.serialize(frame)), frame)


NAMES = {
    repr(name): pd.Series([1], name=name) for name in (None, "", 1, ("a", 1), 1.5, "\ud800", b"x")
}


class SeriesTests(SerializerTests):
    values = NAMES | {
        "index": pd.Series(range(6), two_levels()),
        "categories": COLUMNS["ordered categories"],
        "seconds in Berlin": COLUMNS["seconds in Berlin"],
        "nothing": pd.Series(),
    }
    strategy = st.integers(0, 4).flatmap(series_of)
    refused = REFUSED_COLUMNS | {
        "a frame": (pd.DataFrame(), "takes a pandas.Series"),
        "a name of numpy's": (pd.Series([1], name=np.int64(1)), "numpy.int64"),
    }

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert_same_series(loaded, saved)


class TestParquetSeries(SeriesTests):
    serializer = series_serializer


class TestFeatherSeries(SeriesTests):
    serializer = series_feather_serializer


def test_only_parquet_data_of_equal_frames_is_equal() -> None:
    """Feather data also has what can't be seen in the frame."""
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64")})
    masked = pd.DataFrame({"a": pd.arrays.IntegerArray(np.array([1, 5]), np.array([False, True]))})
    assert_same_frame(masked, frame)

    for serializer, is_deterministic in (
        (dataframe_serializer, True),
        (dataframe_feather_serializer, False),
    ):
        is_equal = serializer.serialize(masked) == serializer.serialize(frame)
        assert (is_equal, serializer.deterministic) == (is_deterministic, is_deterministic)


def test_the_first_serializer_of_a_type_is_parquet() -> None:
    """Core takes the first of a plugin for values that name no serializer."""
    assert pandas_serializer is dataframe_serializer
    assert [serializer.name for serializer in artigraph_serializers()] == [
        "pandas.dataframe.parquet",
        "pandas.dataframe.feather",
        "pandas.series.parquet",
        "pandas.series.feather",
    ]


@pytest.mark.parametrize("serializer", [dataframe_serializer, dataframe_feather_serializer])
def test_a_loaded_frame_can_be_written_to(serializer: Any) -> None:
    """It shares no memory with the data."""
    data = bytes(serializer.serialize(pd.DataFrame({"a": [1, 2], "b": [1.5, 2.5]})))

    frame = serializer.deserialize(data)
    frame.loc[0, "a"] = 5
    frame["b"] += 1

    assert_same_frame(frame, pd.DataFrame({"a": [5, 2], "b": [2.5, 3.5]}))
    assert_same_frame(serializer.deserialize(data), pd.DataFrame({"a": [1, 2], "b": [1.5, 2.5]}))


def test_options_do_not_change_what_is_loaded() -> None:
    """An application that reads text as objects still gets the dtype that was saved."""
    frame = pd.DataFrame({"a": pd.Series(["x"], dtype="str"), "b": objects("x")})
    data = dataframe_serializer.serialize(frame)

    with (
        pytest.warns(DeprecationWarning, match="infer_string"),
        pd.option_context("future.infer_string", False, "mode.string_storage", "python"),
    ):
        loaded = dataframe_serializer.deserialize(data)

    assert_same_frame(loaded, frame)


def test_others_find_the_columns_by_name() -> None:
    """A file is a table like any other to what else reads Parquet."""
    index = pd.Index([5, 6, 7, 8], name="i")
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": moments("us", "UTC").array}, index)

    table = pq.read_table(pa.BufferReader(dataframe_serializer.serialize(frame)))

    assert table.column_names == ["a", "b", "i"]
    assert table["b"].to_pylist() == [*frame["b"][:-1], None]


def test_a_series_is_no_frame() -> None:
    """Data of the one is not mistaken for the other."""
    series = series_serializer.serialize(pd.Series([1], name="a"))
    frame = dataframe_serializer.serialize(pd.DataFrame({"a": [1]}))

    for serializer, data in ((dataframe_serializer, series), (series_serializer, frame)):
        with pytest.raises(KeyError):
            serializer.deserialize(data)


def test_a_foreign_file_is_an_error() -> None:
    """A table that no serializer wrote says nothing of its dtypes."""
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), file)

    with pytest.raises(ValueError, match="not written by this serializer"):
        dataframe_serializer.deserialize(file.getvalue().to_pybytes())


def test_no_code_of_an_extension_type_runs() -> None:
    """A file that names a registered type is refused before pyarrow asks the type."""
    asked: list[bytes] = []

    class Spy(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.int64(), "artigraph.tests.spy")

        def __arrow_ext_serialize__(self) -> bytes:
            return b"parameters"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> "Spy":
            asked.append(serialized)
            return cls()

    table = pa.table({"a": pa.ExtensionArray.from_storage(Spy(), pa.array([1]))})
    parquet, feather = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(feather, table.schema) as writer:
        writer.write_table(table)
    pa.register_extension_type(Spy())
    try:
        for serializer, file in (
            (dataframe_serializer, parquet),
            (dataframe_feather_serializer, feather),
        ):
            with pytest.raises(ValueError, match="extension type"):
                serializer.deserialize(file.getvalue().to_pybytes())
    finally:
        pa.unregister_extension_type("artigraph.tests.spy")

    assert asked == []
