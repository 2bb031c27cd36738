"""Big values: tables, frames and arrays, to files and from them.

The raw sides write the same bytes with `write()` and fsync, and read them with `read()` into
memory; for Parquet, which is work in itself, they have the library write and read the file. What is
read was written just before, so it is in the page cache on both sides.
"""

import asyncio
import hashlib
import json
import operator
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.measuring import Side, Stage
from numpy.lib import format as npy

from artigraph import ArtifactModel, Lazy, artifact_field
from artigraph.serializer import polars as of_polars
from artigraph.serializer import pyarrow as of_arrow
from artigraph.serializer.numpy import array_serializer

MEGABYTE = 1_000_000
ROW_BYTES = 80
"""Of a table: three floats, two whole numbers, a category, a time, a text of its own."""
LINE_BYTES = 39
NUMBER_BYTES = 10
"""Of a whole number and a comma in JSON."""
COLUMN = "c"
PIECE = 8 * 2**20
"""Of an array, in bytes: what is written at once."""
HASHED_BESIDE = 2**20
"""Bytes that take longer to hash than to hand to a thread."""


@dataclass
class Feather(ArtifactModel, version=1):
    value: Lazy[pa.Table] = artifact_field(serializer=of_arrow.feather_serializer)


@dataclass
class Parquet(ArtifactModel, version=1):
    value: Lazy[pa.Table] = artifact_field(serializer=of_arrow.parquet_serializer)


@dataclass
class FrameIPC(ArtifactModel, version=1):
    value: Lazy[pl.DataFrame] = artifact_field(serializer=of_polars.dataframe_ipc_serializer)


@dataclass
class FrameParquet(ArtifactModel, version=1):
    value: Lazy[pl.DataFrame] = artifact_field(serializer=of_polars.dataframe_serializer)


@dataclass
class Array(ArtifactModel, version=1):
    value: Lazy[np.ndarray[Any, Any]] = artifact_field(serializer=array_serializer)


