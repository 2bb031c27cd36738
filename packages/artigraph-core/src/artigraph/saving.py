"""From values to rows: a walk with a stack, then one statement for all rows."""

import asyncio
import weakref
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from artigraph import graph
from artigraph.artifact import (
    LARGE,
    Part,
    can_choose,
    new_blob,
    serialize_parts,
    write_blobs,
)
from artigraph.database import Database
from artigraph.definition import (
    ArtifactMapping,
    ArtifactModelConfig,
    ArtifactSequence,
    FieldSettings,
    definition_of,
    is_model,
)
from artigraph.errors import (
    ConflictError,
    DatabaseError,
    LimitError,
    NodeNotFoundError,
    UnsupportedValueError,
    shown,
)
from artigraph.graph import EMPTY_NODE, NodeType, Row
from artigraph.ids import new_id
from artigraph.serializer.json import Json, Packer, can_pack, dumps
from artigraph.tree import KEYS, Tree, check_label

MAX_DEPTH: Final = 10_000
"""Of models, mappings and sequences in each other."""

MAX_DOCUMENT: Final = 256 * 1024
"""Bytes of a fields document; the largest fields leave a larger one."""

MAX_DOCUMENT_DEPTH: Final = 30
"""Of a field in its document. MariaDB's JSON functions read 31 levels; the document is one."""


async def save_trees(
    database: Database, values: Sequence[tuple[str | None, object]], parent_id: UUID | None
) -> list[UUID]:
    """Save values with their labels below a node, all or none, and return their ids.

    Raises:
        ArtigraphError: Something can't be kept, or is in the way; nothing was saved.
        SaveOutcomeUnknownError: The connection broke during the commit.
    """
    trees = await _prepared(database, values, parent_id)
    begun = [
        (value, tree)
        for (_, value), tree in zip(values, trees, strict=True)
        if not await _was_saved(database, value, tree)
    ]
    for value, tree in begun:
        _remember(value, tree)
    try:
        if begun:
            await _write(database, [tree for _, tree in begun])
    except IntegrityError as error:
        await _explain(database, begun, error)
    for value, _ in begun:
        _forget(value)
    return [tree.root_id for tree in trees]


async def _prepared(
    database: Database, values: Sequence[tuple[str | None, object]], parent_id: UUID | None
) -> list[Tree]:
    now = datetime.now(UTC)
    walks = [_Walk(now) for _ in values]
    for walk, (label, value) in zip(walks, values, strict=True):
        walk.go(value, label, parent_id)
    if any(walk.parts for walk in walks):
        return await asyncio.to_thread(_sealed, walks, database)
    return _sealed(walks, database)


def _sealed(walks: Sequence["_Walk"], database: Database) -> list[Tree]:
    trees = [Tree(walk.rows, serialize_parts(walk.parts, database)) for walk in walks]
    for tree in trees:
        tree.seal()
    return trees


async def _write(database: Database, trees: Sequence[Tree]) -> None:
    rows = [row for tree in trees for row in tree.rows]
    transfers = [transfer for tree in trees for transfer in tree.transfers]
    if not transfers:
        await database.write(lambda connection: graph.insert_nodes(connection, rows))
        return
    blobs = [new_blob(transfer) for transfer in transfers]
    now = rows[0]["node_created_at"]
    await database.write(lambda connection: graph.insert_intents(connection, blobs, now))
    await write_blobs(transfers, blobs)
    await database.write(lambda connection: graph.publish(connection, blobs, rows))


async def _explain(
    database: Database, begun: Sequence[tuple[object, Tree]], error: IntegrityError
) -> None:
    """Say why the database refused, or return where all was saved by an earlier attempt."""
    for value, tree in begun:
        refusal = await database.read(
            lambda connection, tree=tree: graph.find_refusal(
                connection, tree.root_id, tree.parent_id, tree.label
            )
        )
        if refusal.saved_digest == tree.digest:
            continue
        _forget(value)
        if not refusal.has_parent:
            raise NodeNotFoundError(f"parent node {tree.parent_id}", database.name) from error
        if refusal.label_owner is not None:
            raise ConflictError(
                f"label {shown(tree.label)}",
                f"node {tree.parent_id} has an artifact of this label (id {refusal.label_owner})",
                "Choose another label; nothing was saved.",
            ) from error
        raise DatabaseError(
            database.name, f"it refused the rows ({type(error.orig).__name__})", "Nothing was saved."
        ) from error


