from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from artigraph.testing.serializer import SerializerTests
from artigraph_arrow import (
    feather_batch_serializer,
    feather_serializer,
    parquet_batch_serializer,
    parquet_serializer,
)
from artigraph_arrow.plugin import artigraph_serializers

NAN = float("nan")
NOT_NULL = pa.field("item", pa.int8(), nullable=False)


def dictionary(indices: list[int | None], values: Any, *, ordered: bool = False) -> pa.Array:
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, pa.int8()), pa.array(values), ordered=ordered
    )


ARRAYS: dict[str, pa.Array | pa.ChunkedArray] = {
    **{
        f"{array.type}": array
        for array in (
            *(pa.array([2**64 - 1, None], pa.uint64()), pa.array([1.5, None], pa.float16())),
            *(pa.array([True, None]), pa.nulls(3), pa.array([1], pa.date32())),
            *(pa.array([86_400_000, None], pa.date64()), pa.array([1], pa.time32("s"))),
            *(pa.array([1], pa.time32("ms")), pa.array([1], pa.time64("ns"))),
            *(pa.array([1, None], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
            pa.array([1, None], pa.timestamp("s", "Europe/Berlin")),
            pa.array([2**62], pa.timestamp("ns", "+01:00")),
            *(pa.array([2**62, None], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")),
            *(pa.array(["é\0", "", None], kind) for kind in (pa.string(), pa.large_string())),
            *(pa.array([b"\xff", None], kind) for kind in (pa.binary(), pa.large_binary())),
            *(pa.array(["x" * 40, None], pa.string_view()), pa.array([b"ab"], pa.binary(2))),
            pa.array([Decimal("1.10"), None], pa.decimal128(38, 2)),
            pa.array([Decimal("1.10")], pa.decimal256(70, 5)),
            *(pa.array([[NAN, None], None, []]), pa.array([[1], None], pa.large_list(pa.int8()))),
            pa.array([[[]], [None], None, [[1], []]], pa.list_(pa.list_(pa.int16()))),
            pa.array([[NAN, 2.0], None], pa.list_(pa.float64(), 2)),
            pa.array([[NAN], None], pa.list_view(pa.float32())),
            pa.array([{"a": NAN, "b": "x"}, None, {"a": None, "b": None}]),
            pa.array([[("a", NAN)], None, []], pa.map_(pa.string(), pa.float64())),
            pa.array([[1]], pa.list_(pa.field("named", pa.int8(), nullable=False))),
            pa.array([{"a": [1]}], pa.struct([pa.field("a", pa.list_(NOT_NULL), nullable=False)])),
            pa.array([{"a": [1]}], pa.struct([("a", pa.list_(pa.timestamp("s")))])),
        )
    },
    "signed zeros, infinities": pa.array([NAN, -0.0, 0.0, None, float("inf"), 5e-324]),
    "a dictionary": dictionary([1, None, 0], ["b", "a", "unused"]),
    "an ordered dictionary": dictionary([0, 1], ["b", "a"], ordered=True),
    "a dictionary within": pa.ListArray.from_arrays([0, 1, 2], dictionary([0, 1], ["b", "a"])),
    "chunks of one dictionary": pa.chunked_array([dictionary([0], ["a"]), dictionary([0], ["a"])]),
    "chunks": pa.chunked_array([[1, 2], [3, None]]).slice(1, 2),
    "a slice": pa.array([[NAN], [1.0, 2.0], None, [3.0]]).slice(1),
    "no chunks": pa.chunked_array([], pa.int8()),
    "a missing list that is not empty": pa.ListArray.from_arrays(
        pa.array([0, 2, 4], pa.int32()), pa.array([1, 2, 3, 4]), mask=pa.array([True, False])
    ),
}

FEATHER_ARRAYS: dict[str, pa.Array] = {
    "seconds beyond milliseconds": pa.array([2**62], pa.timestamp("s")),
    "a negative scale": pa.array([100], pa.decimal128(5, -2)),
    "no bytes": pa.array([b""], pa.binary(0)),
    "lists of no items": pa.array([[]], pa.list_(pa.int8(), 0)),
    "structs without fields": pa.array([{}, None], pa.struct([])),
    "a dictionary of numbers": dictionary([0, 1], [5.5, NAN]),
    "a dictionary with a null": dictionary([0, 1], ["x", None]),
    "a dictionary with equal values": dictionary([0, 1], ["x", "x"]),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 3, 9], ["a", "b", "c"]).slice(1, 5),
    "months, days and nanoseconds": pa.array([pa.MonthDayNano([1, 2, 3])]),
    "a dense union": pa.UnionArray.from_dense(
        *(pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32())),
        [pa.array([1]), pa.array(["a"])],
    ),
    "a sparse union": pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array([1, NAN]), pa.array(["a", "b"])]
    ),
    "a null where none may be": pa.StructArray.from_arrays(
        [pa.array([1, None])], fields=[pa.field("a", pa.int64(), nullable=False)]
    ),
}
"""What Arrow IPC keeps and Parquet does not."""

