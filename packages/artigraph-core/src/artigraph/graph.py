"""Rows of the graph: how they are written, and the one statement that answers each question.

Everything here works on a connection that `database` opened, and neither commits nor serializes.
"""

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from types import NoneType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, overload
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
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import NullType

from artigraph.blobs import in_chunks
from artigraph.dialects import IsAmong
from artigraph.errors import CorruptRowError, shown
from artigraph.insertion import Insertion
from artigraph.tables import blob_table, node_table

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


class Nodes(Sequence[Node]):
    """Those of rows, each made when it is asked for: of many, most are never there at once."""

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Node]:
        return map(Node._make, self._rows)

    @overload
    def __getitem__(self, place: int) -> Node: ...
    @overload
    def __getitem__(self, place: slice) -> "Nodes": ...
    def __getitem__(self, place: int | slice) -> "Node | Nodes":
        found = self._rows[place]
        return Nodes(found) if isinstance(place, slice) else Node._make(found)


class NodeRows:
    """The rows of nodes, as a driver gave them: not a value of them was looked at."""

    def __init__(
        self,
        connection: Connection,
        statement: Executable,
        parameters: Row,
        *,
        is_ordered: bool = True,
    ) -> None:
        self._dialect = connection.dialect
        self._parameters = parameters
        self._is_ordered = is_ordered
        with _readable(parameters), closing(connection.execute(statement, parameters)) as result:
            # SQLAlchemy's own rows would be there beside those of the driver.
            cursor: Any = result.cursor
            self._rows: list[tuple[Any, ...]] = cursor.fetchall()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def weight(self) -> int:
        """How much work they are, in nodes; so much of a document is as much as one."""
        letters = sum(len(row[_FIELDS]) for row in self._rows if isinstance(row[_FIELDS], str))
        return len(self._rows) + letters // _NODE_LETTERS

    @property
    def first_key(self) -> Key:
        """The key of the first node, of which there is one: where trees were read, a root's."""
        return self._rows[0][0]

    def key_of(self, node_id: UUID) -> Key | None:
        """The key that the node of this id has; None where there is no such node."""
        to_driver = _NODE.node_id.type.dialect_impl(self._dialect).bind_processor(self._dialect)
        wanted = node_id if to_driver is None else to_driver(node_id)
        return next((row[0] for row in self._rows if row[0] == wanted), None)

    def nodes(self) -> Nodes:
        """The nodes: tree after tree, parents first.

        Raises:
            CorruptRowError: A column holds what it can't hold.
        """
        return Nodes(self._checked())

    def trees(self) -> Iterator[Sequence[Node]]:
        """The nodes of one tree after the other; runs are one too.

        Raises:
            CorruptRowError: A column holds what it can't hold.
        """
        for _, rows in groupby(self._checked(), itemgetter(_TREE_KEY)):
            nodes = Nodes(list(rows))
            yield nodes if len(nodes) > _MANY else list(nodes)

    def _checked(self) -> list[tuple[Any, ...]]:
        with _readable(self._parameters):
            if self._dialect.name == "sqlite":
                _check_types(self._rows)
            rows = _with_labels(self._rows, self._dialect)
        if self._is_ordered:
            return rows
        return sorted(rows, key=lambda row: (row[_TREE_KEY] or row[0], row[0]))


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

_MANY: Final = 100
"""Nodes, of which it takes less to make some twice than to have all at once."""

_NODE_LETTERS: Final = 1_000

_FIELDS: Final = Node._fields.index("fields")
_LABEL: Final = Node._fields.index("label")
_TREE_KEY: Final = Node._fields.index("tree_key")

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


def read_trees(connection: Connection, tree_ids: Sequence[UUID]) -> NodeRows:
    """All nodes of some trees: tree after tree, parents first."""
    return NodeRows(connection, _TREES, {"tree_ids": tree_ids})


def find_run(connection: Connection, run_id: UUID) -> RunNode | None:
    """The run of this id, or None."""
    found = _read(connection, _RUN, {"node_id": run_id})
    return RunNode._make(found[0]) if found else None


def read_runs_below(connection: Connection, run_id: UUID) -> list[RunNode]:
    """All runs below a run, at any depth, in the order in which they were made."""
    return [RunNode._make(row) for row in _read(connection, _RUNS_BELOW, {"run_id": run_id})]


def read_everything_below(connection: Connection, run_id: UUID) -> NodeRows:
    """All runs below a run at any depth, as bare nodes, and all nodes of the trees in them."""
    is_mysql = connection.dialect.name in ("mysql", "mariadb")
    statement = _EVERYTHING_BELOW_ON_MYSQL if is_mysql else _EVERYTHING_BELOW
    return NodeRows(connection, statement, {"run_id": run_id}, is_ordered=False)


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


