"""From values to rows: a walk with a stack, which makes the rows of whole trees."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from artigraph.artifact import (
    LARGE,
    Part,
    can_choose,
)
from artigraph.definition import (
    NO_SETTINGS,
    ArtifactMapping,
    ArtifactModelConfig,
    ArtifactSequence,
    FieldSettings,
    ModelDefinition,
    definition_of,
    is_model,
)
from artigraph.errors import (
    LimitError,
    UnsupportedValueError,
    shortened,
    shown,
)
from artigraph.graph import EMPTY_ARTIFACT, NodeType, Row
from artigraph.ids import new_id
from artigraph.lazy import Lazy, value_in
from artigraph.serializer.codec import (
    LETTERS,
    PLAIN,
    SIMPLE,
    TEXTS,
    Json,
    Packer,
    can_pack,
    dumps,
)
from artigraph.spec import Serializer, registered_serializers
from artigraph.tree import KEYS, check_label

MAX_DEPTH: Final = 10_000
"""Of models, mappings and sequences in each other."""

MAX_DOCUMENT: Final = 256 * 1024
"""Bytes of a fields document; the largest fields leave a larger one."""

MAX_DOCUMENT_DEPTH: Final = 30
"""Of a field in its document. MariaDB's JSON functions read 31 levels; the document is one."""

_HEAVY: Final = LARGE // 2
"""The weight of a field that is larger than `LARGE` in any case: an item takes two bytes."""

_LONG: Final = 1_000
"""Letters of a text whose weight counts."""


class TooMuchError(Exception):
    """There is more than the event loop should wait for."""


class _HeavyFieldError(Exception):
    """A field is too large for the document."""


class Draft(NamedTuple):
    """The rows of a tree, and those values that are not yet in them."""

    rows: list[Row]
    parts: list[Part]


def draft_all(
    values: Sequence[tuple[str | None, object]], parent_id: UUID | None, limit: int | None = None
) -> list[Draft]:
    """The rows of values, with all that is in them, below a node.

    Args:
        values: Each with its label.
        parent_id: The node.
        limit: How many values may be looked at.

    Raises:
        ArtigraphError: Something can't be kept.
        TooMuchError: There are more than the limit.
    """
    walk = _Walk(datetime.now(UTC), limit)
    return [walk.draft(value, label, parent_id) for label, value in values]


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


class _Level(NamedTuple):
    """What is directly in a value, and gets rows of its own."""

    identity: int
    """Of the value."""
    visits: Iterator[_Visit]
    """Each made when it comes up: of many, most are never there at once."""


