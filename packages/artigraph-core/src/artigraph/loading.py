"""From rows to values: held against the digest of the whole, then built from the leaves up."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NoReturn, ParamSpec, TypeVar
from uuid import UUID

from artigraph import graph
from artigraph.artifact import deserialize, request_for
from artigraph.definition import (
    NO_SETTINGS,
    ArtifactMapping,
    ArtifactSequence,
    FieldSettings,
    ModelDefinition,
    definition_of,
    find_models,
    is_model,
)
from artigraph.engine import Database
from artigraph.errors import (
    ArtifactLoadError,
    BlobMissingError,
    CorruptModelError,
    CorruptRowError,
    ModelMismatchError,
    ModelVersionError,
    NodeNotFoundError,
    UnknownModelError,
    shortened,
    shown,
)
from artigraph.graph import Key, Node
from artigraph.lazy import lazy
from artigraph.serializer.codec import loads
from artigraph.spec import Data
from artigraph.stored import StoredValue
from artigraph.transfer import Request, read_all
from artigraph.tree import KEYS, digest_of

P = ParamSpec("P")
T = TypeVar("T")

ON_THE_LOOP: Final = 500
"""The weight of nodes for which a load goes on in a thread; 500 take some milliseconds."""


async def load_tree(database: Database, node_id: object, model: type[Any] | None = None) -> Any:
    """The value that is saved as this node; where a class is given, a model of it.

    Raises:
        NodeNotFoundError: There is no such artifact.
        ArtifactLoadError: It is there and can't be loaded, or is something else.
    """
    wanted = identifier(node_id, "artifact", database)
    rows = await database.read(lambda connection: graph.read_tree(connection, wanted))
    if not rows:
        await _explain_absence(database, wanted)
    key = rows.key_of(wanted)
    if key is None:
        reason = "its row has another id than the one by which the database finds it."
        raise CorruptRowError(f"artifact {wanted}", reason)
    try:
        return await load_one(database, rows, key, model)
    except BlobMissingError:
        # It may have been deleted since its rows were read, and its data collected.
        if not await database.read(lambda connection: graph.read_tree(connection, wanted)):
            await _explain_absence(database, wanted)
        raise


async def load_one(
    database: Database, rows: graph.NodeRows, key: Key, model: type[Any] | None = None
) -> Any:
    """The value of one node of a tree, by its key; where a class is given, a model of it.

    Raises:
        ArtifactLoadError: The tree can't be loaded.
    """
    found: list[Any] = []

    def take(node: Node, value: Any) -> None:
        if node.key == key:
            found.append(value)

    await load_nodes(database, rows, take, {key: model} if model else {})
    return found[0]


async def load_nodes(
    database: Database,
    rows: graph.NodeRows,
    take: Callable[[Node, Any], object],
    models: Mapping[Key, type[Any]] | None = None,
) -> None:
    """Load whole saved trees.

    Args:
        database: Where the rows were read.
        rows: Of the trees, and of runs.
        take: Called with each node and its value, after those that are in it; with a run and None.
        models: The classes that some nodes are asked to be.

    Raises:
        ArtifactLoadError: Something can't be loaded.
    """
    builder = _Builder(database, take)
    weight = rows.weight
    await _aside(weight, builder.build, _planned(rows, models or {}))
    if builder.waiting:
        parts = [plan for plan in builder.waiting if plan.node.node_type == "artifact"]
        data = await read_all([_request(plan) for plan in parts], database)
        await asyncio.to_thread(_deserialize_all, parts, data)
        await _aside(weight, builder.end)


async def _aside(weight: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do something in a thread if it is more work than the event loop should wait for."""
    if weight > ON_THE_LOOP:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)


def _planned(rows: graph.NodeRows, models: Mapping[Key, type[Any]]) -> Iterator["_Plan"]:
    known: dict[object, ModelDefinition] = {}
    for tree in rows.trees():
        if tree[0].tree_key is None and all(node.node_type == "run" for node in tree):
            yield from (_Plan(run, None, NO_SETTINGS, (), frozenset()) for run in tree)
        else:
            check_tree(tree)
            yield from _plans(tree, models, known)


