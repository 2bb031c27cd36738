"""Bits that flip in storages and in a database file: told, and never taken for what was saved."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from crashing import Album, album
from decoding import NAMES, values_for
from invariants import Store
from torture import Tally, scaled

import artigraph
from artigraph import (
    ArtifactModel,
    ArtigraphError,
    CorruptBlobError,
    CorruptRowError,
    DatabaseError,
    Run,
    RunManager,
    artifact_field,
    check,
    use_database,
)
from artigraph.serializer import get_serializer
from artigraph.spec import Data, Serializer, Storage

DAMAGES = scaled(12, 1_500)
"""Of the data of each serializer: its ends first, then anywhere."""

FLIPS = scaled(40, 1_000)
"""Of bits of a database file, each in a copy of its own."""

on_sqlite = pytest.mark.parametrize(
    "url_of_session", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)


class Listening(Serializer[Any]):
    """Tells how often it was asked for a value."""

    def __init__(self, inner: Serializer[Any]) -> None:
        self.name, self.types, self._inner = inner.name, inner.types, inner
        self.asked = 0

    def serialize(self, value: Any) -> Data:
        return self._inner.serialize(value)

    def deserialize(self, data: Data) -> Any:
        self.asked += 1
        return self._inner.deserialize(data)


def model_of(serializer: Serializer[Any], kept_in: Storage) -> Any:
    """A class whose one field is of the serializer, and in the storage, however small it is."""

    @dataclass
    class Kept(ArtifactModel, version=1, name="flipped.Kept"):
        value: Any = artifact_field(serializer=serializer, storage=kept_in)

    return Kept


def damages(data: bytes, numbers: random.Random) -> Iterator[bytes]:
    """Single bits of its ends and anywhere, lengths that it does not have, and one byte more."""
    ends = [*range(min(64, len(data))), *range(max(0, len(data) - 64), len(data))]
    places = [(at, bit) for at in ends for bit in range(8)]
    numbers.shuffle(places)
    lengths = numbers.sample(range(len(data)), min(len(data), 500))
    every: list[Callable[[], bytes]] = []
    for number in range(max(len(places), len(lengths))):
        if number < len(places):
            every.append(lambda at=places[number]: flipped(data, *at))
        if number < len(lengths):
            every.append(lambda length=lengths[number]: data[:length])
        if number < 200:
            anywhere = numbers.randrange(len(data)), numbers.randrange(8)
            every.append(lambda at=anywhere: flipped(data, *at))
    yield data + b"\0"
    yield b""
    for make in every[: DAMAGES - 2]:
        yield make()


def flipped(data: bytes, at: int, bit: int) -> bytes:
    altered = bytearray(data)
    altered[at] ^= 1 << bit
    return bytes(altered)


@on_sqlite
async def test_c1_data_with_a_bit_or_a_byte_too_few_or_too_many(
    store: Store, tally: Tally, request: pytest.FixtureRequest
) -> None:
    """C1: of every serializer, in files and in S3: it is told, and no decoder sees it."""
    numbers = random.Random(1)
    kept_in = store.place.storage()
    with use_database(store.place.url):
        for name in NAMES:
            listening = Listening(get_serializer(name))
            kind = model_of(listening, kept_in)
            before = store.objects()
            value = values_for(listening)[0]
            saved_id = await kind(value).save(name)
            (location,) = store.objects() - before
            data = bytes(listening.serialize(value))
            for damaged in damages(data, numbers):
                put(store, request, location, damaged)
                with pytest.raises(CorruptBlobError, match=r"Kept\.value"):
                    await kind.load(saved_id)
                tally["damages"] += 1
            assert listening.asked == 0
            put(store, request, location, data)
            await kind.load(saved_id)
            assert listening.asked == 1
        await artigraph.close()
    if close := getattr(kept_in, "close", None):
        await close()


def put(store: Store, request: pytest.FixtureRequest, location: str, data: bytes) -> None:
    """Behind the storage's back."""
    if store.place.directory:
        (Path(store.place.directory) / location).write_bytes(data)
        return
    place = store.place.s3
    request.getfixturevalue("s3").put_object(
        Bucket=place["bucket"], Key=f"{place['prefix']}/{location}", Body=data
    )


