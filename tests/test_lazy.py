"""Values that are loaded when they are asked for: from files and from S3, whole and in parts."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from observing import statements
from servers import S3Server
from sqlalchemy import func, select

import artigraph
from artigraph import (
    ArtifactLoadError,
    ArtifactMapping,
    ArtifactModel,
    ArtifactSequence,
    ColumnNotFoundError,
    CorruptBlobError,
    CorruptRowError,
    Lazy,
    Storage,
    UnsupportedValueError,
    lazy_field,
)
from artigraph.database import current_database
from artigraph.lazy import lazy, stored_in
from artigraph.spec import Data
from artigraph.storage.file import FileSystem
from artigraph.stored import StoredValue
from artigraph.tables import blob_table
from artigraph.testing.storage import io_recorded
from artigraph_arrow import parquet_serializer
from artigraph_aws import S3Storage
from artigraph_polars import dataframe_ipc_serializer, dataframe_serializer

ROWS = 20_000
TABLE = pa.table({"a": range(ROWS), "b": [n / 7 for n in range(ROWS)], "c": ["x"] * ROWS})
FRAME = pl.from_arrow(TABLE)
ARRAY = np.arange(ROWS, dtype="float64").reshape(-1, 2)


@dataclass
class Report(ArtifactModel, version=1, name="lazy.Report"):
    title: str
    table: Lazy[pa.Table]


@dataclass
class Parts(ArtifactModel, version=1, name="lazy.Parts"):
    feather: Lazy[pa.Table]
    parquet: Lazy[pa.Table] = lazy_field(serializer=parquet_serializer)
    ipc: Lazy[pl.DataFrame] = lazy_field(serializer=dataframe_ipc_serializer)
    frame: Lazy[pl.DataFrame] = lazy_field(serializer=dataframe_serializer)
    array: Lazy[np.ndarray[Any, Any]] | None = None


@dataclass
class Many(ArtifactModel, version=1, name="lazy.Many"):
    by_name: ArtifactMapping[str, Lazy[Any]]
    in_order: ArtifactSequence[Lazy[Any]]


class Watched(FileSystem):
    """Counts what is read whole, written, and handed out as a file."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.calls: list[str] = []

    async def create(self, data: Data, *, location: str | None = None) -> str:
        self.calls.append("create")
        return await super().create(data, location=location)

    async def read_up_to(self, location: str, size: int) -> bytes:
        self.calls.append("read")
        return await super().read_up_to(location, size)

    async def fetch(self, location: str, folder: Path) -> Path:
        self.calls.append("fetch")
        return await super().fetch(location, folder)


@pytest.fixture(autouse=True)
def files(database_url: str, tmp_path: Path) -> Watched:
    storage = Watched(tmp_path / "files")
    artigraph.set_database(database_url, storage=storage)
    return storage


@pytest.fixture(params=["files", pytest.param("s3", marks=pytest.mark.s3)])
def storage(
    request: pytest.FixtureRequest, files: Watched, database_url: str, tmp_path: Path
) -> Storage:
    if request.param == "files":
        return files
    server: S3Server = request.getfixturevalue("s3_server")
    storage = S3Storage(
        server.bucket,
        tmp_path.name,
        endpoint_url=server.endpoint_url,
        region_name=server.region,
        client_options={
            "aws_access_key_id": server.access_key,
            "aws_secret_access_key": server.secret_key,
        },
    )
    artigraph.set_database(database_url, storage=storage)
    return storage


async def load_report() -> Report:
    return await Report.load(await Report("delays", Lazy(TABLE)).save("report"))


async def test_a_lazy_value_is_read_when_it_is_asked_for(files: Watched) -> None:
    """Not with its model; and once, also if twenty tasks ask at once."""
    report = await load_report()
    assert files.calls == ["create"]
    assert not report.table.is_loaded
    assert "bytes that are not loaded" in repr(report)

    tables = await asyncio.gather(*(report.table.load() for _ in range(20)))

    assert files.calls == ["create", "read"]
    assert report.table.is_loaded
    assert all(table is tables[0] for table in tables)
    assert tables[0].equals(TABLE)
    assert report == Report("delays", Lazy(TABLE))


