"""Passwords, keys and values: in no message, no traceback of ours, no log record and no row."""

import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import servers
from sqlalchemy import make_url, select, text, update

import artigraph
from artigraph import ArtifactModel, ArtigraphError, Run, RunManager, artifact_field, graph
from artigraph.database import current_database
from artigraph.serializer import get_serializer
from artigraph.serializer.json import json_serializer
from artigraph.serializer.text import TextSerializer
from artigraph.spec import Data, Serializer
from artigraph.storage import open_storage
from artigraph.storage.file import FileSystem
from artigraph.tables import blob_table, node_table, version_table
from artigraph.tree import digest_of

SECRET = "hunter2-hunter2"
"""A password, a key, or what a cell of a table says."""

NUMBER = 8_765_432_109_876_543
"""A value that is no text."""


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Our loggers tell no secret, whatever the level."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="artigraph")
    yield
    ours = [record for record in caplog.records if record.name.startswith("artigraph")]
    for record in ours:
        assert_tells_nothing(record.getMessage())


def assert_tells_nothing(told: str) -> None:
    assert SECRET not in told
    assert str(NUMBER) not in told
    assert SECRET.encode().hex() not in told


def all_that_is_told(error: BaseException) -> str:
    """What a program might print of an error: its texts, and those of all its causes."""
    assert isinstance(error, ArtigraphError), error
    again = pickle.loads(pickle.dumps(error))
    return "\n".join([*traceback.format_exception(error), repr(error), str(again), repr(again)])


URLS = [
    *(
        f"{scheme}://me:{SECRET}@127.0.0.1:1/graph{options}"
        for scheme in ("postgresql", "mysql", "mariadb+asyncmy")
        for options in ("", f"?password={SECRET}", f"?nonsense={SECRET}", f"?ssl={SECRET}")
    ),
    f"postgresql://me:{SECRET}@[::1/graph",
    f"postgresql://me:{SECRET}@127.0.0.1:port/graph",
    f"postgresql+psycopg2://me:{SECRET}@127.0.0.1/graph",
    f"oracle://me:{SECRET}@127.0.0.1/graph",
    f"nothing://me:{SECRET}@127.0.0.1/graph",
    f"sqlite://me:{SECRET}@host/graph.db",
    f"mysql://me:{SECRET}@127.0.0.1:1",
    f"me:{SECRET}@127.0.0.1",
]


@pytest.mark.parametrize("url", URLS)
async def test_the_password_of_a_url_is_not_told(url: str) -> None:
    """B3: whatever is wrong with the rest of it, and whoever notices."""
    with pytest.raises(ArtigraphError) as caught:
        await use(url)

    assert_tells_nothing(all_that_is_told(caught.value))


async def use(url: str) -> None:
    artigraph.set_database(url)
    await Run.load("018f0000-0000-7000-8000-000000000000")


async def test_the_password_of_a_server_is_not_told(database_url: str) -> None:
    """B3: once it is connected, too: by no error, and by no row."""
    url = make_url(database_url)
    if url.host is not None and url.password is None and url.get_backend_name() != "mysql":
        url = url.set(password=SECRET)  # the server asks nobody for it
    artigraph.set_database(url.render_as_string(hide_password=False))
    async with RunManager(Run()) as manager:
        await manager.save_artifact("x", 1)
        with pytest.raises(artigraph.ConflictError) as conflict:
            await manager.save_artifact("x", 2)
    with pytest.raises(artigraph.NodeNotFoundError) as missing:
        await manager.load_artifact("nothing")

    for caught in (conflict, missing):
        assert_tells_nothing(all_that_is_told(caught.value))
    assert_tells_nothing(await all_rows())


