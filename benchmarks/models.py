"""The models that are saved: ten scalars each, alone, in each other, and in a mapping."""

from dataclasses import dataclass, make_dataclass
from functools import cache
from typing import Any

from benchmarks.peers.worker import DEPTH, field_names, scalars

from artigraph import ArtifactMapping, ArtifactModel


@dataclass
class Scalars(ArtifactModel, version=1):
    a: int
    b: int
    c: int
    d: float
    e: float
    f: float
    g: str
    h: str
    i: str
    j: bool


@dataclass
class Chain(Scalars, version=1):
    next: "Chain | None" = None


@dataclass
class Catalog(ArtifactModel, version=1):
    models: ArtifactMapping[str, Scalars]


def some_models(count: int) -> list[Scalars]:
    return [Scalars(**scalars(number)) for number in range(count)]


def some_chains(count: int) -> list[Chain]:
    """Models that are `DEPTH` deep, each with scalars of its own."""
    return [_chain(first) for first in range(count)]


def _chain(first: int) -> Chain:
    chain = Chain(**scalars(first))
    for number in range(1, DEPTH):
        chain = Chain(**scalars(first + number), next=chain)
    return chain


def catalog(count: int) -> Catalog:
    models = some_models(count)
    return Catalog(ArtifactMapping({f"{model.a:06}": model for model in models}))


def wide_model(count: int) -> ArtifactModel:
    """A model of that many whole numbers."""
    return _wide_class(count)(*range(count))


@cache
def _wide_class(count: int) -> Any:
    fields = [(name, int) for name in field_names(count)]
    plain = make_dataclass(f"Wide{count}", fields)

    class Wide(plain, ArtifactModel, version=1, name=f"Wide{count}"):
        pass

    return dataclass(Wide)