@dataclass(frozen=True)
class _Begun:
    """An attempt to save an object whose outcome is not known to be good."""

    reference: weakref.ref[Any]
    label: str | None
    parent_id: UUID | None
    digest: str
    ids: list[tuple[UUID, UUID | None]]


_begun: dict[int, _Begun] = {}
"""By the identity of the object, as long as it lives: models need not be hashable."""


def _remember(value: object, tree: Tree) -> None:
    key = id(value)
    try:
        reference = weakref.ref(value, lambda _: _begun.pop(key, None))
    except TypeError:
        return  # a plain number, say: it has no identity to come back with
    _begun[key] = _Begun(reference, tree.label, tree.parent_id, tree.digest, tree.ids())


def _forget(value: object) -> None:
    _begun.pop(id(value), None)


async def _was_saved(database: Database, value: object, tree: Tree) -> bool:
    """Whether an earlier attempt did it after all; otherwise the tree goes on with its ids."""
    begun = _begun.get(id(value))
    if begun is None or (begun.label, begun.parent_id) != (tree.label, tree.parent_id):
        return False
    if begun.digest != tree.digest:
        raise ConflictError(
            f"a {type(value).__name__} with label {shown(tree.label)}",
            "it was changed since an attempt to save it failed, which may have saved it as it was",
            "Save a copy of it, or under another label.",
        )
    tree.take_ids(begun.ids)
    refusal = await database.read(
        lambda connection: graph.find_refusal(
            connection, tree.root_id, tree.parent_id, tree.label
        )
    )
    if refusal.saved_digest == tree.digest:
        _forget(value)
        return True
    return False


@dataclass(slots=True)
class _Visit:
    """A value on its way to a row, and what is known of it from above."""

    value: object
    where: str
    parent_id: UUID | None
    label: str | None
    position: int | None
    depth: int
    settings: FieldSettings
    config: ArtifactModelConfig
    enums: Collection[type[Enum]]


@dataclass(slots=True)
class _Leave:
    """Comes up on the stack when everything in a value was visited."""

    identity: int


@dataclass
class _Walk:
    """Makes the rows of one tree. Every value gets its row before what is in it."""

    now: datetime
    rows: list[Row] = field(default_factory=list[Row])
    parts: list[Part] = field(default_factory=list[Part])
    _path: set[int] = field(default_factory=set[int])
    _stack: list[_Visit | _Leave] = field(default_factory=list["_Visit | _Leave"])

    def go(self, value: object, label: str | None, parent_id: UUID | None) -> None:
        where = type(value).__qualname__ if is_model(type(value)) else f"artifact {shown(label)}"
        nothing = ArtifactModelConfig()
        self._stack.append(
            _Visit(value, where, parent_id, label, None, 0, FieldSettings(), nothing, ())
        )
        while self._stack:
            visit = self._stack.pop()
            if isinstance(visit, _Leave):
                self._path.discard(visit.identity)
            else:
                self._visit(visit)

    def _visit(self, visit: _Visit) -> None:
        kind = type(visit.value)
        node_type = node_type_of(kind)
        if node_type == "artifact":
            self._add_part(visit)
            return
        self._enter(visit)
        row = self._add_row(visit, node_type)
        inner = list(_fields_of(visit, row))
        if node_type == "model":
            definition = definition_of(kind)
            row["model_name"] = definition.name
            row["model_module"] = definition.module
            row["model_version"] = definition.version
        children = self._fill_document(row, inner)
        if children:
            self._stack.append(_Leave(id(visit.value)))
            self._stack.extend(reversed(children))
        else:
            self._path.discard(id(visit.value))

    def _enter(self, visit: _Visit) -> None:
        if id(visit.value) in self._path:
            raise UnsupportedValueError(
                visit.where,
                f"a {type(visit.value).__name__} that contains itself",
                "Keep the other's id or label in its place.",
            )
        if visit.depth > MAX_DEPTH:
            raise LimitError(
                visit.where,
                "models, mappings and sequences are nested deeper",
                f"{MAX_DEPTH:,} levels",
                "Save the inner ones by themselves, and keep their ids.",
            )
        self._path.add(id(visit.value))

    def _add_row(self, visit: _Visit, node_type: NodeType) -> Row:
        if visit.label is not None:
            check_label(visit.label)
        node_id = new_id()
        row = {
            **EMPTY_NODE,
            "node_id": node_id,
            "node_type": node_type,
            "node_parent_id": visit.parent_id,
            "node_created_at": self.now,
            "node_updated_at": self.now,
            "artifact_label": visit.label,
            "artifact_position": visit.position,
            "artifact_tree_id": self.rows[0]["node_id"] if self.rows else node_id,
        }
        self.rows.append(row)
        return row

    def _add_part(self, visit: _Visit) -> None:
        settings, config = visit.settings, visit.config
        self.parts.append(
            Part(
                self._add_row(visit, "artifact"),
                visit.value,
                visit.where,
                settings.serializer
                or can_choose(type(visit.value), config.default_field_serializer),
                settings.storage or config.default_field_storage,
                visit.enums,
            )
        )

    def _fill_document(self, row: Row, inner: Sequence[_Visit]) -> list[_Visit]:
        """Put what is plain and small into the document; return what gets rows of its own."""
        packed: dict[str, Json] = {}
        children: list[_Visit] = []
        packer = Packer(enums=inner[0].enums if inner else ())
        for visit in inner:
            packer.where = visit.where
            if not _belongs_in_document(visit):
                children.append(visit)
                continue
            value = packer.pack(visit.value)
            if packer.depth > MAX_DOCUMENT_DEPTH:
                children.append(visit)
            else:
                packed[str(visit.label)] = value
        document = dumps(packed)
        if len(document) > LARGE:
            leaving = set(_oversized(packed))
            children += (visit for visit in inner if visit.label in leaving)
            document = dumps({name: packed[name] for name in packed if name not in leaving})
        row["model_fields"] = document
        return children


