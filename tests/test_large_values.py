"""Large values: written while they are made, never refused on load, checked on every way in."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artigraph import ArtifactModel, Progress, artifact_field, check, on_progress, set_database
from artigraph.errors import LimitError, ProgressHookError, UnsupportedValueError
from artigraph.serializer import expansion, get_serializer
from artigraph.serializer.expansion import check_expansion
from artigraph.serializer.ipc import Meter, first_message, measure_ipc
from artigraph.serializer.once import check_once
from artigraph.spec import (
    Data,
    MappingSerializer,
    ScanningSerializer,
    SelectingSerializer,
    Serializer,
    StreamingSerializer,
)
from artigraph.storage.file import FileSystem
from artigraph.testing.files import local_file
from artigraph.transfer import GATHERED, PIECE
from artigraph_arrow import feather_serializer, parquet_serializer
from artigraph_pandas import dataframe_feather_serializer, dataframe_serializer
from artigraph_polars import dataframe_ipc_serializer
from artigraph_polars import dataframe_serializer as frame_serializer

ROWS = 1_500_000
TABLE = pa.table({"number": range(ROWS), "text": pa.array(range(ROWS)).cast(pa.string())})


@dataclass
class Large(ArtifactModel, version=1, name="large.Large"):
    """One of each, in all formats."""

    feather: Any = artifact_field(serializer=feather_serializer)
    parquet: Any = artifact_field(serializer=parquet_serializer)
    ipc: Any = artifact_field(serializer=dataframe_ipc_serializer)
    frame: Any = artifact_field(serializer=frame_serializer)
    pandas_feather: Any = artifact_field(serializer=dataframe_feather_serializer)
    pandas: Any = artifact_field(serializer=dataframe_serializer)


@dataclass
class Plain(ArtifactModel, version=1, name="large.Plain"):
    value: Any


async def test_what_is_streamed_to_files_is_loaded(tmp_path: Path) -> None:
    """Values and their sources, in every format, through the front door."""
    set_database("sqlite:///large.db", storage=FileSystem(tmp_path / "values"))
    frame = pl.DataFrame(TABLE)
    reader = pa.RecordBatchReader.from_batches(TABLE.schema, TABLE.to_batches(100_000))
    pandas = TABLE.to_pandas()

    saved = await Large(reader, TABLE, frame, frame.lazy(), pandas, pandas).save(label="large")
    loaded = await Large.load(saved)

    assert loaded.feather.equals(TABLE)
    assert loaded.parquet.equals(TABLE)
    assert loaded.ipc.equals(frame)
    assert loaded.frame.equals(frame)
    assert loaded.pandas_feather.equals(pandas)
    assert loaded.pandas.equals(pandas)
    assert not list((tmp_path / "values/tmp").iterdir())


class Pieces(list[bytes]):
    """Two of them are equal if they are of the same bytes."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pieces) and b"".join(self) == b"".join(other)


class PiecesSerializer(StreamingSerializer[Pieces]):
    """Writes all pieces from one piece of memory."""

    name = "tests.pieces"
    types = (Pieces,)

    def serialize(self, value: Pieces) -> bytes:
        return b"".join(value)

    def deserialize(self, data: Data) -> Pieces:
        return Pieces([bytes(data)])

    def estimate(self, value: Pieces) -> None:
        return None

    def dump(self, value: Pieces, file: BinaryIO) -> None:
        memory = bytearray(max(map(len, value)))
        for piece in value:
            memory[: len(piece)] = piece
            with memoryview(memory) as view:
                file.write(view[: len(piece)])


@dataclass
class Whole(ArtifactModel, version=1, name="large.Whole"):
    pieces: Pieces = artifact_field(serializer=PiecesSerializer())


class Careless(PiecesSerializer):
    """Goes on whatever its file has said, and closes it."""

    name = "tests.careless"

    def dump(self, value: Pieces, file: BinaryIO) -> None:
        with suppress(Exception), file:
            file.writelines(value)


@dataclass
class Risky(ArtifactModel, version=1, name="large.Risky"):
    pieces: Pieces = artifact_field(serializer=Careless())


@pytest.mark.parametrize("size", [1, GATHERED - 1, GATHERED])
async def test_a_serializer_may_close_its_file(tmp_path: Path, size: int) -> None:
    """As wrappers do that it puts around."""
    set_database("sqlite:///large.db", storage=FileSystem(tmp_path / "values"))
    value = Risky(Pieces([b"x" * GATHERED, b"y" * size]))

    assert await Risky.load(await value.save(label="risky")) == value


async def test_an_error_that_a_serializer_does_not_pass_on_ends_the_save(tmp_path: Path) -> None:
    """A part of its data would be taken for all of it."""
    set_database("sqlite:///large.db", storage=FileSystem(tmp_path / "values"))

    def refuse(progress: Progress) -> None:
        if progress.done:
            raise KeyError(progress.value)

    with on_progress(refuse), pytest.raises(ProgressHookError):
        await Risky(Pieces([b"x" * PIECE] * 3)).save(label="risky")

    assert [path for path in (tmp_path / "values").rglob("*") if path.is_file()] == []
    assert (await check()).artifacts == 0


