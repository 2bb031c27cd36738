"""Which nodes are meant, by what their own rows say."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from artigraph.errors import UnsupportedValueError, shown


@dataclass(frozen=True, kw_only=True)
class NodeQuery:
    """What queries of runs and of artifacts have in common. All that is given has to hold."""

    parent_id: UUID | str | None = None
    """The node that they are directly below."""
    label: str | None = None
    created_before: datetime | None = None
    """With a zone."""

    def __post_init__(self) -> None:
        self._refuse_no_text("label", self.label)
        moment: object = self.created_before
        is_datetime = isinstance(moment, datetime)  # pyright: ignore[reportUnnecessaryIsInstance]  # asked of callers without types
        if moment is None or (is_datetime and moment.utcoffset() is not None):
            return
        raise UnsupportedValueError(
            f"{type(self).__name__}.created_before",
            "a datetime without a zone" if is_datetime else f"a {type(moment).__name__}",
            "Pass created_before=datetime.now(timezone.utc), or another datetime with its zone.",
            "is no moment",
        )

    def _refuse_no_text(self, name: str, value: object) -> None:
        """Refuse what no row can have, and what a database would say in words of its own."""
        if value is None or (isinstance(value, str) and _TEXT.fullmatch(value)):
            return
        kind = "this str" if isinstance(value, str) else f"a {type(value).__name__}"
        raise UnsupportedValueError(
            f"{type(self).__name__}.{name}",
            kind,
            f"Pass the {name} as it was saved.",
            "is none that can be saved",
        )


_TEXT = re.compile("[^\0\ud800-\udfff]*")
"""What all databases keep: no NUL, no unpaired surrogate."""


_Status: TypeAlias = Literal["running", "succeeded", "failed", "cancelled", "crashed"]
_STATUSES = get_args(_Status)


@dataclass(frozen=True, kw_only=True)
class RunQuery(NodeQuery):
    """Runs; without arguments, all of them.

    RunQuery(label="nightly", status="failed", created_before=last_month)
    """

    status: _Status | None = None
    """As `Run.status` has it when the run is loaded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status not in (None, *_STATUSES):
            expected = ", ".join(_STATUSES)
            raise UnsupportedValueError(
                "RunQuery.status", shown(self.status), f"Pass one of {expected}.", "is no status"
            )


@dataclass(frozen=True, kw_only=True)
class ArtifactQuery(NodeQuery):
    """Artifacts as they were saved, each with everything in it; without arguments, all of them.

    What is left of one whose root is missing is meant, too, unless a parent, a label or a model is
    asked for, which it has no more.
    """

    model: str | None = None
    """The stored name of its class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_no_text("model", self.model)
