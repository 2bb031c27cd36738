"""Rows of blobs: every object that was written to a storage, or was about to be.

    pending     recorded before its data is written; until its lease runs out it is its writer's
    live        written, and named by a node; until its lease runs out others may come to name it
    abandoned   pending, and its lease ran out: its writer has died, or stalls
    unused      live, and no node names it any more

From `abandoned` and `unused` there is no way back: no save takes such a blob. `blob_lease_until` is
the end of the lease of a pending or live blob, and of the others the moment when they were given
up. All moments are read off the clock of the database, never off a client's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from artigraph.dialects import FromNow, shown_url
from artigraph.errors import LeaseExpiredError
from artigraph.tables import blob_table, node_table

T = TypeVar("T")

BlobState: TypeAlias = Literal["pending", "live", "abandoned", "unused"]

LEASE: Final = 3600
"""How long a pending blob is left alone after its writer was last heard of, in seconds."""

_CHUNK: Final = 10_000
"""How many ids one statement names: SQLite and PostgreSQL take 32,767 parameters."""

_MEASURED_CHUNK: Final = 100
"""How many blobs one statement gives their contents; its length grows with their square."""

_BLOB = blob_table.c


class Blob(NamedTuple):
    """Data that is, or is about to be, in a storage."""

    blob_id: UUID
    storage: str
    location: str
    size: int
    sha256: str


class Condemned(NamedTuple):
    """A blob whose data is to be removed."""

    blob_id: UUID
    storage: str
    location: str
    size: int
    state: BlobState


class Count(NamedTuple):
    """How many blobs, and how many bytes they have."""

    number: int = 0
    size: int = 0


def insert_intents(connection: Connection, blobs: Sequence[Blob], now: datetime) -> None:
    """Record what is about to be written to storages, before any of it is."""
    if not blobs:
        return
    connection.execute(
        insert(blob_table).values(blob_lease_until=FromNow(LEASE)),
        [
            {
                "blob_id": blob.blob_id,
                "blob_storage": blob.storage,
                "blob_location": blob.location,
                "blob_size": blob.size,
                "blob_sha256": blob.sha256,
                "blob_state": "pending",
                "blob_created_at": now,
            }
            for blob in blobs
        ],
    )


def hold_equal(connection: Connection, wanted: Sequence[Blob]) -> dict[UUID, Blob]:
    """Live blobs of the same content, by the ids of those for which they can stand.

    For a lease nobody gives them up, whatever becomes of the nodes that name them now.
    """
    by_content: dict[tuple[object, ...], Blob] = {}
    for digests in in_chunks([blob.sha256 for blob in wanted]):
        connection.execute(_HOLD, {"digests": digests})
        for row in connection.execute(_LIVE, {"digests": digests}):
            live = Blob._make(row)
            by_content[live.storage, live.size, live.sha256] = live
    contents = {blob.blob_id: (blob.storage, blob.size, blob.sha256) for blob in wanted}
    return {
        blob_id: by_content[content]
        for blob_id, content in contents.items()
        if content in by_content
    }


def are_recorded(connection: Connection, blob_ids: Sequence[UUID]) -> bool:
    """Whether there are rows of these blobs."""
    found = connection.scalar(_RECORDED, {"blob_ids": blob_ids})
    return found == len(blob_ids)


def are_kept(connection: Connection, blob_ids: Sequence[UUID]) -> bool:
    """Whether none of these blobs was given up."""
    found = [connection.scalar(_KEPT, {"blob_ids": chunk}) or 0 for chunk in in_chunks(blob_ids)]
    return sum(found) == len(blob_ids)


def renew_leases(connection: Connection, blob_ids: Sequence[UUID]) -> None:
    """Tell that the writer of these blobs is still at work."""
    for chunk in in_chunks(blob_ids):
        connection.execute(_RENEW, {"blob_ids": chunk})


def publish(
    connection: Connection, blob_ids: Sequence[UUID], measured: Sequence[Blob] = ()
) -> None:
    """Turn written blobs live, in the transaction that inserts the nodes that name them.

    Args:
        connection: In that transaction.
        blob_ids: Of all that were written.
        measured: Those of which nobody knew the size and SHA-256 before they were written.

    Raises:
        LeaseExpiredError: Some blob was given up: its lease ran out.
    """
    plain = set(blob_ids).difference(blob.blob_id for blob in measured)
    published = 0
    for chunk in in_chunks(list(plain)):
        published += connection.execute(_PUBLISH, {"blob_ids": chunk}).rowcount
    for chunk in in_chunks(measured, _MEASURED_CHUNK):
        published += connection.execute(_with_contents(chunk)).rowcount
    if published != len(plain) + len(measured):
        raise lease_expired(shown_url(connection.engine.url))


def lease_expired(database: str) -> LeaseExpiredError:
    """What a save is told whose blobs were given up."""
    return LeaseExpiredError(
        database,
        f"the save, or its connection, stalled for longer than its lease of {LEASE} seconds,"
        " so that what it had written was given up by a collection",
        "Nothing was saved. Save the same object again: its data is written anew.",
    )


def condemn_abandoned(connection: Connection) -> int:
    """Give up every pending blob whose lease ran out, and tell how many."""
    return connection.execute(_CONDEMN_ABANDONED).rowcount


def condemn_unused(connection: Connection, blob_ids: Sequence[UUID]) -> int:
    """Give up those of these live blobs that no node names, and tell how many."""
    # First the locks, then a statement that sees what was committed until they were given: a save
    # that publishes meanwhile holds the lock, and its nodes are seen.
    connection.execute(_LOCK, {"blob_ids": blob_ids})
    return connection.execute(_CONDEMN_UNUSED, {"blob_ids": blob_ids}).rowcount


def read_unused(connection: Connection, after: UUID, limit: int) -> list[UUID]:
    """Live blobs that no node names, by their ids, beginning after one."""
    return list(connection.scalars(_UNUSED, {"after": after, "limit": limit}))


def read_condemned(
    connection: Connection, after: UUID, limit: int, *, grace: float
) -> list[Condemned]:
    """Blobs that were given up longer than `grace` seconds ago and that no node names."""
    statement = _CONDEMNED.where(_BLOB.blob_lease_until <= FromNow(-grace))
    rows = connection.execute(statement, {"after": after, "limit": limit}).all()
    return [Condemned._make(row) for row in rows]


def read_copies(connection: Connection, blob_id: UUID) -> list[Blob]:
    """The live blobs of the same size and SHA-256 as one, and that one itself."""
    return [Blob._make(row) for row in connection.execute(_COPIES, {"blob_id": blob_id})]


def forget(connection: Connection, blob_ids: Sequence[UUID]) -> Count:
    """Delete the rows of blobs whose data was removed, and tell of how many.

    An abandoned one stays for a lease: its writer may have stalled, and write it after all.
    """
    # First the locks: of several collections that come here at once, one counts them.
    connection.execute(_LOCK, {"blob_ids": blob_ids})
    number, size = connection.execute(_COUNT_FORGETTABLE, {"blob_ids": blob_ids}).one()
    connection.execute(_FORGET, {"blob_ids": blob_ids})
    return Count(number, int(size or 0))


def count(connection: Connection) -> dict[str, Count]:
    """How many blobs there are, by state."""
    return _counts(connection.execute(_COUNT))


def count_collectable(connection: Connection, *, grace: float) -> dict[str, Count]:
    """How many blobs a collection has to do with.

    Those that it would give up as `abandoned` or `unused`, those that it would forget as
    `removable`, and all others that were given up as `waiting`.
    """
    is_over = _BLOB.blob_lease_until <= FromNow(-grace)
    what = case(
        (_BLOB.blob_state == "pending", "abandoned"),
        (_BLOB.blob_state == "live", "unused"),
        (and_(_IS_FORGETTABLE, is_over), "removable"),
        else_="waiting",
    )
    each = (
        select(what.label("what"), _BLOB.blob_size)
        .where(or_(_IS_ABANDONED, _IS_FREE, _BLOB.blob_state.in_(_GIVEN_UP)))
        .subquery()
    )
    counting = select(each.c.what, func.count(), func.sum(each.c.blob_size))
    return _counts(connection.execute(counting.group_by(each.c.what)))


def _counts(rows: Iterable[Any]) -> dict[str, Count]:
    return {what: Count(number, int(size or 0)) for what, number, size in rows}


def in_chunks(ids: Sequence[T], size: int = _CHUNK) -> list[Sequence[T]]:
    """The ids in as many parts as take a statement each."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


