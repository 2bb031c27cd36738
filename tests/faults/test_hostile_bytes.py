"""Data that somebody else wrote, with every digest made to fit, so that it reaches the decoder.

Decoders are run in children, since some libraries would end the process: `main()`, far below, is
such a child.
"""

import asyncio
import functools
import io
import json
import os
import pickle
import random
import re
import resource
import subprocess
import sys
import tracemalloc
import warnings
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artigraph.artifact import deserialize
from artigraph.errors import DeserializeError, LimitError
from artigraph.graph import Node
from artigraph.plugins import registry, takes
from artigraph.serializer import expansion, get_serializer
from artigraph.serializer.footer import EXTENSION_KEY
from artigraph.spec import Data, Serializer
from artigraph.testing.storage import io_recorded

MUTANTS = 2_000
"""Of the data of each serializer."""

MEMORY = 4 << 30
"""The address space of a child, in bytes: more than it takes to read anything that is allowed."""

PEAK = 1 << 30
"""What a child may really have taken, in bytes, with all libraries."""

NAMES = (
    *("json", "text", "bytes", "numpy.array", "numpy.scalar"),
    *("pandas.dataframe.parquet", "pandas.dataframe.feather"),
    *("pandas.series.parquet", "pandas.series.feather"),
    *("polars.dataframe.parquet", "polars.dataframe.ipc"),
    *("polars.series.parquet", "polars.series.ipc"),
    *("pyarrow.table.feather", "pyarrow.table.parquet"),
    *("pyarrow.recordbatch.feather", "pyarrow.recordbatch.parquet"),
)

TABULAR = [name for name in NAMES if name.startswith(("pandas", "polars", "pyarrow"))]


def test_no_serializer_is_forgotten() -> None:
    """H7: a new one has to be among those that are tested here."""
    official = [plugin for plugin in registry.installed() if plugin.is_official]

    provided = [one.name for plugin in official for one in registry.load(plugin).serializers]

    assert sorted(provided) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_altered_is_an_error_or_a_value_of_the_type(name: str, tmp_path: Path) -> None:
    """H6: no data ends the process, takes much memory, or raises anything but an error of ours."""
    outcomes = in_child("mutants", [name], tmp_path)

    assert sum(outcomes.values()) == MUTANTS
    assert "refused" in outcomes or name == "bytes"


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """H6: what a few bytes claim to be is added up before any memory is taken for it."""
    outcomes = in_child("bombs", NAMES, tmp_path)

    assert set(outcomes) == {"refused"}


@pytest.mark.parametrize(
    "item",
    [
        *("[]", "{}", '{"":0}', "9999", "1e9", '"ab"', "[" * 100 + "]" * 100, '{"":[0]}'),
        *('{"$set":[]}', '{"$tuple":[[]]}', '{"$dict":[]}', '{"$decimal":"1"}', '{"$int":"0"}'),
        *('{"$bytearray":""}', '{"$path":["PosixPath","a"]}', '{"$complex":[0,0]}'),
    ],
)
def test_json_takes_at_most_sixty_times_its_size(item: str) -> None:
    """Nothing in it says how much it will be; but there is no shorter text for more."""
    data = f"[{','.join([item] * (200_000 // len(item)))}]".encode()

    assert memory_of(get_serializer("json"), data) < 60 * len(data)


@pytest.mark.parametrize("last", ["x", "é", "\u20ac", "\U0001f600"])
def test_text_takes_at_most_six_times_its_size(last: str) -> None:
    """One character that is wide makes all of a string so."""
    data = b"x" * 10**6 + last.encode()

    assert memory_of(get_serializer("text"), data) < 6 * len(data)


@pytest.mark.parametrize("name", ["bytes", "numpy.array"])
def test_what_is_not_compressed_is_copied_once(name: str) -> None:
    """So it takes its size again, and no more."""
    serializer = get_serializer(name)
    value = bytes(10**6) if name == "bytes" else np.zeros(10**6, "u1")
    data = bytearray(serializer.serialize(value))

    assert memory_of(serializer, data) < 1.1 * len(data)


def test_a_header_takes_at_most_six_hundred_times_its_size() -> None:
    """CPython makes a tree of it; a longer one is not read at all."""
    header = b"[" + b"1," * 100_000 + b"]"

    with pytest.raises(TypeError), memory_limited(600 * len(header)):
        get_serializer("numpy.array").deserialize(npy(header, ()))


@contextmanager
def memory_limited(size: float) -> Iterator[None]:
    """Fail if the peak in the block is higher."""
    tracemalloc.start()
    try:
        yield
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < size


