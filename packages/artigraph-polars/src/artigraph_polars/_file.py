"""The files that polars writes, and how they are read, whole, in parts, and where they lie."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import polars as pl
from polars.exceptions import PanicException, PolarsError

from artigraph.memory import as_bytes
from artigraph.serializer.columns import find_columns
from artigraph.serializer.footer import refuse_extension_types
from artigraph.serializer.ipc import measure_ipc
from artigraph.serializer.once import check_once
from artigraph.serializer.parquet import measure_parquet
from artigraph.serializer.sink import IpcSink, ParquetSink
from artigraph.spec import Data, LocalFile

_PER_VALUE = 8
"""What polars may take for a value in IPC data beside what the format does, in bytes."""

_HELD_BACK = 16 * 2**20
"""What the footer of a Parquet file takes at most, beside what it has of the schema, in bytes."""


class Format(NamedTuple):
    """A kind of file that polars writes and reads."""

    open: Callable[[BinaryIO, pl.Schema], IpcSink | ParquetSink]
    """What takes a file of a schema, and checks it."""
    write: Callable[[pl.DataFrame, Any], Any]
    sink: Callable[[pl.LazyFrame, Any], Any]
    read: Callable[[bytes], pl.DataFrame]
    scan: Callable[..., pl.LazyFrame]
    measure: Callable[[Data], int]
    """What a file takes in memory; refuses those for which polars would end the process."""


def _open_parquet(file: BinaryIO, schema: pl.Schema) -> ParquetSink:
    empty = BytesIO()
    pl.DataFrame(schema=schema).write_parquet(empty)
    return ParquetSink(file, held=_HELD_BACK + 2 * len(empty.getbuffer()))


def _open_ipc(file: BinaryIO, schema: pl.Schema) -> IpcSink:
    empty = BytesIO()
    pl.DataFrame(schema=schema).write_ipc(empty)
    return IpcSink(file, empty.getbuffer(), per_value=_PER_VALUE)


PARQUET = Format(
    _open_parquet,
    pl.DataFrame.write_parquet,
    partial(pl.LazyFrame.sink_parquet, engine="streaming"),
    pl.read_parquet,
    partial(pl.scan_parquet, glob=False, hive_partitioning=False),
    measure_parquet,
)
IPC = Format(
    _open_ipc,
    pl.DataFrame.write_ipc,
    partial(pl.LazyFrame.sink_ipc, engine="streaming"),
    pl.read_ipc,
    partial(pl.scan_ipc, glob=False, hive_partitioning=False),
    partial(measure_ipc, per_value=_PER_VALUE),
)


def write(frame: pl.DataFrame | pl.LazyFrame, file: BinaryIO, file_format: Format) -> None:
    """Write a file piece by piece.

    Raises:
        ArtigraphError: It would not be read.
    """
    with _without_panics(), file_format.open(file, frame.collect_schema()) as sink:
        with sink.passing_errors():
            if isinstance(frame, pl.LazyFrame):
                file_format.sink(frame, sink)
            else:
                file_format.write(frame, sink)
        sink.finish()


def read(data: Data, file_format: Format) -> pl.DataFrame:
    """The frame in a file."""
    _check(data, file_format)
    with _without_panics():
        return file_format.read(as_bytes(data))


def select(
    file: LocalFile, columns: Sequence[str] | None, rows: slice, file_format: Format
) -> pl.DataFrame:
    """Some columns and rows of the frame in a file."""
    with _without_panics():
        lazy = scan(file, file_format)
        names = lazy.collect_schema().names()
        wanted = [names[place] for place in find_columns(names, columns)]
        start = rows.start or 0
        length = None if rows.stop is None else max(rows.stop - start, 0)
        return lazy.slice(start, length).select(wanted).collect()


def scan(file: LocalFile, file_format: Format) -> pl.LazyFrame:
    """The frame in a file, to be queried."""
    check_once(file, "sizes", lambda: _check(file.data, file_format))
    return file_format.scan(file.path)


def map_ipc(file: LocalFile) -> pl.DataFrame:
    """The frame in an IPC file, whose columns lie in it, where pyarrow can read them."""
    check_once(file, "sizes", lambda: _check(file.data, IPC))
    with _without_panics():
        schema = IPC.scan(file.path).collect_schema()
        frame = _map_with_pyarrow(file)
        # It does not know some of polars' own types.
        if frame is None or frame.schema != schema:
            return IPC.read(as_bytes(file.data))
        return frame


def _map_with_pyarrow(file: LocalFile) -> pl.DataFrame | None:
    try:
        pyarrow: Any = import_module("pyarrow")
    except ModuleNotFoundError:
        return None
    try:
        table = pyarrow.ipc.open_file(pyarrow.py_buffer(file.data)).read_all()
        check_once(file, "values", lambda: table.validate(full=True))
        frame = pl.from_arrow(table, rechunk=False)
    except (pyarrow.ArrowException, PolarsError, ValueError, TypeError):
        return None
    return frame if isinstance(frame, pl.DataFrame) else None


def _check(data: Data, file_format: Format) -> None:
    refuse_extension_types(data)
    file_format.measure(data)


@contextmanager
def _without_panics() -> Generator[None]:
    """An ordinary exception in the place of a panic, which `except Exception` would miss."""
    try:
        yield
    except PanicException as panic:
        raise ValueError(f"polars panicked: {panic}") from panic