_IDS: Final[BindParameter[UUID]] = bindparam("blob_ids", expanding=True)
_IS_NAMED: Final[ColumnElement[bool]] = exists().where(
    node_table.c.artifact_blob_id == _BLOB.blob_id
)

_RECORDED = select(func.count()).select_from(blob_table).where(_BLOB.blob_id.in_(_IDS))

_IS_KEPT: Final = _BLOB.blob_state.in_(["pending", "live"])
_KEPT = _RECORDED.where(_IS_KEPT)
_DIGESTS: Final[BindParameter[str]] = bindparam("digests", expanding=True)

_HOLD = (
    update(blob_table)
    .where(_BLOB.blob_sha256.in_(_DIGESTS), _BLOB.blob_state == "live")
    .values(blob_lease_until=FromNow(LEASE))
)

_LIVE = (
    select(
        _BLOB.blob_id, _BLOB.blob_storage, _BLOB.blob_location, _BLOB.blob_size, _BLOB.blob_sha256
    )
    .where(_BLOB.blob_sha256.in_(_DIGESTS), _BLOB.blob_state == "live")
    .order_by(_BLOB.blob_id)
)

_RENEW = (
    update(blob_table)
    .where(_BLOB.blob_id.in_(_IDS), _IS_KEPT)
    .values(blob_lease_until=FromNow(LEASE))
)

