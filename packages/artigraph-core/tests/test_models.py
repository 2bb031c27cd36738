"""Artifact models. Tests that begin with m and a number hold that promise of the first README."""

import dataclasses
import gc
import subprocess
import sys
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest

import artigraph
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    ArtifactModelConfig,
    ArtifactSequence,
    ConflictError,
    DefinitionError,
    FieldTypeError,
    LabelError,
    LimitError,
    ModelMismatchError,
    ModelVersionError,
    NodeNotFoundError,
    Run,
    RunManager,
    Serializer,
    UnknownModelError,
    UnsupportedValueError,
    artifact_field,
)
from artigraph.serializer.text import text_serializer
from artigraph.storage.file import FileSystem


@dataclass
class Simple(ArtifactModel, version=1):
    some_value: int
    another_value: str = "a"


@dataclass
class Nested(ArtifactModel, version=1):
    some_value: int
    nested_value: "Nested | None" = None
    nested_map: ArtifactMapping[str, "Nested"] = field(default_factory=ArtifactMapping)
    nested_seq: ArtifactSequence["Nested"] = field(default_factory=ArtifactSequence)


async def test_m1_a_model_is_a_dataclass_with_a_version(database_url: str) -> None:
    """`class X(ArtifactModel, version=1)` under `@dataclass` is all that a model is."""
    artigraph.set_database(database_url)

    assert await Simple.load(await Simple(42, "hello").save(label="x")) == Simple(42, "hello")


def test_m1_the_version_is_required() -> None:
    """A model without one is refused where it is defined."""
    with pytest.raises(DefinitionError, match=r"class NoVersion\(ArtifactModel, version=1\)"):
        type("NoVersion", (ArtifactModel,), {})


async def test_m2_save_returns_the_id_of_the_node(database_url: str) -> None:
    """A label may be used again among roots, or left out."""
    artigraph.set_database(database_url)

    ids = [await Simple(n).save(label="same") for n in range(2)] + [await Simple(2).save()]

    assert all(type(node_id) is UUID for node_id in ids)
    assert [(await Simple.load(node_id)).some_value for node_id in ids] == [0, 1, 2]


async def test_m2_a_model_is_saved_below_a_parent(database_url: str) -> None:
    """There its label is its own."""
    artigraph.set_database(database_url)
    parent_id = await Simple(0).save("parent")

    child_id = await Simple(1).save("child", parent_id)

    assert await Simple.load(child_id) == Simple(1)
    assert await Simple.load(parent_id) == Simple(0)
    with pytest.raises(ConflictError, match=f"label 'child': node {parent_id} has an artifact"):
        await Simple(2).save("child", parent_id)


async def test_m3_another_model_is_an_error_that_names_both(database_url: str) -> None:
    """B1: `X.load(id of a Y)` never returns a Y."""
    artigraph.set_database(database_url)
    node_id = await Simple(1).save("x")

    with pytest.raises(ModelMismatchError, match="it is a Simple of version 1, not a Nested"):
        await Nested.load(node_id)


async def test_m3_a_run_is_no_artifact(database_url: str) -> None:
    """Its id is told apart from one that is not there."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        pass

    with pytest.raises(ModelMismatchError, match=r"it is a run: use Run\.load"):
        await Simple.load(manager.run.node_id)


async def test_m3_a_subclass_is_loaded_as_itself(database_url: str) -> None:
    """The base's `load` takes what is one of its kind."""

    @dataclass
    class Derived(Simple, version=3):
        more: float = 0.5

    artigraph.set_database(database_url)

    loaded = await Simple.load(await Derived(1, "b", 2.5).save("derived"))

    assert type(loaded) is Derived
    assert loaded == Derived(1, "b", 2.5)


async def test_m4_a_field_has_its_own_storage_and_serializer(
    database_url: str, tmp_path: Path
) -> None:
    """The bytes are where the field says, and the row says so."""
    storage = FileSystem(tmp_path / "blobs")

    @dataclass
    class Stored(ArtifactModel, version=1):
        text: str = artifact_field(
            storage=storage, serializer=text_serializer, metadata={"unit": "none"}
        )
        plain: str = "x"

    artigraph.set_database(database_url)

    loaded = await Stored.load(await Stored("in a file").save("stored"))

    files = [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]
    assert loaded == Stored("in a file")
    assert [file.read_text() for file in files] == ["in a file"]
    assert dataclasses.fields(Stored)[0].metadata["unit"] == "none"