SIZES = [1, 99, 64 * 1024, GATHERED - 1, GATHERED, GATHERED + 1, PIECE - 1, PIECE, PIECE + 1]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=6))
def test_pieces_of_all_sizes_are_saved_in_their_order(sizes: list[int]) -> None:
    """Those that are gathered, and those that are not; what is written from may be used again."""
    value = Whole(Pieces(bytes([place]) * size for place, size in enumerate(sizes)))

    async def save_and_load() -> Whole:
        with TemporaryDirectory() as folder:
            set_database(f"sqlite:///{folder}/graph.db", storage=FileSystem(f"{folder}/values"))
            return await Whole.load(await value.save(label="whole"))

    assert asyncio.run(save_and_load()) == value


TEXTS = {
    "long and short": ["x"] * 500 + ["y" * 500],
    "one over and over": ["x" * 1000] * 1000,
    "nothing": [""] * 1000,
    "no texts": [],
    "some missing": [None, "x" * 9] * 100,
}


@pytest.fixture
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data may take as much memory as it has bytes, and no more."""
    monkeypatch.setattr(expansion, "ALWAYS_ALLOWED", 0)
    monkeypatch.setattr(expansion, "MAX_EXPANSION", 1)


def nested(depth: int, value: object) -> object:
    return [nested(depth - 1, value)] if depth else value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([object()] + [1] * 40_000, r"Plain\.value\[0\]: a value of type object"),
        ([1] * 2_000_000 + [object()], r"Plain\.value\[2000000\]: a value of type object"),
        (nested(250, [1] * 50_000), r"Plain\.value: it is nested deeper"),
    ],
    ids=["at its beginning", "at its end", "too deep"],
)
async def test_a_large_value_that_can_not_be_kept_is_told_by_its_place(
    tmp_path: Path, value: object, told: str
) -> None:
    """It is found when some of the value is written, of which nothing is left."""
    set_database("sqlite:///large.db", storage=FileSystem(tmp_path / "values"))

    with pytest.raises((UnsupportedValueError, LimitError), match=told):
        await Plain(value).save()

    assert not [path for path in (tmp_path / "values").rglob("*") if path.is_file()]
    checked = await check()
    assert (checked.artifacts, checked.findings) == (0, [])


@pytest.mark.usefixtures("no_slack")
@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
def test_a_parquet_file_is_never_taken_for_an_attack(texts: list[Any]) -> None:
    """What it lacks in size is added, by what its footer says."""
    table = pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "lists": pa.array([[each, each] for each in texts], pa.list_(pa.string())),
            "kind": pa.array(texts, pa.string()).dictionary_encode(),
            "zero": np.zeros(len(texts)),
            "array": pa.array([[0, 0]] * len(texts), pa.list_(pa.int64(), 2)),
        }
    )
    frame = table.select(["text", "zero"]).to_pandas()

    for serializer, value in (
        (parquet_serializer, table),
        (dataframe_serializer, frame),
        (frame_serializer, pl.DataFrame(table)),
    ):
        data = serializer.serialize(value)
        assert serializer.deserialize(data).equals(value)


@given(st.lists(st.lists(st.text(max_size=40), max_size=3), max_size=40))
def test_generated_texts_are_never_taken_for_an_attack(texts: list[list[str]]) -> None:
    """However their lengths differ."""
    table = pa.table({"a": pa.array(texts, pa.list_(pa.string()))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expansion, "ALWAYS_ALLOWED", 0)
        patch.setattr(expansion, "MAX_EXPANSION", 1)

        assert parquet_serializer.deserialize(parquet_serializer.serialize(table)).equals(table)


def test_long_texts_among_short_ones_get_no_dictionary() -> None:
    """A file with one would have to be a hundred times as large as it is, to be read."""
    rows = 100_000
    table = pa.table({"a": ["x" * 100_000, *map(str, range(rows - 1))]})

    data = parquet_serializer.serialize(table)

    assert len(data) < 2**20
    assert parquet_serializer.deserialize(data).equals(table)


@pytest.mark.parametrize("size", [1, 7, 4096, 10**9])
@pytest.mark.parametrize("write", ["arrow", "polars"])
def test_a_file_is_measured_the_same_while_it_is_written(write: str, size: int) -> None:
    """In whatever pieces it comes."""
    table = pa.table({"a": [1, 2], "d": pa.array(["x", "y"]).dictionary_encode(), "n": [None] * 2})
    file, empty = BytesIO(), BytesIO()
    if write == "arrow":
        for each, sink in ((table, file), (table.slice(0, 0), empty)):
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(each, max_chunksize=1)
    else:
        frame = pl.DataFrame(table)
        frame.write_ipc(file)
        frame.clear().write_ipc(empty)
    data = file.getvalue()

    meter = Meter(first_message(empty.getbuffer()), per_value=8)
    for start in range(0, len(data), size):
        meter.feed(memoryview(data)[start : start + size])

    assert meter.size == measure_ipc(data, per_value=8) > 0


WAYS: dict[str, tuple[type[Serializer[Any]], Callable[[Any, Any], Any]]] = {
    "map": (MappingSerializer, lambda serializer, file: serializer.map(file)),
    "select": (SelectingSerializer, lambda serializer, file: serializer.select(file, ["a"], None)),
    "scan": (ScanningSerializer, lambda serializer, file: serializer.scan(file)),
}

TABULAR = [
    f"{kind}.{file}"
    for kind, files in {
        "pyarrow.table": ("feather", "parquet"),
        "pyarrow.recordbatch": ("feather",),
        "polars.dataframe": ("ipc", "parquet"),
        "polars.series": ("ipc",),
        "pandas.dataframe": ("feather", "parquet"),
        "pandas.series": ("feather",),
    }.items()
    for file in files
]


@pytest.fixture
def asked() -> Iterator[list[bytes]]:
    """What a registered extension type was asked to read."""
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


@pytest.mark.parametrize("name", TABULAR)
def test_no_way_in_runs_the_code_of_an_extension_type(name: str, asked: list[bytes]) -> None:
    """A file that names one is refused, however it is to be read."""
    field = pa.field("a", pa.int64(), metadata={"ARROW:extension:name": "artigraph.tests.spy"})
    table, file = pa.table({"a": [1]}, pa.schema([field])), BytesIO()
    if name.endswith("parquet"):
        pq.write_table(table, file)
    else:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    asked.clear()
    serializer = get_serializer(name)

    with local_file(file.getvalue()) as local:
        for ability, read in WAYS.values():
            if isinstance(serializer, ability):
                with pytest.raises(ValueError, match="extension type"):
                    read(serializer, local)

    assert asked == []


@pytest.mark.parametrize("name", TABULAR)
def test_no_way_in_takes_more_memory_than_is_allowed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb is refused, however it is to be read."""
    serializer: Any = get_serializer(name)
    values = {"table": pa.table, "recordbatch": pa.record_batch, "dataframe": pd.DataFrame}
    kind = name.split(".")[1]
    columns = {"a": np.zeros(100_000)}
    value = pd.Series(columns["a"]) if kind == "series" else values[kind](columns)
    if name.startswith("polars"):
        value = pl.Series(columns["a"]) if kind == "series" else pl.DataFrame(columns)
    data = bytes(serializer.serialize(value))
    monkeypatch.setattr(expansion, "ALWAYS_ALLOWED", 1000)
    monkeypatch.setattr(expansion, "MAX_EXPANSION", 0)

    with local_file(data) as local:
        for ability, read in WAYS.values():
            if isinstance(serializer, ability):
                with pytest.raises(LimitError):
                    read(serializer, local)


