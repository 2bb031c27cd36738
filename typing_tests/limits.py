"""What a checker can't know of a model; docs/models.md says what to write.

`# error` is where a checker finds an error. Elsewhere a comment says what is one at run time.
"""

from dataclasses import InitVar, dataclass, field

import numpy as np
from plugin import Point, point_serializer

from artigraph import ArtifactModel, ArtifactSequence, artifact_field
from artigraph.serializer.numpy import scalar_serializer


@dataclass(kw_only=True)
class Keywords(ArtifactModel, version=1):
    """Arguments that go by their names, so that their order does not matter."""

    first: int = 1
    second: int  # error


Keywords(1, 2)  # a TypeError


@dataclass(frozen=True)
class Frozen(ArtifactModel, version=1):
    """A model that can't be changed, and so has a hash."""

    number: int


@dataclass(frozen=True)  # error in basedpyright
class FrozenToo(Frozen, version=1):  # error in mypy
    """A model that derives from a frozen one."""


Frozen(1).number = 2  # error in mypy
unique = {Frozen(1)}  # error in basedpyright


@dataclass(order=True)
class Ordered(ArtifactModel, version=1):
    """A model that can be sorted."""

    number: int


ordered = sorted([Ordered(2), Ordered(1)])  # error in basedpyright


@dataclass
class Scaled(ArtifactModel, version=1):
    """A model whose `__init__` takes something that is no field."""

    number: int
    factor: InitVar[int] = 1
    scaled: int = field(init=False, compare=False)

    def __post_init__(self, factor: int) -> None:  # error in mypy
        self.scaled = self.number * factor


scaled = Scaled(1, 2)  # error in mypy


@dataclass
class Points(ArtifactModel, version=1):
    """A model with a field whose serializer is that of the items."""

    points: ArtifactSequence[Point] = artifact_field(serializer=point_serializer)  # error


@dataclass
class Mean(ArtifactModel, version=1):
    """A model with a field that is narrower than its serializer."""

    value: np.float64 = artifact_field(serializer=scalar_serializer)  # error


class Undecorated(ArtifactModel, version=1):
    """A model without a decorator."""

    number: int


Undecorated(1)  # a TypeError


@dataclass
class Unversioned(ArtifactModel):  # a DefinitionError
    """A model without a version."""

    number: int


@dataclass
class Migrated(ArtifactModel, version=2):
    """A model whose older data can't be loaded."""

    number: int

    @classmethod
    def migrate(cls, data: dict[str, object]) -> str:  # a TypeError, when it is called
        return str(data)