def test_m4_what_is_no_storage_is_refused_at_once() -> None:
    """A class in place of an instance is the usual slip."""
    with pytest.raises(DefinitionError, match="an instance of Storage, got the class FileSystem"):
        artifact_field(storage=FileSystem)  # type: ignore[arg-type]


async def test_m5_registering_again_is_no_error(tmp_path: Path) -> None:
    """A notebook cell may run twice."""
    first = FileSystem(tmp_path).register()

    assert first.register() is first
    assert FileSystem(tmp_path).register() is not first


async def test_m7_the_config_applies_to_fields_that_fit(database_url: str, tmp_path: Path) -> None:
    """The default serializer takes values of its types only; the storage what leaves the row."""

    @dataclass
    class Configured(
        ArtifactModel,
        version=1,
        config=ArtifactModelConfig(
            default_field_storage=FileSystem(tmp_path / "blobs"),
            default_field_serializer=text_serializer,
        ),
    ):
        number: int
        text: str
        texts: ArtifactSequence[str]

    artigraph.set_database(database_url)
    model = Configured(1, "b", ArtifactSequence(["c", 2]))

    assert await Configured.load(await model.save("x")) == model
    files = [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]
    assert sorted(file.read_text() for file in files) == ["b", "c"]


async def test_m7_a_field_of_another_type_than_its_serializers_is_refused(
    database_url: str,
) -> None:
    """The error names model, field, serializer and types."""

    @dataclass
    class Typed(ArtifactModel, version=1):
        text: Any = artifact_field(serializer=text_serializer)

    artigraph.set_database(database_url)

    with pytest.raises(
        FieldTypeError, match=r"Typed\.text: serializer 'text' takes str, got a list of length 2\."
    ):
        await Typed([1, 2]).save("x")
    assert await Typed.load(await Typed(None).save("nothing")) == Typed(None)


async def test_m8_models_nest_in_themselves(database_url: str) -> None:
    """A field of the model's own type, in quotes or under postponed annotations."""
    artigraph.set_database(database_url)
    model = Nested(42, nested_value=Nested(43, Nested(44)))

    assert await Nested.load(await model.save("nested")) == model


async def test_m9_a_class_may_be_defined_again(database_url: str) -> None:
    """In a notebook the newer definition is the one that counts."""
    artigraph.set_database(database_url)

    def define() -> type[Any]:
        @dataclass
        class Again(ArtifactModel, version=1):
            value: int
            inner: Simple | None = None

        return Again

    older, newer = define(), define()
    node_id = await older(1, Simple(1)).save("x")

    async with RunManager(Run()) as manager:
        await manager.save_artifact("y", older(2))
        loaded = await manager.load_artifact("y")

    assert type(await newer.load(node_id)) is newer
    assert type(loaded) is newer


async def test_m9_two_modules_with_one_name_are_told_apart(database_url: str) -> None:
    """Where only the name is known the error says how to make it unique."""
    artigraph.set_database(database_url)
    one, two = (model_in(ModuleType(f"module_{n}"), "Clash") for n in (1, 2))
    async with RunManager(Run()) as manager:
        node_id = await manager.save_artifact("clash", one(1))

        with pytest.raises(UnknownModelError, match=r"module_1 and module_2 have.*keyword name="):
            await manager.load_artifact("clash")

    assert type(await one.load(node_id)) is one
    assert type(await two.load(node_id)) is two


async def test_m9_main_is_no_other_module(database_url: str) -> None:
    """What a script saved is found where it is imported from."""
    artigraph.set_database(database_url)
    script = model_in(ModuleType("__main__"), "Script")
    async with RunManager(Run()) as manager:
        await manager.save_artifact("script", script(1))
        imported = model_in(ModuleType("package.script"), "Script")

        assert type(await manager.load_artifact("script")) is imported


