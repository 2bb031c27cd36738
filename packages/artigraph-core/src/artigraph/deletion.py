"""Deleting runs and artifacts with all that is below them.

Rows go first, in one transaction, which also gives up the blobs that no node names any more; their
data is removed by a collection, when that transaction is known to be durable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, Connection, Executable, bindparam, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from artigraph import blobs
from artigraph.database import Database, current_database
from artigraph.dialects import checks_row_by_row
from artigraph.errors import ConflictError, NodeNotFoundError, RunStateError
from artigraph.loading import identifier
from artigraph.owner import is_gone
from artigraph.query import ArtifactQuery, NodeQuery, RunQuery
from artigraph.tables import blob_table, link_table, node_table

_CHUNK: Final = 5_000
"""How many ids one statement names: SQLite and PostgreSQL take 32,767 parameters."""

_TRIES: Final = 5


@dataclass(frozen=True)
class Deletion:
    """What is deleted, or would be."""

    runs: int
    artifacts: int
    """As they were saved: a model with everything in it is one."""
    nodes: int
    """Rows: the runs, and all rows of the artifacts."""
    blobs: int
    """Objects in storages that no node names afterwards."""
    size: int
    """Of these objects, in bytes: what a collection gets back."""


async def delete(*what: UUID | str | NodeQuery, dry_run: bool = False) -> Deletion:
    """Delete runs and artifacts, each with all that is below it, all or nothing.

    What is deleted can't be loaded from now on. The space that its data takes in storages is given
    back by `collect`.

    Args:
        what: Ids, or queries, which may match nothing.
        dry_run: Only tell what would be deleted.

    Raises:
        NodeNotFoundError: There is no node of an id.
        ConflictError: An id is that of a part of an artifact, which is whole or not at all; or
            something that stays was made of what would go.
        RunStateError: A run among it is running.
    """
    database = current_database()
    for _ in range(_TRIES):
        plan = await _plan(database, what)
        if dry_run:
            return plan.deletion
        try:
            await database.write(plan.execute)
            return plan.deletion
        except IntegrityError:
            continue  # something was saved below it meanwhile
    raise ConflictError(
        "what is to be deleted", "others keep saving below it", "Wait for them, and try again."
    )


class _Doomed(NamedTuple):
    """A row that goes."""

    node_id: UUID
    node_type: str
    node_parent_id: UUID | None
    tree_id: UUID | None
    blob_id: UUID | None
    status: str | None
    owner: str | None
    size: int | None


class _Plan:
    """The rows that go, parents before children, and what goes with them."""

    def __init__(self, database: Database, rows: Sequence[_Doomed]) -> None:
        self._database = database
        self._node_ids = [row.node_id for row in rows]
        sizes = {row.blob_id: row.size or 0 for row in rows if row.blob_id is not None}
        self._blob_ids = list(sizes)
        self.deletion = Deletion(
            runs=sum(row.node_type == "run" for row in rows),
            artifacts=sum(row.node_id == row.tree_id for row in rows),
            nodes=len(rows),
            blobs=len(sizes),
            size=sum(sizes.values()),
        )

    def execute(self, connection: Connection) -> None:
        """Delete the rows, and give up their blobs."""
        for chunk in _chunks(self._node_ids):
            connection.execute(_DELETE_LINKS, {"node_ids": chunk})
        for chunk in _chunks(self._node_ids):
            user = connection.scalar(_USERS, {"node_ids": chunk})
            if user is not None:
                raise ConflictError(
                    "what is to be deleted",
                    f"node {user}, which stays, was made of it",
                    "Delete that as well, or keep both.",
                )
        if checks_row_by_row(connection.dialect):
            for chunk in _chunks(self._node_ids):
                connection.execute(_DETACH, {"node_ids": chunk})
        for chunk in _chunks(self._node_ids[::-1]):
            connection.execute(_DELETE_NODES, {"node_ids": chunk})
        for chunk in _chunks(self._blob_ids):
            blobs.condemn_unused(connection, chunk)


async def _plan(database: Database, what: Sequence[UUID | str | NodeQuery]) -> _Plan:
    queries = [each for each in what if isinstance(each, NodeQuery)]
    ids = [identifier(each, "node", database) for each in what if not isinstance(each, NodeQuery)]

    def read(connection: Connection) -> list[_Doomed]:
        tops = [*ids]
        for query in queries:
            tops += connection.scalars(select(_NODE.node_id).where(*_conditions(query)))
        return _read_below(connection, tops)

    rows = await database.read(read)
    _check_found(ids, rows, database)
    for row in rows:
        if row.status == "running" and not is_gone(row.owner):
            raise RunStateError(row.node_id, "is running", "delete it when it has ended.")
    return _Plan(database, rows)


def _check_found(ids: Sequence[UUID], rows: Sequence[_Doomed], database: Database) -> None:
    found = {row.node_id: row for row in rows}
    for node_id in ids:
        row = found.get(node_id)
        if row is None:
            raise NodeNotFoundError(f"node {node_id}", database.name)
        if row.node_type != "run" and row.tree_id != node_id:
            raise ConflictError(
                f"node {node_id}",
                f"it is a part of artifact {row.tree_id}, which is whole or not at all",
                "Delete that.",
            )


def _conditions(query: NodeQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    label = _NODE.run_label if isinstance(query, RunQuery) else _NODE.artifact_label
    if query.parent_id is not None:
        conditions.append(_NODE.node_parent_id == query.parent_id)
    if query.label is not None:
        conditions.append(label == query.label)
    if query.created_before is not None:
        conditions.append(_NODE.node_created_at < query.created_before)
    if isinstance(query, RunQuery):
        conditions.append(_NODE.node_type == "run")
        if query.status is not None:
            conditions.append(_NODE.run_status == query.status)
    if isinstance(query, ArtifactQuery):
        conditions.append(_NODE.artifact_tree_id == _NODE.node_id)
        if query.model is not None:
            conditions.append(_NODE.model_name == query.model)
    return conditions


def _read_below(connection: Connection, tops: Sequence[UUID]) -> list[_Doomed]:
    """All nodes at and below some, parents before their children."""
    found: dict[UUID, _Doomed] = {}
    for chunk in _chunks(list(dict.fromkeys(tops))):
        for row in connection.execute(_BELOW, {"node_ids": chunk}):
            found[row.node_id] = _Doomed._make(row)
    children: dict[UUID | None, list[_Doomed]] = {}
    for row in found.values():
        parent_id = row.node_parent_id if row.node_parent_id in found else None
        children.setdefault(parent_id, []).append(row)
    ordered = children.get(None, [])
    for row in ordered:  # grows while it is walked
        ordered += children.get(row.node_id, [])
    return ordered


def _chunks(ids: Sequence[UUID]) -> list[Sequence[UUID]]:
    return [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]


_NODE = node_table.c
_LINK = link_table.c
_IDS: Final[BindParameter[UUID]] = bindparam("node_ids", expanding=True)


def _below() -> Executable:
    """UNION, not UNION ALL: a cycle of parents, which Artigraph never makes, ends."""
    child = node_table.alias("child")
    below = select(_NODE.node_id).where(_NODE.node_id.in_(_IDS)).cte("below", recursive=True)
    below = below.union(
        select(child.c.node_id).join(below, child.c.node_parent_id == below.c.node_id)
    )
    return (
        select(
            _NODE.node_id,
            _NODE.node_type,
            _NODE.node_parent_id,
            _NODE.artifact_tree_id,
            _NODE.artifact_blob_id,
            _NODE.run_status,
            _NODE.run_owner,
            blob_table.c.blob_size,
        )
        .select_from(node_table.join(below, _NODE.node_id == below.c.node_id))
        .outerjoin(blob_table, _NODE.artifact_blob_id == blob_table.c.blob_id)
        .order_by(_NODE.node_id)
    )


_BELOW = _below()
_DELETE_LINKS = delete_rows(link_table).where(_LINK.link_source_id.in_(_IDS))
_USERS = select(_LINK.link_source_id).where(_LINK.link_target_id.in_(_IDS)).limit(1)
_DETACH = update(node_table).where(_NODE.node_id.in_(_IDS)).values(node_parent_id=None)
_DELETE_NODES = delete_rows(node_table).where(_NODE.node_id.in_(_IDS))