REFUSED_ARRAYS: dict[str, pa.Array | pa.ChunkedArray] = {
    "an extension type": pa.array([b"0" * 16], pa.uuid()),
    "text that is not UTF-8": pa.array([b"\xff"]).view(pa.string()),
    "dates of 64 bits that are no dates": pa.array([1]).view(pa.date64()),
    "maps with fields of other names": pa.array(
        [[("a", 1)]], pa.map_(pa.field("k", pa.string(), nullable=False), pa.field("v", pa.int8()))
    ),
}


def with_metadata(metadata: dict[Any, Any]) -> pa.Table:
    field = pa.field("a", pa.int64(), metadata=metadata)
    return pa.table({"a": [1]}, pa.schema([field], metadata))


TABLES: dict[str, pa.Table] = {
    "nothing": pa.table({}),
    "no rows": pa.table({"a": pa.array([], pa.int8()), "b": dictionary([], ["unused"])}),
    "equal names": pa.Table.from_arrays([pa.array([1]), pa.array(["x"])], ["a", "a"]),
    "the mark of extension types": pa.table({"a": ["ARROW:extension:name"]}),
    "odd names": pa.table({"": [1], "a.b": [2], "a\0b": [3], "é": [4]}),
    "not null": pa.table({"a": [1]}, pa.schema([pa.field("a", pa.int64(), nullable=False)])),
    "metadata": with_metadata({"k": "v", b"\xff": b"\xfe", "": ""}),
    "metadata of others": with_metadata({"PARQUET:field_id": "5", "pandas": "{}"}),
}

ROWS_WITHOUT_COLUMNS = pa.table({"a": [1, 2]}).select([])
FORBIDDEN_NULL = pa.table(
    {"a": pa.array([1, None], pa.int8())}, pa.schema([pa.field("a", pa.int8(), nullable=False)])
)


def tables_of(arrays: dict[str, Any]) -> dict[str, pa.Table]:
    return {name: pa.table({"first": array, "the column": array}) for name, array in arrays.items()}


