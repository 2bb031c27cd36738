"""One value and its data: what serializers and storages of strangers may do wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import artigraph
from artigraph import (
    ArtifactLoadError,
    ArtifactModel,
    DeserializeError,
    FieldTypeError,
    Run,
    RunManager,
    Serializer,
    StorageError,
    UnsafeSerializerError,
    UnsupportedValueError,
    artifact_field,
)
from artigraph.plugins import registry
from artigraph.spec import Data
from artigraph.storage.file import FileSystem


class Thing:
    """A type that nobody has a serializer for."""


class ThingSerializer(Serializer[Thing]):
    name = "tests.thing"
    types = (Thing,)

    def serialize(self, value: Thing) -> Data:
        return b"secret"

    def deserialize(self, data: Data) -> Thing:
        return Thing()


@dataclass
class Holder(ArtifactModel, version=1):
    thing: Any


@pytest.fixture(autouse=True)
def isolated_registry() -> Iterator[None]:
    with registry.isolated():
        yield


async def test_a_type_without_a_serializer_is_refused(database_url: str) -> None:
    """By model, field and type."""
    artigraph.set_database(database_url)

    with pytest.raises(UnsupportedValueError, match=r"Holder\.thing: a value of type .*Thing"):
        await Holder(Thing()).save("x")


async def test_a_registered_serializer_is_found_again_by_its_name(database_url: str) -> None:
    """Also for a value that is in no model."""
    artigraph.set_database(database_url)
    ThingSerializer().register()
    async with RunManager(Run()) as manager:
        await manager.save_artifact("thing", Thing())

        assert type(await manager.load_artifact("thing")) is Thing


async def test_without_its_serializer_an_artifact_says_so(database_url: str) -> None:
    """B1: what is missing, where, and what to do."""
    artigraph.set_database(database_url)
    with registry.isolated():
        ThingSerializer().register()
        node_id = await Holder(Thing()).save("x")

    with pytest.raises(ArtifactLoadError, match=r"Holder\.thing \(node .*its serializer is not"):
        await Holder.load(node_id)


def broken(method: str) -> Serializer[Thing]:
    """A serializer one of whose methods raises what has the value in it."""

    def fail(self: object, value: object) -> Any:
        raise KeyError("secret")

    return type("Broken", (ThingSerializer,), {method: fail})().register()


async def test_a_serializer_that_fails_on_a_value_is_named(database_url: str) -> None:
    """With the field, and without the value; nothing was written."""
    artigraph.set_database(database_url)
    broken("serialize")

    with pytest.raises(UnsupportedValueError, match=r"failed on it \(KeyError\)") as caught:
        await Holder(Thing()).save("x")
    assert "secret" not in str(caught.value)


async def test_a_subclass_is_refused_by_a_serializer_that_does_not_take_it(
    database_url: str,
) -> None:
    """Also where it is asked for: it would come back as its base."""

    class Special(Thing):
        pass

    @dataclass
    class Chosen(ArtifactModel, version=1):
        thing: Thing = artifact_field(serializer=ThingSerializer())

    artigraph.set_database(database_url)

    with pytest.raises(FieldTypeError, match=r"takes Thing and no subclass, .* got a Special"):
        await Chosen(Special()).save("x")


async def test_a_serializer_that_fails_on_data_is_named(database_url: str) -> None:
    """The data is intact: it is the serializer that can't read it."""
    artigraph.set_database(database_url)
    broken("deserialize")
    node_id = await Holder(Thing()).save("x")

    with pytest.raises(DeserializeError, match=r"'tests.thing' can't read it \(KeyError\)"):
        await Holder.load(node_id)


async def test_a_serializer_that_executes_code_has_to_be_allowed(database_url: str) -> None:
    """B1, H7: by the application, never by the row."""

    class Executing(ThingSerializer):
        executes_code = True

    artigraph.set_database(database_url)
    Executing().register()
    node_id = await Holder(Thing()).save("x")

    with pytest.raises(UnsafeSerializerError, match=r"artigraph\.serializer\.allow\('tests.thing'"):
        await Holder.load(node_id)
    artigraph.serializer.allow("tests.thing")
    assert type((await Holder.load(node_id)).thing) is Thing


class Elsewhere(FileSystem):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        return await super().create(data)


class Raising(FileSystem):
    async def create(self, data: Data, *, location: str | None = None) -> str:
        raise KeyError(bytes(data))

    async def read_up_to(self, location: str, size: int) -> bytes:
        raise KeyError(location)


def stored_in(storage: FileSystem) -> type[Any]:
    @dataclass
    class Stored(ArtifactModel, version=1):
        data: bytes = artifact_field(storage=storage)

    return Stored


@pytest.mark.parametrize(
    ("kind", "words"), [(Elsewhere, "it used '.*' instead"), (Raising, "it raised KeyError")]
)
async def test_a_storage_that_breaks_its_contract_is_named(
    database_url: str, tmp_path: Path, kind: Callable[[Path], FileSystem], words: str
) -> None:
    """Nothing is saved that could not be loaded."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        with pytest.raises(StorageError, match=words) as caught:
            await manager.save_artifact("x", stored_in(kind(tmp_path))(b"secret"))

        assert "secret" not in str(caught.value)
        assert await manager.load_artifacts() == {}


async def test_a_storage_that_raises_on_read_is_named(database_url: str, tmp_path: Path) -> None:
    """F4: with the same error."""
    artigraph.set_database(database_url)
    node_id = await stored_in(FileSystem(tmp_path))(b"a").save("x")

    with pytest.raises(StorageError, match="it raised KeyError"):
        await stored_in(Raising(tmp_path)).load(node_id)


async def test_a_storage_that_is_not_registered_is_asked_for(
    database_url: str, tmp_path: Path
) -> None:
    """B1: a row names it; only the application makes it."""
    artigraph.set_database(database_url)
    storage = FileSystem(tmp_path)
    async with RunManager(Run()) as manager:
        await manager.save_artifact("x", stored_in(storage)(b"a"))
        moved = stored_in(FileSystem(tmp_path / "other"))

        with pytest.raises(ArtifactLoadError, match=r"no storage is registered .*\.register\(\)"):
            await manager.load_artifact("x")
        storage.register()
        assert await manager.load_artifact("x") == moved(b"a")


async def test_without_the_storage_of_the_database_an_artifact_says_so(
    database_url: str, tmp_path: Path
) -> None:
    """And what to set."""
    artigraph.set_database(database_url, storage=FileSystem(tmp_path))
    node_id = await Holder("x" * 100_000).save("x")
    artigraph.set_database(database_url)

    with pytest.raises(ArtifactLoadError, match="none is set: set_database"):
        await Holder.load(node_id)