def table(megabytes: int) -> pa.Table:
    rows = megabytes * MEGABYTE // ROW_BYTES
    random = np.random.default_rng(7)
    categories = pa.array([f"category {n}" for n in range(50)])
    columns = {
        **{name: pa.array(random.standard_normal(rows)) for name in ("a", "b", "c")},
        **{name: pa.array(random.integers(0, 1_000_000, rows)) for name in ("d", "e")},
        "category": pa.DictionaryArray.from_arrays(
            pa.array(random.integers(0, 50, rows, dtype=np.int32)), categories
        ),
        "time": pa.array(np.arange(rows).astype("datetime64[us]")),
        "text": pa.array(np.arange(rows) + 10**19 // 2).cast(pa.string()),
    }
    return pa.table(columns)


def frame(megabytes: int) -> pl.DataFrame:
    made = pl.from_arrow(table(megabytes))
    assert isinstance(made, pl.DataFrame)
    return made


def array(megabytes: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).standard_normal(megabytes * MEGABYTE // 8)


def feather_data(value: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, value.schema) as writer:
        writer.write_table(value)
    return memoryview(sink.getvalue())


def frame_data(value: pl.DataFrame) -> memoryview:
    return value.write_ipc(None).getbuffer()


def write_feather(value: pa.Table, file: Any) -> None:
    with pa.ipc.new_file(file, value.schema) as writer:
        writer.write_table(value)


def write_array(value: np.ndarray[Any, Any], file: Any) -> None:
    npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(value))
    data = memoryview(value).cast("B")
    for start in range(0, len(data), PIECE):
        file.write(data[start : start + PIECE])


def array_data(value: np.ndarray[Any, Any]) -> memoryview:
    sink = BytesIO()
    np.save(sink, value)
    return sink.getbuffer()


class Kind(NamedTuple):
    """A kind of big value, and its file: how the library writes it, and its bytes or a reader."""

    make: Callable[[int], Any]
    """A value of about that many megabytes."""
    model: Callable[[Any], Any]
    equal: Callable[[Any, Any], bool]
    write: Callable[[Any, Any], object]
    data: Callable[[Any], memoryview] | None = None
    view: Callable[[Path], Any] | None = None
    """Maps the file."""
    check: Callable[[Path], object] | None = None
    """Looks through all values in a file that is mapped: none may lie beyond its end."""
    read: Callable[..., Any] | None = None


def feather_view(file: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def feather_check(file: Path) -> None:
    feather_view(file).validate(full=True)


def frame_view(file: Path) -> pl.DataFrame:
    viewed = pl.from_arrow(feather_view(file), rechunk=False)
    assert isinstance(viewed, pl.DataFrame)
    return viewed


KINDS = {
    "Arrow table, IPC": Kind(
        table,
        Feather,
        pa.Table.equals,
        write_feather,
        data=feather_data,
        view=feather_view,
        check=feather_check,
    ),
    "polars frame, IPC": Kind(
        frame,
        FrameIPC,
        pl.DataFrame.equals,
        pl.DataFrame.write_ipc,
        data=frame_data,
        view=frame_view,
        check=feather_check,
    ),
    "array, .npy": Kind(
        array,
        Array,
        np.array_equal,
        write_array,
        data=array_data,
        view=partial(np.load, mmap_mode="r"),
    ),
    "Arrow table, Parquet": Kind(
        table,
        Parquet,
        pa.Table.equals,
        partial(pq.write_table, compression="zstd", use_compliant_nested_type=False),
        read=pq.read_table,
    ),
    "polars frame, Parquet": Kind(
        frame,
        FrameParquet,
        pl.DataFrame.equals,
        pl.DataFrame.write_parquet,
        read=pl.read_parquet,
    ),
}


def raw_bytes(kind: str, stage: Stage) -> None:
    """Write bytes, hash the file, read it."""
    of = KINDS[kind]
    assert of.data is not None
    data = of.data(of.make(stage.size))
    file = stage.folder / "data"
    with stage.timed("save"):
        with file.open("wb", buffering=0) as sink:
            _write_all(sink.fileno(), data)
            os.fsync(sink.fileno())
    with stage.timed("first map"):
        with file.open("rb", buffering=0) as source:
            hashlib.file_digest(source, "sha256")
    for part in ("map again", "load"):
        with stage.timed(part, value_bytes=len(data)):
            with file.open("rb", buffering=0) as source:
                source.readall()


def least_of_bytes(kind: str, stage: Stage) -> None:
    """Write a hashed file with the library alone; verify it, check its values, and map it."""
    of = KINDS[kind]
    assert of.view is not None
    value, file = of.make(stage.size), stage.folder / "data"
    _write_hashed(of, of.make(1), stage.folder / "first use")
    _give_back(of, stage.size)
    with stage.timed("save"):
        sha256 = _write_hashed(of, value, file)
    of.view(file)
    with stage.timed("first map"):
        with file.open("rb", buffering=0) as source:
            assert hashlib.file_digest(source, "sha256").hexdigest() == sha256
        if of.check is not None:
            of.check(file)
        of.view(file)
    with stage.timed("map again"):
        mapped = of.view(file)
    assert of.equal(mapped, value)


async def in_bytes(kind: str, stage: Stage) -> None:
    """Save the same value as the field of a model; load the model, and map or load the value."""
    of = KINDS[kind]
    value = of.make(stage.size)
    with stage.database():
        await of.model(Lazy(of.make(1))).save("first use")
        model = of.model(Lazy(value))
        _give_back(of, stage.size)
        with stage.timed("save"):
            node_id = await model.save("value")
        mapped: list[Any] = []
        for part in ("first map", "map again"):
            with stage.timed(part):
                mapped.append(await (await type(model).load(node_id)).value.map())
            assert of.equal(mapped[-1], value)
        mapped.clear()
        with stage.timed("load", value_bytes=_size(value)):
            loaded = await (await type(model).load(node_id)).value.load()
        assert of.equal(loaded, value)


@dataclass
class Plain(ArtifactModel, version=1):
    value: Any


def text(megabytes: int) -> str:
    return "A line of letters, of which one is \xe9.\n" * (megabytes * MEGABYTE // LINE_BYTES)


def numbers(megabytes: int) -> list[int]:
    first = 10**8
    return list(range(first, first + megabytes * MEGABYTE // NUMBER_BYTES))


class Watched(NamedTuple):
    """A kind of value beside which the event loop is watched."""

    make: Callable[[int], Any]
    """A value of about that many megabytes."""
    model: Callable[[Any], Any]
    data: Callable[[Any], bytes | memoryview]
    equal: Callable[[Any, Any], bool] = operator.eq


WATCHED = {
    "array, .npy": Watched(array, Plain, array_data, np.array_equal),
    "bytes": Watched(lambda megabytes: array(megabytes).tobytes(), Plain, bytes),
    "text": Watched(text, Plain, str.encode),
    "numbers, JSON": Watched(numbers, Plain, lambda value: json.dumps(value).encode()),
    "Arrow table, IPC": Watched(
        table, lambda value: Feather(Lazy(value)), feather_data, pa.Table.equals
    ),
    "polars frame, IPC": Watched(
        frame, lambda value: FrameIPC(Lazy(value)), frame_data, pl.DataFrame.equals
    ),
}


async def raw_beside_others(kind: str, stage: Stage) -> None:
    """Write bytes and read them in a thread, while the event loop turns."""
    of = WATCHED[kind]
    data = memoryview(of.data(of.make(stage.size)))
    file = stage.folder / "data"

    def write() -> None:
        with file.open("wb", buffering=0) as sink:
            _write_all(sink.fileno(), data)
            os.fsync(sink.fileno())

    async with stage.watched("save"):
        await asyncio.to_thread(write)
    async with stage.watched("load"):
        await asyncio.to_thread(file.read_bytes)


async def beside_others(kind: str, stage: Stage) -> None:
    """Save and load a value of as many bytes."""
    of = WATCHED[kind]
    value = of.make(stage.size)
    with stage.database():
        await of.model(of.make(1)).save("first use")
        of.data(of.make(stage.size))  # as `_give_back`
        model = of.model(value)
        async with stage.watched("save"):
            node_id = await model.save("value")
        async with stage.watched("load"):
            loaded = (await type(model).load(node_id)).value
            if isinstance(loaded, Lazy):
                loaded = await loaded.load()
    assert of.equal(loaded, value)


def raw_parquet(kind: str, stage: Stage) -> None:
    """Have the library write a file, and read a column and all of it."""
    of = KINDS[kind]
    assert of.read is not None
    value, file = of.make(stage.size), stage.folder / "data"
    of.write(of.make(1), stage.folder / "first use")
    with stage.timed("save"):
        of.write(value, file)
        with file.open("rb") as written:
            os.fsync(written.fileno())
    for part in ("first column", "column again"):
        with stage.timed(part):
            of.read(file, columns=[COLUMN])
    with stage.timed("load", value_bytes=_size(value)):
        of.read(file)


class _HashedFile(RawIOBase):
    """Hashes what is written to a file, in a thread beside where it is much."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._hashing = ThreadPoolExecutor(1)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if memoryview(data).nbytes < HASHED_BESIDE:
            self._digest.update(data)
            return self._file.write(data)
        hashed = self._hashing.submit(self._digest.update, data)
        size = self._file.write(data)
        hashed.result()
        return size

    def hexdigest(self) -> str:
        self._hashing.shutdown()
        return self._digest.hexdigest()


def _write_hashed(of: Kind, value: Any, file: Path) -> str:
    """Write a file to the disk, and return its SHA-256."""
    with file.open("wb") as sink:
        hashed = _HashedFile(sink)
        of.write(value, hashed)
        sink.flush()
        os.fsync(sink.fileno())
    return hashed.hexdigest()


def least_of_parquet(kind: str, stage: Stage) -> None:
    """Have the library write a file that is hashed meanwhile."""
    of = KINDS[kind]
    value = of.make(stage.size)
    _write_hashed(of, of.make(1), stage.folder / "first use")
    with stage.timed("save"):
        _write_hashed(of, value, stage.folder / "data")


async def in_parquet(kind: str, stage: Stage) -> None:
    """Save the same value as the field of a model; load the model, and a column or all of it."""
    of = KINDS[kind]
    value = of.make(stage.size)
    with stage.database():
        await of.model(Lazy(of.make(1))).save("first use")
        model = of.model(Lazy(value))
        with stage.timed("save"):
            node_id = await model.save("value")
        expected = value.select([COLUMN])
        for part in ("first column", "column again"):
            with stage.timed(part):
                column = await (await type(model).load(node_id)).value.select([COLUMN])
            assert of.equal(column, expected)
            del column  # its memory is used for the next, as on the raw side
        with stage.timed("load", value_bytes=_size(value)):
            loaded = await (await type(model).load(node_id)).value.load()
        assert of.equal(loaded, value)


Both: TypeAlias = tuple[Side, Side]


def bytes_sides(kind: str) -> Both:
    return partial(raw_bytes, kind), partial(in_bytes, kind)


def watched_sides(kind: str) -> Both:
    return partial(raw_beside_others, kind), partial(beside_others, kind)


def parquet_sides(kind: str) -> Both:
    return partial(raw_parquet, kind), partial(in_parquet, kind)


def bytes_floor(kind: str) -> Side:
    return partial(least_of_bytes, kind)


def parquet_floor(kind: str) -> Side:
    return partial(least_of_parquet, kind)


def _give_back(of: Kind, megabytes: int) -> None:
    """Leave as much free memory behind as the raw side, where the value is dropped for its bytes.

    How fast a file can be written depends on it: what a virtual machine has had for long without
    use, its host has to give again.
    """
    assert of.data is not None
    of.data(of.make(megabytes))


def _size(value: Any) -> int:
    return value.estimated_size() if isinstance(value, pl.DataFrame) else value.nbytes


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
