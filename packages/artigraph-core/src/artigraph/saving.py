"""From values to what is saved: begun, finished, and found again after an unknown outcome."""

import asyncio
import weakref
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from artigraph import graph
from artigraph.artifact import (
    serialize_parts,
)
from artigraph.drafting import Draft, TooMuchError, draft_all
from artigraph.engine import Database
from artigraph.errors import (
    ConflictError,
    DatabaseError,
    NodeNotFoundError,
    shown,
)
from artigraph.graph import Row
from artigraph.lazy import stored_in
from artigraph.tree import Tree, is_root
from artigraph.writing import Chunks, Written, write_data, write_rows

AT_ONCE: Final = 500
"""How many values are prepared before others have a turn on the event loop."""

ON_THE_LOOP: Final = 3_000
"""How many values a save looks at before it begins anew in a thread; they take a millisecond."""


class Begun(NamedTuple):
    """Values whose data is written, and whose rows are ready to be."""

    values: Sequence[object]
    rows: Sequence[Row]
    """Of the trees of the values, one after the other."""
    written: Written = Written()
    done: Sequence[tuple[object, Tree]] = ()
    """Further values, which an earlier attempt has saved after all."""

    def pairs(self) -> Iterator[tuple[object, Tree]]:
        """The values, each with its tree, of which more than the rows is seldom needed."""
        roots = (place for place, row in enumerate(self.rows) if is_root(row))
        places = pairwise((*roots, len(self.rows)))
        for value, (start, end) in zip(self.values, places, strict=True):
            yield value, Tree(list(self.rows[start:end]))


async def save_trees(
    database: Database, values: Sequence[tuple[str | None, object]], parent_id: UUID | None
) -> list[UUID]:
    """Save values with their labels below a node, all or none, and return their ids.

    Raises:
        ArtigraphError: Something can't be kept, or is in the way; nothing was saved.
        SaveOutcomeUnknownError: The connection broke during the commit.
    """
    ids, begun = await begin(database, values, parent_id)
    await finish(database, begun)
    return ids


async def begin(
    database: Database, values: Sequence[tuple[str | None, object]], parent_id: UUID | None
) -> tuple[list[UUID], Begun]:
    """Do all of a save that comes before its rows are written; also returned are the new ids.

    Values that an earlier attempt has saved after all are not begun again.

    Raises:
        ArtigraphError: Something can't be kept, or a storage is in the way; nothing was saved.
    """
    roots: list[Row] = []
    kept: list[object] = []
    rows: list[Row] = []
    apart: list[tuple[object, Tree]] = []
    for start in range(0, len(values), AT_ONCE):
        some = values[start : start + AT_ONCE]
        trees = await _prepared(database, some, parent_id)
        for (_, value), tree in zip(some, trees, strict=True):
            roots.append(tree.rows[0])
            if tree.transfers or tree.blob_ids or is_remembered(database, value, tree):
                apart.append((value, tree))
            else:  # of many, most trees are never there at once
                kept.append(value)
                rows += tree.rows
    earlier = _Earlier(database)
    with _remembered(database, earlier.done):
        begun = [pair for pair in apart if not await earlier.saved(*pair)]
    with _remembered(database, chain(earlier.done, begun, Begun(kept, rows).pairs())):
        written = await write_data(database, [tree for _, tree in begun])
        for value, tree in begun:
            if tree.digest is None:
                tree.seal()
                if await earlier.saved(value, tree):
                    continue
            kept.append(value)
            rows += tree.rows
    return [root["node_id"] for root in roots], Begun(kept, rows, written, earlier.done)


async def finish(database: Database, begun: Begun, chunks: Chunks | None = None) -> None:
    """Write the rows of values that were begun, and publish their data, all or nothing.

    Args:
        database: Where they were begun.
        begun: The values.
        chunks: Their rows, and more of values that are not kept.

    Raises:
        ArtigraphError: Something is in the way; nothing was saved.
        SaveOutcomeUnknownError: The connection broke during the commit.
    """
    if chunks is None:
        if not begun.rows:
            return
        chunks = partial(iter, [begun.rows])
    try:
        with _remembered(database, chain(begun.done, begun.pairs())):
            await write_rows(database, chunks, begun.written)
    except IntegrityError as error:
        _forget_all(database, begun)
        await _explain(database, chunks, error)
    _forget_all(database, begun)


def _forget_all(database: Database, begun: Begun) -> None:
    if _begun:
        for value, tree in begun.pairs():
            _forget(database, value, tree)


@contextmanager
def _remembered(database: Database, begun: Iterable[tuple[object, Tree]]) -> Generator[None]:
    """Keep in mind what was begun in the block, if that does not come to its end."""
    try:
        yield
    except BaseException:
        for value, tree in begun:
            if tree.digest is not None:  # otherwise it was not written, and is not known in full
                _remember(database, value, tree)
        raise