@pytest.mark.parametrize(
    "uri",
    [
        *(f"s3://key:{SECRET}@bucket/prefix", f"s3://bucket/prefix?secret={SECRET}"),
        *(f"https://me:{SECRET}@host/path", f"ftp://me:{SECRET}@host", f"nothing:{SECRET}"),
    ],
)
def test_the_password_in_the_uri_of_a_storage_is_not_told(uri: str) -> None:
    """B3: neither where no plugin opens it, nor where one refuses it."""
    with pytest.raises(ArtigraphError) as opened:
        open_storage(uri)
    with pytest.raises(ArtigraphError) as set_up:
        artigraph.set_database("sqlite:///graph.db", storage=uri)

    for caught in (opened, set_up):
        assert_tells_nothing(all_that_is_told(caught.value))


def test_the_password_in_the_uri_of_a_directory_is_not_told() -> None:
    """B3: although a directory has none."""
    with pytest.raises(ArtigraphError) as caught:
        open_storage(f"file://me:{SECRET}@host/path")

    assert_tells_nothing(all_that_is_told(caught.value))


@pytest.mark.s3
async def test_the_keys_of_s3_are_not_told(
    s3_server: servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B3: they are sent signed, and are in no row: also a wrong one, and one for no server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    artigraph.set_database("sqlite:///graph.db", storage=f"s3://{s3_server.bucket}/secrets")
    for endpoint in (s3_server.endpoint_url, "http://127.0.0.1:1"):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)

        with pytest.raises(artigraph.StorageError) as caught:
            await Holder("x" * 100_000).save("x")

        assert_tells_nothing(all_that_is_told(caught.value))
        assert_tells_nothing(await all_rows())
        await current_database().storage.close()  # type: ignore[union-attr]


class Color(Enum):
    RED = SECRET


class Text(str):
    """A subclass, which would come back as its base."""


class Thing:
    """Nothing that can be saved; whoever prints it tells all."""

    def __repr__(self) -> str:
        return SECRET

    __str__ = __repr__


@dataclass
class Holder(ArtifactModel, version=1, name="SecretHolder"):
    value: Any


@dataclass
class TextHolder(ArtifactModel, version=1, name="SecretTextHolder"):
    value: Any = artifact_field(serializer=TextSerializer())


@dataclass
class FrameHolder(ArtifactModel, version=1, name="SecretFrameHolder"):
    value: Any = artifact_field(serializer=get_serializer("pandas.dataframe.parquet"))


@dataclass
class ColorHolder(ArtifactModel, version=1, name="SecretColorHolder"):
    value: Color | Any


class Talkative(Serializer[Thing]):
    """A stranger's, whose errors tell what they were given."""

    name = "talkative.thing"
    types = (Thing,)

    def serialize(self, value: Thing) -> Data:
        raise ValueError(f"no data for {value}") from KeyError(str(value))

    def deserialize(self, data: Data) -> Thing:
        raise ValueError(f"no value for {data!r}")


class TalkativeStorage(FileSystem):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        raise ValueError(f"can't keep {data!r} with {SECRET}")


def nested(value: object) -> object:
    for _ in range(300):
        value = [value]
    return value


def objects(*values: object) -> pd.Series:
    return pd.Series(list(values), dtype=object)


def with_attrs(frame: pd.DataFrame, **attrs: object) -> pd.DataFrame:
    frame.attrs = attrs
    return frame


def invalid_text() -> pa.Array:
    data = SECRET.encode() + b"\xff"
    buffers = [None, pa.py_buffer(np.array([0, len(data)], "i4")), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), 1, buffers)