def under(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{kind}: {name}": value for name, value in values.items()}


def batches_of(tables: dict[str, pa.Table]) -> dict[str, pa.RecordBatch]:
    return {name: batch_of(table) for name, table in tables.items()}


def batch_of(table: pa.Table) -> pa.RecordBatch:
    if table.num_rows:
        return table.to_batches()[0]
    arrays = [column.chunk(0) for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)


def refusing(arrays: dict[str, Any]) -> dict[str, tuple[pa.Table, str]]:
    return {
        name: (pa.table({"first": [1] * len(array), "the column": array}), refusal(array.type))
        for name, array in arrays.items()
    }


def refusal(kind: pa.DataType) -> str:
    return f"column 'the column': type {kind} can't be kept exactly"


REFUSED: dict[str, tuple[Any, str]] = {
    **refusing(REFUSED_ARRAYS),
    "an extension type within": (
        pa.table({"s": pa.StructArray.from_arrays([pa.array([b"0" * 16], pa.uuid())], ["u"])}),
        "column 's': type struct<u: extension<arrow.uuid>>",
    ),
    "the name of an extension type": (
        with_metadata({"ARROW:extension:name": "x"}),
        "column 'a': type int64",
    ),
    "a name that marks extension types": (
        pa.table({"ARROW:extension:name": [1]}),
        "column 'ARROW:extension:name'",
    ),
    "a record batch": (pa.record_batch({"a": [1]}), "takes a PyArrow Table, got"),
    "a dict": ({"a": [1]}, "takes a PyArrow Table, got"),
}

DIFFERING_DICTIONARIES = pa.table(
    {"d": pa.chunked_array([dictionary([0], ["a"]), dictionary([0], ["b"])])}
)


def assert_same(loaded: Any, saved: Any) -> None:
    """Equal in schema, metadata and values, a NaN included."""
    assert type(loaded) is type(saved)
    assert loaded.schema.equals(saved.schema, check_metadata=True)
    assert loaded.num_rows == saved.num_rows
    loaded.validate(full=True)
    for found, column in zip(loaded.columns, saved.columns, strict=True):
        assert found.equals(column) or str(found.to_pylist()) == str(column.to_pylist())


leaves = st.sampled_from(
    [
        *(pa.int8(), pa.float64(), pa.string(), pa.timestamp("s"), pa.timestamp("ns", "UTC")),
        *(pa.date64(), pa.dictionary(pa.int8(), pa.string()), pa.decimal128(9, 2), pa.null()),
    ]
)
types = st.recursive(
    leaves,
    lambda parts: st.one_of(
        parts.map(pa.list_),
        parts.map(pa.large_list),
        parts.map(lambda kind: pa.list_(kind, 2)),
        st.lists(parts, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{i}", kind) for i, kind in enumerate(kinds)])
        ),
        parts.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=4,
)


def cells_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Values that `pa.array` takes for a type, missing ones included."""
    if pa.types.is_map(kind):
        cells: Any = st.lists(st.tuples(st.text(max_size=2), cells_of(kind.item_type)), max_size=2)
    elif pa.types.is_struct(kind):
        cells = st.fixed_dictionaries({field.name: cells_of(field.type) for field in kind})
    elif pa.types.is_fixed_size_list(kind):
        cells = st.lists(cells_of(kind.value_type), min_size=2, max_size=2)
    elif pa.types.is_nested(kind):
        cells = st.lists(cells_of(kind.value_type), max_size=3)
    elif pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        cells = st.text(max_size=3)
    elif pa.types.is_float64(kind):
        cells = st.floats() | st.sampled_from([NAN, -0.0])
    elif pa.types.is_decimal(kind):
        cells = st.decimals(0, 999, places=2)
    elif pa.types.is_date64(kind):
        cells = st.integers(-9, 9).map(lambda days: days * 86_400_000)
    elif pa.types.is_null(kind):
        cells = st.none()
    else:
        cells = st.integers(-128, 127)
    return st.none() | cells


def is_valid(array: pa.Array) -> bool:
    """False for what pyarrow itself gets wrong: missing lists of a fixed size, of dictionaries."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


columns = types.flatmap(
    lambda kind: st.lists(cells_of(kind), max_size=4).map(lambda cells: pa.array(cells, kind))
).filter(is_valid)
tables = st.builds(
    lambda column, start: pa.table({"a": column}).slice(start), columns, st.integers(0, 2)
)


NAMED = pa.table(
    {
        "number": pa.array([1, None, 3, 4, 5, 6, 7], pa.int32()),
        "number.a": pa.array([1, 2, 3, 4, 5, 6, 7], pa.timestamp("s")),
        "": pa.array([[1], [], None, [2, 3], [4], [5], [6]]),
        "text": dictionary([0, 1, 0, None, 1, 0, 0], ["x", "y"]),
    }
)


def large_table() -> pa.Table:
    """A quarter of a gigabyte in one chunk of each column, which does not begin with the first."""
    rows = 2**28 // 40
    numbers = pa.array(range(rows + 1), pa.int64())
    texts = numbers.cast(pa.string())
    table = pa.table({"a": numbers, "b": numbers, "c": texts, "d": texts}).slice(1)
    pa.default_memory_pool().release_unused()
    return table


class TableTests(SerializerTests):
    strategy = tables
    table = NAMED
    names = NAMED.column_names

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert_same(loaded, saved)

    def alter(self, value: Any) -> None:
        for column in value.columns:
            chunks = column.chunks if isinstance(value, pa.Table) else [column]
            for chunk in chunks:
                memoryview(chunk.buffers()[-1])[:] = bytes(chunk.buffers()[-1].size)

    def part(self, table: pa.Table, columns: Sequence[str], rows: slice) -> pa.Table:
        return table.select(columns)[rows]

    def collect(self, scanned: ds.Dataset) -> pa.Table:
        return scanned.to_table()


def reading(table: pa.Table) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1))