async def test_a_task_that_is_cancelled_does_not_cancel_what_others_wait_for() -> None:
    """It goes on for them."""
    report = await load_report()
    waiting = [asyncio.create_task(report.table.load()) for _ in range(3)]
    await asyncio.sleep(0)

    waiting[0].cancel()

    assert (await waiting[1]).equals(TABLE)
    assert (await waiting[2]).equals(TABLE)
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]


async def test_what_was_not_asked_for_is_saved_without_its_data(files: Watched) -> None:
    """The new artifact names the same object in the storage: two statements, and no bytes."""
    report = await load_report()
    files.calls.clear()

    with statements() as seen:
        node_id = await report.save("again")

    assert [statement.split()[0] for statement in seen] == ["UPDATE", "INSERT"]
    assert files.calls == []
    assert await count_blobs() == 1
    again = await Report.load(node_id)
    assert again == report
    assert (await again.table.load()).equals(TABLE)


async def test_the_data_stays_until_the_last_that_names_it_is_deleted() -> None:
    """Whichever goes first."""
    first = await Report("delays", Lazy(TABLE)).save("report")
    report = await Report.load(first)
    second = await report.save("again")

    await artigraph.delete(first)
    await artigraph.collect(grace=0)
    await artigraph.collect(grace=0)
    assert (await (await Report.load(second)).table.load()).equals(TABLE)

    await artigraph.delete(second)
    await artigraph.collect(grace=0)
    await artigraph.collect(grace=0)
    assert await count_blobs() == 0
    with pytest.raises(ArtifactLoadError):
        await report.table.load()
    with pytest.raises(artigraph.DatabaseError, match=r"Nothing was (saved|written)"):
        await report.save("too late")


async def test_what_was_loaded_is_saved_as_it_is_now(files: Watched) -> None:
    """It may have been changed."""
    report = await load_report()
    await report.table.load()
    files.calls.clear()

    await report.save("again")

    assert files.calls == ["create"]


async def test_another_database_gets_a_copy(new_database_url: Callable[[], str]) -> None:
    """Two databases share no object."""
    report = await load_report()
    with artigraph.use_database(new_database_url(), storage=FileSystem("other")):
        copy = await Report.load(await report.save("copy"))
        assert (await copy.table.load()).equals(TABLE)
        await artigraph.close()


async def test_lazy_values_stand_in_mappings_and_sequences() -> None:
    """Each by itself; small ones too, and any that has a serializer."""
    many = Many(
        ArtifactMapping(table=Lazy(TABLE), number=Lazy(5)),
        ArtifactSequence([Lazy("text"), Lazy(ARRAY)]),
    )

    loaded = await Many.load(await many.save("many"))

    assert (await loaded.by_name["table"].load()).equals(TABLE)
    assert await loaded.by_name["number"].load() == 5
    assert await loaded.in_order[0].load() == "text"
    assert np.array_equal(await loaded.in_order[1].load(), ARRAY)


async def test_a_value_is_mapped_where_it_lies(storage: Storage) -> None:
    """Read-only; each call maps it anew, and what is small and in its row comes too."""
    parts = await load_parts()
    assert parts.array is not None

    array = await parts.array.map()
    assert np.array_equal(array, ARRAY)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    assert (await parts.feather.map()).equals(TABLE)
    assert (await parts.ipc.map()).equals(FRAME)
    assert not parts.feather.is_loaded
    assert (await Lazy(TABLE).map()) is TABLE
    with pytest.raises(ArtifactLoadError, match=r"Parts\.parquet .*can't map it: await load\(\)"):
        await parts.parquet.map()


class FarAway(Watched):
    """Has no file to hand out, and so makes one."""

    async def fetch(self, location: str, folder: Path) -> Path:
        assert not list(folder.iterdir())
        path = await super().fetch(location, folder)
        return Path(shutil.copy(path, folder))


async def test_what_is_far_away_is_brought_here_once(database_url: str, tmp_path: Path) -> None:
    """Whoever asks for it, also at once, and by another load of the model."""
    storage = FarAway(tmp_path / "far")
    artigraph.set_database(database_url, storage=storage)
    report = await load_report()
    again = await Report.load(await report.save("again"))

    tables = await asyncio.gather(
        report.table.map(), report.table.select(["a"]), again.table.map(), again.table.map()
    )

    assert tables[0].equals(TABLE)
    assert tables[3].equals(TABLE)
    assert storage.calls.count("fetch") == 1