class _Walk:
    """Makes the rows of trees. Every value gets its row before what is in it."""

    def __init__(self, now: datetime, limit: int | None) -> None:
        self._now = now
        self._left = limit
        self._left_for_field = 0
        self._path: set[int] = set()
        self._stack: list[_Level] = []
        self._rows: list[Row] = []
        self._parts: list[Part] = []

    def draft(self, value: object, label: str | None, parent_id: UUID | None) -> Draft:
        """The rows of a value with all that is in it.

        Raises:
            ArtigraphError: Something can't be kept.
        """
        self._rows, self._parts = [], []
        where = type(value).__qualname__ if is_model(type(value)) else f"artifact {shown(label)}"
        self._visit(_Visit(value, where, parent_id, label, None, 0, NO_SETTINGS, _NO_CONFIG, ()))
        while self._stack:
            level = self._stack[-1]
            visit = next(level.visits, None)
            if visit is None:
                self._path.discard(level.identity)
                self._stack.pop()
            else:
                self._visit(visit)
        return Draft(self._rows, self._parts)

    def _spend(self, number: int) -> None:
        """Count values that are looked at."""
        if self._left is not None:
            self._left -= number
            if self._left < 0:
                raise TooMuchError

    def _spend_on_field(self, weight: int) -> None:
        self._left_for_field -= weight
        if self._left_for_field < 0:
            raise _HeavyFieldError
        self._spend(weight)

    def _visit(self, visit: _Visit) -> None:
        kind = type(visit.value)
        node_type = node_type_of(kind)
        if node_type == "artifact":
            self._add_part(visit)
            return
        if node_type != "model":
            _check_exact(visit)
        self._enter(visit)
        row = self._add_row(visit, node_type)
        content = _Content(visit)
        self._spend(1 + len(content.values))
        if content.definition is not None:
            row["model_name"] = content.definition.name
            row["model_module"] = content.definition.module
            row["model_version"] = content.definition.version
        apart = self._fill_document(row, content)
        if apart:
            visits = content.visits(apart, row["node_id"], visit.depth + 1)
            self._stack.append(_Level(id(visit.value), visits))
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
            **EMPTY_ARTIFACT,
            "node_id": node_id,
            "node_type": node_type,
            "node_parent_id": visit.parent_id,
            "node_created_at": self._now,
            "node_updated_at": self._now,
            "artifact_label": visit.label,
            "artifact_position": visit.position,
            "artifact_tree_id": self._rows[0]["node_id"] if self._rows else node_id,
        }
        self._rows.append(row)
        return row

    def _add_part(self, visit: _Visit) -> None:
        settings, config = visit.settings, visit.config
        _check_lazy(visit)
        self._parts.append(
            Part(
                self._add_row(visit, "artifact"),
                visit.value,
                visit.where,
                settings.serializer
                or can_choose(_kind_of(visit.value), config.default_field_serializer),
                settings.storage or config.default_field_storage,
                visit.enums,
            )
        )

    def _fill_document(self, row: Row, content: "_Content") -> list[int]:
        """Put what is plain and small into the document; return the places of the rest."""
        packed: dict[str, Json] = {}
        packer = Packer(content.where, content.enums, self._spend_on_field)
        default = content.config.default_field_serializer
        is_usual = default is None and not registered_serializers
        plain = PLAIN if is_usual else frozenset[type[Any]]()
        simple: Mapping[type[object], Callable[[Any], Json]] = SIMPLE if is_usual else {}
        apart: list[int] = []
        weight = 0
        fields = zip(content.labels, content.values, content.settings, content.steps, strict=True)
        for position, (label, value, settings, step) in enumerate(fields):
            kind = type(value)
            length = len(cast("Sized", value)) if kind in TEXTS else 0
            if length > LARGE:
                apart.append(position)
                continue
            pack = simple.get(kind)
            if pack is not None and settings is NO_SETTINGS:
                if length > _LONG:
                    weight += length // LETTERS
                    self._spend(length // LETTERS)
                packed[label] = pack(value)
                continue
            is_plain = settings is NO_SETTINGS and type(value) in plain
            if not is_plain and value is not None and not _is_kept(value, settings, default):
                apart.append(position)
                continue
            self._left_for_field = _HEAVY
            try:
                packed[label] = packer.pack(value, step)
            except _HeavyFieldError:
                apart.append(position)
                continue
            weight += _HEAVY - self._left_for_field
            if packer.depth > MAX_DOCUMENT_DEPTH:
                apart.append(position)
                del packed[label]
        document = dumps(packed) if weight + len(packed) <= _HEAVY // 2 else ""
        if not document or len(document) > LARGE:
            leaving = set(_oversized(packed))
            apart += (n for n, label in enumerate(content.labels) if label in leaving)
            document = dumps({name: packed[name] for name in packed if name not in leaving})
        row["model_fields"] = document
        return sorted(apart)


_NO_CONFIG: Final = ArtifactModelConfig()


class _Content:
    """What is directly in a model, mapping or sequence, and what applies to all of it."""

    __slots__ = (
        "config",
        "definition",
        "enums",
        "labels",
        "settings",
        "steps",
        "values",
        "where",
    )

    def __init__(self, visit: _Visit) -> None:
        value = visit.value
        self.definition: ModelDefinition | None = None
        self.where = shortened(visit.where)  # a sequence in a sequence in ... has a long one
        self.config = visit.config
        self.enums = visit.enums
        if isinstance(value, ArtifactMapping):
            self._take_mapping(cast("ArtifactMapping[object, object]", value), visit.settings)
        elif isinstance(value, ArtifactSequence):
            self._take_items(cast("ArtifactSequence[object]", value), visit.settings)
        else:
            self._take_model(value)

    def _take_items(self, values: Sequence[object], settings: FieldSettings) -> None:
        self.values = values
        self.labels: Sequence[str] = [str(place) for place in range(len(values))]
        self.steps: Sequence[str] = [f"[{label}]" for label in self.labels]
        """From what holds a value to the value, in messages."""
        self.settings: Sequence[FieldSettings] = [settings] * len(values)

    def _take_mapping(
        self, mapping: ArtifactMapping[object, object], settings: FieldSettings
    ) -> None:
        self._take_items(list(mapping.values()), settings)
        self.values = [list(mapping), *self.values]
        self.labels = [KEYS, *self.labels]
        self.steps = [".keys()", *self.steps]
        self.settings = [NO_SETTINGS, *self.settings]

    def _take_model(self, value: object) -> None:
        definition = definition_of(type(value))
        self.definition = definition
        self.where = type(value).__qualname__
        self.config = definition.config
        self.enums = definition.enums
        self.labels = definition.names
        self.steps = definition.steps
        self.settings = definition.settings
        try:
            self.values = [getattr(value, name) for name in definition.names]
        except AttributeError as error:
            raise UnsupportedValueError(
                f"{self.where}.{error.name}",
                "a field without a value",
                "Give it one, or a default.",
            ) from error

    def visits(self, places: Iterable[int], parent_id: UUID, depth: int) -> Iterator[_Visit]:
        for place in places:
            yield _Visit(
                self.values[place],
                self.where + self.steps[place],
                parent_id,
                self.labels[place],
                place,
                depth,
                self.settings[place],
                self.config,
                self.enums,
            )


def _is_kept(value: object, settings: FieldSettings, default: Serializer[Any] | None) -> bool:
    """Whether a value is plain, and neither its field nor the user has said otherwise."""
    if settings.serializer is not None or settings.storage is not None or settings.is_lazy:
        return False
    return can_pack(type(value)) and can_choose(type(value), default) is None


def _kind_of(value: object) -> type[Any]:
    return type(value_in(value))


def _check_lazy(visit: _Visit) -> None:
    """Refuse what would come back as a lazy value and was none, or the other way round."""
    value, is_lazy = visit.value, isinstance(visit.value, Lazy)
    if is_lazy and node_type_of(_kind_of(value)) != "artifact":
        kind = _kind_of(value).__name__
        raise UnsupportedValueError(
            visit.where, f"a {kind} in Lazy", "Save it by itself, and keep its id."
        )
    if is_lazy and not visit.settings.is_lazy:
        raise UnsupportedValueError(
            visit.where, "a Lazy", "Declare the field so: Lazy[...], of the type of its value."
        )
    if visit.settings.is_lazy and not is_lazy:
        raise UnsupportedValueError(
            visit.where, f"a {type(value).__name__} where Lazy is declared", "Wrap it: Lazy(value)."
        )


def node_type_of(kind: type[Any]) -> NodeType:
    if issubclass(kind, ArtifactMapping):
        return "mapping"
    if issubclass(kind, ArtifactSequence):
        return "sequence"
    return "model" if is_model(kind) else "artifact"


def _check_exact(visit: _Visit) -> None:
    kind = type(visit.value)
    if kind not in (ArtifactMapping, ArtifactSequence):
        raise UnsupportedValueError(
            visit.where, f"a {kind.__name__}", "It would come back as its base: convert it."
        )


def _oversized(packed: dict[str, Json]) -> list[str]:
    """The fields that leave the document: the large ones, and the largest until it is small."""
    sizes = {name: len(dumps(value)) for name, value in packed.items()}
    total = sum(sizes.values()) + sum(len(name) + 6 for name in sizes)
    by_size: dict[int, list[str]] = defaultdict(list)
    for name, size in sizes.items():
        by_size[size].append(name)
    leaving: list[str] = []
    for size in sorted(by_size, reverse=True):
        for name in by_size[size]:
            if size <= LARGE and total <= MAX_DOCUMENT:
                return leaving
            leaving.append(name)
            total -= size
    return leaving