SOURCES: dict[str, tuple[Any, Any]] = {
    name: (partial(reading, table), table)
    for name, table in {
        "batches of one row": NAMED,
        "no batches": pa.table({"a": pa.array([], pa.int8())}),
        "no columns": pa.table({}),
        "metadata": TABLES["metadata"],
    }.items()
}


class TestFeatherTables(TableTests):
    serializer = feather_serializer
    sources = SOURCES
    large = staticmethod(large_table)
    values = TABLES | tables_of(ARRAYS | FEATHER_ARRAYS) | {"a forbidden null": FORBIDDEN_NULL}
    refused = REFUSED | {
        "dictionaries that differ": (DIFFERING_DICTIONARIES, "table.unify_dictionaries()")
    }


class TestParquetTables(TableTests):
    serializer = parquet_serializer
    sources = SOURCES
    large = staticmethod(large_table)
    extra_memory = 128 * 2**20
    values = TABLES | tables_of(ARRAYS)
    refused = (
        REFUSED
        | refusing(FEATHER_ARRAYS)
        | {
            "dictionaries that differ": (DIFFERING_DICTIONARIES, "column 'd': type dictionary<"),
            "rows without columns": (ROWS_WITHOUT_COLUMNS, "table: rows without columns"),
            "a forbidden null": (FORBIDDEN_NULL, "column 'a': type int8 not null"),
            "metadata of the format": (
                pa.table({"a": [1]}).replace_schema_metadata({"ARROW:schema": "x"}),
                "table: the metadata",
            ),
        }
    )


NO_BATCHES = {"a table": (pa.table({}), "takes a PyArrow RecordBatch, got")}


class BatchTests(TableTests):
    refused = NO_BATCHES
    strategy = tables.map(batch_of)


class TestFeatherBatches(BatchTests):
    serializer = feather_batch_serializer
    values = batches_of(
        TABLES
        | tables_of(FEATHER_ARRAYS)
        | under("no", tables_of({name: array[:0] for name, array in FEATHER_ARRAYS.items()}))
    )


class TestParquetBatches(BatchTests):
    serializer = parquet_batch_serializer
    values = batches_of(TABLES)


NULL = pa.array([None], pa.list_(pa.dictionary(pa.int8(), pa.string())))
UNUSED = pa.ListArray.from_arrays(
    [0, 0], dictionary([], ["unused"]), type=NULL.type, mask=pa.array([True])
)