def memory_of(serializer: Serializer[Any], data: Data) -> int:
    """What a load takes at its peak, in bytes."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        serializer.deserialize(data)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", TABULAR)
def test_what_is_saved_can_be_loaded_however_small_it_became(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be taken for a bomb is written in another way, or refused before it is saved."""
    monkeypatch.setattr(expansion, "ALWAYS_ALLOWED", 100_000)
    serializer = get_serializer(name)
    value = {
        "pandas.dataframe": lambda: pd.DataFrame({"a": np.zeros(100_000), "b": [(1,)] * 100_000}),
        "pandas.series": lambda: pd.Series(["x"] * 50_000 + ["y" * 50_000]),
        "polars.dataframe": lambda: pl.DataFrame({"a": [0] * 100_000}),
        "polars.series": lambda: pl.Series([0] * 100_000),
        "pyarrow.table": lambda: pa.table({"a": np.zeros(100_000)}),
        "pyarrow.recordbatch": lambda: pa.record_batch({"a": np.zeros(100_000)}),
    }[name.rpartition(".")[0]]()

    if name.startswith("polars") and name.endswith("parquet"):
        with pytest.raises(LimitError, match=r"would take .* in memory.*Feather or IPC"):
            serializer.serialize(value)
    else:
        loaded = serializer.deserialize(serializer.serialize(value))
        assert loaded.equals(value)


SPY, GEOMETRY = "artigraph.tests.spy", "geoarrow.wkb"
"""Names of extension types; pyarrow looks for the second wherever Parquet has a geometry."""


class ArrowSpy(pa.ExtensionType):
    asked: ClassVar[list[str]] = []

    def __init__(self, name: str = GEOMETRY) -> None:
        super().__init__(pa.binary(), name)

    def __arrow_ext_serialize__(self) -> bytes:
        return b'{"crs": "x"}'

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "ArrowSpy":
        cls.asked.append(f"pyarrow {serialized!r}")
        return cls()


class PolarsSpy(pl.BaseExtension):
    @classmethod
    def ext_from_params(cls, name: str, storage: Any, metadata: str | None) -> "PolarsSpy":
        ArrowSpy.asked.append(f"polars {metadata!r}")
        return cls(name, storage, metadata)


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """What registered extension types were asked to make something of."""
    for name in (SPY, GEOMETRY):
        pa.register_extension_type(ArrowSpy(name))
        pl.register_extension_type(name, PolarsSpy)
    ArrowSpy.asked.clear()
    yield ArrowSpy.asked
    for name in (SPY, GEOMETRY):
        pa.unregister_extension_type(name)
        pl.unregister_extension_type(name)


def files_with_extensions() -> Iterator[bytes]:
    """Files that name an extension type: of a column, of a part, and without Arrow's own mark."""
    mark = {EXTENSION_KEY: SPY.encode()}
    item = pa.field("item", pa.binary(), metadata=mark)
    kinds = (
        *(pa.list_(item), pa.struct([item]), pa.map_(pa.string(), item)),
        *(pa.list_(pa.field("item", pa.struct([item]))), pa.dictionary(pa.int8(), pa.list_(item))),
    )
    fields = [pa.field("a", kind) for kind in kinds]
    # As long as it takes to have the mark in all the places of base64's groups.
    fields += [pa.field("a" * length, pa.binary(), metadata=mark) for length in range(1, 13)]
    for field in fields:
        schema = pa.schema([field])
        yield ipc_file(pa.Table.from_batches([], schema))
        column = pa.array([None, b"x"], pa.binary())
        yield parquet_of(pa.table([column], names=[field.name]), schema)
    geometry = pa.ExtensionArray.from_storage(ArrowSpy(), pa.array([b"x"]))
    yield parquet_of(pa.table({"a": geometry}), pa.schema([("a", pa.binary())]))


@pytest.mark.parametrize("name", TABULAR)
def test_no_code_of_an_extension_type_runs(name: str, asked: list[str]) -> None:
    """H4: a file does not choose it, however it names the type: it is refused before it is read."""
    start = b"PAR1" if name.endswith("parquet") else b"ARROW1"
    files = [file for file in files_with_extensions() if file.startswith(start)]
    asked.clear()

    for file in files:
        with pytest.raises(ValueError, match="extension type"):
            get_serializer(name).deserialize(file)

    assert len(files) >= 17
    assert asked == []


class Canary:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("canary"),)