class _Builder:
    """Builds what needs no data as soon as what is in it is there, and the rest in the end.

    So a plan is gone when its value is there: of many, most are never there at once.
    """

    def __init__(self, database: Database, take: Callable[[Node, Any], object]) -> None:
        self._database = database
        self._take = take
        self.waiting: list[_Plan] = []
        """What needs data, with all that it is in, and with the trees that come after it."""

    def build(self, plans: Iterable["_Plan"]) -> None:
        for plan in plans:
            if plan.waits or (self.waiting and plan.parent is None):
                self.waiting.append(plan)
                if plan.parent is not None:
                    plan.parent.waits = True
            else:
                self._finish(plan)

    def end(self) -> None:
        for plan in self.waiting:
            self._finish(plan)

    def _finish(self, plan: "_Plan") -> None:
        if plan.node.node_type == "artifact":
            if plan.settings.is_lazy:
                plan.value = lazy(
                    StoredValue(self._database, plan.node, plan.where, plan.settings, plan.enums)
                )
        elif plan.node.tree_key is not None:
            plan.value = _value_of(plan)
        if plan.parent is not None:
            plan.parent.contents[plan.node.label or ""] = plan.value
        self._take(plan.node, plan.value)


def check_tree(nodes: Sequence[Node]) -> None:
    """Hold the rows of a tree, parents first, against the digest in its root's.

    Raises:
        CorruptModelError: They are not those that were saved.
    """
    root = nodes[0]
    if root.key != root.tree_key or root.tree_digest is None:
        raise CorruptModelError(f"artifact {root.tree_id}", "the row of its root is missing.")
    if digest_of(nodes) != root.tree_digest:
        raise CorruptModelError(
            _named(root),
            f"its {len(nodes)} rows are not those that were saved: some are missing, added or"
            " altered.",
        )


def identifier(node_id: object, noun: str, database: Database) -> UUID:
    """A node's id, given as a UUID or as its text.

    Raises:
        NodeNotFoundError: It is something else, so that no node has it.
    """
    if isinstance(node_id, UUID):
        return node_id
    try:
        return UUID(str(node_id))
    except ValueError as error:
        raise NodeNotFoundError(f"{noun} {shown(node_id)}", database.name) from error


@dataclass(slots=True)
class _Plan:
    """How a node becomes a value: what its row says, and what the fields above it declare."""

    node: Node
    parent: "_Plan | None"
    settings: FieldSettings
    classes: tuple[type[Any], ...]
    """Those that the field mentions which holds the node."""
    enums: frozenset[type[Enum]]
    definition: ModelDefinition | None = None
    name: str = ""
    contents: dict[str, Any] = field(default_factory=dict[str, Any])
    """The values of what is in it, beside its document."""
    value: Any = None
    waits: bool = False
    """For data of its own, or of something in it."""

    @property
    def where(self) -> str:
        """What messages call the node."""
        unnamed: list[_Plan] = []
        plan = self
        while not plan.name:
            unnamed.append(plan)
            if plan.parent is None or plan.parent.definition is not None:
                break
            plan = plan.parent
        for plan in reversed(unnamed):
            plan.name = _name(plan)
        return self.name


async def _explain_absence(database: Database, node_id: UUID) -> NoReturn:
    if await database.read(lambda connection: graph.find_run(connection, node_id)):
        raise ModelMismatchError(f"node {node_id}", "it is a run: use Run.load, and a RunManager.")
    raise NodeNotFoundError(f"artifact {node_id}", database.name)


def _name(plan: _Plan) -> str:
    node, parent = plan.node, plan.parent
    if parent is None:
        return _named(node)
    # The row's, which anybody may have written, unless it is a field of the class.
    label = node.label if _is_known(node.label, parent) else shown(node.label)
    if parent.definition is None:
        return f"{shortened(parent.name)}[{label}]"
    return f"{parent.definition.model.__qualname__}.{label} (node {node.node_id})"


