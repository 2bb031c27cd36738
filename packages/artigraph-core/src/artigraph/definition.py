"""What model classes declare: their names, versions and fields, and how each field is kept."""

import dataclasses
import re
import sys
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from enum import Enum
from functools import cached_property
from inspect import Parameter, get_annotations, signature
from operator import itemgetter
from typing import Any, ClassVar, Final, Protocol, TypedDict, TypeVar, Unpack, overload

from artigraph.errors import DefinitionError
from artigraph.lazy import Lazy
from artigraph.spec import MAX_NAME_LENGTH, Serializer, Storage

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class Model(Protocol):
    """What every model is to a type checker, also where `ArtifactModel` is out of reach."""

    __artigraph_definition__: ClassVar[Any]


class ArtifactMapping(dict[K, V]):
    """A dict whose values are artifacts of their own: models, frames, or anything that is kept.

    Keys are strings, or anything else that a field keeps exactly; their order is kept.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"


class ArtifactSequence(list[V]):
    """A list whose items are artifacts of their own: models, frames, or anything that is kept."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"


@dataclass(frozen=True)
class ArtifactModelConfig:
    """How the fields of a model are kept that do not say it themselves."""

    default_field_storage: Storage | None = None
    """For what leaves the row of the model; plain small values stay in it."""
    default_field_serializer: Serializer[Any] | None = None
    """For every value of a type that it takes."""


_SETTINGS: Final = "artigraph"
"""The key of a field's settings in its dataclass metadata."""


@dataclass(frozen=True)
class FieldSettings:
    """What `artifact_field` was told."""

    serializer: Serializer[Any] | None = None
    storage: Storage | None = None
    is_lazy: bool = False
    """Whether its annotation mentions `Lazy`, which makes the values those of the field."""


NO_SETTINGS: Final = FieldSettings()


class _FieldOptions(TypedDict, total=False):
    """What `artifact_field` passes on to `dataclasses.field`, as it is."""

    init: bool
    repr: bool
    hash: bool | None
    compare: bool
    metadata: Mapping[Any, Any] | None
    kw_only: bool


# The field holds what its serializer takes, or its default. Only a factory decides alone: what it
# makes may be a mapping or sequence, and the serializer is then that of the items.
@overload
def artifact_field(
    *, serializer: Serializer[V], storage: Storage | None = None, **options: Unpack[_FieldOptions]
) -> V: ...
@overload
def artifact_field(
    *,
    serializer: Serializer[V],
    storage: Storage | None = None,
    default: D,
    **options: Unpack[_FieldOptions],
) -> V | D: ...
@overload
def artifact_field(
    *,
    serializer: Serializer[Any] | None = None,
    storage: Storage | None = None,
    default_factory: Callable[[], D],
    **options: Unpack[_FieldOptions],
) -> D: ...
@overload
def artifact_field(
    *,
    serializer: None = None,
    storage: Storage | None = None,
    default: D,
    **options: Unpack[_FieldOptions],
) -> D: ...
@overload
def artifact_field(
    *, serializer: None = None, storage: Storage | None = None, **options: Unpack[_FieldOptions]
) -> Any: ...
def artifact_field(
    *,
    serializer: Serializer[Any] | None = None,
    storage: Storage | None = None,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    init: bool = True,
    repr: bool = True,
    hash: bool | None = None,
    compare: bool = True,
    metadata: Mapping[Any, Any] | None = None,
    kw_only: Any = MISSING,
) -> Any:
    """A dataclass field whose value gets an artifact, and so a row, of its own.

    Args:
        serializer: Makes data of the value; without one it is chosen by the value's type.
        storage: Keeps the data; without one it is the model's default, or else the database
            while it is small, and the database's storage when it is large.
        default: This and the rest are those of `dataclasses.field`.

    Raises:
        DefinitionError: The serializer or storage is none.
    """
    _check_kind("serializer", serializer, Serializer)
    _check_kind("storage", storage, Storage)
    return dataclasses.field(
        default=default,
        default_factory=default_factory,
        init=init,
        repr=repr,
        hash=hash,
        compare=compare,
        metadata={**(metadata or {}), _SETTINGS: FieldSettings(serializer, storage)},
        kw_only=kw_only,
    )