def pickles() -> Iterator[bytes]:
    """Pickles as they are, and in all the files that can hold some."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps(Canary(), protocol)
    canaries = np.array([Canary()], dtype=object)
    for array in (canaries, np.array([(1, Canary())], [("a", "i4"), ("b", "O")])):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
        yield file.getvalue()
    text = b64encode(pickle.dumps(Canary())).decode()
    yield json.dumps({"$pickle": text}).encode()
    yield json.dumps({"$enum": ["os", "system"]}).encode()
    yield npy("__import__('pathlib').Path('canary').touch()", ())
    yield npy(b"__import__('pathlib').Path('canary').touch()", ())
    marks = {
        "PANDAS_ATTRS": text,
        "pandas": text,
        "ARROW:extension:name": "arrow.py_extension_type",
    }
    field = pa.field("a", pa.int64(), metadata={**marks, "ARROW:extension:metadata": text})
    schema = pa.schema([field], metadata={**marks, "artigraph": json.dumps({"values": [text]})})
    yield ipc_file(schema.empty_table())
    yield parquet_of(pa.table({"a": [1]}), schema)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_unpickled(name: str) -> None:
    """H4: whatever is in the data, and whatever another library would make of it."""
    serializer = get_serializer(name)

    for data in pickles():
        try:
            deserialize(node_of(serializer), "the artifact", data, None, ())
        except DeserializeError:
            continue

    assert not Path("canary").exists()


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("parquet")])
def test_a_column_in_another_file_is_not_looked_for(name: str) -> None:
    """H4: the format has a place for its path."""
    Path("secret").write_bytes(parquet_of(pa.table({"a": [1]})))
    footer, pages = parquet_parts(Path("secret").read_bytes())
    for group in field_of(footer, 4)[2][1]:
        for column in field_of(group, 1)[2][1]:
            column.insert(0, [1, BINARY, str(Path("secret").absolute()).encode()])
    data = fitted(footer, pages) + parquet_end(footer)
    serializer = get_serializer(name)

    with io_recorded() as opened, pytest.raises(ValueError, match="in another file"):
        serializer.deserialize(data)

    assert opened == []


@pytest.mark.parametrize("dtype", ["Sparse[int64]", "category", "O", "period[D]", "geometry"])
def test_data_chooses_no_dtype_of_others(dtype: str) -> None:
    """H4: a nullable dtype is one of pandas' own, and not one that is registered by its name."""
    serializer = get_serializer("pandas.series.feather")
    table = pa.ipc.open_file(serializer.serialize(pd.Series([1, None], dtype="Int64"))).read_all()
    description = table.schema.metadata[b"artigraph"].replace(b"Int64", dtype.encode())

    with pytest.raises(KeyError, match=re.escape(dtype)):
        serializer.deserialize(ipc_file(table.replace_schema_metadata({"artigraph": description})))


class Panic(BaseException):
    """As those of libraries in Rust, which no `except Exception` sees."""


@pytest.mark.parametrize("error", [Panic, MemoryError, RecursionError, AssertionError])
def test_whatever_a_decoder_raises_is_an_error_of_ours(error: type[BaseException]) -> None:
    """H7: also a stranger's."""
    with pytest.raises(DeserializeError, match=error.__name__):
        deserialize(node_of(raising(error)), "the artifact", b"", raising(error), ())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_who_wants_to_end_the_process_does(error: type[BaseException]) -> None:
    """It is no matter of the data."""
    with pytest.raises(error):
        deserialize(node_of(raising(error)), "the artifact", b"", raising(error), ())


def raising(error: type[BaseException]) -> Serializer[Any]:
    class Raising(Serializer[Any]):
        name = "acme.raising"

        def serialize(self, value: Any) -> bytes:
            return b""

        def deserialize(self, data: Data) -> Any:
            raise error

    return Raising()


def in_child(task: str, names: Sequence[str], folder: Path) -> dict[str, int]:
    """What becomes of the data; the death of the child fails the test, with the seed."""
    progress, errors = folder / "progress", folder / "errors"
    command = [sys.executable, __file__, task, str(progress), *names]
    environ = {**os.environ, "RUST_BACKTRACE": "0"}
    with errors.open("wb") as file:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=file, env=environ)
    last = progress.read_text().strip() if progress.exists() else "the beginning"
    cause = errors.read_text(errors="replace")[-2_000:]
    assert ended.returncode == 0, f"{task}: it ended with {ended.returncode} at {last}\n{cause}"
    told = json.loads(ended.stdout)
    assert told["peak"] < PEAK, f"{task}: {told['peak']:,} bytes"
    return told["outcomes"]


# What follows runs in the children.


def main(task: str, progress: str, *names: str) -> None:
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: Counter[str] = Counter()
    with Path(progress).open("w") as file:
        for name in names:
            serializer = get_serializer(name)
            for number, data in (mutants if task == "mutants" else bombs)(serializer):
                file.seek(0)
                file.write(f"{name}, {number}".ljust(99))
                file.flush()
                told = outcome(serializer, data)
                outcomes[told] += 1
                assert told == "refused" or task == "mutants"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"outcomes": outcomes, "peak": peak}))


def outcome(serializer: Serializer[Any], data: bytes) -> str:
    """How a load goes; any other exception than the one that is meant for it ends the child."""
    try:
        value = deserialize(node_of(serializer), "the artifact", data, None, ())
    except DeserializeError as error:
        told = str(error)
        if len(told) > 200 or not told.isprintable():
            raise AssertionError("the error is no short line") from error
        return "refused"
    assert not serializer.types or takes(serializer, type(value)), type(value)
    try:
        look_at(value)
    except Exception:
        return "odd"
    return "read"