def _is_known(label: str | None, parent: "_Plan") -> bool:
    if parent.definition is None:
        return label is not None and label.isdigit() and label.isascii() and len(label) < 20
    return label in parent.definition.by_name


def _named(root: Node) -> str:
    return f"artifact {shown(root.label)} (node {root.node_id})"


def _plans(
    tree: Sequence[Node],
    models: Mapping[Key, type[Any]],
    known: dict[object, ModelDefinition],
) -> Iterator[_Plan]:
    """A plan for each node, told by those above it: the class of a model, the field of a value.

    A tree was saved as it was walked, so that what is in a node follows it. The plan of a node
    comes after those.
    """
    path: list[_Plan] = []
    for node in tree:
        if node.key == node.tree_key:
            plan = _Plan(node, None, NO_SETTINGS, (), frozenset())
        else:
            depth = len(path)
            while depth and path[depth - 1].node.key != node.parent_key:
                depth -= 1
            if not depth or path[depth - 1].node.node_type == "artifact":
                reason = f"{_named(node)} is in none of it."
                raise CorruptModelError(f"artifact {node.tree_id}", reason)
            while len(path) > depth:
                yield path.pop()
            plan = _plan(node, path[-1])
        plan.waits = node.node_type == "artifact" and not plan.settings.is_lazy
        path.append(plan)
        if node.node_type == "model":
            wanted = models.get(node.key)
            key = (node.model_name, wanted, plan.classes)
            if key not in known:
                known[key] = _definition(plan, wanted)
            plan.definition = known[key]
        elif node.key in models:
            raise _mismatch(plan, models[node.key], f"a {node.node_type}")
    while path:
        yield path.pop()


def _plan(node: Node, parent: _Plan) -> _Plan:
    label, definition = node.label or "", parent.definition
    if definition is None:
        settings = NO_SETTINGS if label == KEYS else parent.settings
        return _Plan(node, parent, settings, parent.classes, parent.enums)
    declared = definition.by_name.get(label)
    settings = FieldSettings(
        (declared and declared.settings.serializer) or definition.config.default_field_serializer,
        (declared and declared.settings.storage) or definition.config.default_field_storage,
        is_lazy=declared is not None and declared.settings.is_lazy,
    )
    return _Plan(node, parent, settings, declared.classes if declared else (), definition.enums)


def _definition(plan: _Plan, wanted: type[Any] | None) -> ModelDefinition:
    """The definition of the class of a stored name: the one asked for, declared, or known."""
    name = plan.node.model_name
    candidates = [wanted] if wanted is not None else [k for k in plan.classes if is_model(k)]
    for model in candidates:
        if definition_of(model).name == name:
            return definition_of(model)
    known = find_models(name or "")
    if wanted is not None:
        known = [model for model in known if issubclass(model, wanted)]
        if not known:
            version = plan.node.model_version
            raise _mismatch(plan, wanted, f"a {_readable(name)} of version {version}")
    if len(known) == 1:
        return definition_of(known[0])
    if known:
        modules = " and ".join(model.__module__ for model in known)
        raise UnknownModelError(
            plan.where,
            f"it holds a model of the name {shown(name)}, which classes in {modules} have."
            " Tell them apart with the class keyword name=.",
        )
    raise UnknownModelError(
        plan.where,
        f"it holds {shown(name)} version {plan.node.model_version}, and no class of this name is"
        f" defined here. Import the module that defines it; it was saved from"
        f" {shown(plan.node.model_module)}.",
    )


def _readable(name: str | None) -> str:
    """A name that a row has, as it is where it is one that a class can have."""
    is_plain = name is not None and len(name) < 80 and name.replace(".", "").isidentifier()
    return name if is_plain and name is not None else shown(name)


def _mismatch(plan: _Plan, wanted: type[Any], found: str) -> ModelMismatchError:
    return ModelMismatchError(plan.where, f"it is {found}, not a {definition_of(wanted).name}.")