def model_in(module: ModuleType, name: str) -> type[Any]:
    """A model class as if it was defined in that module."""
    gc.collect()
    namespace = {"__module__": module.__name__, "__annotations__": {"value": int}}
    return dataclass(type(ArtifactModel)(name, (ArtifactModel,), namespace, version=1))


async def test_m9_a_renamed_class_keeps_its_stored_name(database_url: str) -> None:
    """The class keyword `name=` is what rows hold."""
    artigraph.set_database(database_url)

    @dataclass
    class OldName(ArtifactModel, version=1, name="stable"):
        value: int

    @dataclass
    class NewName(ArtifactModel, version=1, name="stable"):
        value: int

    assert await NewName.load(await OldName(1).save("x")) == NewName(1)


async def test_m10_mappings_and_sequences_of_models(database_url: str) -> None:
    """Empty ones come back empty, and shared models come back equal."""
    artigraph.set_database(database_url)
    shared = Nested(43)
    model = Nested(
        42,
        nested_map=ArtifactMapping(a=shared, b=Nested(44, nested_seq=ArtifactSequence([shared]))),
        nested_seq=ArtifactSequence([shared, shared]),
    )

    loaded = await Nested.load(await model.save("x"))

    assert loaded == model
    assert type(loaded.nested_map) is ArtifactMapping
    assert type(loaded.nested_map["a"].nested_seq) is ArtifactSequence


def test_m11_containers_take_any_number_of_parameters() -> None:
    """`ArtifactMapping[str, X]` and `ArtifactMapping["X"]` are both fine."""
    assert ArtifactMapping[str, Simple]
    assert ArtifactMapping["Simple"]  # type: ignore[misc]
    assert ArtifactSequence[Simple]


def test_m12_a_mapping_is_a_mapping_and_a_sequence_a_sequence() -> None:
    """The full protocols, with a repr that tells what they are."""
    mapping, sequence = ArtifactMapping(a=1), ArtifactSequence([1, 2, 3])

    assert (mapping | {"b": 2}, list(mapping), mapping.get("z")) == ({"a": 1, "b": 2}, ["a"], None)
    assert (sequence[-1], sequence[:2], sequence.index(2)) == (3, [1, 2], 1)
    assert repr(mapping) == "ArtifactMapping({'a': 1})"
    assert repr(sequence) == "ArtifactSequence([1, 2, 3])"


async def test_m13_an_older_version_is_migrated(database_url: str) -> None:
    """`migrate(version, data)` gets the stored version and all fields, containers too."""
    artigraph.set_database(database_url)

    @dataclass
    class Before(ArtifactModel, version=1, name="Migrated"):
        old: int
        inner: ArtifactSequence[Simple]

    @dataclass
    class After(ArtifactModel, version=2, name="Migrated"):
        new: str
        inner: ArtifactSequence[Simple]
        more: int = 7

        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            assert version == 1
            return {"new": str(data["old"]), "inner": data["inner"]}

    node_id = await Before(1, ArtifactSequence([Simple(5)])).save("x")

    assert await After.load(node_id) == After("1", ArtifactSequence([Simple(5)]), 7)


async def versions(stored: int, declared: int, **attributes: Any) -> Any:
    """What loading gives where a class of one version is loaded by a class of another."""

    @dataclass
    class Stored(ArtifactModel, version=stored, name="Versioned"):
        value: int

    @dataclass
    class Declared(ArtifactModel, version=declared, name="Versioned"):
        value: int
        migrate = attributes.get("migrate")

    return await Declared.load(await Stored(1).save("x"))


async def test_m13_without_a_migration_an_older_version_is_an_error(database_url: str) -> None:
    """B1: the error names both versions and the method."""
    artigraph.set_database(database_url)

    with pytest.raises(ModelVersionError, match=r"version 1, this class declares version=2 and .*"):
        await versions(1, 2)


async def test_m13_a_newer_version_is_an_error(database_url: str) -> None:
    """B1: code can't know what comes after it."""
    artigraph.set_database(database_url)

    with pytest.raises(ModelVersionError, match="version 3, this class declares version=2"):
        await versions(3, 2)