def node_of(serializer: Serializer[Any]) -> Node:
    """A row that names a serializer, and nothing else."""
    nothing = dict.fromkeys(Node._fields)
    return Node(**{**nothing, "serializer": serializer.name})  # type: ignore[arg-type]


def look_at(value: Any) -> None:
    """Read every cell, as far as it isn't many."""
    if isinstance(value, pl.Series | pl.DataFrame):
        repr(value.to_frame().rows() if isinstance(value, pl.Series) else value.rows())
    elif isinstance(value, pa.Table | pa.RecordBatch):
        if value.num_rows < 10_000:
            repr(value.to_pylist())
    elif isinstance(value, pd.Series | pd.DataFrame):
        repr(value.to_dict())
    elif isinstance(value, np.ndarray | np.generic):
        repr(value.tolist())
    else:
        repr(value)


def values_for(serializer: Serializer[Any]) -> list[Any]:
    """Some of what the serializer takes, of many types."""
    key, kind = serializer.name.split(".")[0], serializer.name.split(".")[1:2]
    values: list[Any] = VALUES[".".join([key, *kind])]()
    return values


def frames() -> list[pd.DataFrame]:
    many = pd.DataFrame(
        {
            "int": range(50),
            "float": np.linspace(0, 1, 50),
            "text": ["a", "bb", None, "é", "x" * 30] * 10,
            "objects": [{"a": [1]}, 2, (3,), None, "t"] * 10,
            "texts": pd.Series(["a", None] * 25, dtype=object),
            "python": pd.array(["a", None] * 25, pd.StringDtype("python")),
            "category": pd.Categorical(["u", "v", "u", None, "v"] * 10),
            "zoned": pd.date_range("2020", periods=50, tz="Europe/Berlin"),
            "nullable": pd.array([1, None] * 25, "Int64"),
            "complex": [1j, 2] * 25,
        }
    )
    labels = pd.MultiIndex.from_tuples([(1, "a"), (2, "b"), (2, "c")])
    nested = pd.arrays.ArrowExtensionArray(pa.array([[1, 2], None, []]))
    odd = pd.DataFrame({"list": nested, "interval": pd.interval_range(0, 3)}).set_index(labels)
    return [many, odd, many[:0]]


def polars_frames() -> list[pl.DataFrame]:
    many = pl.DataFrame(
        {
            "int": range(50),
            "float": [i / 7 for i in range(50)],
            "text": ["a", "bb", None, "é", "x" * 30] * 10,
            "list": [[1, 2], None, [], [3], [4]] * 10,
            "bool": [True, None] * 25,
            "struct": [{"x": 1, "y": "a"}] * 50,
            "category": pl.Series(["u", "v"] * 25, dtype=pl.Categorical),
            "enum": pl.Series(["u", "v"] * 25, dtype=pl.Enum(["u", "v"])),
            "decimal": pl.Series(["1.5"] * 50).cast(pl.Decimal(10, 2)),
            "binary": [b"ab", None] * 25,
            "array": pl.Series([[1, 2], None] * 25, dtype=pl.Array(pl.Int8, 2)),
        }
    )
    return [many, many.head(0), many.select("int", "text"), pl.DataFrame()]


def tables() -> list[pa.Table]:
    many = pa.table(
        {
            "int": range(50),
            "float": [i / 7 for i in range(50)],
            "text": ["a", "bb", None, "é", "x" * 30] * 10,
            "list": [[1, 2], None, [], [3], [4]] * 10,
            "bool": [True, None] * 25,
            "struct": [{"x": 1, "y": "a"}] * 50,
            "dictionary": pa.array(["u", "v"] * 25).dictionary_encode(),
            "fixed": pa.array([b"ab", None] * 25, pa.binary(2)),
            "seconds": pa.array(range(50), pa.timestamp("s")),
            "null": pa.nulls(50),
        }
    )
    return [many, many[:0], many.select(["int", "text"])]


def batches() -> list[pa.RecordBatch]:
    return [table.combine_chunks().to_batches()[0] for table in tables() if table.num_rows]


VALUES: dict[str, Callable[[], list[Any]]] = {
    "json": lambda: [{"a": [1, None, 0.5], "b": (1, {2}), "c": [b"x", 10**30]}, [[[[True]]]] * 5],
    "text": lambda: ["hello é \ud800", "x" * 300],
    "bytes": lambda: [b"hello", b"x" * 300],
    "numpy.array": lambda: [
        *(np.arange(10), np.zeros((3, 4), "f4", order="F"), np.array(["abc", "d"])),
        *(np.array([(1, "a")], [("a", "i4"), ("b", "U3")]), np.array(["2020"], "M8[D]")),
    ],
    "numpy.scalar": lambda: [np.float64(1.5), np.str_("abc"), np.datetime64("2020", "s")],
    "pandas.dataframe": frames,
    "pandas.series": lambda: [frame[label] for frame in frames()[:2] for label in frame],
    "polars.dataframe": polars_frames,
    "polars.series": lambda: list(polars_frames()[0]),
    "pyarrow.table": tables,
    "pyarrow.recordbatch": batches,
}


