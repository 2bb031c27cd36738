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
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import fuzzer
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from decoding import (
    BINARY,
    MEMORY,
    NAMES,
    altered,
    chunks_of,
    field_of,
    fitted,
    ipc_file,
    node_of,
    outcome,
    parquet_end,
    parquet_parts,
    valid_data,
)
from torture import Tally, scaled

from artigraph.artifact import deserialize
from artigraph.errors import DeserializeError
from artigraph.plugins import registry
from artigraph.serializer import expansion, get_serializer
from artigraph.serializer.footer import EXTENSION_KEY
from artigraph.spec import Data, Serializer
from artigraph.testing.storage import io_recorded

MUTANTS = scaled(1_000, 20_000)
"""Of the data of each serializer."""

CPU = scaled(60, 600)
"""Seconds that a child may work: a decoder that loops for ever is ended."""

PEAK = 1 << 30
"""What a child may really have taken, in bytes, with all libraries."""

TABULAR = [name for name in NAMES if name.startswith(("pandas", "polars", "pyarrow"))]


def test_no_serializer_is_forgotten() -> None:
    """H7: a new one has to be among those that are tested here."""
    official = [plugin for plugin in registry.installed() if plugin.is_official]

    provided = [one.name for plugin in official for one in registry.load(plugin).serializers]

    assert sorted(provided) == sorted(NAMES)


def library_of(name: str) -> str:
    """The library whose values it takes."""
    return name.partition(".")[0] if "." in name else "core"


@pytest.mark.parametrize("library", sorted({*map(library_of, NAMES)}))
def test_whatever_is_altered_is_an_error_or_a_value_of_the_type(
    library: str, tmp_path: Path, tally: Tally
) -> None:
    """H6: no data ends the process, takes much memory, or raises anything but an error of ours."""
    names = [name for name in NAMES if library_of(name) == library]

    outcomes = in_child("mutants", names, tmp_path)

    assert {name: sum(told.values()) for name, told in outcomes.items()} == dict.fromkeys(
        names, MUTANTS
    )
    assert all("refused" in told for name, told in outcomes.items() if name != "bytes")
    tally["mutants"] = MUTANTS * len(names)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """H6: what a few bytes claim to be is added up before any memory is taken for it."""
    outcomes = in_child("bombs", NAMES, tmp_path)

    assert {*chain(*outcomes.values())} == {"refused"}


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
    """What would be taken for a bomb is written in another way, or larger than it has to be."""
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


@pytest.mark.parametrize(
    "error", [Panic, MemoryError, RecursionError, AssertionError, StopIteration]
)
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


def in_child(task: str, names: Sequence[str], folder: Path) -> dict[str, dict[str, int]]:
    """What becomes of the data of each; the death of the child fails the test, with the seed."""
    progress, errors = folder / "progress", folder / "errors"
    command = [sys.executable, __file__, task, str(progress), *names]
    path = str(Path(__file__).parents[1])
    environ = {**os.environ, "RUST_BACKTRACE": "0", "PYTHONPATH": path}
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
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: dict[str, Counter[str]] = {}
    with Path(progress).open("w") as file:
        for name in names:
            serializer, outcomes[name] = get_serializer(name), Counter()
            for number, data in (mutants if task == "mutants" else bombs)(serializer):
                file.seek(0)
                file.write(f"{name}, {number}".ljust(99))
                file.flush()
                told = outcome(serializer, data)
                outcomes[name][told] += 1
                assert told == "refused" or task == "mutants"
    # Not by getrusage, whose peak begins with what the parent has when it starts a child.
    peak = fuzzer.memory("VmHWM")
    print(json.dumps({"outcomes": outcomes, "peak": peak}), flush=True)
    os._exit(0)  # at an ordinary end threads of Arrow may still be at work, and abort


def mutants(serializer: Serializer[Any]) -> Iterator[tuple[int, bytes]]:
    """Altered data, each with the seed that it is made of."""
    originals = valid_data(serializer)
    for seed in range(MUTANTS):
        yield seed, altered(originals, random.Random(seed))


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