async def test_c2_a_bit_of_a_database_file(tmp_path: Path, tally: Tally) -> None:
    """C2: what is loaded is what was saved, or there is an error of ours."""
    numbers = random.Random(2)
    whole, copy = tmp_path / "whole.db", tmp_path / "copy.db"
    saved: dict[UUID, Album] = {}
    with use_database(f"sqlite:///{whole}", storage=f"file://{tmp_path}/files"):
        async with RunManager(Run(attributes={"learning rate": 0.5})) as manager:
            for number in range(12):
                one = album(f"{number}")
                saved[await manager.save_artifact(f"{number}", one)] = one
        await artigraph.close()
    data = whole.read_bytes()
    for _ in range(FLIPS):
        copy.write_bytes(flipped(data, numbers.randrange(len(data)), numbers.randrange(8)))
        with use_database(f"sqlite:///{copy}", storage=f"file://{tmp_path}/files"):
            tally["bits of a database file"] += 1
            errors = 0
            for album_id, one in saved.items():
                try:
                    assert await Album.load(album_id) == one
                except ArtigraphError:
                    errors += 1
            tally["of them told"] += bool(errors)
            with suppress(ArtigraphError):
                await RunManager(manager.run).load_artifacts()
            with suppress(ArtigraphError):
                await check()
            await artigraph.close()
        for leftover in tmp_path.glob("copy.db-*"):
            leftover.unlink()
    assert tally["of them told"] > 0


async def test_c2_a_bit_of_an_id_in_a_table_and_not_in_its_index(tmp_path: Path) -> None:
    """C2: the row is found by one id and has another; it is no KeyError."""
    file = tmp_path / "graph.db"
    with use_database(f"sqlite:///{file}", storage=f"file://{tmp_path}/files"):
        album_id = await album("it").save("it")
        await artigraph.close()
        data = bytearray(file.read_bytes())
        for at in places_of(album_id.bytes, data):
            data[at + 15] ^= 1
        file.write_bytes(data)

        with pytest.raises(ArtigraphError, match=str(album_id)):
            await Album.load(album_id)


def places_of(value: bytes, data: bytes) -> list[int]:
    """Where it is in the leaves of tables; those of indexes are other pages."""
    found = [at for at in range(len(data)) if data.startswith(value, at)]
    return [at for at in found if data[at // PAGE * PAGE] == LEAF_OF_TABLE]


PAGE, LEAF_OF_TABLE = 4096, 13
"""https://www.sqlite.org/fileformat.html#b_tree_pages"""


async def test_c2_a_schema_that_is_no_text(tmp_path: Path) -> None:
    """C2: the text of SQLite's error quotes it, and can't be decoded; it is an error of ours."""
    file = tmp_path / "graph.db"
    with use_database(f"sqlite:///{file}"):
        await album("small").save("it")
        await artigraph.close()
        data = file.read_bytes()
        assert b"CREATE TABLE artigraph_node" in data
        file.write_bytes(
            data.replace(b"CREATE TABLE artigraph_node", b"\xff\xffEATE TABLE artigraph_node")
        )

        with pytest.raises(DatabaseError):
            await check()


async def test_c2_an_id_that_is_too_short(tmp_path: Path) -> None:
    """C2: a check says that a row can't be read."""
    file = tmp_path / "graph.db"
    with use_database(f"sqlite:///{file}"):
        await album("small").save("it")
        await artigraph.close()
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(
                "UPDATE artigraph_node SET node_id = X'FF', artifact_tree_id = X'FF'"
                " WHERE node_id = artifact_tree_id"
            )
            connection.commit()

        with pytest.raises(CorruptRowError, match="what it can't hold"):
            await check()