def valid_data(serializer: Serializer[Any]) -> list[bytes]:
    """What is altered: data of ours, and the same in all the ways in which IPC is compressed."""
    values = values_for(serializer)
    data = [bytes(serializer.serialize(value)) for value in values]
    for each in data[:2]:
        if each[:6] == b"ARROW1":
            data += [compressed(each, codec) for codec in ("lz4", "zstd")]
    for each in data:
        assert outcome(serializer, each) != "refused"
    return data


def compressed(data: bytes, codec: str) -> bytes:
    """An IPC file with its buffers compressed."""
    table = pa.ipc.open_file(data).read_all()
    return ipc_file(table, codec)


def ipc_file(table: pa.Table, codec: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def mutants(serializer: Serializer[Any]) -> Iterator[tuple[int, bytes]]:
    """Altered data, each with the seed that it is made of."""
    originals = valid_data(serializer)
    is_parquet = originals[0].startswith(b"PAR1")
    ways = [alter_bytes, alter_words, alter_structures if is_parquet else alter_words]
    for seed in range(MUTANTS):
        numbers = random.Random(seed)
        way, original = numbers.choice(ways), numbers.choice(originals)
        yield seed, way(original, numbers)


def alter_bytes(data: bytes, numbers: random.Random) -> bytes:
    """One or a few bits and bytes: flipped, overwritten, inserted, cut out or off."""
    altered = bytearray(data)
    for _ in range(numbers.choice([1, 1, 1, 2, 4])):
        size = len(altered)
        first, last = numbers.choice([(0, size), (0, min(size, 300)), (max(size - 300, 0), size)])
        at = numbers.randrange(first, max(last, first + 1))
        width = numbers.choice([1, 4, 8])
        inserted = numbers.choice([bytes(width), b"\xff" * width, numbers.randbytes(width)])
        change = numbers.randrange(8)
        if change < 3 and at < size:
            altered[at] ^= 1 << numbers.randrange(8)
        elif change == 7:
            del altered[at:]
        else:
            altered[at : at + (0 if change == 6 else width)] = b"" if change == 5 else inserted
    return bytes(altered)


EXTREMES = (
    *(-1, 0, 1, 2, 7, 8, 63, 64, 255, 2**15, 2**16, 2**20, 2**24, 2**28, 2**30, 2**31 - 1),
    *(-(2**31), 2**32, 2**33, 2**40, 2**62, 2**63 - 1, -(2**63)),
)
"""What sizes, lengths and places say that are meant to attack."""


def alter_words(data: bytes, numbers: random.Random) -> bytes:
    """Numbers of a fixed width, as in flatbuffers and the ends of files."""
    altered = bytearray(data)
    for _ in range(numbers.choice([1, 1, 1, 2, 3])):
        at = numbers.randrange(len(data)) & ~numbers.choice([1, 3, 7])
        width = numbers.choice([1, 2, 4, 8])
        number = int.from_bytes(data[at : at + width], "little") + numbers.choice([-8, -1, 1, 8])
        number = numbers.choice([number, number, *EXTREMES])
        altered[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(altered)


def alter_structures(data: bytes, numbers: random.Random) -> bytes:
    """Numbers in the footer of a Parquet file, or before its pages, with all the rest fitted."""
    footer, pages = parquet_parts(data)
    headers = [header for chunk in pages for header, _ in chunk]
    try:
        if headers and numbers.random() < 0.5:
            tell_lies(numbers.choice(headers), numbers)
        body = fitted(footer, pages)
        if not headers or numbers.random() < 0.6:
            tell_lies(footer, numbers)
        return body + parquet_end(footer)
    except (ValueError, OverflowError):
        return alter_bytes(data, numbers)  # a number that can't be written there


def tell_lies(structure: "Structure", numbers: random.Random) -> None:
    for _ in range(numbers.choice([1, 1, 1, 2, 3])):
        where, place = numbers.choice(list(places(STRUCTURE, structure)))
        where[place] = numbers.choice([*EXTREMES, where[place] + 1, where[place] - 1])


# Thrift's compact protocol, which Parquet is described in: a structure is a list of fields, each of
# which is [number, kind, value]; a list is [kind, items, length].
INTEGERS, BINARY, LIST, STRUCTURE = (4, 5, 6), 8, 9, 12

Structure = list[list[Any]]


def parsed(kind: int, data: bytes, at: int) -> tuple[Any, int]:
    """The value that begins there, and where it ends."""
    if kind in (1, 2):
        return None, at
    if kind == 3:
        return data[at], at + 1
    if kind == 7:
        return data[at : at + 8], at + 8
    if kind == STRUCTURE:
        fields: Structure = []
        number = 0
        while head := data[at]:
            number += head >> 4
            at += 1
            if not head >> 4:
                number, at = parsed(4, data, at)
            value, at = parsed(head & 15, data, at)
            fields.append([number, head & 15, value])
        return fields, at + 1
    if kind == LIST:
        item_kind, length, at = data[at] & 15, data[at] >> 4, at + 1
        if length == 15:
            length, at = varint(data, at)
        items: list[Any] = []
        for _ in range(length):
            item, at = parsed(max(item_kind, 3), data, at)
            items.append(item)
        return [item_kind, items, length], at
    number, at = varint(data, at)
    if kind == BINARY:
        return data[at : at + number], at + number
    return number >> 1 ^ -(number & 1), at


def varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return number, at


def written(kind: int, value: Any) -> bytes:
    """What `parsed` makes the value of."""
    if kind in (1, 2):
        return b""
    if kind == 3:
        return bytes([value])
    if kind == 7:
        return value
    if kind == STRUCTURE:
        parts, last = [], 0
        for number, field_kind, field in value:
            step = number - last
            head = [step << 4 | field_kind] if 0 < step < 16 else [field_kind, *written(4, number)]
            parts.append(bytes(head) + written(field_kind, field))
            last = number
        return b"".join(parts) + b"\0"
    if kind == LIST:
        item_kind, items, length = value
        head = [length << 4 | item_kind] if 0 <= length < 15 else [0xF0 | item_kind]
        size = b"" if len(head) == 1 and head[0] < 0xF0 else digits(length)
        item_kind = max(item_kind, 3)
        return bytes(head) + size + b"".join(written(item_kind, item) for item in items)
    if kind == BINARY:
        return digits(len(value)) + value
    return digits(value << 1 ^ value >> 63)


def digits(number: int) -> bytes:
    if number < 0:
        raise ValueError("no length")
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def places(kind: int, value: Any) -> Iterator[tuple[list[Any], int]]:
    """Where the numbers of a structure are: those of fields, what they hold, lengths of lists."""
    if kind == STRUCTURE:
        for field in value:
            yield field, 0
            if field[1] in INTEGERS:
                yield field, 2
            else:
                yield from places(field[1], field[2])
    elif kind == LIST:
        yield value, 2
        for place, item in enumerate(value[1]):
            if value[0] in INTEGERS:
                yield value[1], place
            else:
                yield from places(value[0], item)


def field_of(structure: Structure, number: int) -> list[Any]:
    return next((field for field in structure if field[0] == number), [number, 0, None])


Pages = list[list[tuple[Structure, bytes]]]


def parquet_parts(data: bytes) -> tuple[Structure, Pages]:
    """The footer of a file, and for each chunk of a column its pages, with their headers."""
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer, _ = parsed(STRUCTURE, data, end)
    pages: Pages = []
    for chunk in chunks_of(footer):
        data_start, dictionary_start = field_of(chunk, 9)[2], field_of(chunk, 11)[2]
        at = data_start if dictionary_start is None else dictionary_start
        stop = at + field_of(chunk, 7)[2]
        pages.append([])
        while at < stop:
            header, start = parsed(STRUCTURE, data, at)
            at = start + field_of(header, 3)[2]
            pages[-1].append((header, data[start:at]))
    return footer, pages


def chunks_of(footer: Structure) -> list[Structure]:
    groups = field_of(footer, 4)[2][1]
    columns = [column for group in groups for column in field_of(group, 1)[2][1]]
    return [field_of(column, 3)[2] for column in columns]


def fitted(footer: Structure, pages: Pages) -> bytes:
    """The file up to its footer, which is told where the pages are now."""
    body = bytearray(b"PAR1")
    for chunk, parts in zip(chunks_of(footer), pages, strict=True):
        starts: list[int] = []
        for header, content in parts:
            starts.append(len(body))
            body += written(STRUCTURE, header) + content
        if starts:
            data_start, dictionary_start = field_of(chunk, 9), field_of(chunk, 11)
            has_dictionary = dictionary_start[2] is not None
            dictionary_start[2] = starts[0] if has_dictionary else None
            data_start[2] = starts[min(has_dictionary, len(starts) - 1)] if data_start[2] else 0
            field_of(chunk, 7)[2] = len(body) - starts[0]
    return bytes(body)


def parquet_end(footer: Structure) -> bytes:
    end = written(STRUCTURE, footer)
    return end + len(end).to_bytes(4, "little") + b"PAR1"


def bombs(serializer: Serializer[Any]) -> Iterator[tuple[str, bytes]]:
    """Data that claims to be gigabytes, by what it is."""
    if serializer.name in BOMBS:
        yield from BOMBS[serializer.name]()
        return
    yield from parquet_bombs() if serializer.name.endswith("parquet") else ipc_bombs()
    if serializer.name.startswith("pandas"):
        yield from pandas_bombs(serializer)
    if serializer.name.endswith("parquet") and not serializer.name.startswith("polars"):
        yield from text_bombs()


def json_bombs() -> Iterator[tuple[str, bytes]]:
    yield "a million deep", b"[" * 10**6
    yield "a million deep, and closed", b"[" * 10**6 + b"]" * 10**6
    yield "a million objects deep", b'{"a":' * 10**6
    yield "a million tags deep", b'{"$tuple":[' * 10**6
    yield "an int of ten million digits", b"9" * 10**7
    yield "an int of ten million digits in an object", b'{"$int": ' + b"9" * 10**7 + b"}"
    yield "a fraction without sense", b'{"$fraction": ["1", "0"]}'
    yield "a duration of all time", b'{"$timedelta": [1e308, 1e308, 0]}'


def npy(description: object, shape: object, content: bytes = b"") -> bytes:
    """A file of numpy's, whatever its header claims."""
    fields = repr({"descr": description, "fortran_order": False, "shape": shape})
    header = description if isinstance(description, bytes) else fields.encode()
    return b"\x93NUMPY\3\0" + len(header).to_bytes(4, "little") + header + content


def numpy_bombs() -> Iterator[tuple[str, bytes]]:
    yield "terabytes", npy("<i8", (2**40,))
    yield "more than there are", npy("<i8", (2**62, 2**62))
    yield "more than there are of nothing", npy("<i8", (2**62, 0, 2**62))
    for kind in ("V0", "S0", "U0", []):
        yield f"billions of {kind}", npy(kind, (2**33,))
    yield "a structure of terabytes", npy([("a", "<i4", (2**15, 2**15))], (2**20,))
    yield "a text of terabytes", npy("<U500000000", (1000,))
    yield "a negative length", npy("<i8", (-1,))
    yield "a header that is a list", npy(b"[" + b"1," * 10**7 + b"]", ())
    yield "a header that is deep", npy(b"(" * 10**5, ())
    yield "a header that is a sum", npy(b"1+" * 10**5 + b"1", ())
    yield "a header that is negative", npy(b"-" * 10**6 + b"1", ())
    yield "a header that is longer than all", b"\x93NUMPY\3\0\xff\xff\xff\xff{"


BOMBS: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "json": json_bombs,
    "text": lambda: iter([("no text", b"\xff" * 10**6)]),
    "bytes": lambda: iter([]),
    "numpy.array": numpy_bombs,
    "numpy.scalar": numpy_bombs,
}

ROWS = 12_500_000


def zeros(columns: int = 11) -> pa.Table:
    """More than a gigabyte in Arrow, of which there is a tenth."""
    column = pa.array(np.zeros(ROWS, "i8"))
    return pa.table({f"c{number}": column for number in range(columns)})


def repeated(text: str, rows: int) -> pa.Array:
    """One text again and again, which is written down once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "i4")), [text])


def parquet_of(
    table: pa.Table, says: pa.Schema | None = None, *, description: bytes = b"{}", **options: Any
) -> bytes:
    """A Parquet file, of whose schema Arrow's own says something else."""
    sink = io.BytesIO()
    says = table.schema if says is None else says
    with pq.ParquetWriter(sink, table.schema, store_schema=False, **options) as writer:
        writer.write_table(table)
        arrow_schema = b64encode(says.serialize().to_pybytes())
        writer.add_key_value_metadata({"ARROW:schema": arrow_schema, "artigraph": description})
    return sink.getvalue()


def says(kind: pa.DataType) -> pa.Schema:
    return pa.schema([("a", kind)])


@functools.cache
def parquet_bombs() -> list[tuple[str, bytes]]:
    return list(make_parquet_bombs())


def make_parquet_bombs() -> Iterator[tuple[str, bytes]]:
    yield "zeros", parquet_of(zeros())
    yield "compressed zeros", parquet_of(zeros(), use_dictionary=False, compression="zstd")
    texts = pa.table({"a": ["x" * 100_000] * 10})
    delta: dict[str, Any] = {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}}
    yield "texts told by the one before", parquet_of(texts, **delta)
    missing, wide = pa.array([None] * 1000, pa.list_(pa.int64())), pa.list_(pa.int64(), 10**6)
    yield "wide lists that are missing", parquet_of(pa.table({"a": missing}), says(wide))
    structs = pa.table({"a": pa.StructArray.from_arrays([missing], ["b"])})
    yield "the same in structs", parquet_of(structs, says(pa.struct([("b", wide)])))
    lists = pa.table({"a": pa.array([[None]] * 1000, pa.list_(missing.type))})
    yield "the same in lists", parquet_of(lists, says(pa.list_(wide)))
    nothing = pa.table({"a": pa.nulls(1000)})
    yield "nothing, as wide values", parquet_of(nothing, says(pa.binary(10**8)))
    yield "too deep", parquet_of(pa.schema([("a", nested(400))]).empty_table())
    yield "too deep in Arrow", parquet_of(pa.table({"a": [1]}), says(nested(150)))
    yield from parquet_lies(parquet_of(pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})))


