"""Big values: tables, frames and arrays, to files and from them.

The raw sides write the same bytes with `write()` and fsync, and read them with `read()` into
memory; for Parquet, which is work in itself, they have the library write and read the file. What is
read was written just before, so it is in the page cache on both sides.
"""

import hashlib
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.measuring import Stage

from artigraph import ArtifactModel, artifact_field
from artigraph.serializer import polars as of_polars
from artigraph.serializer import pyarrow as of_arrow
from artigraph.serializer.numpy import array_serializer

MEGABYTE = 1_000_000
ROW_BYTES = 80
"""Of a table: three floats, two whole numbers, a category, a time, a text of its own."""


@dataclass
class Feather(ArtifactModel, version=1):
    value: pa.Table = artifact_field(serializer=of_arrow.feather_serializer)


@dataclass
class Parquet(ArtifactModel, version=1):
    value: pa.Table = artifact_field(serializer=of_arrow.parquet_serializer)


@dataclass
class FrameIPC(ArtifactModel, version=1):
    value: pl.DataFrame = artifact_field(serializer=of_polars.dataframe_ipc_serializer)


@dataclass
class FrameParquet(ArtifactModel, version=1):
    value: pl.DataFrame = artifact_field(serializer=of_polars.dataframe_serializer)


@dataclass
class Array(ArtifactModel, version=1):
    value: np.ndarray[Any, Any] = artifact_field(serializer=array_serializer)


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


def array_data(value: np.ndarray[Any, Any]) -> memoryview:
    sink = BytesIO()
    np.save(sink, value)
    return sink.getbuffer()


class Kind(NamedTuple):
    """A kind of big value, and its file."""

    make: Callable[[int], Any]
    """A value of about that many megabytes."""
    model: Callable[[Any], ArtifactModel]
    equal: Callable[[Any, Any], bool]
    data: Callable[[Any], memoryview] | None = None
    write: Callable[[Any, Path], object] | None = None
    read: Callable[[Path], Any] | None = None


KINDS = {
    "Arrow table, IPC": Kind(table, Feather, pa.Table.equals, data=feather_data),
    "polars frame, IPC": Kind(frame, FrameIPC, pl.DataFrame.equals, data=frame_data),
    "array, .npy": Kind(array, Array, np.array_equal, data=array_data),
    "Arrow table, Parquet": Kind(
        table,
        Parquet,
        pa.Table.equals,
        write=partial(pq.write_table, compression="zstd", use_compliant_nested_type=False),
        read=pq.read_table,
    ),
    "polars frame, Parquet": Kind(
        frame, FrameParquet, pl.DataFrame.equals, write=pl.DataFrame.write_parquet,
        read=pl.read_parquet,
    ),
}  # fmt: skip


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
    with stage.timed("first load"):
        with file.open("rb", buffering=0) as source:
            hashlib.file_digest(source, "sha256")
    with stage.timed("load again"):
        with file.open("rb", buffering=0) as source:
            source.readall()


def raw_parquet(kind: str, stage: Stage) -> None:
    """Have the library write a file, and read it."""
    of = KINDS[kind]
    assert of.write is not None
    assert of.read is not None
    value, file = of.make(stage.size), stage.folder / "data"
    with stage.timed("save"):
        of.write(value, file)
        with file.open("rb") as written:
            os.fsync(written.fileno())
    with stage.timed("load"):
        of.read(file)


async def save_and_load(kind: str, parts: tuple[str, ...], stage: Stage) -> None:
    """Save the same value as the field of a model, load it as often as there are parts."""
    of = KINDS[kind]
    value = of.make(stage.size)
    with stage.database():
        await of.model(of.make(1)).save("first use")
        with stage.timed("save"):
            node_id = await of.model(value).save("value")
        for part in parts:
            with stage.timed(part):
                loaded: Any = await type(of.model(value)).load(node_id)
            assert of.equal(loaded.value, value)
            del loaded


Both = tuple[Callable[[Stage], None], Callable[[Stage], Coroutine[Any, Any, None]]]


def bytes_sides(kind: str) -> Both:
    parts = ("first load", "load again")
    return partial(raw_bytes, kind), partial(save_and_load, kind, parts)


def parquet_sides(kind: str) -> Both:
    return partial(raw_parquet, kind), partial(save_and_load, kind, ("load",))


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
