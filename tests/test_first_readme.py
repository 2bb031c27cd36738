"""What the first README promised, name by name and example by example.

Tests that begin with p, n, m, r or s and a number hold the promise of that id; those of models and
runs that need no other distribution are in the tests of the core.
"""

import asyncio
import importlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import servers

import artigraph
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    ArtifactModelConfig,
    ArtifactSequence,
    Run,
    RunManager,
    artifact_field,
    run_manager,
)
from artigraph.serializer.numpy import array_serializer
from artigraph.serializer.pandas import dataframe_serializer, pandas_serializer
from artigraph.serializer.pyarrow import feather_serializer, parquet_serializer
from artigraph.spec import Storage
from artigraph.storage import register_storage
from artigraph.storage.aws import S3Storage
from artigraph.storage.file import FileSystem, FileSystemStorage

FRAME = pd.DataFrame({"a": [1, 2, 3]})


@pytest.fixture
def s3_bucket(s3_server: servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bucket that the standard settings of AWS lead to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return s3_server.bucket


@pytest.fixture(params=["file", "s3"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """Each kind of storage, made as its README example makes it, and registered."""
    if request.param == "file":
        yield FileSystem(tmp_path / "files").register()
    else:
        bucket = request.getfixturevalue("s3_bucket")
        yield S3Storage(bucket, tmp_path.name).register()


def test_p1_the_extras_are_those_of_the_first_readme() -> None:
    """`pip install "artigraph[all]"`, or any of the five."""
    extras = set(metadata("artigraph").get_all("Provides-Extra") or [])

    assert extras == {
        "all", "aws", "numpy", "pandas", "polars", "pyarrow", "postgresql", "mysql",
    }  # fmt: skip


def test_p2_the_core_needs_no_extra() -> None:
    """SQLAlchemy, pluggy and aiosqlite are all that it asks for."""
    needed = [each for each in requires("artigraph-core") or [] if "extra ==" not in each]

    assert sorted(each.split(">")[0].split("[")[0] for each in needed) == [
        "aiosqlite",
        "pluggy",
        "sqlalchemy",
    ]


async def test_p4_a_database_is_known_in_every_thread(database_url: str) -> None:
    """What is set once is used by threads with event loops of their own."""
    artigraph.set_database(database_url)
    ids: list[Any] = []
    thread = threading.Thread(target=lambda: ids.append(asyncio.run(Pair(1, "a").save("x"))))
    thread.start()
    await asyncio.to_thread(thread.join)

    assert await Pair.load(ids[0]) == Pair(1, "a")


async def test_p5_a_run_and_a_large_value_work_on_every_database(database_url: str) -> None:
    """Aware times, and more than the 64 KiB of a small BLOB column."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        await manager.save_artifact("large", b"\xff" * 1_000_000)

    assert await manager.load_artifact("large") == b"\xff" * 1_000_000
    assert manager.run.finished_at is not None


async def test_p6_the_first_example_needs_no_set_up(tmp_path: Path) -> None:
    """The embedded database is made where the program runs."""
    assert await Pair.load(await Pair(42, "hello").save(label="x")) == Pair(42, "hello")
    assert (tmp_path / ".artigraph" / "graph.db").is_file()


def test_p7_the_licence_is_mit() -> None:
    """As the metadata says."""
    assert metadata("artigraph")["License-Expression"] == "MIT"


@dataclass
class Pair(ArtifactModel, version=1):
    some_value: int
    another_value: str


@pytest.mark.parametrize(
    ("promise", "module", "names"),
    [
        ("n1", "artigraph", ["ArtifactModel"]),
        ("n2", "artigraph", ["ArtifactModelConfig", "artifact_field"]),
        ("n3", "artigraph", ["Run", "RunManager"]),
        ("n4", "artigraph", ["run_manager"]),
        ("n5", "artigraph", ["ArtifactMapping", "ArtifactSequence"]),
        ("n6", "artigraph.storage", ["register_storage"]),
        ("n7", "artigraph.storage.aws", ["S3Storage"]),
        ("n8", "artigraph.serializer.pandas", ["pandas_serializer", "dataframe_serializer"]),
        ("n9", "artigraph.serializer.numpy", ["array_serializer"]),
        ("n10", "artigraph.serializer.polars", ["dataframe_serializer"]),
        ("n11", "artigraph.serializer.pyarrow", ["feather_serializer", "parquet_serializer"]),
        ("n12", "artigraph.storage.file", ["FileSystem", "FileSystemStorage"]),
        ("n13", "artigraph.storage.aws", ["S3Storage"]),
    ],
)
def test_n_every_name_is_where_the_first_readme_has_it(
    promise: str, module: str, names: list[str]
) -> None:
    """Both spellings, wherever there were two."""
    found = importlib.import_module(module)

    assert [name for name in names if not hasattr(found, name)] == []


def test_n8_n12_two_spellings_are_one_thing(tmp_path: Path) -> None:
    """And `register_storage(storage)` is `storage.register()`."""
    assert pandas_serializer is dataframe_serializer
    assert FileSystemStorage is FileSystem
    storage = FileSystem(tmp_path)
    assert register_storage(storage) is storage


async def test_m4_a_large_field_goes_where_it_says(database_url: str, storage: Storage) -> None:
    """The headline example: a frame, in a storage, by a serializer, and exact."""

    @dataclass
    class MyDataModel(ArtifactModel, version=1):
        some_value: int
        another_value: str
        large_value: pd.DataFrame = artifact_field(storage=storage, serializer=pandas_serializer)

    artigraph.set_database(database_url)
    model = MyDataModel(some_value=42, another_value="hello", large_value=FRAME)

    loaded = await MyDataModel.load(await model.save(label="my-data-model"))

    assert (loaded.some_value, loaded.another_value) == (42, "hello")
    pd.testing.assert_frame_equal(loaded.large_value, FRAME)


async def test_m6_s3_needs_only_a_bucket(database_url: str, s3_bucket: str) -> None:
    """Credentials come from the standard chain, the client from nowhere."""
    artigraph.set_database(database_url, storage=f"s3://{s3_bucket}/m6")

    node_id = await Pair(1, "x" * 100_000).save("x")

    assert await Pair.load(node_id) == Pair(1, "x" * 100_000)


async def test_m7_a_config_holds_for_the_fields_that_fit(
    database_url: str, storage: Storage
) -> None:
    """An int beside a frame is no frame."""

    @dataclass
    class MyDataModel(
        ArtifactModel,
        version=1,
        config=ArtifactModelConfig(
            default_field_storage=storage, default_field_serializer=pandas_serializer
        ),
    ):
        some_value: int
        large_value: pd.DataFrame

    artigraph.set_database(database_url)

    loaded = await MyDataModel.load(await MyDataModel(42, FRAME).save(label="x"))

    assert loaded.some_value == 42
    pd.testing.assert_frame_equal(loaded.large_value, FRAME)


async def test_r_the_examples_of_runs(database_url: str) -> None:
    """Nested, found deep in the call stack, and loaded again from above."""
    artigraph.set_database(database_url)

    async def my_function() -> None:
        await run_manager().save_artifact("my-data-model", Pair(1, "deep"))

    async with RunManager(Run(node_parent_id=None)) as m1:
        async with RunManager(Run(node_parent_id=m1.run.node_id)) as m2:
            await my_function()
            assert m2.run.node_parent_id == m1.run.node_id

    assert await m1.load_descendant_artifacts() == {
        m2.run.node_id: {"my-data-model": Pair(1, "deep")}
    }


@dataclass
class Everything(ArtifactModel, version=1):
    """A field for each type, without a word about how it is kept."""

    frame: pd.DataFrame
    series: pd.Series
    polars_frame: pl.DataFrame
    polars_series: pl.Series
    table: pa.Table
    batch: pa.RecordBatch
    array: np.ndarray
    scalar: np.float64
    by_name: ArtifactMapping[str, Any] = field(default_factory=ArtifactMapping)
    in_order: ArtifactSequence[Any] = field(default_factory=ArtifactSequence)


def everything() -> Everything:
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    return Everything(
        frame=pd.DataFrame({"a": [1, 2], "b": pd.Categorical(["x", "y"])}, index=["i", "j"]),
        series=pd.Series([1.5, None], name="s"),
        polars_frame=pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        polars_series=pl.Series("s", [[1], None]),
        table=table,
        batch=table.to_batches()[0],
        array=np.arange(24, dtype=">i2").reshape(2, 3, 4),
        scalar=np.float64(0.1),
        by_name=ArtifactMapping(array=np.array(["a", "bc"]), number=1),
        in_order=ArtifactSequence([pd.DataFrame({"x": [1]}), None, pl.DataFrame({"x": [1]})]),
    )


def assert_same(loaded: Everything, saved: Everything) -> None:
    pd.testing.assert_frame_equal(loaded.frame, saved.frame)
    pd.testing.assert_series_equal(loaded.series, saved.series)
    assert loaded.polars_frame.equals(saved.polars_frame)
    assert loaded.polars_series.equals(saved.polars_series, check_dtypes=True, check_names=True)
    assert loaded.table.equals(saved.table, check_metadata=True)
    assert loaded.batch.equals(saved.batch, check_metadata=True)
    assert loaded.array.dtype == saved.array.dtype
    np.testing.assert_array_equal(loaded.array, saved.array)
    assert (type(loaded.scalar), loaded.scalar) == (np.float64, saved.scalar)
    np.testing.assert_array_equal(loaded.by_name["array"], saved.by_name["array"])
    assert list(loaded.by_name) == ["array", "number"]
    pd.testing.assert_frame_equal(loaded.in_order[0], saved.in_order[0])
    assert loaded.in_order[1] is None
    assert loaded.in_order[2].equals(saved.in_order[2])


async def test_s1_to_s4_every_type_finds_its_serializer(database_url: str) -> None:
    """Frames, series, tables, batches, arrays and scalars, in rows."""
    artigraph.set_database(database_url)

    assert_same(await Everything.load(await everything().save("x")), everything())


async def test_s5_and_in_every_storage(database_url: str, storage: Storage) -> None:
    """The same through the storage of each field, file system and S3."""

    @dataclass
    class Stored(
        Everything,
        version=1,
        config=ArtifactModelConfig(default_field_storage=storage),
    ):
        pass

    artigraph.set_database(database_url)
    saved = everything()

    loaded = await Stored.load(await Stored(**vars(saved)).save("x"))

    assert_same(loaded, saved)


@pytest.mark.parametrize("serializer", [feather_serializer, parquet_serializer])
async def test_s4_both_formats_of_pyarrow(database_url: str, serializer: Any) -> None:
    """Chosen by the field."""

    @dataclass
    class Tables(ArtifactModel, version=1):
        table: pa.Table = artifact_field(serializer=serializer)

    artigraph.set_database(database_url)
    table = pa.table({"a": [1, None]}, metadata={"k": "v"})

    loaded = await Tables.load(await Tables(table).save("x"))

    assert loaded.table.equals(table, check_metadata=True)


async def test_s2_arrays_of_any_shape(database_url: str) -> None:
    """Not only of one and two dimensions."""

    @dataclass
    class Arrays(ArtifactModel, version=1):
        array: np.ndarray = artifact_field(serializer=array_serializer)

    artigraph.set_database(database_url)
    for shape in [(), (0,), (3, 0), (2, 3, 4), (1, 1, 1, 1, 5)]:
        array = np.zeros(shape)
        loaded = await Arrays.load(await Arrays(array).save("x"))
        assert loaded.array.shape == shape


async def test_s5_equal_data_is_kept_twice(database_url: str, storage: Storage) -> None:
    """Removing one artifact's data never hurts another's."""

    @dataclass
    class Stored(ArtifactModel, version=1):
        data: bytes = artifact_field(storage=storage)

    artigraph.set_database(database_url)
    one, two = [await Stored(b"same").save("x") for _ in range(2)]
    locations = await blob_locations()

    await storage.delete(locations[0])

    assert len(locations) == 2
    assert len(set(locations)) == 2
    loaded = [await outcome(Stored.load(node_id)) for node_id in (one, two)]
    assert sorted(str(type(each).__name__) for each in loaded) == ["BlobMissingError", "Stored"]


async def outcome(work: Any) -> object:
    try:
        return await work
    except artigraph.ArtigraphError as error:
        return error


async def blob_locations() -> list[str]:
    from sqlalchemy import select

    from artigraph.database import current_database
    from artigraph.tables import blob_table

    statement = select(blob_table.c.blob_location)
    return await current_database().read(lambda connection: [*connection.scalars(statement)])


async def test_s6_loading_needs_no_import_of_the_plugin(database_url: str) -> None:
    """A fresh process finds the serializer by its name in the row."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        await manager.save_artifact("frame", pl.DataFrame({"a": [1, 2]}))
    program = (
        "import asyncio, sys, artigraph\n"
        "from artigraph import Run, RunManager\n"
        "artigraph.set_database(sys.argv[1])\n"
        "async def main():\n"
        "    manager = RunManager(await Run.load(sys.argv[2]))\n"
        "    frame = (await manager.load_artifacts())['frame']\n"
        "    assert type(frame).__module__.startswith('polars'), frame\n"
        "    assert frame['a'].to_list() == [1, 2]\n"
        "    assert not {'pandas', 'pyarrow', 'numpy', 'aioboto3'} & set(sys.modules)\n"
        "asyncio.run(main())\n"
    )

    arguments = [sys.executable, "-c", program, database_url, str(manager.run.node_id)]
    process = await asyncio.create_subprocess_exec(*arguments)

    assert await process.wait() == 0


def test_saving_a_polars_frame_imports_neither_pandas_nor_pyarrow(tmp_path: Path) -> None:
    """Laziness, in a process of its own."""
    program = (
        "import asyncio, sys\n"
        "import polars\n"
        "from artigraph import Run, RunManager\n"
        "async def main():\n"
        "    async with RunManager(Run()) as manager:\n"
        "        await manager.save_artifact('frame', polars.DataFrame({'a': [1]}))\n"
        "asyncio.run(main())\n"
        "assert not {'pandas', 'pyarrow', 'aioboto3'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_s7_names_tell_different_places_apart(tmp_path: Path) -> None:
    """Two folders never share a name, and neither do two prefixes."""
    assert FileSystem(tmp_path / "a-b").name != FileSystem(tmp_path / "a_b").name
    assert FileSystem(tmp_path / "a").name == f"file:{tmp_path}/a"
    assert S3Storage("bucket", "/a/b/").name == "s3://bucket/a/b"
    assert S3Storage("bucket").name == "s3://bucket"


class Subframe(pd.DataFrame):
    """What other libraries make of data frames."""


async def test_s1_a_subclass_of_a_frame_is_refused_by_its_place(database_url: str) -> None:
    """It would come back as its base; so would a masked array."""
    artigraph.set_database(database_url)
    subframe, masked = everything(), everything()
    subframe.frame = Subframe({"a": [1]})
    masked.array = np.ma.masked_array([1, 2], [True, False])

    for model, field_name, kind in ((subframe, "frame", "Subframe"), (masked, "array", "Masked")):
        with pytest.raises(TypeError, match=rf"Everything\.{field_name}: .*{kind}") as caught:
            await model.save("x")
        assert isinstance(caught.value, artigraph.ArtigraphError)


async def test_s1_an_explicit_serializer_refuses_a_subclass_too(database_url: str) -> None:
    """By model and field, not only by type."""

    @dataclass
    class Explicit(ArtifactModel, version=1):
        frame: pd.DataFrame = artifact_field(serializer=pandas_serializer)

    artigraph.set_database(database_url)

    with pytest.raises(artigraph.FieldTypeError, match=r"Explicit\.frame: .*no subclass, .*got "):
        await Explicit(Subframe({"a": [1]})).save("x")