@functools.cache
def text_bombs() -> list[tuple[str, bytes]]:
    """Bombs for pyarrow; polars has such a text only once."""
    texts = repeated("x" * 10**5, 10**6)
    structs = pa.StructArray.from_arrays([texts], ["b"])
    of_structs = parquet_of(pa.table({"a": structs}), says(pa.struct([("b", pa.string())])))
    return [
        ("a long text many times", parquet_of(pa.table({"a": texts}), says(pa.string()))),
        ("the same in structs", of_structs),
    ]


def nested(depth: int) -> pa.DataType:
    kind = pa.int8()
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


def parquet_lies(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Numbers of rows that agree with each other, in the footer alone or before the pages too."""
    for rows, is_in_pages in ((2**31 - 1, False), (2**62, False), (2**31 - 1, True)):
        footer, pages = parquet_parts(data)
        field_of(footer, 3)[2] = rows
        for group in field_of(footer, 4)[2][1]:
            field_of(group, 3)[2] = rows
        for chunk, parts in zip(chunks_of(footer), pages, strict=True):
            field_of(chunk, 5)[2] = rows
            for header, _ in parts:
                for head in (field_of(header, 5)[2], field_of(header, 7)[2]):
                    if head is not None and is_in_pages:
                        field_of(head, 1)[2] = rows
        where = "and its pages" if is_in_pages else "alone"
        yield f"a footer {where} with {rows} rows", fitted(footer, pages) + parquet_end(footer)


@functools.cache
def ipc_bombs() -> list[tuple[str, bytes]]:
    return list(make_ipc_bombs())


def make_ipc_bombs() -> Iterator[tuple[str, bytes]]:
    yield "zeros in zstd", ipc_file(zeros(), "zstd")
    yield "zeros in lz4", ipc_file(zeros(), "lz4")
    yield "too deep", ipc_file(pa.schema([("a", nested(150))]).empty_table())
    data = ipc_file(pa.table({"a": pa.array(np.zeros(10_000, "i8"))}), "zstd")
    size = (80_000).to_bytes(8, "little")
    assert data.count(size) == 1
    for claimed in (2**31, 2**40, 2**62, -2):
        lie = (claimed % 2**64).to_bytes(8, "little")
        yield f"a buffer of {claimed}", data.replace(size, lie)


def pandas_bombs(serializer: Serializer[Any]) -> Iterator[tuple[str, bytes]]:
    """What is small as an Arrow table, and large as Python objects, or in its description."""
    is_series = serializer.types == (pd.Series,)

    def made(column: Any, number: int = 1) -> tuple[pa.Table, bytes]:
        """The table and the description of what is small, and to be blown up."""
        value = column if is_series else pd.DataFrame({f"c{i}": column for i in range(number)})
        data = bytes(serializer.serialize(value))
        if data.startswith(b"PAR1"):
            file = pq.ParquetFile(io.BytesIO(data))
            return file.read(), file.metadata.metadata[b"artigraph"]
        table = pa.ipc.open_file(data).read_all()
        return table, table.schema.metadata[b"artigraph"]

    def blown_up(table: pa.Table, description: bytes) -> bytes:
        if serializer.name.endswith("parquet"):
            return parquet_of(table, description=description, compression="zstd")
        return ipc_file(table.replace_schema_metadata({"artigraph": description}), "zstd")

    table, description = made(pd.Series([[1]] * 1000, dtype=object))
    cells = repeated("[" + "{}," * 20_000 + "{}]", 1000).cast(pa.large_string())
    table = table.set_column(0, table.column_names[0], cells)
    yield "objects", blown_up(table, description)
    table, description = made(pd.Series(["a"] * 1000, dtype=object))
    texts = pa.array([""]).cast(pa.large_string()).take(np.zeros(20_000_000, "i8"))
    described = json.loads(description)
    described["index"]["range"][1] = len(texts)
    table = pa.table([texts], names=table.column_names)
    yield "strings", blown_up(table, json.dumps(described).encode())
    yield "nothing", blown_up(pa.table({"a": pa.nulls(200_000_000)}), description)
    table, description = made(pd.Series(["a"], dtype="category"))
    described = json.loads(description)
    described["values"][0]["categories"] = packed_bomb()
    yield "categories", blown_up(table, json.dumps(described).encode())


def packed_bomb() -> str:
    """Labels as they are in a description."""
    labels = json.dumps({"values": {"kind": "numpy"}, "name": None, "freq": None})
    table = pa.table({"": np.zeros(10_000, "i8")}).replace_schema_metadata({"artigraph": labels})
    data = ipc_file(table, "zstd")
    return b64encode(data.replace(*(n.to_bytes(8, "little") for n in (80_000, 2**31)))).decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