@overload
def lazy_field(
    *, serializer: Serializer[V], storage: Storage | None = None, **options: Unpack[_FieldOptions]
) -> Lazy[V]: ...
@overload
def lazy_field(
    *,
    serializer: Serializer[V],
    storage: Storage | None = None,
    default: D,
    **options: Unpack[_FieldOptions],
) -> Lazy[V] | D: ...
def lazy_field(**options: Any) -> Any:
    """An `artifact_field` that is declared `Lazy[...]`, of the type of its serializer.

    Raises:
        DefinitionError: The serializer or storage is none.
    """
    return artifact_field(**options)


def _check_kind(name: str, value: object, kind: type[Any]) -> None:
    if value is not None and not isinstance(value, kind):
        raise DefinitionError(
            f"artifact_field({name}=...)",
            f"it takes an instance of {kind.__name__}, got {_described(value)}.",
        )


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


@dataclass(frozen=True)
class FieldDefinition:
    """One field of a model that is saved."""

    name: str
    settings: FieldSettings
    classes: tuple[type[Any], ...]
    """Every class that its annotation mentions."""
    is_argument: bool
    """Whether `__init__` takes it; otherwise it is set afterwards."""
    is_keyword: bool
    has_default: bool


class ModelDefinition:
    """What a model class declares. The fields are read on first use, when `@dataclass` is done."""

    def __init__(
        self, model: type[Any], name: str, version: int, config: ArtifactModelConfig
    ) -> None:
        self.model = model
        self.name = name
        self.version = version
        self.module = model.__module__
        self.config = config

    @cached_property
    def fields(self) -> tuple[FieldDefinition, ...]:
        """The fields that are saved: all but those that neither `__init__` nor `==` looks at.

        Raises:
            DefinitionError: The class can't be rebuilt from its fields.
        """
        return tuple(_fields(self.model))

    @cached_property
    def enums(self) -> frozenset[type[Enum]]:
        """The enumerations that the annotations mention: those that are found again on load."""
        return _enums(self.model, self.fields)

    @cached_property
    def by_name(self) -> Mapping[str, FieldDefinition]:
        return {field.name: field for field in self.fields}

    def build(self, values: Mapping[str, Any]) -> Any:
        """A model with these values of its fields; fields that are missing get their defaults.

        Raises:
            LookupError: A field without default is missing; the argument is its name.
        """
        if not self._has_init:
            self._check_complete(values)
            return _with(object.__new__(self.model), values)
        try:
            # By position: a thousand keywords cost CPython a million comparisons.
            arguments = self._arguments(values)
            keywords = {name: values[name] for name in self._keywords}
        except KeyError:
            self._check_complete(values)
            arguments = ()
            keywords = {name: values[name] for name in values if name not in self._later}
        model = self.model(*arguments, **keywords)
        if self._later:
            _with(model, {name: values[name] for name in values if name in self._later})
        return model

    def _check_complete(self, values: Mapping[str, Any]) -> None:
        for field in self.fields:
            if not field.has_default and field.name not in values:
                raise LookupError(field.name)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """From the model to each field, in messages."""
        return tuple(f".{name}" for name in self.names)

    @cached_property
    def settings(self) -> tuple[FieldSettings, ...]:
        return tuple(field.settings for field in self.fields)

    @cached_property
    def _has_init(self) -> bool:
        return self.model.__dataclass_params__.init

    @cached_property
    def _arguments(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        """Takes those that `__init__` takes by position."""
        names = [f.name for f in self.fields if f.is_argument and not f.is_keyword]
        if len(names) > 1:
            return itemgetter(*names)
        return lambda values: tuple(values[name] for name in names)

    @cached_property
    def _keywords(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields if f.is_argument and f.is_keyword)

    @cached_property
    def _later(self) -> frozenset[str]:
        return frozenset(f.name for f in self.fields if not f.is_argument)


def define(
    model: type[Any], *, version: object, name: object, config: ArtifactModelConfig | None
) -> None:
    """Make a class known as a model.

    Raises:
        DefinitionError: The version is not a whole number, or the name none.
    """
    earlier = vars(model).get("__artigraph_definition__")
    if version is None and isinstance(earlier, ModelDefinition):
        # dataclass(slots=True) makes the class a second time, without its keywords.
        version, name = earlier.version, earlier.name
    if type(version) is not int or version < 0:
        raise DefinitionError(
            model.__qualname__,
            "a model declares its version as a whole number:"
            f" class {model.__name__}(ArtifactModel, version=1).",
        )
    name = model.__qualname__.replace("<locals>.", "") if name is None else name
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise DefinitionError(
            model.__qualname__,
            f"its name is stored, as a string of 1 to {MAX_NAME_LENGTH} characters:"
            " choose one with the class keyword name=.",
        )
    if config is None:
        config = definition_of(model).config if is_model(model) else ArtifactModelConfig()
    model.__artigraph_definition__ = ModelDefinition(model, name, version, config)
    modules = _models.setdefault(name, {})
    modules.pop(model.__module__, None)
    modules[model.__module__] = weakref.ref(model)


def definition_of(model: type[Any]) -> ModelDefinition:
    return model.__artigraph_definition__


def is_model(kind: type[Any]) -> bool:
    return hasattr(kind, "__artigraph_definition__")


def find_models(name: str) -> list[type[Any]]:
    """The live classes of this stored name that are really different, the newest last.

    A class defined again in its module takes the place of the older one, and so does one that is
    defined both in a script that runs as `__main__` and where it is imported from.
    """
    found = {module: ref() for module, ref in _models.get(name, {}).items()}
    models = {module: model for module, model in found.items() if model is not None}
    imported = [model for module, model in models.items() if module != "__main__"]
    return imported if len(imported) > 1 else list(models.values())[-1:]


_models: dict[str, dict[str, weakref.ref[type[Any]]]] = {}


def _fields(model: type[Any]) -> Iterator[FieldDefinition]:
    if "__dataclass_fields__" not in vars(model):
        raise DefinitionError(model.__qualname__, "it is not a dataclass: put @dataclass above it.")
    hints = _classes_by_field(model)
    names: set[str] = set()
    for field in dataclasses.fields(model):
        names.add(field.name)
        if field.init or field.compare:
            classes = hints.get(field.name, ())
            settings: FieldSettings = field.metadata.get(_SETTINGS, NO_SETTINGS)
            if Lazy in classes:
                settings = dataclasses.replace(settings, is_lazy=True)
            yield FieldDefinition(
                name=field.name,
                settings=settings,
                classes=classes,
                is_argument=field.init,
                is_keyword=bool(field.kw_only),
                has_default=field.default is not MISSING or field.default_factory is not MISSING,
            )
    if model.__dataclass_params__.init:
        _check_arguments(model, names)


def _check_arguments(model: type[Any], names: set[str]) -> None:
    for parameter in list(signature(model.__init__).parameters.values())[1:]:
        if parameter.name not in names and parameter.default is Parameter.empty:
            raise DefinitionError(
                model.__qualname__,
                f"its __init__ needs {parameter.name!r}, which is no field and so is not saved:"
                " give it a default.",
            )


def _with(model: Any, values: Mapping[str, Any]) -> Any:
    for name, value in values.items():
        object.__setattr__(model, name, value)  # a frozen class refuses setattr
    return model


def _enums(model: type[Any], fields: tuple[FieldDefinition, ...]) -> frozenset[type[Enum]]:
    enums = {kind for field in fields for kind in field.classes if issubclass(kind, Enum)}
    if len({enum.__qualname__ for enum in enums}) < len(enums):
        raise DefinitionError(model.__qualname__, "two of its enumerations have one name.")
    return frozenset(enums)


def _classes_by_field(model: type[Any]) -> dict[str, tuple[type[Any], ...]]:
    classes: dict[str, tuple[type[Any], ...]] = {}
    for base in reversed(model.__mro__):
        module = sys.modules.get(base.__module__)
        names = {**vars(base), base.__name__: base, model.__name__: model}
        for field, annotation in get_annotations(base).items():
            hint = _resolved(annotation, vars(module) if module else {}, names)
            classes[field] = tuple(_classes_in(hint))
            if hint is None and isinstance(annotation, str) and _LAZY.search(annotation):
                classes[field] = (Lazy,)
    return classes


class _Annotated:
    """Carries one annotation, since `get_type_hints` gives up on all where one can't be read."""

    def __init__(self, annotation: object) -> None:
        self.__annotations__ = {"hint": annotation}


def _resolved(annotation: object, names: dict[str, Any], local_names: dict[str, Any]) -> object:
    resolve: Callable[..., dict[str, Any]] = typing.get_type_hints
    try:
        return resolve(_Annotated(annotation), names, local_names, include_extras=True)["hint"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        # A name that only a type checker sees. Its classes are then found by their stored names.
        return None


_LAZY: Final = re.compile(r"\bLazy\b")


def _classes_in(hint: object) -> Iterator[type[Any]]:
    if isinstance(hint, type):
        yield hint
    if typing.get_origin(hint) is Lazy:
        yield Lazy
    for argument in typing.get_args(hint):
        yield from _classes_in(argument)