_PUBLISH = (
    update(blob_table)
    .where(_BLOB.blob_id.in_(_IDS), _IS_KEPT)
    # In this order: MySQL's assignments see what those before them have assigned.
    .ordered_values(
        (
            # What is shared may be held by others, too.
            _BLOB.blob_lease_until,
            case((_BLOB.blob_state == "pending", FromNow(0)), else_=_BLOB.blob_lease_until),
        ),
        (_BLOB.blob_state, "live"),
    )
)


def _with_contents(measured: Sequence[Blob]) -> Update:
    """The statement that publishes blobs, and records what was written."""
    blob_ids = [blob.blob_id for blob in measured]
    sizes = [(_BLOB.blob_id == blob.blob_id, blob.size) for blob in measured]
    digests = [(_BLOB.blob_id == blob.blob_id, blob.sha256) for blob in measured]
    return (
        update(blob_table)
        .where(_BLOB.blob_id.in_(blob_ids), _IS_KEPT)
        .values(
            blob_size=case(*sizes, else_=_BLOB.blob_size),
            blob_sha256=case(*digests, else_=_BLOB.blob_sha256),
            blob_lease_until=FromNow(0),
            blob_state="live",
        )
    )


_IS_ABANDONED: Final = and_(_BLOB.blob_state == "pending", _BLOB.blob_lease_until < FromNow(0))

_CONDEMN_ABANDONED = (
    update(blob_table)
    .where(_IS_ABANDONED)
    .values(blob_state="abandoned", blob_lease_until=FromNow(0))
)

_IS_FREE: Final = and_(_BLOB.blob_state == "live", _BLOB.blob_lease_until <= FromNow(0), ~_IS_NAMED)

_LOCK = (
    # An update, so that SQLite takes its lock too.
    update(blob_table).where(_BLOB.blob_id.in_(_IDS)).values(blob_state=_BLOB.blob_state)
)

_CONDEMN_UNUSED = (
    update(blob_table)
    .where(_BLOB.blob_id.in_(_IDS), _IS_FREE)
    .values(blob_state="unused", blob_lease_until=FromNow(0))
)

_AFTER: Final = and_(_BLOB.blob_id > bindparam("after", type_=_BLOB.blob_id.type))

_UNUSED = (
    select(_BLOB.blob_id).where(_AFTER, _IS_FREE).order_by(_BLOB.blob_id).limit(bindparam("limit"))
)

_GIVEN_UP: Final = ["abandoned", "unused"]

_CONDEMNED = (
    select(
        _BLOB.blob_id, _BLOB.blob_storage, _BLOB.blob_location, _BLOB.blob_size, _BLOB.blob_state
    )
    .where(_AFTER, _BLOB.blob_state.in_(_GIVEN_UP), ~_IS_NAMED)
    .order_by(_BLOB.blob_id)
    .limit(bindparam("limit"))
)

_OTHER = blob_table.alias("other")

_COPIES = (
    select(
        _BLOB.blob_id, _BLOB.blob_storage, _BLOB.blob_location, _BLOB.blob_size, _BLOB.blob_sha256
    )
    .join(
        _OTHER,
        and_(_OTHER.c.blob_sha256 == _BLOB.blob_sha256, _OTHER.c.blob_size == _BLOB.blob_size),
    )
    .where(_OTHER.c.blob_id == bindparam("blob_id"), _BLOB.blob_state == "live")
    .order_by(_BLOB.blob_id)
)

_IS_FORGETTABLE: Final = and_(
    or_(
        _BLOB.blob_state == "unused",
        and_(_BLOB.blob_state == "abandoned", _BLOB.blob_lease_until < FromNow(-LEASE)),
    ),
    ~_IS_NAMED,
)

_FORGET = delete(blob_table).where(_BLOB.blob_id.in_(_IDS), _IS_FORGETTABLE)

_COUNT = select(_BLOB.blob_state, func.count(), func.sum(_BLOB.blob_size)).group_by(
    _BLOB.blob_state
)

_COUNT_FORGETTABLE = select(func.count(), func.sum(_BLOB.blob_size)).where(
    _BLOB.blob_id.in_(_IDS), _IS_FORGETTABLE
)
