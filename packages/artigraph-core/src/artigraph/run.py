"""Runs: what was produced together, and how it ended."""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast, get_args, overload
from uuid import UUID

from artigraph.errors import (
    ConflictError,
    CorruptRowError,
    LabelError,
    LimitError,
    NoCurrentRunError,
    NodeNotFoundError,
    RunStateError,
    UnsupportedValueError,
    shown,
)
from artigraph.ids import new_id
from artigraph.loop import engine_room
from artigraph.owner import is_gone, owner_of_this_process

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from artigraph.engine import Database
    from artigraph.graph import NodeRows, Row, RunNode

RunStatus: TypeAlias = Literal["running", "succeeded", "failed", "cancelled", "crashed"]

MAX_ATTRIBUTES = 64 * 1024
"""Bytes of a run's attributes, as JSON."""

MAX_MESSAGE = 4 * 1024
"""Characters of the message of an error that are kept."""


@dataclass
class Run:
    """A group of artifacts that were produced together.

    Args:
        node_parent_id: The run that this one is part of; None is the run that is current when it
            begins, if there is one.
        label: What people call it; any number of runs may share it.
        attributes: Plain values that describe it, such as parameters; up to 64 KiB as JSON.
    """

    node_parent_id: UUID | None = None
    label: str | None = field(default=None, kw_only=True)
    attributes: dict[str, Any] = field(default_factory=dict[str, Any], kw_only=True)
    node_id: UUID = field(default_factory=new_id, kw_only=True)
    status: RunStatus | None = field(default=None, kw_only=True)
    """None until it begins. A run that is loaded has `crashed` if it is not at its end and the
    process that ran it is gone; of one on another host that can't be known."""
    started_at: datetime | None = field(default=None, kw_only=True)
    finished_at: datetime | None = field(default=None, kw_only=True)
    error_type: str | None = field(default=None, kw_only=True)
    """The class of the exception that ended it, by its qualified name."""
    error_message: str | None = field(default=None, kw_only=True)

    @classmethod
    async def load(cls, node_id: UUID | str) -> "Run":
        """The run of this id, as the database has it.

        Raises:
            NodeNotFoundError: There is none.
            CorruptRowError: Its row says what Artigraph does not write.
        """
        await engine_room()
        from artigraph import graph
        from artigraph.database import current_database
        from artigraph.loading import identifier

        database = current_database()
        wanted = identifier(node_id, "run", database)
        node = await database.read(lambda connection: graph.find_run(connection, wanted))
        if node is None:
            raise NodeNotFoundError(f"run {wanted}", database.name)
        return _run(node)