def node_type_of(kind: type[Any]) -> NodeType:
    if issubclass(kind, ArtifactMapping):
        return "mapping"
    if issubclass(kind, ArtifactSequence):
        return "sequence"
    return "model" if is_model(kind) else "artifact"


def _fields_of(visit: _Visit, row: Row) -> Iterator[_Visit]:
    """What is directly in a model, mapping or sequence."""
    value, depth, node_id = visit.value, visit.depth + 1, row["node_id"]
    if isinstance(value, ArtifactMapping | ArtifactSequence):
        _check_exact(visit)
        items: Sequence[tuple[str, object, str]] = [
            (str(place), item, f"[{place}]") for place, item in enumerate(_items(value))
        ]
        if isinstance(value, ArtifactMapping):
            items = [(KEYS, list(value), ".keys()"), *items]
        where = visit.where[-200:]  # a sequence in a sequence in ... has a long way
        for position, (label, item, step) in enumerate(items):
            yield _Visit(
                item,
                where + step,
                node_id,
                label,
                position,
                depth,
                FieldSettings() if label == KEYS else visit.settings,
                visit.config,
                visit.enums,
            )
        return
    definition = definition_of(type(value))
    name = type(value).__qualname__
    for position, declared in enumerate(definition.fields):
        if not hasattr(value, declared.name):
            raise UnsupportedValueError(
                f"{name}.{declared.name}", "a field that has no value", "Give it one, or a default."
            )
        yield _Visit(
            getattr(value, declared.name),
            f"{name}.{declared.name}",
            node_id,
            declared.name,
            position,
            depth,
            declared.settings,
            definition.config,
            definition.enums,
        )


def _items(value: ArtifactMapping[Any, Any] | ArtifactSequence[Any]) -> Collection[object]:
    return value.values() if isinstance(value, ArtifactMapping) else value


def _check_exact(visit: _Visit) -> None:
    kind = type(visit.value)
    if kind not in (ArtifactMapping, ArtifactSequence):
        raise UnsupportedValueError(
            visit.where, f"a {kind.__name__}", f"It would come back as {kind.__base__.__name__}."
        )


def _belongs_in_document(visit: _Visit) -> bool:
    """Whether a value is plain, and neither its field nor the user has said otherwise."""
    if visit.value is None:
        return True
    kind = type(visit.value)
    if not can_pack(kind):
        return False
    if visit.settings.serializer is not None or visit.settings.storage is not None:
        return False
    return can_choose(kind, visit.config.default_field_serializer) is None


def _oversized(packed: dict[str, Json]) -> list[str]:
    """The fields that leave the document: the large ones, and the largest until it is small."""
    sizes = {name: len(dumps(value)) for name, value in packed.items()}
    total = sum(sizes.values()) + sum(len(name) + 6 for name in sizes)
    leaving: list[str] = []
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sizes[name] <= LARGE and total <= MAX_DOCUMENT:
            break
        leaving.append(name)
        total -= sizes[name]
    return leaving