async def test_m13_a_migration_that_returns_nothing_is_an_error(database_url: str) -> None:
    """A forgotten return is told as such."""
    artigraph.set_database(database_url)

    with pytest.raises(ModelVersionError, match="migrate returned a NoneType"):
        await versions(1, 2, migrate=lambda version, data: None)


async def test_m13_other_fields_in_one_version_are_an_error(database_url: str) -> None:
    """What the class does not know is not dropped, and what it needs is not made up."""
    artigraph.set_database(database_url)

    @dataclass
    class Before(ArtifactModel, version=1, name="Fields"):
        a: int
        b: int = 0

    @dataclass
    class Less(ArtifactModel, version=1, name="Fields"):
        a: int

    @dataclass
    class More(ArtifactModel, version=1, name="Fields"):
        a: int
        b: int
        c: int
        d: int = 5

    node_id = await Before(1).save("x")

    with pytest.raises(ModelMismatchError, match=r"has no field b.*define migrate"):
        await Less.load(node_id)
    with pytest.raises(ModelMismatchError, match="needs c"):
        await More.load(node_id)


async def test_m13_a_new_field_with_a_default_gets_it(database_url: str) -> None:
    """Nothing that was saved is lost by it."""
    artigraph.set_database(database_url)

    @dataclass
    class Before(ArtifactModel, version=1, name="Defaults"):
        a: int
        z: int = 1

    @dataclass
    class After(ArtifactModel, version=1, name="Defaults"):
        a: int
        b: list[int] = field(default_factory=lambda: [1])
        z: int = 0

    assert await After.load(await Before(1).save("x")) == After(1, [1], 1)


async def test_m15_dataclass_options_work(database_url: str) -> None:
    """Frozen, with slots, keyword-only, or with an `__init__` of its own."""

    @dataclass(frozen=True)
    class Frozen(ArtifactModel, version=1):
        value: int
        derived: int = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "derived", self.value + 1)

    @dataclass(slots=True)
    class Slots(ArtifactModel, version=2, name="slots", config=ArtifactModelConfig()):
        value: int
        more: str = "m"

    @dataclass(kw_only=True)
    class Keywords(ArtifactModel, version=1):
        value: int
        more: int = 1

    @dataclass(init=False)
    class OwnInit(ArtifactModel, version=1):
        value: int

        def __init__(self, other: int) -> None:
            self.value = other * 2

    artigraph.set_database(database_url)
    for model in (Frozen(1), Slots(1, "n"), Keywords(value=1, more=2), OwnInit(1)):
        assert await type(model).load(await model.save("x")) == model  # type: ignore[attr-defined]


async def test_m15_fields_that_are_no_arguments_come_back_as_they_were(database_url: str) -> None:
    """What `==` compares is kept; what it does not compare is made anew by `__post_init__`."""

    @dataclass
    class Derived(ArtifactModel, version=1):
        value: int
        count: int = field(init=False, default=0)
        cache: object = field(init=False, compare=False, default=None)

        def __post_init__(self) -> None:
            self.cache = object()

    artigraph.set_database(database_url)
    model = Derived(1)
    model.count = 5

    loaded = await Derived.load(await model.save("x"))

    assert loaded == model
    assert type(loaded.cache) is object


async def test_m15_inheritance_keeps_the_fields_of_the_base(database_url: str) -> None:
    """A subclass has a version of its own, and its base's config."""

    @dataclass
    class Child(Simple, version=7):
        more: Simple | None = None

    artigraph.set_database(database_url)

    assert await Child.load(await Child(1, "b", Simple(2)).save("x")) == Child(1, "b", Simple(2))


async def test_m15_an_argument_that_is_no_field_is_refused_by_name(database_url: str) -> None:
    """A model that could not be built again is not saved."""

    @dataclass
    class Seeded(ArtifactModel, version=1):
        value: int
        seed: InitVar[int]

    artigraph.set_database(database_url)

    with pytest.raises(DefinitionError, match="Seeded: its __init__ needs 'seed'"):
        await Seeded(1, 2).save("x")