async def test_mapping_a_file_makes_none(files: Watched) -> None:
    """And no folder either: what is left empty is used again."""
    report = await load_report()
    await report.table.map()

    with io_recorded() as events:
        await report.table.map()

    assert "open" in events
    assert "os.mkdir" not in events


async def test_columns_and_rows_are_read_without_the_rest(storage: Storage) -> None:
    """In the order that is asked for."""
    parts = await load_parts()

    for table in (parts.feather, parts.parquet):
        assert (await table.select(["c", "a"])).equals(TABLE.select(["c", "a"]))
        assert (await table.select(["b"], slice(5, 9))).equals(TABLE.select(["b"])[5:9])
        assert (await table.select(rows=slice(ROWS - 2, None))).equals(TABLE[ROWS - 2 :])
    for frame in (parts.ipc, parts.frame):
        assert (await frame.select(["c", "a"], slice(5, 9))).equals(FRAME.select("c", "a")[5:9])
    with pytest.raises(ColumnNotFoundError, match=r"no column 'd'; there are 'a', 'b', 'c'"):
        await parts.feather.select(["d"])
    with pytest.raises(UnsupportedValueError, match="a value in memory"):
        await Lazy(TABLE).select(["a"])


async def test_a_table_is_scanned_by_its_own_library(storage: Storage) -> None:
    """As a LazyFrame of polars, or a dataset of Arrow."""
    parts = await load_parts()

    for frame in (parts.ipc, parts.frame):
        query = await frame.scan()
        assert isinstance(query, pl.LazyFrame)
        assert query.select(pl.col("a").sum()).collect().item() == sum(range(ROWS))
    for table in (parts.feather, parts.parquet):
        dataset = await table.scan()
        assert dataset.to_table(columns=["a"]).equals(TABLE.select(["a"]))


async def test_a_mapped_file_is_verified_first(files: Watched) -> None:
    """And again if it was changed since: its size, its inode and its times tell."""
    report = await load_report()
    await report.table.map()
    (path,) = (path for path in files.directory.glob("??/*") if path.is_file())
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)

    with pytest.raises(CorruptBlobError, match=r"Report\.table .*altered"):
        await report.table.map()
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptBlobError, match="truncated"):
        await report.table.select(["a"])


@pytest.mark.parametrize("missing", ["size", "sha256", "blob_key"])
async def test_a_row_that_does_not_say_what_its_data_is_is_told(missing: str) -> None:
    """By every way to the value, and nothing is read."""
    report = await load_report()
    stored = stored_in(report.table)
    assert isinstance(stored, StoredValue)
    broken = lazy(replace(stored, node=stored.node._replace(**{missing: None})))

    for work in (broken.load(), broken.map(), broken.select(["a"]), broken.scan()):
        with pytest.raises(CorruptRowError, match=r"Report\.table .* does not say"):
            await work


async def test_a_field_says_whether_it_is_lazy() -> None:
    """What would come back as something else is refused."""
    with pytest.raises(UnsupportedValueError, match=r"Report\.table: .*Wrap it: Lazy\(value\)"):
        await Report("delays", TABLE).save("report")

    @dataclass
    class Eager(ArtifactModel, version=1, name="lazy.Eager"):
        table: Any

    with pytest.raises(UnsupportedValueError, match=r"Eager\.table: a Lazy .*Lazy\[\.\.\.\]"):
        await Eager(Lazy(TABLE)).save("eager")
    with pytest.raises(UnsupportedValueError, match=r"Report\.table: a Eager in Lazy"):
        await Report("delays", Lazy(Eager(1))).save("report")


async def load_parts() -> Parts:
    saved = Parts(Lazy(TABLE), Lazy(TABLE), Lazy(FRAME), Lazy(FRAME), Lazy(ARRAY))
    return await Parts.load(await saved.save("parts"))


async def count_blobs() -> int:
    return await current_database().read(
        lambda connection: connection.scalar(select(func.count()).select_from(blob_table)) or 0
    )
