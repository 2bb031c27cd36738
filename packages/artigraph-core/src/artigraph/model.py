"""Artifact models: dataclasses that are saved with everything in them, and loaded again."""

from dataclasses import field
from typing import Any, ClassVar, Self, dataclass_transform
from uuid import UUID

from artigraph.definition import (
    ArtifactMapping,
    ArtifactModelConfig,
    ArtifactSequence,
    artifact_field,
    define,
    lazy_field,
)
from artigraph.errors import LabelError
from artigraph.loop import engine_room

__all__ = [
    "ArtifactMapping",
    "ArtifactModel",
    "ArtifactModelConfig",
    "ArtifactSequence",
    "artifact_field",
    "lazy_field",
]


@dataclass_transform(field_specifiers=(field, artifact_field, lazy_field))
class ArtifactModel:
    """The base of every dataclass that is saved as an artifact.

        @dataclass
        class Score(ArtifactModel, version=1):
            name: str
            value: float

    What is loaded equals what was saved, in value and in type; a value that can't be kept so is
    refused by `save`, with an error that names it.

    A field that is neither an argument of `__init__` nor compared is not saved: it is for what
    `__post_init__` derives. Other fields that are no arguments are set as they were.
    """

    __artigraph_definition__: ClassVar[Any]

    def __init_subclass__(
        cls,
        *,
        version: int | None = None,
        name: str | None = None,
        config: ArtifactModelConfig | None = None,
    ) -> None:
        """Define a model.

        Args:
            version: Of its fields. Raise it when they change, and define `migrate`.
            name: How rows call it; by default its qualified name. Choose one where two modules
                have a class of the same name, and keep it when the class is renamed.
            config: How fields are kept that do not say it themselves; inherited by default.

        Raises:
            DefinitionError: The version is missing or no whole number, or the name is none.
        """
        super().__init_subclass__()
        define(cls, version=version, name=name, config=config)

    async def save(self, label: str | None = None, parent_id: UUID | None = None) -> UUID:
        """Save the model with everything in it, all or nothing, and return the id of its node.

        After an error, saving the same object again is safe: it is stored once.

        Args:
            label: Unique below a parent; any number of models without one may share it, or have
                none.
            parent_id: The node to save it below; without it the model stands by itself, also
                inside a run.

        Raises:
            ArtigraphError: Nothing was saved; the error says what was in the way.
            SaveOutcomeUnknownError: The connection broke during the commit.
        """
        await engine_room()
        from artigraph.database import current_database
        from artigraph.gathering import save

        if label is None and parent_id is not None:
            raise LabelError("None", "an artifact below a parent needs one")
        (node_id,) = await save(current_database(), [(label, self)], parent_id)
        return node_id

    @classmethod
    async def load(cls, artifact_id: UUID | str) -> Self:
        """The model that is saved as this node: of this class, or of a subclass.

        Raises:
            NodeNotFoundError: There is no such artifact.
            ModelMismatchError: It is a model of another class.
            ArtifactLoadError: It is there and can't be loaded: the base of all other reasons.
        """
        await engine_room()
        from artigraph.database import current_database
        from artigraph.loading import load_tree

        return await load_tree(current_database(), artifact_id, cls)