async def test_a_class_that_is_no_dataclass_is_refused_by_name(database_url: str) -> None:
    """The decorator is what is forgotten most."""

    class Plain(ArtifactModel, version=1):
        pass

    artigraph.set_database(database_url)

    with pytest.raises(DefinitionError, match="Plain: it is not a dataclass: put @dataclass above"):
        await Plain().save("x")


def test_postponed_annotations_work(database_url: str, tmp_path: Path) -> None:
    """A module under `from __future__ import annotations`, in a process of its own."""
    script = tmp_path / "postponed.py"
    script.write_text(
        "from __future__ import annotations\n"
        "import asyncio, enum, sys\n"
        "from dataclasses import dataclass\n"
        "import artigraph\n"
        "from artigraph import ArtifactModel, ArtifactSequence\n"
        "class Color(enum.Enum):\n    RED = 1\n"
        "@dataclass\n"
        "class Tree(ArtifactModel, version=1):\n"
        "    color: Color\n"
        "    inner: ArtifactSequence[Tree]\n"
        "    other: NotThere | None = None\n"
        "async def main():\n"
        "    tree = Tree(Color.RED, ArtifactSequence([Tree(Color.RED, ArtifactSequence())]))\n"
        "    assert await Tree.load(await tree.save('tree')) == tree\n"
        "artigraph.set_database(sys.argv[1])\n"
        "asyncio.run(main())\n"
    )

    subprocess.run([sys.executable, "-W", "error", script, database_url], check=True)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("", "it has 0 characters"),
        ("x" * 256, "it has 256 characters"),
        ("a\0b", "control characters"),
        ("a\nb", "control characters"),
        ("a\ud800", "unpaired surrogate"),
        (5, "it is of type int"),
        (b"x", "it is of type bytes"),
    ],
)
async def test_what_can_not_be_a_label_is_refused(
    database_url: str, label: Any, words: str
) -> None:
    """B1: before anything is written, with the rule in the message."""
    artigraph.set_database(database_url)

    with pytest.raises(LabelError, match=f"{words}.*1 to 255 characters"):
        await Simple(1).save(label)


async def test_labels_are_compared_byte_by_byte(database_url: str) -> None:
    """B2: labels that a collation takes for equal are different, and come back as they were."""
    labels = [
        "a",
        "A",
        "a ",
        "\u00e9",
        "e\u0301",
        "e",
        "\U0001f600",
        "\U0001f601",
        "\U0001f600" * 255,
    ]
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        await manager.save_artifacts({label: Simple(n) for n, label in enumerate(labels)})

        loaded = await manager.load_artifacts()

    assert loaded == {label: Simple(n) for n, label in enumerate(labels)}


async def test_an_unknown_parent_is_refused(database_url: str) -> None:
    """B1: nothing is saved below what is not there."""
    artigraph.set_database(database_url)
    nobody = uuid4()

    with pytest.raises(NodeNotFoundError, match=f"no parent node {nobody} in the database"):
        await Simple(1).save("x", nobody)


@pytest.mark.parametrize("node_id", [uuid4(), "not an id", 42, None])
async def test_an_unknown_id_is_an_error(database_url: str, node_id: Any) -> None:
    """B1: whatever it is, the error says what was looked for and where."""
    artigraph.set_database(database_url)

    with pytest.raises(NodeNotFoundError, match=r"there is no artifact .* in the database"):
        await Simple.load(node_id)


async def test_an_id_may_be_given_as_text(database_url: str) -> None:
    """Ids travel through command lines and logs."""
    artigraph.set_database(database_url)

    assert await Simple.load(str(await Simple(1).save("x"))) == Simple(1)


async def test_a_part_of_a_tree_is_loaded_by_its_own_id(database_url: str) -> None:
    """A nested model is a node, and can be asked for."""
    artigraph.set_database(database_url)
    await Nested(1, nested_value=Nested(2)).save("x")
    inner_id = await only_id_labelled("nested_value")

    assert await Nested.load(inner_id) == Nested(2)