def _request(plan: _Plan) -> Request:
    settings = plan.settings
    return request_for(plan.node, plan.where, settings.storage, settings.serializer, plan.enums)


def _deserialize_all(plans: Sequence[_Plan], data: Sequence[Data]) -> None:
    for plan, each in zip(plans, data, strict=True):
        plan.value = deserialize(plan.node, plan.where, each, plan.settings.serializer, plan.enums)


def _value_of(plan: _Plan) -> Any:
    fields = _document(plan)
    fields.update(plan.contents)
    if plan.definition is not None:
        return _build_model(plan, plan.definition, fields)
    if plan.node.node_type == "mapping":
        return _build_mapping(plan, fields)
    if plan.node.node_type == "sequence":
        return ArtifactSequence(_in_order(plan, fields))
    raise CorruptRowError(plan.where, f"its row is of type {shown(plan.node.node_type)}.")


def _build_mapping(plan: _Plan, fields: dict[str, Any]) -> ArtifactMapping[Any, Any]:
    keys = fields.pop(KEYS, None)
    values = list(_in_order(plan, fields))
    try:
        return ArtifactMapping(zip(keys, values, strict=True))
    except (TypeError, ValueError) as error:
        raise CorruptRowError(
            plan.where, "the keys of the mapping don't fit its values."
        ) from error


def _document(plan: _Plan) -> dict[str, Any]:
    enums = plan.definition.enums if plan.definition is not None else plan.enums
    try:
        fields: dict[str, Any] | None = loads(plan.node.fields or "", enums)
    except ValueError as error:
        raise CorruptRowError(
            plan.where, f"its fields document can't be read ({error})."
        ) from error
    if not isinstance(fields, dict):
        raise CorruptRowError(plan.where, "its fields document is no object.")
    return fields


def _in_order(plan: _Plan, fields: Mapping[str, Any]) -> Iterator[Any]:
    for place in range(len(fields)):
        if str(place) not in fields:
            raise CorruptRowError(plan.where, f"it has no value at place {place}.")
        yield fields[str(place)]


def _build_model(plan: _Plan, definition: ModelDefinition, fields: dict[str, Any]) -> Any:
    stored, name = plan.node.model_version, definition.name
    if stored is None:
        raise CorruptRowError(plan.where, "its row has no version.")
    if stored > definition.version:
        raise ModelVersionError(
            plan.where,
            f"it holds {name} version {stored}, this class declares version={definition.version}."
            " Use the code that saved it.",
        )
    if stored < definition.version:
        fields = _migrated(plan, definition, stored, fields)
    if not fields.keys() <= definition.by_name.keys():
        unknown = sorted(fields.keys() - definition.by_name.keys())
        names = ", ".join(map(_readable, unknown[:10])) + (", ..." if unknown[10:] else "")
        raise _other_fields(plan, definition, f"has no field {names}")
    try:
        return definition.build(fields)
    except LookupError as error:
        if error.args and error.args[0] in definition.by_name and error.args[0] not in fields:
            raise _other_fields(plan, definition, f"needs {error.args[0]}") from error
        raise


def _migrated(
    plan: _Plan, definition: ModelDefinition, stored: int, fields: dict[str, Any]
) -> dict[str, Any]:
    migrate = getattr(definition.model, "migrate", None)
    if migrate is None:
        raise ModelVersionError(
            plan.where,
            f"it holds {definition.name} version {stored}, this class declares"
            f" version={definition.version} and has no migrate(version, data).",
        )
    migrated: dict[str, Any] | None = migrate(stored, fields)
    if not isinstance(migrated, dict):
        raise ModelVersionError(
            plan.where,
            f"{definition.name}.migrate returned a {type(migrated).__name__}, and not the dict"
            " of the fields.",
        )
    return migrated


def _other_fields(plan: _Plan, definition: ModelDefinition, difference: str) -> ArtifactLoadError:
    return ModelMismatchError(
        plan.where,
        f"it holds {definition.name} version {plan.node.model_version} with other fields: the"
        f" class here {difference}. Raise its version, and define migrate(version, data).",
    )