class RunManager:
    """Begins a run, saves into it, and records how it ended.

        async with RunManager(Run(label="nightly")) as manager:
            await manager.save_artifact("scores", scores)

    Inside the block the manager is what `run_manager()` returns, also in the tasks and
    `asyncio.to_thread` calls that start there. Its runs can be loaded from at any time, also
    without beginning them: `RunManager(await Run.load(run_id)).load_artifacts()`.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._outer: RunManager | None = None
        self._entered_in: Database | None = None

    async def __aenter__(self) -> Self:
        """Begin the run: from now on it is in the database, and current.

        Raises:
            RunStateError: It was begun before, or saves are gathered here.
            NodeNotFoundError: There is no node with the id of its parent.
            LabelError: Its label can't be one.
            UnsupportedValueError: Its attributes can't be kept.
            LimitError: They are too large.
        """
        await engine_room()
        from artigraph.database import current_database
        from artigraph.gathering import current_gathering

        run, database = self.run, current_database()
        if run.status is not None:
            raise RunStateError(run.node_id, "was begun before", "make a new Run for each.")
        if current_gathering(database):
            # It would be there, and could be over, without what is saved in it.
            raise RunStateError(
                run.node_id, "can't begin inside gather_saves()", "gather inside the run."
            )
        outer = _current.get()
        row = _row(run, outer)
        await _insert(database, row)
        run.node_parent_id = row["node_parent_id"]
        run.status, run.started_at = "running", row["run_started_at"]
        self._outer, self._entered_in = outer, database
        _current.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Record the end. An exception of the block goes on, whatever happens here."""
        # Not by a token: an asynchronous fixture may leave in another context than it entered.
        _current.set(self._outer)
        run = self.run
        run.status = _status(error)
        run.finished_at = datetime.now(UTC)
        if error is not None and run.status == "failed":
            run.error_type = f"{type(error).__module__}.{type(error).__qualname__}"
            run.error_message = _message(error)
        try:
            await self._finish()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"The end of run {run.node_id} could not be recorded: {failure}")

    async def save_artifact(self, label: str, value: object) -> UUID:
        """Save a model, or any value that has a serializer, in the run, and return its id.

        Raises:
            ConflictError: The run has an artifact of this label.
            RunStateError: The run is not running.
            ArtigraphError: Something else was in the way; nothing was saved.
        """
        return (await self.save_artifacts({label: value}))[label]

    async def save_artifacts(self, artifacts: Mapping[str, object]) -> dict[str, UUID]:
        """Save values by their labels, all or none, and return their ids by their labels.

        Raises:
            ConflictError: The run has an artifact of one of the labels.
            RunStateError: The run is not running.
            ArtigraphError: Something else was in the way; nothing was saved.
        """
        await engine_room()
        from artigraph.gathering import save

        if self.run.status != "running" or self._entered_in is None:
            state = f"has {self.run.status}" if self.run.status else "has not begun"
            raise RunStateError(
                self.run.node_id, state, "save inside 'async with RunManager(run):'."
            )
        if any(label is None for label in artifacts):  # pyright: ignore[reportUnnecessaryComparison]  # asked of callers without types
            raise LabelError("None", "an artifact in a run needs one")
        ids = await save(self._entered_in, list(artifacts.items()), self.run.node_id)
        return dict(zip(artifacts, ids, strict=True))

    async def load_artifact(self, label: str) -> Any:
        """What is saved in the run under this label.

        Raises:
            LabelError: It can't be one.
            NodeNotFoundError: Nothing is.
            ArtifactLoadError: It is there and can't be loaded.
        """
        await engine_room()
        from artigraph import graph
        from artigraph.loading import load_one
        from artigraph.tree import check_label

        check_label(label)
        database, run_id = self._database(), self.run.node_id
        rows = await database.read(
            lambda connection: graph.read_tree_labelled(connection, run_id, label)
        )
        if not rows:
            raise NodeNotFoundError(
                f"artifact labelled {shown(label)} in run {run_id}", database.name
            )
        return await load_one(database, rows, rows.first_key)

    async def load_artifacts(self) -> dict[str, Any]:
        """Everything that is saved in the run itself, by label, in the order of saving.

        Raises:
            ArtifactLoadError: Something can't be loaded.
        """
        await engine_room()
        from artigraph import graph

        database, run_id = self._database(), self.run.node_id
        rows = await database.read(lambda connection: graph.read_trees_below(connection, run_id))
        return (await _load_runs(database, rows)).get(run_id, {})

    async def load_descendant_artifacts(self) -> dict[UUID, dict[str, Any]]:
        """Everything saved in the runs below this one, at any depth: by run, and then by label.

        Each of those runs has a key, also where nothing was saved in it; this run has none.

        Raises:
            ArtifactLoadError: Something can't be loaded.
        """
        await engine_room()
        from artigraph import graph

        database, run_id = self._database(), self.run.node_id
        rows = await database.read(
            lambda connection: graph.read_everything_below(connection, run_id)
        )
        return await _load_runs(database, rows)

    async def load_descendant_runs(self) -> list[Run]:
        """The runs below this one, at any depth, in the order in which they were made.

        Raises:
            CorruptRowError: The row of one says what Artigraph does not write.
        """
        await engine_room()
        from artigraph import graph

        run_id = self.run.node_id
        nodes = await self._database().read(
            lambda connection: graph.read_runs_below(connection, run_id)
        )
        return [_run(node) for node in nodes]

    def _database(self) -> "Database":
        from artigraph.database import current_database

        return self._entered_in or current_database()

    async def _finish(self) -> None:
        await engine_room()
        from artigraph import graph

        run = self.run
        assert run.finished_at is not None
        assert run.status is not None
        finished_at, status = run.finished_at, run.status

        def was_finished(connection: "Connection") -> bool:
            found = graph.find_run(connection, run.node_id)
            return found is None or found.status != "running"

        await self._database().write_once(
            lambda connection: graph.finish_run(
                connection,
                run.node_id,
                status=status,
                finished_at=finished_at,
                error_type=run.error_type,
                error_message=run.error_message,
            ),
            was_finished,
        )


@overload
def run_manager() -> RunManager: ...
@overload
def run_manager(*, allow_none: Literal[True]) -> RunManager | None: ...
def run_manager(*, allow_none: bool = False) -> RunManager | None:
    """The manager of the run that is current here.

    Args:
        allow_none: Return None outside of every run.

    Raises:
        NoCurrentRunError: No run is current here.
    """
    current = _current.get()
    if current is None and not allow_none:
        raise NoCurrentRunError
    return current


_current: ContextVar[RunManager | None] = ContextVar("artigraph_run", default=None)