REFUSED: dict[str, Callable[[], Any]] = {
    "a thing": lambda: [SECRET, Thing()],
    "a subclass": lambda: {"a": Text(SECRET)},
    "a set of things": lambda: {SECRET, (SECRET, frozenset({Text(SECRET)}))},
    "an enumeration": lambda: Color.RED,
    "too deep": lambda: nested(SECRET),
    "too large": lambda: SECRET * 100_000,
    "an array of objects": lambda: np.array([SECRET, NUMBER, None], dtype=object),
    "a structure of objects": lambda: np.array([(SECRET,)], dtype=[("a", "O")]),
    "numpy text that ends in NUL": lambda: np.str_(SECRET + "\0"),
    "a frame of things": lambda: pd.DataFrame({"a": objects(SECRET, Thing())}),
    "a frame of subclasses": lambda: pd.DataFrame({"a": objects(Text(SECRET))}),
    "a frame of arrays": lambda: pd.DataFrame({"a": objects(np.array([SECRET]))}),
    "a frame of times in a far future": lambda: pd.DataFrame(
        {"a": np.array([NUMBER * 1000], "M8[s]")}
    ),
    "sparse": lambda: pd.DataFrame({"a": pd.arrays.SparseArray([NUMBER, 0])}),
    "an index of things": lambda: pd.Series([1], index=objects(Thing())),
    "attributes": lambda: with_attrs(pd.DataFrame({"a": [1]}), secret=Text(SECRET)),
    "polars objects": lambda: pl.DataFrame({"a": pl.Series([Thing()], dtype=pl.Object)}),
    "Arrow text that is none": lambda: pa.table({"a": invalid_text()}),
    "an Arrow extension": lambda: pa.table({"a": pa.array([b"x" * 16], pa.uuid())}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_value_that_is_refused_is_not_told(name: str) -> None:
    """B3: the error names the field, and the type of what is in the way."""
    artigraph.set_database("sqlite:///graph.db")

    with pytest.raises(ArtigraphError, match=r"Holder\.value") as caught:
        await Holder(REFUSED[name]()).save("x")

    assert_tells_nothing(all_that_is_told(caught.value))


@pytest.mark.parametrize("holder", [TextHolder, FrameHolder])
async def test_a_value_of_another_type_is_not_told(holder: type[Any]) -> None:
    """B3: than the serializer of its field takes."""
    artigraph.set_database("sqlite:///graph.db")

    with pytest.raises(artigraph.FieldTypeError) as caught:
        await holder([SECRET, NUMBER]).save("x")

    assert_tells_nothing(all_that_is_told(caught.value))


DOCUMENTS = [
    f'{{"value": "{SECRET}"',
    f'{{"value": "{SECRET}"}}{SECRET}',
    f'["{SECRET}"]',
    f'"{SECRET}"',
    f'{{"value": {SECRET}}}',
    *(
        f'{{"value": {{"${tag}": "{SECRET}"}}}}'
        for tag in ("date", "float", "int", "decimal", "uuid", "bytes", "text", "tuple", "enum")
    ),
    f'{{"value": {{"$datetime": ["{SECRET}", 0, null]}}}}',
    f'{{"value": {{"$datetime": ["2020-01-01", 0, "{SECRET}"]}}}}',
    f'{{"value": {{"$datetime": ["2020-01-01", 0, "/{SECRET}"]}}}}',
    f'{{"value": {{"$enum": ["Color", "{SECRET}x"]}}}}',
    f'{{"value": {{"$path": ["PosixPath", ["{SECRET}"]]}}}}',
    f'{{"value": {{"$fraction": ["{SECRET}", "1"]}}}}',
]


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_a_value_that_can_not_be_read_is_not_told(document: str) -> None:
    """B3: neither in a fields document, nor in the attributes of a run, nor as data."""
    artigraph.set_database("sqlite:///graph.db")
    async with RunManager(Run()) as manager:
        node_id = await manager.save_artifact("x", ColorHolder(1))
    values = {"model_fields": document, "run_attributes": document}
    await current_database().write(lambda each: each.execute(update(node_table).values(values)))
    await forge()

    loads: list[Callable[[], Awaitable[Any]]] = [
        lambda: ColorHolder.load(node_id),
        lambda: Run.load(manager.run.node_id),
    ]
    for load in loads:
        try:
            await load()
        except ArtigraphError as error:
            assert_tells_nothing(all_that_is_told(error))
    try:
        json_serializer.deserialize(document.encode())
    except ValueError as error:
        assert_tells_nothing("".join(traceback.format_exception(error)))


async def test_what_strangers_tell_is_not_repeated() -> None:
    """B3: an error of a stranger's serializer or storage is shown by its class, as our text."""
    Talkative().register()
    artigraph.set_database("sqlite:///graph.db", storage=TalkativeStorage(Path("files")))

    with pytest.raises(artigraph.UnsupportedValueError) as serialized:
        await Holder(Thing()).save("x")
    with pytest.raises(artigraph.StorageError) as kept:
        await Holder(SECRET * 10_000).save("x")

    for caught in (serialized, kept):
        assert "ValueError" in str(caught.value)
        assert_tells_nothing(str(caught.value))
        assert_tells_nothing(repr(caught.value))


@pytest.mark.parametrize("broken", ["artigraph_node", "artigraph_blob"])
async def test_what_a_database_refuses_is_not_told(
    database_url: str, tmp_path: Path, broken: str
) -> None:
    """B3: statements are shown without their parameters, which are values."""
    artigraph.set_database(database_url, storage=FileSystem(tmp_path / "files"))
    await Holder(1).save("x")
    await current_database().write(
        lambda each: each.execute(text(f"ALTER TABLE {broken} RENAME TO elsewhere"))
    )

    with pytest.raises(artigraph.DatabaseError) as caught:
        await Holder([SECRET, SECRET * 10_000, NUMBER]).save("y")

    assert_tells_nothing(all_that_is_told(caught.value))


async def test_what_ends_a_run_is_in_its_row_and_nowhere_else(database_url: str) -> None:
    """B3: the text of the exception is what the user's code raised."""
    artigraph.set_database(database_url)
    with pytest.raises(ValueError, match=SECRET):
        async with RunManager(Run()) as manager:
            raise ValueError(SECRET)

    run = await Run.load(manager.run.node_id)

    assert run.error_message == SECRET
    with pytest.raises(artigraph.RunStateError) as caught:
        await manager.save_artifact("x", 1)
    assert_tells_nothing(str(caught.value))


async def forge() -> None:
    """Make the digests of all trees right again."""

    def work(connection: Any) -> None:
        is_root = node_table.c.artifact_tree_id == node_table.c.node_id
        for root_id in list(connection.scalars(select(node_table.c.node_id).where(is_root))):
            digest = digest_of(graph.read_tree(connection, root_id).nodes())
            statement = update(node_table).where(node_table.c.node_id == root_id)
            connection.execute(statement.values(artifact_tree_digest=digest))

    await current_database().write(work)


async def all_rows() -> str:
    """All that is in our tables."""

    def work(connection: Any) -> str:
        tables = (node_table, blob_table, version_table)
        return "\n".join(repr(row) for table in tables for row in connection.execute(select(table)))

    return await current_database().read(work)


async def test_no_value_is_logged(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """B3: in saves, loads, refusals and repairs; SQLAlchemy tells statements without them."""
    for name in ("asyncio", "aiosqlite", "asyncpg", "asyncmy", "sqlalchemy", "concurrent.futures"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.set_level(logging.INFO, logger="sqlalchemy.engine")  # below, it tells rows on purpose
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(password=SECRET)
    storage = FileSystem(tmp_path / "files")
    artigraph.set_database(url.render_as_string(hide_password=False), storage=storage)

    async with RunManager(Run(attributes={"token": SECRET})) as manager:
        node_id = await manager.save_artifact("x", Holder([SECRET, NUMBER]))
        large_id = await manager.save_artifact("y", Holder(SECRET * 10_000))
        await Holder.load(node_id)
        with pytest.raises(artigraph.UnsupportedValueError):
            await manager.save_artifact("z", Holder(Thing()))
    for path in (path for path in (tmp_path / "files").rglob("*") if path.is_file()):
        path.write_text(SECRET)
    with pytest.raises(artigraph.CorruptBlobError):
        await Holder.load(large_id)
    await artigraph.repair((await artigraph.check(deep=True)).findings)
    await artigraph.delete(manager.run.node_id)
    await artigraph.collect(grace=0)
    await artigraph.close()

    assert any(record.name.startswith("sqlalchemy") for record in caplog.records)
    for record in caplog.records:
        assert_tells_nothing(record.getMessage())