async def _prepared(
    database: Database, values: Sequence[tuple[str | None, object]], parent_id: UUID | None
) -> list[Tree]:
    drafts: list[Draft] = []
    is_large = len(values) > ON_THE_LOOP // 10
    try:
        drafts = [] if is_large else draft_all(values, parent_id, ON_THE_LOOP)
    except TooMuchError:
        is_large = True
    if is_large:
        drafts = await asyncio.to_thread(draft_all, values, parent_id)
    parts = [part for draft in drafts for part in draft.parts]
    for part in parts:
        stored = stored_in(part.value)
        if stored is not None and not stored.is_in(database):
            part.value = await stored.load()
    if parts or is_large:
        return await asyncio.to_thread(_sealed, drafts, database)
    return _sealed(drafts, database)


def _sealed(drafts: Sequence[Draft], database: Database) -> list[Tree]:
    trees: list[Tree] = []
    for draft in drafts:
        transfers = serialize_parts(draft.parts, database)
        named = (part.row["artifact_blob_id"] for part in draft.parts)
        trees.append(Tree(draft.rows, transfers, [each for each in named if each is not None]))
    for tree in trees:
        if not any(transfer.is_streamed for transfer in tree.transfers):
            tree.seal()
    return trees


async def _explain(database: Database, chunks: Chunks, error: IntegrityError) -> None:
    """Say why the database refused rows, or return where all were saved by an earlier attempt."""
    were_saved = True
    given: set[tuple[UUID, str]] = set()
    for rows in chunks():
        roots = [row for row in rows if is_root(row)]
        refusal = await _refusal(database, roots)
        for root in roots:
            parent_id, label = root["node_parent_id"], root["artifact_label"]
            digest = refusal.digests.get(root["node_id"])
            were_saved &= digest == root["artifact_tree_digest"]
            if parent_id is None:
                continue
            if parent_id not in refusal.parents and not _has_node(chunks, parent_id):
                raise NodeNotFoundError(f"parent node {parent_id}", database.name) from error
            owner = refusal.label_owners.get((parent_id, label))
            if owner is not None or (parent_id, label) in given:
                raise ConflictError(
                    f"label {shown(label)}",
                    f"node {parent_id} has an artifact of this label (id {owner or 'saved here'})",
                    "Choose another label; nothing was saved.",
                ) from error
            given.add((parent_id, label))
    if not were_saved:
        raise DatabaseError(
            database.name,
            f"it refused the rows ({type(error.orig).__name__})",
            "Nothing was saved.",
        ) from error


async def _refusal(database: Database, roots: Sequence[Row]) -> graph.Refusal:
    return await database.read(lambda connection: graph.find_refusal(connection, roots))


def _has_node(chunks: Chunks, node_id: UUID) -> bool:
    return any(row["node_id"] == node_id for rows in chunks() for row in rows)


@dataclass(frozen=True)
class _Begun:
    """An attempt to save an object whose outcome is not known to be good."""

    reference: weakref.ref[Any]
    rows: list[Row]


_begun: dict[tuple[object, ...], _Begun] = {}
"""By the identity of the object, as long as it lives, and by where it was to be saved."""


def _key(database: Database, value: object, tree: Tree) -> tuple[object, ...]:
    return id(value), database, tree.label, tree.parent_id  # models need not be hashable


def _remember(database: Database, value: object, tree: Tree) -> None:
    key = _key(database, value, tree)
    try:
        reference = weakref.ref(value, lambda _: _begun.pop(key, None))
    except TypeError:
        return  # a plain number, say: it has no identity to come back with
    _begun[key] = _Begun(reference, tree.rows)


def _forget(database: Database, value: object, tree: Tree) -> None:
    _begun.pop(_key(database, value, tree), None)


def is_remembered(database: Database, value: object, tree: Tree) -> bool:
    """Whether an attempt to save the object is kept in mind, until one is finished."""
    return bool(_begun) and _key(database, value, tree) in _begun


class _Earlier:
    """What earlier attempts have saved after all; an attempt counts for one value of a call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._met: set[tuple[object, ...]] = set()
        self.done: list[tuple[object, Tree]] = []

    async def saved(self, value: object, tree: Tree) -> bool:
        """Whether one has saved this; where it has not, the tree goes on with that one's ids.

        A tree that is not sealed can't be told yet.
        """
        key = _key(self._database, value, tree)
        begun = _begun.get(key)
        if tree.digest is None or begun is None or key in self._met:
            return False
        self._met.add(key)
        earlier = Tree(begun.rows)
        if earlier.digest != tree.digest:
            raise ConflictError(
                f"a {type(value).__name__} with label {shown(tree.label)}",
                "it was changed since an attempt to save it failed, which may have saved it as it"
                " was",
                "Save a copy of it, or under another label.",
            )
        tree.take_ids(earlier)
        refusal = await _refusal(self._database, tree.rows[:1])
        if refusal.digests.get(tree.root_id) != tree.digest:
            return False
        _forget(self._database, value, tree)
        self.done.append((value, tree))
        return True