async def only_id_labelled(label: str) -> UUID:
    from sqlalchemy import select

    from artigraph.database import current_database
    from artigraph.tables import node_table

    statement = select(node_table.c.node_id).where(node_table.c.artifact_label == label)
    return await current_database().read(lambda connection: connection.scalars(statement).one())


async def test_a_model_that_contains_itself_is_refused(database_url: str) -> None:
    """B1: directly, and through a container."""
    artigraph.set_database(database_url)
    direct, through = Nested(1), Nested(1)
    direct.nested_value = direct
    through.nested_seq.append(Nested(2, nested_map=ArtifactMapping(a=through)))

    for model in (direct, through):
        with pytest.raises(UnsupportedValueError, match="a Nested that contains itself"):
            await model.save("x")


def chain(length: int) -> Nested:
    model = Nested(0)
    for n in range(1, length):
        model = Nested(n, nested_value=model)
    return model


async def test_a_thousand_models_in_each_other_come_back(database_url: str) -> None:
    """Walked with a stack, compared without recursion."""
    artigraph.set_database(database_url)

    loaded: Nested | None = await Nested.load(await chain(1000).save("deep"))

    values: list[int] = []
    while loaded is not None:
        values.append(loaded.some_value)
        loaded = loaded.nested_value
    assert values == list(range(999, -1, -1))


async def test_more_than_ten_thousand_are_refused() -> None:
    """B1: the limit is told by name."""
    with pytest.raises(LimitError, match="the limit is 10,000 levels"):
        await chain(10_010).save("deeper")


async def test_a_subclass_of_a_container_is_refused(database_url: str) -> None:
    """It would come back as its base."""

    class Mine(ArtifactMapping[str, Any]):
        pass

    artigraph.set_database(database_url)

    with pytest.raises(UnsupportedValueError, match=r"Nested\.nested_map: a Mine"):
        await Nested(1, nested_map=Mine()).save("x")


async def test_models_in_a_plain_list_are_refused_with_the_way_out(database_url: str) -> None:
    """They belong in an ArtifactSequence."""
    artigraph.set_database(database_url)

    with pytest.raises(UnsupportedValueError, match=r"Simple\.some_value\[0\].*ArtifactSequence"):
        await Simple([Simple(1)]).save("x")  # type: ignore[arg-type]


async def test_a_model_whose_class_is_not_there_is_an_error(database_url: str) -> None:
    """B1: it says which, and where it was saved from."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        await manager.save_artifact("gone", model_in(ModuleType("gone_module"), "Gone")(1))
        gc.collect()

        with pytest.raises(UnknownModelError, match=r"'Gone' version 1.*from 'gone_module'"):
            await manager.load_artifact("gone")


async def test_large_values_need_a_storage(database_url: str) -> None:
    """B1: over 1 MiB a row refuses, and says what to call."""
    artigraph.set_database(database_url)

    with pytest.raises(LimitError, match=r"Simple\.another_value: .*set_database\(url, storage="):
        await Simple(1, "x" * (1024 * 1024 + 1)).save("x")


async def test_large_values_go_to_the_storage_of_the_database(
    database_url: str, tmp_path: Path
) -> None:
    """Rows call it by a name that does not depend on where it is."""
    artigraph.set_database(database_url, storage=f"file:{tmp_path}/large")
    model = Simple(1, "x" * 100_000)

    node_id = await model.save("x")
    (tmp_path / "large").rename(tmp_path / "moved")
    artigraph.set_database(database_url, storage=FileSystem(tmp_path / "moved"))

    assert await Simple.load(node_id) == model


async def test_a_registered_serializer_is_chosen_by_type(database_url: str) -> None:
    """What the application registers comes before the document."""

    class Shouted(Serializer[str]):
        name = "text.shouted"
        types = (str,)

        def serialize(self, value: str) -> bytes:
            return value.upper().encode()

        def deserialize(self, data: Any) -> str:
            return bytes(data).decode().lower()

    artigraph.set_database(database_url)
    Shouted().register()

    loaded = await Simple.load(await Simple(1, "loud").save("x"))

    assert loaded == Simple(1, "loud")
