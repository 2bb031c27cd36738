"""Deleting runs and artifacts with all that is below them.

Rows go first, in one transaction, which also gives up the blobs that no node names any more; their
data is removed by a collection, when that transaction is known to be durable.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Connection,
    Executable,
    and_,
    bindparam,
    exists,
    func,
    select,
    update,
)
from sqlalchemy import delete as delete_rows
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from artigraph import blobs
from artigraph.blobs import in_chunks
from artigraph.database import current_database
from artigraph.dialects import checks_row_by_row
from artigraph.engine import Database
from artigraph.errors import ConflictError, CorruptRowError, NodeNotFoundError, RunStateError
from artigraph.loading import identifier
from artigraph.owner import is_gone
from artigraph.query import ArtifactQuery, NodeQuery, RunQuery
from artigraph.tables import blob_table, link_table, node_table

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


async def delete(
    *what: UUID | str | NodeQuery, dry_run: bool = False, include_running: bool = False
) -> Deletion:
    """Delete runs and artifacts, each with all that is below it, all or nothing.

    What is deleted can't be loaded from now on. The space that its data takes in storages is given
    back by `collect`. What is left of an artifact whose root is missing, as a check tells of it,
    goes by the id of the artifact, or of anything in it, or by a query.

    Args:
        what: Ids, or queries, which may match nothing.
        dry_run: Only tell what would be deleted.
        include_running: Delete runs that are running, too: those whose host is gone stay so.

    Raises:
        NodeNotFoundError: There is no node of an id.
        ConflictError: An id is that of a part of an artifact, which is whole or not at all; or
            something that stays was made of what would go.
        RunStateError: A run among it is running.
    """
    database = current_database()
    for _ in range(_TRIES):
        plan = await _plan(database, what, include_running=include_running)
        if dry_run:
            return plan.deletion
        try:
            await database.write_once(plan.execute, plan.is_done)
            return plan.deletion
        except IntegrityError:
            continue  # something was saved below it meanwhile, or made of it
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

    def __init__(self, rows: Sequence[_Doomed], names: Mapping[UUID, int]) -> None:
        self._node_ids = [row.node_id for row in rows]
        # Data that is shared may be named by nodes that stay.
        going = Counter(row.blob_id for row in rows)
        sizes = {
            row.blob_id: row.size or 0
            for row in rows
            if row.blob_id is not None and names.get(row.blob_id) == going[row.blob_id]
        }
        self._blob_ids = list(names)
        self.deletion = Deletion(
            runs=sum(row.node_type == "run" for row in rows),
            artifacts=len({row.tree_id for row in rows if row.tree_id is not None}),
            nodes=len(rows),
            blobs=len(sizes),
            size=sum(sizes.values()),
        )

    def is_done(self, connection: Connection) -> bool:
        """Whether the rows are gone: all go at once, so that the first stands for all."""
        first = select(_NODE.node_id).where(_NODE.node_id.in_(self._node_ids[:1]))
        return connection.scalar(first) is None

    def execute(self, connection: Connection) -> None:
        """Delete the rows, and give up their blobs."""
        for chunk in in_chunks(self._node_ids):
            connection.execute(_DELETE_LINKS, {"node_ids": chunk})
        if checks_row_by_row(connection.dialect):
            for chunk in in_chunks(self._node_ids):
                connection.execute(_DETACH, {"node_ids": chunk})
        for chunk in in_chunks(self._node_ids[::-1]):
            connection.execute(_DELETE_NODES, {"node_ids": chunk})
        for chunk in in_chunks(self._blob_ids):
            blobs.condemn_unused(connection, chunk)


async def _plan(
    database: Database, what: Sequence[UUID | str | NodeQuery], *, include_running: bool
) -> _Plan:
    queries = [each for each in what if isinstance(each, NodeQuery)]
    ids = [identifier(each, "node", database) for each in what if not isinstance(each, NodeQuery)]
    conditions = [_conditions(query, database) for query in queries]

    def read(connection: Connection) -> tuple[list[_Doomed], set[UUID], UUID | None, _Plan]:
        tops = [*ids]
        for query, meant in zip(queries, conditions, strict=True):
            tops += _read_meant(connection, query, meant)
        rows = _read_doomed(connection, tops)
        kept_roots = _find_kept_roots(connection, ids, rows)
        user_id = _find_user(connection, [row.node_id for row in rows])
        return rows, kept_roots, user_id, _Plan(rows, _count_names(connection, rows))

    try:
        rows, kept_roots, user_id, plan = await database.read(read)
    except (TypeError, ValueError) as error:
        # SQLite keeps values of any type in any column.
        raise CorruptRowError(
            "what is to be deleted", "a column of a row holds what it can't hold."
        ) from error
    _check_found(ids, rows, kept_roots, database)
    for row in rows:
        if row.status == "running" and not include_running and not is_gone(row.owner):
            remedy = "delete it when it has ended, or with include_running=True."
            raise RunStateError(row.node_id, "is running", remedy)
    if user_id is not None:
        raise ConflictError(
            "what is to be deleted",
            f"node {user_id}, which stays, was made of it",
            "Delete that as well, or keep both.",
        )
    return plan


def _check_found(
    ids: Sequence[UUID], rows: Sequence[_Doomed], kept_roots: Collection[UUID], database: Database
) -> None:
    found = {row.node_id: row for row in rows}
    tree_ids = {row.tree_id for row in rows}
    for node_id in ids:
        row = found.get(node_id)
        if row is None:
            if node_id in tree_ids:
                continue
            raise NodeNotFoundError(f"node {node_id}", database.name)
        if row.tree_id in kept_roots:
            raise ConflictError(
                f"node {node_id}",
                f"it is a part of artifact {row.tree_id}, which is whole or not at all",
                "Delete that.",
            )


def _conditions(query: NodeQuery, database: Database) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    label = _NODE.run_label if isinstance(query, RunQuery) else _NODE.artifact_label
    if query.parent_id is not None:
        parent_id = identifier(query.parent_id, "parent node", database)
        conditions.append(_NODE.node_parent_id == parent_id)
    if query.label is not None:
        conditions.append(label == query.label)
    if isinstance(query, RunQuery):
        conditions.append(_NODE.node_type == "run")
        if query.status is not None:
            status = "running" if query.status == "crashed" else query.status
            conditions.append(_NODE.run_status == status)
    else:
        if isinstance(query, ArtifactQuery) and query.model is not None:
            conditions.append(_NODE.model_name == query.model)
        # Parts whose root is gone have nothing of what is asked of it.
        conditions.append(_IS_ROOT if conditions else _IS_NO_PART)
    if query.created_before is not None:
        conditions.append(_NODE.node_created_at < query.created_before)
    return conditions


def _read_meant(
    connection: Connection, query: NodeQuery, conditions: Sequence[ColumnElement[bool]]
) -> list[UUID]:
    """The nodes that a query means; which of the running runs have crashed is not in a column."""
    rows = connection.execute(select(_NODE.node_id, _NODE.run_owner).where(*conditions)).all()
    if isinstance(query, RunQuery) and query.status in ("running", "crashed"):
        rows = [row for row in rows if is_gone(row.run_owner) == (query.status == "crashed")]
    return [row.node_id for row in rows]


def _read_doomed(connection: Connection, tops: Sequence[UUID]) -> list[_Doomed]:
    """All nodes at and below some, and the rest of the artifacts among them, parents first.

    The rest is none, but where somebody has deleted or altered rows: there nothing leads to it.
    """
    found: dict[UUID, _Doomed] = {}
    looked_at: set[UUID] = set()
    while tops:
        for chunk in in_chunks(list(dict.fromkeys(tops))):
            for row in connection.execute(_BELOW, {"node_ids": chunk}):
                found[row.node_id] = _Doomed._make(row)
        tree_ids = {row.tree_id for row in found.values() if row.tree_id is not None}
        tree_ids = tree_ids.union(tops) - looked_at
        looked_at |= tree_ids
        cut_off = [
            node_id
            for chunk in in_chunks(list(tree_ids))
            for node_id in connection.scalars(_CUT_OFF, {"tree_ids": chunk})
        ]
        tops = [node_id for node_id in cut_off if node_id not in found]
    return _parents_first(found)


def _find_kept_roots(
    connection: Connection, ids: Sequence[UUID], rows: Sequence[_Doomed]
) -> set[UUID]:
    """The roots, which stay, of artifacts of which only parts would go by these ids."""
    found = {row.node_id: row for row in rows}
    roots = {found[node_id].tree_id for node_id in ids if node_id in found} - found.keys()
    kept: set[UUID] = set()
    for chunk in in_chunks([root for root in roots if root is not None]):
        kept.update(connection.scalars(_THERE, {"node_ids": chunk}))
    return kept


def _parents_first(found: Mapping[UUID, _Doomed]) -> list[_Doomed]:
    children: dict[UUID | None, list[_Doomed]] = {}
    for row in found.values():
        parent_id = row.node_parent_id if row.node_parent_id in found else None
        children.setdefault(parent_id, []).append(row)
    ordered = children.get(None, [])
    for row in ordered:  # grows while it is walked
        ordered += children.get(row.node_id, [])
    if len(ordered) < len(found):
        of_a_cycle = found.keys() - {row.node_id for row in ordered}
        ordered += [found[node_id] for node_id in of_a_cycle]
    return ordered


def _find_user(connection: Connection, node_ids: Sequence[UUID]) -> UUID | None:
    """A node that was made of one of these, and is none of them."""
    doomed = set(node_ids)
    for chunk in in_chunks(node_ids):
        for user_id in connection.scalars(_USERS, {"node_ids": chunk}):
            if user_id not in doomed:
                return user_id
    return None


def _count_names(connection: Connection, rows: Sequence[_Doomed]) -> dict[UUID, int]:
    """How many nodes name each blob of the rows, these and others."""
    blob_ids = list({row.blob_id for row in rows if row.blob_id is not None})
    names: dict[UUID, int] = {}
    for chunk in in_chunks(blob_ids):
        names.update((row[0], row[1]) for row in connection.execute(_NAMES, {"blob_ids": chunk}))
    return names


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
_THERE = select(_NODE.node_id).where(_NODE.node_id.in_(_IDS))
_ROOT = node_table.alias("root")
_IS_ROOT: Final = _NODE.artifact_tree_id == _NODE.node_id
_IS_NO_PART: Final = and_(
    _NODE.node_type != "run",
    ~exists().where(_ROOT.c.node_id == _NODE.artifact_tree_id, _ROOT.c.node_id != _NODE.node_id),
)
"""Of an artifact that has its root."""
_PARENT = node_table.alias("parent")
_CUT_OFF = select(_NODE.node_id).where(
    _NODE.artifact_tree_id.in_(bindparam("tree_ids", expanding=True)),
    _NODE.node_id != _NODE.artifact_tree_id,
    ~exists().where(
        _PARENT.c.node_id == _NODE.node_parent_id,
        _PARENT.c.artifact_tree_id == _NODE.artifact_tree_id,
    ),
)
"""Parts of artifacts that are below no other part."""
_NAMES = (
    select(_NODE.artifact_blob_id, func.count())
    .where(_NODE.artifact_blob_id.in_(bindparam("blob_ids", expanding=True)))
    .group_by(_NODE.artifact_blob_id)
)
_DELETE_LINKS = delete_rows(link_table).where(_LINK.link_source_id.in_(_IDS))
_USERS = select(_LINK.link_source_id).where(_LINK.link_target_id.in_(_IDS)).distinct()
_DETACH = update(node_table).where(_NODE.node_id.in_(_IDS)).values(node_parent_id=None)
_DELETE_NODES = delete_rows(node_table).where(_NODE.node_id.in_(_IDS))