@pytest.mark.parametrize(
    ("serializer", "column", "other"),
    [
        (feather_serializer, pa.array([1, 2]), pa.chunked_array([[1], [2]])),
        (
            feather_serializer,
            pa.array([None, 2]),
            pa.Array.from_buffers(
                pa.int64(), 2, [pa.py_buffer(b"\2"), pa.array([5, 2]).buffers()[1]]
            ),
        ),
        (parquet_serializer, NULL, UNUSED),
    ],
    ids=["chunks", "under a null", "unused"],
)
def test_the_data_of_equal_tables_may_differ(
    serializer: Any, column: pa.Array, other: pa.Array | pa.ChunkedArray
) -> None:
    """So no serializer says that it is the same."""
    table, equal = pa.table({"a": column}), pa.table({"a": other})

    assert_same(equal, table)
    assert serializer.serialize(equal) != serializer.serialize(table)
    assert not serializer.deterministic


def test_the_first_serializer_of_a_type_is_feather() -> None:
    """Core takes the first of a plugin for values that name no serializer."""
    assert [serializer.name for serializer in artigraph_serializers()] == [
        "pyarrow.table.feather",
        "pyarrow.table.parquet",
        "pyarrow.recordbatch.feather",
        "pyarrow.recordbatch.parquet",
    ]


def test_feather_keeps_rows_without_columns() -> None:
    """Their number is all that there is to say."""
    (batch,) = ROWS_WITHOUT_COLUMNS.to_batches()

    for serializer, value in (
        (feather_serializer, ROWS_WITHOUT_COLUMNS),
        (feather_batch_serializer, batch),
    ):
        loaded = serializer.deserialize(serializer.serialize(value))
        assert (loaded.num_rows, loaded.num_columns) == (2, 0)


def test_feather_copies_nothing_on_load() -> None:
    """The arrays of a loaded table are views of the data."""
    data = bytes(feather_serializer.serialize(pa.table({"a": range(1000)})))
    buffer = pa.py_buffer(data)

    table = feather_serializer.deserialize(data)

    column = table["a"].chunk(0).buffers()[1]
    assert buffer.address <= column.address < buffer.address + buffer.size


def test_feather_keeps_the_dictionary_of_no_rows() -> None:
    """A table that was filtered to nothing still says what might have been in it."""
    data = feather_serializer.serialize(TABLES["no rows"])

    loaded = feather_serializer.deserialize(data)

    assert loaded["b"].chunk(0).dictionary.to_pylist() == ["unused"]


def test_a_dictionary_of_many_values_comes_back_in_parquet() -> None:
    """Also beyond the size where Parquet gives up on dictionaries, and over several row groups."""
    values = [str(i % 300_000) for i in range(1_100_000)]
    table = pa.table({"d": pa.array(values).dictionary_encode()})

    assert parquet_serializer.deserialize(parquet_serializer.serialize(table)).equals(table)


@pytest.fixture
def asked() -> Iterator[list[bytes]]:
    """The parameters that a registered extension type was asked to read."""
    calls: list[bytes] = []

    class Spy(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.int64(), "artigraph.tests.spy")

        def __arrow_ext_serialize__(self) -> bytes:
            return b"parameters"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> "Spy":
            calls.append(serialized)
            return cls()

    pa.register_extension_type(Spy())
    yield calls
    pa.unregister_extension_type("artigraph.tests.spy")


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_code_of_an_extension_type_runs(asked: list[bytes], depth: int) -> None:
    """A file that names a registered type is refused before pyarrow asks the type."""
    field = pa.field(
        "a", pa.int64(), metadata={"ARROW:extension:name": "artigraph.tests.spy", "x": "y" * depth}
    )
    table = pa.table({"a": [1]}, pa.schema([field]))
    parquet, feather = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(feather, table.schema) as writer:
        writer.write_table(table)
    asked.clear()

    for serializer, file in ((parquet_serializer, parquet), (feather_serializer, feather)):
        with pytest.raises(ValueError, match="extension type"):
            serializer.deserialize(file.getvalue().to_pybytes())

    assert asked == []