def _check_types(rows: Sequence[tuple[Any, ...]]) -> None:
    """Refuse values that only SQLite keeps, which has any type in any column."""
    for row in rows:
        types = tuple(map(type, row))
        if types not in _known_types:
            for name, kind, expected in zip(Node._fields, types, _TYPES, strict=True):
                if kind not in (*expected, NoneType):
                    raise CorruptRowError(
                        f"node {shown(row[0])}", f"its {name} is of type {kind.__name__}."
                    )
            _known_types.add(types)
        for key in _keys(row):
            if key is not None and len(key) != 16:
                raise ValueError("an id has another length")


_KEY: Final = (bytes, UUID)
_TYPES: Final = (
    *(_KEY, (str,), _KEY, (str,), (int,), (str,), (str,), (bytes,), _KEY, (int,), (str,)),
    *(_KEY, (str,), (str,), (str,), (int,), (str,), (str,), (str,), (str,)),
)
_keys = itemgetter(*(place for place, expected in enumerate(_TYPES) if expected is _KEY))
_known_types: set[tuple[type, ...]] = set()
"""Those of rows that were looked at: there are few, and most rows are of one of them."""


def _with_labels(rows: list[tuple[Any, ...]], dialect: Dialect) -> list[tuple[Any, ...]]:
    """Rows in which labels are text, as bytes are on the MySQL family."""
    decode = _NODE.artifact_label.type.dialect_impl(dialect).result_processor(dialect, None)
    if decode is None:
        return rows
    return [(*row[:_LABEL], decode(row[_LABEL]), *row[_LABEL + 1 :]) for row in rows]


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
_AS_THEY_COME = [type_coerce(column, NullType()).label(column.name) for column in _COLUMNS]
"""SQLAlchemy would process value by value, which takes longer than the database for all of it."""

_SELECT = select(*_AS_THEY_COME).select_from(_FROM)


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

_TREE = _SELECT.where(
    _NODE.artifact_tree_id
    == select(_ANCHOR.c.artifact_tree_id)
    .where(_ANCHOR.c.node_id == bindparam("node_id", type_=_NODE.node_id.type))
    .scalar_subquery()
).order_by(_NODE.artifact_tree_id, _NODE.node_id)

_TREE_LABELLED = _SELECT.where(
    _NODE.artifact_tree_id
    == select(_ANCHOR.c.artifact_tree_id)
    .where(
        _ANCHOR.c.node_parent_id == bindparam("parent_id", type_=_NODE.node_id.type),
        _ANCHOR.c.artifact_label == bindparam("label", type_=_NODE.artifact_label.type),
    )
    .scalar_subquery()
).order_by(_NODE.artifact_tree_id, _NODE.node_id)

_TREES_BELOW = (
    _SELECT.join(_ANCHOR, _ANCHOR.c.node_id == _NODE.artifact_tree_id)
    .where(_ANCHOR.c.node_parent_id == bindparam("parent_id", type_=_NODE.node_id.type))
    .order_by(_NODE.artifact_tree_id, _NODE.node_id)
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


def _everything_below() -> Any:
    """Runs, and the trees in them, unsorted: to sort them MariaDB would write a file first."""
    roots = select(_ANCHOR.c.node_id).where(
        IsAmong(_ANCHOR.c.node_parent_id, select(_RUNS.c.node_id))
    )
    return union_all(
        _SELECT.where(IsAmong(_NODE.node_id, select(_RUNS.c.node_id))),
        _SELECT.where(IsAmong(_NODE.artifact_tree_id, roots)),
    )


def _everything_below_on_mysql() -> Any:
    """The same, always from the few to what the indexes say of them."""
    has_blob = _NODE.artifact_blob_id == _BLOB.blob_id
    roots = _RUNS.join(_ANCHOR, _ANCHOR.c.node_parent_id == _RUNS.c.node_id)
    return union_all(
        *(
            _in_this_order(
                select(*_AS_THEY_COME).select_from(
                    few.join(node_table, on).outerjoin(blob_table, has_blob)
                )
            )
            for few, on in (
                (_RUNS, _NODE.node_id == _RUNS.c.node_id),
                (roots, _NODE.artifact_tree_id == _ANCHOR.c.node_id),
            )
        )
    )


_EVERYTHING_BELOW = _everything_below()
_EVERYTHING_BELOW_ON_MYSQL = _everything_below_on_mysql()
