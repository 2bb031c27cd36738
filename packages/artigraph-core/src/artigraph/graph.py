"""Rows of the graph: how they are written, and the one statement that answers each question.

Everything here works on a connection that `database` opened, and neither commits nor serializes.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import NoneType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import (
    Column,
    Connection,
    Executable,
    Select,
    and_,
    bindparam,
    insert,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

from artigraph.blobs import in_chunks
from artigraph.dialects import IsAmong
from artigraph.direct import Direct, Insertion
from artigraph.errors import CorruptRowError, shown
from artigraph.tables import Identifier, blob_table, node_table

S = TypeVar("S", bound=Select[Any, *tuple[Any, ...]])

NodeType: TypeAlias = Literal["run", "model", "mapping", "sequence", "artifact"]

Row: TypeAlias = dict[str, Any]
"""What is inserted for a node: a value for every column of its table."""

_ARTIFACT_COLUMNS: Final = tuple(
    column.name for column in node_table.columns if not column.name.startswith("run_")
)

EMPTY_ARTIFACT: Final[Row] = dict.fromkeys(_ARTIFACT_COLUMNS)
"""What the row of every artifact begins as, since all rows of a statement have the same columns."""


Key: TypeAlias = UUID | bytes
"""An id as the driver of the database has it: equal where the ids are, and made of no object."""


class Node(NamedTuple):
    """What is read of an artifact, with its blob where it has one."""

    key: Key
    node_type: NodeType
    parent_key: Key | None
    label: str | None
    position: int | None
    serializer: str | None
    distribution: str | None
    data: bytes | None
    blob_key: Key | None
    size: int | None
    sha256: str | None
    tree_key: Key | None
    tree_digest: str | None
    model_name: str | None
    model_module: str | None
    model_version: int | None
    fields: str | None
    blob_storage: str | None
    blob_location: str | None
    blob_state: str | None

    @property
    def node_id(self) -> UUID:
        return id_of(self.key)

    @property
    def node_parent_id(self) -> UUID | None:
        return None if self.parent_key is None else id_of(self.parent_key)

    @property
    def blob_id(self) -> UUID | None:
        return None if self.blob_key is None else id_of(self.blob_key)

    @property
    def tree_id(self) -> UUID | None:
        return None if self.tree_key is None else id_of(self.tree_key)


def id_of(key: Key) -> UUID:
    """The id whose key this is."""
    return key if isinstance(key, UUID) else UUID(bytes=key)


class RunNode(NamedTuple):
    """What is read of a run."""

    node_id: UUID
    node_parent_id: UUID | None
    label: str | None
    status: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error_type: str | None
    error_message: str | None
    attributes: str | None
    owner: str | None


class Refusal(NamedTuple):
    """What stands in the way of roots that could not be inserted."""

    digests: Mapping[UUID, str | None]
    """Of the trees that are saved under the roots' ids already."""
    parents: Collection[UUID]
    """Those of the roots' parents that are there."""
    label_owners: Mapping[tuple[UUID, str], UUID]
    """By parent and label, the nodes that have what a root was to have."""


class NodeRows:
    """The rows of nodes, as a driver gave them: not a value of them was looked at."""

    def __init__(
        self,
        connection: Connection,
        statement: Direct,
        parameters: Row,
        *,
        is_ordered: bool = True,
    ) -> None:
        self._statement = statement
        self._is_ordered = is_ordered
        self._dialect = connection.dialect
        self._parameters = parameters
        with _readable(parameters):
            self._rows = statement.fetch(connection, parameters)

    def __len__(self) -> int:
        return len(self._rows)

    def nodes(self) -> list[Node]:
        """The nodes: tree after tree, parents first.

        Raises:
            CorruptRowError: A column holds what it can't hold.
        """
        with _readable(self._parameters):
            processed = self._statement.processed(self._dialect, self._rows)
            nodes = list(map(Node._make, processed))
            _check_types(self._dialect, nodes)
        if not self._is_ordered:
            nodes.sort(key=lambda node: (node.tree_key or node.key, node.key))
        return nodes


_NODE = node_table.c
_BLOB = blob_table.c

