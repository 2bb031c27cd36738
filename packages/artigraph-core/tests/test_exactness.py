"""What is loaded equals what was saved, in value and in type, on every database."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum, Flag
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from values import EXAMPLES, same, values

import artigraph
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    ArtifactSequence,
    Run,
    RunManager,
    UnsupportedValueError,
)
from artigraph.database import current_database

T = TypeVar("T")


class Color(Enum):
    RED = "r"
    GREEN = "g"


class Permission(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Anything(ArtifactModel, version=1):
    value: Any = None


@dataclass
class Colored(ArtifactModel, version=1):
    color: Color
    colors: list[Color] = field(default_factory=list)
    permission: Permission | None = None
    by_name: ArtifactMapping[str, Color] = field(default_factory=ArtifactMapping)


@dataclass
class Holder(ArtifactModel, version=1):
    anything: Anything | None = None
    mapping: ArtifactMapping[Any, Any] = field(default_factory=ArtifactMapping)
    sequence: ArtifactSequence[Any] = field(default_factory=ArtifactSequence)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def run_on_one_loop(request: pytest.FixtureRequest) -> Any:
    """Runs coroutines on one event loop, whose database stays connected between examples."""
    databases = request.getfixturevalue(f"{request.param}_databases")
    url = databases.create()
    artigraph.set_database(url)
    with asyncio.Runner() as runner:
        yield runner.run
    databases.drop(url)


Run_ = Callable[[Coroutine[Any, Any, T]], T]

quickly = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

IS_JSON = {
    "sqlite": "SELECT count(*) - sum(json_valid(model_fields)) FROM artigraph_node"
    " WHERE model_fields IS NOT NULL",
    "postgresql": "SELECT count(CAST(model_fields AS jsonb)) - count(*) FROM artigraph_node"
    " WHERE model_fields IS NOT NULL",
    "mysql": "SELECT count(*) - sum(json_valid(model_fields)) FROM artigraph_node"
    " WHERE model_fields IS NOT NULL",
}


async def documents_are_json() -> bool:
    """Whether the database's own JSON functions read every document."""
    return await current_database().read(
        lambda connection: connection.scalar(text(IS_JSON[connection.dialect.name])) == 0
    )


async def test_every_example_comes_back_the_same(database_url: str) -> None:
    """Each kind of value is exact, and each document is JSON to the database."""
    artigraph.set_database(database_url)
    ids = {name: await Anything(value).save(name) for name, value in EXAMPLES.items()}

    loaded = {name: (await Anything.load(node_id)).value for name, node_id in ids.items()}

    assert [name for name in EXAMPLES if not same(loaded[name], EXAMPLES[name])] == []
    assert await documents_are_json()


@quickly
@given(value=values)
def test_anything_nested_comes_back_the_same(run_on_one_loop: Run_[Any], value: object) -> None:
    """H6: nested values are exact on every database, and every document is JSON to it."""

    async def saved_and_loaded() -> object:
        node_id = await Anything(value).save("anything")
        assert await documents_are_json()
        return (await Anything.load(node_id)).value

    assert same(run_on_one_loop(saved_and_loaded()), value)


@quickly
@given(
    mapping=st.dictionaries(st.text(), values, max_size=4),
    sequence=st.lists(st.one_of(values, values.map(Anything)), max_size=4),
)
def test_containers_of_artifacts_come_back_the_same(
    run_on_one_loop: Run_[Any], mapping: dict[str, object], sequence: list[object]
) -> None:
    """So do mappings with any strings as keys, in their order, and sequences of models."""
    holder = Holder(
        mapping=ArtifactMapping(mapping),
        sequence=ArtifactSequence(sequence),
        anything=Anything(list(mapping)),
    )

    async def saved_and_loaded() -> Holder:
        return await Holder.load(await holder.save("holder"))

    loaded = run_on_one_loop(saved_and_loaded())

    assert type(loaded.mapping) is ArtifactMapping
    assert same(dict(loaded.mapping), mapping)
    assert same([plain(item) for item in loaded.sequence], [plain(item) for item in sequence])
    assert same(plain(loaded.anything), plain(holder.anything))


def plain(item: object) -> object:
    return ("Anything", item.value) if isinstance(item, Anything) else item


@pytest.mark.parametrize("depth", [1, 20, 28, 29, 30, 31, 32, 60, 150])
async def test_depth_makes_no_difference(database_url: str, depth: int) -> None:
    """What is too deep for a database's JSON functions leaves the document, and is as exact."""
    artigraph.set_database(database_url)
    value: Any = {"x": (1,)}
    for _ in range(depth):
        value = [value]

    node_id = await Anything(value).save("deep")

    assert same((await Anything.load(node_id)).value, value)
    assert await documents_are_json()


@pytest.mark.parametrize("size", [0, 65_535, 65_536, 65_537, 300_000, 1_000_000])
async def test_size_makes_no_difference(database_url: str, size: int) -> None:
    """What is large leaves the document, and is as exact."""
    artigraph.set_database(database_url)
    large = Holder(
        Anything("\u00e9" * (size // 2)),
        ArtifactMapping(a=b"x" * size, b=["y" * size]),
        ArtifactSequence(["z" * size, 1]),
    )

    assert await Holder.load(await large.save("large")) == large


async def test_many_small_fields_make_no_difference(database_url: str) -> None:
    """Together they may be larger than a document can be."""
    artigraph.set_database(database_url)
    many = ArtifactMapping({f"key {n}": f"{n:0>500}" for n in range(1000)})

    loaded = await Holder.load(await Holder(mapping=many).save("many"))

    assert loaded.mapping == many
    assert list(loaded.mapping) == list(many)


async def test_declared_enumerations_come_back_as_themselves(database_url: str) -> None:
    """A field's annotation tells which enumerations may be in it, also in containers."""
    artigraph.set_database(database_url)
    colored = Colored(
        Color.RED,
        [Color.GREEN] * 3,
        Permission.READ | Permission.WRITE,
        ArtifactMapping(a=Color.RED),
    )

    assert await Colored.load(await colored.save("colored")) == colored


async def test_an_undeclared_enumeration_is_refused(database_url: str) -> None:
    """Nothing could find it again."""
    artigraph.set_database(database_url)

    with pytest.raises(UnsupportedValueError, match=r"Anything\.value: .*declare it as Color"):
        await Anything(Color.RED).save("color")


async def test_what_is_refused_leaves_nothing_behind(database_url: str) -> None:
    """B1: a save that names what it can't keep has written nothing."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        with pytest.raises(UnsupportedValueError, match=r"Anything\.value\['x'\]\[1\]: .*object"):
            await manager.save_artifacts(
                {"good": Anything(1), "bad": Anything({"x": [0, object()]})}
            )

        assert await manager.load_artifacts() == {}
