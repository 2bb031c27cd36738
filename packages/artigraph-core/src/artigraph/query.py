"""Which nodes are meant, by what their own rows say."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from artigraph.errors import UnsupportedValueError


@dataclass(frozen=True, kw_only=True)
class NodeQuery:
    """What queries of runs and of artifacts have in common. All that is given has to hold."""

    parent_id: UUID | str | None = None
    """The node that they are directly below."""
    label: str | None = None
    created_before: datetime | None = None
    """With a zone."""

    def __post_init__(self) -> None:
        moment: object = self.created_before
        if moment is None or (isinstance(moment, datetime) and moment.utcoffset() is not None):  # pyright: ignore[reportUnnecessaryIsInstance]  # asked of callers without types
            return
        kind = type(moment).__name__
        raise UnsupportedValueError(
            f"{type(self).__name__}.created_before",
            "a datetime without a zone" if kind == "datetime" else f"a {kind}",
            "Pass created_before=datetime.now(timezone.utc), or another datetime with its zone.",
            "is no moment",
        )


@dataclass(frozen=True, kw_only=True)
class RunQuery(NodeQuery):
    """Runs; without arguments, all of them.

    RunQuery(label="nightly", status="failed", created_before=last_month)
    """

    status: Literal["running", "succeeded", "failed", "cancelled", "crashed"] | None = None
    """As `Run.status` has it when the run is loaded."""


@dataclass(frozen=True, kw_only=True)
class ArtifactQuery(NodeQuery):
    """Artifacts as they were saved, each with everything in it; without arguments, all of them."""

    model: str | None = None
    """The stored name of its class."""