_COLUMNS: Final[Sequence[Column[Any]]] = (
    _NODE.node_id,
    _NODE.node_type,
    _NODE.node_parent_id,
    _NODE.artifact_label,
    _NODE.artifact_position,
    _NODE.artifact_serializer,
    _NODE.artifact_distribution,
    _NODE.artifact_data,
    _NODE.artifact_blob_id,
    _NODE.artifact_size,
    _NODE.artifact_sha256,
    _NODE.artifact_tree_id,
    _NODE.artifact_tree_digest,
    _NODE.model_name,
    _NODE.model_module,
    _NODE.model_version,
    _NODE.model_fields,
    _BLOB.blob_storage,
    _BLOB.blob_location,
    _BLOB.blob_state,
)

_READ_AS: Final = [
    None if isinstance(column.type, Identifier) else column.type for column in _COLUMNS
]
"""Ids stay keys."""

_RUN_COLUMNS: Final[Sequence[Column[Any]]] = (
    _NODE.node_id,
    _NODE.node_parent_id,
    _NODE.run_label,
    _NODE.run_status,
    _NODE.run_started_at,
    _NODE.run_finished_at,
    _NODE.run_error_type,
    _NODE.run_error_message,
    _NODE.run_attributes,
    _NODE.run_owner,
)

_INSERT_NODES = insert(node_table)
_INSERT_ARTIFACTS = Insertion(node_table, _ARTIFACT_COLUMNS)


def insert_run(connection: Connection, row: Row) -> None:
    """Insert a run."""
    connection.execute(_INSERT_NODES, row)