def _row(run: Run, outer: RunManager | None) -> "Row":
    from artigraph.serializer.codec import Packer, dumps
    from artigraph.tree import check_label

    if run.label is not None:
        check_label(run.label)
    if not isinstance(run.attributes, dict):  # pyright: ignore[reportUnnecessaryIsInstance]  # asked of callers without types
        raise UnsupportedValueError(
            "Run.attributes", f"a {type(run.attributes).__name__}", "Pass a dict of plain values."
        )
    attributes = dumps(Packer("Run.attributes").pack(run.attributes))
    if len(attributes) > MAX_ATTRIBUTES:
        raise LimitError(
            "Run.attributes",
            f"they have {len(attributes):,} bytes as JSON",
            f"{MAX_ATTRIBUTES:,}",
            "Save what is larger as an artifact.",
        )
    parent_id = run.node_parent_id
    if parent_id is None and outer is not None:
        parent_id = outer.run.node_id
    now = datetime.now(UTC)
    return {
        "node_id": run.node_id,
        "node_type": "run",
        "node_parent_id": parent_id,
        "node_created_at": now,
        "node_updated_at": now,
        "run_label": run.label,
        "run_status": "running",
        "run_started_at": now,
        "run_owner": owner_of_this_process(),
        "run_attributes": attributes,
    }


async def _insert(database: "Database", row: "Row") -> None:
    from sqlalchemy.exc import IntegrityError

    from artigraph import graph

    run_id, parent_id = row["node_id"], row["node_parent_id"]
    try:
        await database.write_once(
            lambda connection: graph.insert_run(connection, row),
            lambda connection: graph.find_run(connection, run_id) is not None,
        )
    except IntegrityError as error:
        refusal = await database.read(lambda connection: graph.find_refusal(connection, [row]))
        if parent_id is not None and parent_id not in refusal.parents:
            raise NodeNotFoundError(f"parent node {parent_id}", database.name) from error
        raise ConflictError(
            f"run {run_id}", "the database has a node of this id", "Make a new Run."
        ) from error


async def _load_runs(database: "Database", rows: "NodeRows") -> dict[UUID, dict[str, Any]]:
    """What is in runs, by run and then by label; the runs among the rows are all there."""
    from artigraph import graph
    from artigraph.loading import load_nodes

    found: dict[graph.Key | None, dict[str, Any]] = {}

    def take(node: graph.Node, value: Any) -> None:
        if node.node_type == "run":
            found.setdefault(node.key, {})
        elif node.key == node.tree_key:
            found.setdefault(node.parent_key, {})[node.label or ""] = value

    await load_nodes(database, rows, take)
    return {graph.id_of(key): artifacts for key, artifacts in found.items() if key is not None}


def _run(node: "RunNode") -> Run:
    _check(node)
    is_crashed = node.status == "running" and is_gone(node.owner)
    return Run(
        node.node_parent_id,
        label=node.label,
        attributes=_attributes(node),
        node_id=node.node_id,
        status="crashed" if is_crashed else node.status,  # type: ignore[arg-type]  # checked
        started_at=node.started_at,
        finished_at=node.finished_at,
        error_type=node.error_type,
        error_message=node.error_message,
    )


_KEPT_STATUSES = frozenset(get_args(RunStatus)) - {"crashed"}
"""A process that has crashed can't say so any more."""


def _check(node: "RunNode") -> None:
    """Refuse what only SQLite keeps, which has any type in any column, and what is no status."""
    texts: dict[str, object] = {
        "run_label": node.label,
        "run_error_type": node.error_type,
        "run_error_message": node.error_message,
    }
    for name, value in texts.items():
        if not isinstance(value, str | None):
            kind = type(value).__name__
            raise CorruptRowError(f"run {node.node_id}", f"its {name} is of type {kind}.")
    if node.status not in _KEPT_STATUSES:
        expected = ", ".join(sorted(_KEPT_STATUSES))
        raise CorruptRowError(f"run {node.node_id}", f"its run_status is none of {expected}.")


def _attributes(node: "RunNode") -> dict[str, Any]:
    from artigraph.serializer.codec import loads

    if node.attributes is None:
        return {}
    try:
        attributes: object = loads(node.attributes)
    except ValueError as error:
        raise CorruptRowError(f"run {node.node_id}", "its attributes can't be read.") from error
    if not isinstance(attributes, dict):
        kind = type(attributes).__name__
        raise CorruptRowError(f"run {node.node_id}", f"its attributes are a {kind}, not a dict.")
    return cast("dict[str, Any]", attributes)  # what `dumps` has written of one


def _status(error: BaseException | None) -> RunStatus:
    if error is None:
        return "succeeded"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"


def _message(error: BaseException) -> str:
    """The text of an exception as every database keeps it: no NUL, no unpaired surrogate."""
    try:
        text = str(error)
    except Exception as failure:  # a stranger's class may do anything
        text = f"its text can't be had ({type(failure).__name__})"
    text = text[:MAX_MESSAGE].replace("\0", "\\0")
    return text.encode("utf-8", "backslashreplace").decode()