@pytest.mark.parametrize("name", [name for name in TABULAR if not name.endswith("parquet")])
def test_what_is_mapped_was_looked_at(name: str) -> None:
    """Texts that point beyond their bytes are refused, before anybody reads there."""
    serializer: Any = get_serializer(name)
    file = BytesIO()
    if name.startswith("pandas"):
        values = {"pandas.dataframe": pd.DataFrame, "pandas.series": pd.Series}
        file.write(
            serializer.serialize(values[name.rpartition(".")[0]](["xyz", "12345"], dtype="str"))
        )
    else:
        table = pa.table({"a": ["xyz", "12345"]})
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    kind = "i8" if name.startswith("pandas") else "i4"
    offsets, beyond = (np.array([0, 3, end], kind).tobytes() for end in (8, 2**30))
    data = file.getvalue().replace(offsets, beyond)

    with local_file(data) as local:
        if name == "polars.dataframe.ipc":  # which looks at no values, and so must not stand for it
            assert isinstance(serializer, ScanningSerializer)
            serializer.scan(local)
        with pytest.raises(Exception, match=r"(?i)offset|InvalidBuffer"):
            serializer.map(local)


def test_a_file_that_passed_is_not_looked_at_again_until_it_changes() -> None:
    """By what the system says of it."""
    calls: list[int] = []

    with local_file(b"data") as file:
        for _ in range(3):
            check_once(file, "it", lambda: calls.append(1))
        assert len(calls) == 1
        check_once(file, "something else of it", lambda: calls.append(1))
        assert len(calls) == 2
        file.path.write_bytes(b"atad")
        check_once(file, "it", lambda: calls.append(1))
        assert len(calls) == 3
        file.path.unlink()
        for _ in range(2):
            check_once(file, "it", lambda: calls.append(1))

    assert len(calls) == 5


def test_a_file_that_did_not_pass_is_looked_at_again() -> None:
    """Nothing is remembered of it."""
    with local_file(b"data") as file:
        for _ in range(2):
            with pytest.raises(LimitError):
                check_once(file, "size", lambda: check_expansion(2**40, 1))


def test_all_that_stream_are_streaming_serializers() -> None:
    """Those of tables, whole or one column."""
    for name in TABULAR:
        assert isinstance(get_serializer(name), StreamingSerializer)