def insert_artifacts(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert artifacts, each beginning as `EMPTY_ARTIFACT`, parents before their children."""
    _INSERT_ARTIFACTS.insert(connection, rows)


def find_refusal(connection: Connection, roots: Sequence[Row]) -> Refusal:
    """What stands in the way of inserting roots."""
    root_ids = {root["node_id"] for root in roots}
    places = {(root["node_parent_id"], root.get("artifact_label")) for root in roots}
    digests: dict[UUID, str | None] = {}
    found: set[UUID] = set()
    owners: dict[tuple[UUID, str], UUID] = {}
    for chunk in in_chunks(roots, _ROOTS):
        parents = {root["node_parent_id"] for root in chunk} - {None}
        parameters = {
            "node_ids": [*(root["node_id"] for root in chunk), *parents],
            "parent_ids": [*parents],
            "labels": [root.get("artifact_label") or "" for root in chunk],
        }
        for node_id, parent_id, label, digest in connection.execute(_IN_THE_WAY, parameters):
            if node_id in root_ids:
                digests[node_id] = digest
            elif (parent_id, label) in places and label is not None:
                owners[parent_id, label] = node_id
            if node_id in parents:
                found.add(node_id)
    return Refusal(digests, found, owners)


def find_digest(connection: Connection, root_id: UUID) -> str | None:
    """The digest of the tree that is saved under this id, or None."""
    return connection.scalar(select(_NODE.artifact_tree_digest).where(_NODE.node_id == root_id))


def read_tree(connection: Connection, node_id: UUID) -> NodeRows:
    """All nodes of the saved tree that this node is in, parents first."""
    return NodeRows(connection, _TREE, {"node_id": node_id})


def read_tree_labelled(connection: Connection, parent_id: UUID, label: str) -> NodeRows:
    """All nodes of the tree that is saved below a node under this label, parents first."""
    return NodeRows(connection, _TREE_LABELLED, {"parent_id": parent_id, "label": label})


def read_trees_below(connection: Connection, parent_id: UUID) -> NodeRows:
    """All nodes of the trees saved below a node: tree after tree, parents first."""
    return NodeRows(connection, _TREES_BELOW, {"parent_id": parent_id})


def read_tree_ids(
    connection: Connection, after: UUID, limit: int, run_id: UUID | None
) -> list[UUID]:
    """The ids of saved trees, beginning after one: of all, or of those in a run and below it."""
    parameters: Row = {"after": after, "limit": limit}
    statement = _TREE_IDS
    if run_id is not None:
        statement, parameters = _TREE_IDS_IN_RUN, {**parameters, "run_id": run_id}
    with _readable(parameters):
        return list(connection.scalars(statement, parameters))


def read_trees(connection: Connection, tree_ids: Sequence[UUID]) -> list[Node]:
    """All nodes of some trees: tree after tree, parents first."""
    nodes = list(map(Node._make, _read(connection, _TREES, {"tree_ids": tree_ids})))
    _check_types(connection.dialect, nodes)
    return nodes


def find_run(connection: Connection, run_id: UUID) -> RunNode | None:
    """The run of this id, or None."""
    found = _read(connection, _RUN, {"node_id": run_id})
    return RunNode._make(found[0]) if found else None


def read_runs_below(connection: Connection, run_id: UUID) -> list[RunNode]:
    """All runs below a run, at any depth, in the order in which they were made."""
    return [RunNode._make(row) for row in _read(connection, _RUNS_BELOW, {"run_id": run_id})]


def read_everything_below(connection: Connection, run_id: UUID) -> NodeRows:
    """All runs below a run at any depth, as bare nodes, and all nodes of the trees in them."""
    return NodeRows(connection, _EVERYTHING_BELOW, {"run_id": run_id}, is_ordered=False)


def finish_run(
    connection: Connection,
    run_id: UUID,
    *,
    status: str,
    finished_at: datetime,
    error_type: str | None,
    error_message: str | None,
) -> bool:
    """Record the end of a run that is running; tell whether there was one."""
    changed = connection.execute(
        update(node_table).where(_NODE.node_id == run_id, _NODE.run_status == "running"),
        {
            "run_status": status,
            "run_finished_at": finished_at,
            "node_updated_at": finished_at,
            "run_error_type": error_type,
            "run_error_message": error_message,
        },
    )
    return changed.rowcount == 1


def _check_types(dialect: Dialect, nodes: Sequence[Node]) -> None:
    """Refuse values that only SQLite keeps, which has any type in any column."""
    if dialect.name != "sqlite":
        return
    for node in nodes:
        types = tuple(map(type, node))
        if types not in _known_types:
            for name, kind, expected in zip(Node._fields, types, _TYPES, strict=True):
                if kind not in (*expected, NoneType):
                    raise CorruptRowError(
                        f"node {shown(node.key)}", f"its {name} is of type {kind.__name__}."
                    )
            _known_types.add(types)
    for place in _KEYS:
        keys = (node[place] for node in nodes)
        if not {len(key) for key in keys if isinstance(key, bytes)} <= {16}:
            raise ValueError("an id has another length")


_KEY: Final = (bytes, UUID)
_TYPES: Final = (
    *(_KEY, (str,), _KEY, (str,), (int,), (str,), (str,), (bytes,), _KEY, (int,), (str,)),
    *(_KEY, (str,), (str,), (str,), (int,), (str,), (str,), (str,), (str,)),
)
_KEYS: Final = [place for place, expected in enumerate(_TYPES) if expected is _KEY]
_known_types: set[tuple[type, ...]] = set()
"""Those of rows that were looked at: there are few, and most rows are of one of them."""


def _read(connection: Connection, statement: Executable, parameters: Row) -> Sequence[Any]:
    with _readable(parameters):
        return connection.execute(statement, parameters).all()


@contextmanager
def _readable(parameters: Row) -> Generator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        # SQLite keeps values of any type in any column, and MySQL any bytes as a label.
        asked = ", ".join(f"{name} {value}" for name, value in parameters.items())
        raise CorruptRowError(
            f"what is saved with {shown(asked)}", "a column of a row holds what it can't hold."
        ) from error


_FROM = node_table.outerjoin(blob_table, _NODE.artifact_blob_id == _BLOB.blob_id)
_SELECT = select(*_COLUMNS).select_from(_FROM)


def _direct(statement: Any, **parameters: Any) -> Direct:
    return Direct(statement, parameters, _READ_AS)


_ANCHOR = node_table.alias("anchor")

_IN_THE_WAY = select(
    _NODE.node_id, _NODE.node_parent_id, _NODE.artifact_label, _NODE.artifact_tree_digest
).where(
    or_(
        _NODE.node_id.in_(bindparam("node_ids", expanding=True)),
        and_(
            _NODE.node_parent_id.in_(bindparam("parent_ids", expanding=True)),
            _NODE.artifact_label.in_(bindparam("labels", expanding=True)),
        ),
    )
)
_ROOTS: Final = 5_000
"""How many roots one statement looks for."""

_TREE = _direct(
    _SELECT.where(
        _NODE.artifact_tree_id
        == select(_ANCHOR.c.artifact_tree_id)
        .where(_ANCHOR.c.node_id == bindparam("node_id", type_=_NODE.node_id.type))
        .scalar_subquery()
    ).order_by(_NODE.artifact_tree_id, _NODE.node_id),
    node_id=_NODE.node_id,
)

_TREE_LABELLED = _direct(
    _SELECT.where(
        _NODE.artifact_tree_id
        == select(_ANCHOR.c.artifact_tree_id)
        .where(
            _ANCHOR.c.node_parent_id == bindparam("parent_id", type_=_NODE.node_id.type),
            _ANCHOR.c.artifact_label == bindparam("label", type_=_NODE.artifact_label.type),
        )
        .scalar_subquery()
    ).order_by(_NODE.artifact_tree_id, _NODE.node_id),
    parent_id=_NODE.node_id,
    label=_NODE.artifact_label,
)

_TREES_BELOW = _direct(
    (
        _SELECT.join(_ANCHOR, _ANCHOR.c.node_id == _NODE.artifact_tree_id)
        .where(_ANCHOR.c.node_parent_id == bindparam("parent_id", type_=_NODE.node_id.type))
        .order_by(_NODE.artifact_tree_id, _NODE.node_id)
    ),
    parent_id=_NODE.node_id,
)


_RUN = select(*_RUN_COLUMNS).where(
    _NODE.node_id == bindparam("node_id", type_=_NODE.node_id.type), _NODE.node_type == "run"
)


def _runs_below() -> Any:
    """The ids of the runs below a run. UNION, not UNION ALL: a cycle of parents ends."""
    child = node_table.alias("child")
    runs = (
        select(_NODE.node_id)
        .where(
            _NODE.node_parent_id == bindparam("run_id", type_=_NODE.node_id.type),
            _NODE.node_type == "run",
        )
        .cte("runs", recursive=True)
    )
    below = select(child.c.node_id).select_from(
        runs.join(child, child.c.node_parent_id == runs.c.node_id)
    )
    return runs.union(_in_this_order(below.where(child.c.node_type == "run")))


def _in_this_order(statement: S) -> S:
    """Let the MySQL family join as it is written: else it reads the whole table for some rows."""
    for dialect in ("mysql", "mariadb"):
        statement = statement.prefix_with("STRAIGHT_JOIN", dialect=dialect)
    return statement


_RUNS = _runs_below()

_TREES = _SELECT.where(_NODE.artifact_tree_id.in_(bindparam("tree_ids", expanding=True))).order_by(
    _NODE.artifact_tree_id, _NODE.node_id
)

_TREE_IDS = (
    select(_NODE.artifact_tree_id)
    .where(_NODE.artifact_tree_id > bindparam("after", type_=_NODE.node_id.type))
    .distinct()
    .order_by(_NODE.artifact_tree_id)
    .limit(bindparam("limit"))
)


def _below() -> Any:
    """The ids of all nodes below a run, of artifacts too, and of what is below these."""
    child = node_table.alias("child")
    below = (
        select(_NODE.node_id)
        .where(_NODE.node_parent_id == bindparam("run_id", type_=_NODE.node_id.type))
        .cte("below", recursive=True)
    )
    children = below.join(child, child.c.node_parent_id == below.c.node_id)
    return below.union(_in_this_order(select(child.c.node_id).select_from(children)))


_TREE_IDS_IN_RUN = _TREE_IDS.where(IsAmong(_NODE.node_id, select(_below().c.node_id)))

_RUNS_BELOW = (
    select(*_RUN_COLUMNS)
    .where(IsAmong(_NODE.node_id, select(_RUNS.c.node_id)))
    .order_by(_NODE.node_id)
)


def _everything_below(dialect: Dialect) -> ClauseElement:
    """Runs, and the trees in them: always from the few to what the indexes say of them.

    In no order, for which MariaDB would write all of it to a file first.
    """
    if dialect.name in ("mysql", "mariadb"):
        has_blob = _NODE.artifact_blob_id == _BLOB.blob_id
        roots = _RUNS.join(_ANCHOR, _ANCHOR.c.node_parent_id == _RUNS.c.node_id)
        runs, trees = (
            _in_this_order(
                select(*_COLUMNS).select_from(
                    few.join(node_table, on).outerjoin(blob_table, has_blob)
                )
            )
            for few, on in (
                (_RUNS, _NODE.node_id == _RUNS.c.node_id),
                (roots, _NODE.artifact_tree_id == _ANCHOR.c.node_id),
            )
        )
    else:
        roots = select(_ANCHOR.c.node_id).where(
            IsAmong(_ANCHOR.c.node_parent_id, select(_RUNS.c.node_id))
        )
        runs = _SELECT.where(IsAmong(_NODE.node_id, select(_RUNS.c.node_id)))
        trees = _SELECT.where(IsAmong(_NODE.artifact_tree_id, roots))
    return union_all(runs, trees)


_EVERYTHING_BELOW = _direct(_everything_below, run_id=_NODE.node_id)
