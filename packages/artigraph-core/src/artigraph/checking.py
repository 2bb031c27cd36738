"""Looking whether everything that is saved can still be read, and mending what has a copy."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, Literal, TypeAlias
from uuid import UUID

from artigraph import blobs, graph
from artigraph.blobs import Blob
from artigraph.database import current_database
from artigraph.engine import Database
from artigraph.errors import (
    ArtifactLoadError,
    ArtigraphError,
    BlobMissingError,
    CorruptBlobError,
    CorruptRowError,
    NodeNotFoundError,
    StorageError,
    shortened,
    shown,
)
from artigraph.graph import Node
from artigraph.loading import check_tree, identifier
from artigraph.spec import Data, check_location
from artigraph.transfer import Request, get_blob_storage, in_words, read_data

Damage: TypeAlias = Literal["missing", "truncated", "altered", "rows", "unreachable"]

_PAGE: Final = 200
_AT_ONCE: Final = 4
"""How many objects are read at the same time: each is in memory as a whole."""


@dataclass(frozen=True)
class Finding:
    """Something that can't be read as it was saved."""

    damage: Damage
    """`missing`, `truncated` or `altered` data; `rows` that are not those that were saved; or
    `unreachable`, where a storage is not here or does not answer, and nothing is known."""
    artifact_id: UUID
    """Of the artifact as it was saved."""
    node_id: UUID
    """Of the part of it."""
    message: str
    blob_id: UUID | None = None


@dataclass
class Checked:
    """What a check has looked at, and what it found."""

    artifacts: int = 0
    """As they were saved: a model with everything in it is one."""
    parts: int = 0
    """Values with data of their own, in rows and in storages."""
    size: int = 0
    """Of the data that was read and is intact, in bytes."""
    findings: list[Finding] = field(default_factory=list[Finding])


@dataclass
class Repaired:
    """What a repair has mended, and why it did not mend more."""

    mended: list[Finding] = field(default_factory=list[Finding])
    failures: list[str] = field(default_factory=list[str])
    """One for each copy that could not be read, and each storage that refused one."""


async def check(
    run_id: UUID | str | None = None, *, storage: str | None = None, deep: bool = False
) -> Checked:
    """Look at all artifacts, or at those of a run and of the runs below it.

    The rows of every artifact are held against their digest, and data in rows against its own; data
    in storages has to be there. It is safe beside everything else, and holds a page of rows in
    memory.

    Args:
        run_id: The run.
        storage: The name of a storage, as rows have it: only data that is there.
        deep: Read all data in storages, too, and compare its size and SHA-256.

    Raises:
        NodeNotFoundError: There is no such run.
    """
    database = current_database()
    checked = Checked()
    top = None if run_id is None else await _existing(database, run_id)
    async for tree_ids in _tree_ids(database, top):
        page = Checked()
        nodes = await _read_page(database, tree_ids, page)
        await _check_page(database, nodes, page, storage=storage, deep=deep)
        checked.artifacts += page.artifacts
        checked.parts += page.parts
        checked.size += page.size
        checked.findings += await _still_there(database, page.findings)
    return checked


async def repair(findings: Sequence[Finding]) -> Repaired:
    """Replace damaged or missing data by an intact copy, where some other artifact has one.

    What has no such copy, or is in a storage that refuses it, is left as it is.

    Raises:
        DatabaseError: The database refused.
    """
    database = current_database()
    repaired = Repaired()
    for finding in findings:
        if finding.damage in ("missing", "truncated", "altered"):
            await _mend(database, finding, repaired)
    return repaired


async def _tree_ids(database: Database, run_id: UUID | None) -> AsyncGenerator[list[UUID]]:
    """The ids of the trees that are to be looked at, by the page."""
    after = UUID(int=0)
    while tree_ids := await database.read(
        lambda connection, after=after: graph.read_tree_ids(connection, after, _PAGE, run_id)
    ):
        after = tree_ids[-1]
        yield tree_ids


async def _read_page(database: Database, tree_ids: Sequence[UUID], page: Checked) -> list[Node]:
    """All nodes of some trees, but for those that can't be read, which are told."""
    try:
        rows = await database.read(lambda connection: graph.read_trees(connection, tree_ids))
        return list(rows.nodes())
    except CorruptRowError as error:
        if len(tree_ids) == 1:
            page.artifacts += 1
            page.findings.append(
                _of_rows(tree_ids[0], f"artifact {tree_ids[0]} can't be loaded: {error.reason}")
            )
            return []
    # One row is in the way of all: each tree by itself.
    return [node for each in tree_ids for node in await _read_page(database, [each], page)]


async def _check_page(
    database: Database, nodes: Sequence[Node], page: Checked, *, storage: str | None, deep: bool
) -> None:
    for _, tree in groupby(nodes, key=lambda node: node.tree_id):
        page.artifacts += 1
        page.findings += _check_rows(list(tree))
    names = _names(nodes)
    parts = [node for node in nodes if _is_of(node, storage)]
    page.parts += len(parts)
    for start in range(0, len(parts), _AT_ONCE):
        some = parts[start : start + _AT_ONCE]
        found = await asyncio.gather(
            *(_check_data(database, node, names[node.node_id], deep) for node in some)
        )
        for node, finding in zip(some, found, strict=True):
            if finding is not None:
                page.findings.append(finding)
            elif deep or node.data is not None:
                page.size += node.size or 0


async def _still_there(database: Database, findings: Sequence[Finding]) -> list[Finding]:
    """The findings whose artifacts were not deleted meanwhile, and their data removed."""
    there: dict[UUID, bool] = {}
    for tree_id in {finding.artifact_id for finding in findings}:
        before = UUID(int=max(tree_id.int - 1, 0))
        first = await database.read(
            lambda connection, before=before: graph.read_tree_ids(connection, before, 1, None)
        )
        there[tree_id] = first == [tree_id]
    return [finding for finding in findings if there[finding.artifact_id]]


async def _existing(database: Database, run_id: UUID | str) -> UUID:
    top = identifier(run_id, "run", database)
    if await database.read(lambda connection: graph.find_run(connection, top)) is None:
        raise NodeNotFoundError(f"run {top}", database.name)
    return top


def _check_rows(tree: Sequence[Node]) -> Iterator[Finding]:
    try:
        check_tree(tree)
    except ArtigraphError as error:
        tree_id = tree[0].tree_id or tree[0].node_id
        has_root = any(node.node_id == tree_id for node in tree)
        remedy = "" if has_root else f" To remove what is left of it: delete {tree_id}"
        yield _of_rows(tree_id, f"{error}{remedy}")


def _of_rows(tree_id: UUID, message: str) -> Finding:
    return Finding("rows", tree_id, tree_id, message)


def _is_of(node: Node, storage: str | None) -> bool:
    return node.node_type == "artifact" and storage in (None, node.blob_storage)


def _names(nodes: Sequence[Node]) -> dict[UUID, str]:
    """What messages call the nodes: the label of the artifact, and the way to the value in it."""
    by_id: dict[UUID | None, Node] = {}
    tops: dict[UUID, Node] = {}
    ways: dict[UUID, str] = {}
    for node in nodes:  # parents come before their children
        parent = by_id.get(node.node_parent_id) if node.node_id != node.tree_id else None
        if parent is None:
            tops[node.node_id], ways[node.node_id] = node, node.model_name or ""
        else:
            step = f".{node.label}" if parent.node_type == "model" else f"[{node.label}]"
            tops[node.node_id] = tops[parent.node_id]
            ways[node.node_id] = shortened(ways[parent.node_id] + step)
        by_id[node.node_id] = node
    return {
        node_id: f"artifact {shown(top.label)} (node {top.node_id}), {shown(ways[node_id], 300)}"
        f" (node {node_id})"
        for node_id, top in tops.items()
    }


async def _check_data(database: Database, node: Node, name: str, deep: bool) -> Finding | None:
    try:
        _check_columns(node, name)
        if deep or node.data is not None:
            await read_data(Request(node, name, None), database)
        else:
            await _look_for(database, node, name)
    except ArtigraphError as error:
        # A storage knows nothing of nodes.
        message = str(error) if isinstance(error, ArtifactLoadError) else f"{name}: {error}"
        artifact_id = node.tree_id or node.node_id
        return Finding(_damage(error), artifact_id, node.node_id, message, node.blob_id)
    return None


def _check_columns(node: Node, name: str) -> None:
    """Refuse what only SQLite keeps, which has any type in any column."""
    columns: list[tuple[object, type[object]]] = [
        (node.size, int),
        (node.sha256, str),
        (node.blob_storage, str),
        (node.blob_location, str),
    ]
    if not all(value is None or isinstance(value, kind) for value, kind in columns):
        raise CorruptRowError(name, "a column of its row holds what it can't hold.")


async def _look_for(database: Database, node: Node, name: str) -> None:
    location = node.blob_location
    if location is None or node.blob_storage is None or node.blob_state != "live":
        raise CorruptRowError(name, "the blob that its row names is not a live one.")
    try:
        check_location(location)
    except CorruptRowError as error:
        raise CorruptRowError(name, f"{error.artifact}: {error.reason}") from error
    storage = get_blob_storage(node.blob_storage, name, database)
    try:
        is_there = await storage.exists(location)
    except ArtigraphError:
        raise
    except Exception as error:  # a stranger's storage may raise anything
        reason = f"it raised {type(error).__name__}"
        raise StorageError(storage.name, f"look for {location}", reason) from error
    if not is_there:
        raise BlobMissingError(name, f"storage {storage.name!r} has nothing at {location}.")


def _damage(error: ArtigraphError) -> Damage:
    if isinstance(error, BlobMissingError):
        return "missing"
    if isinstance(error, CorruptBlobError):
        return "truncated" if error.damage == "truncated" else "altered"
    return "rows" if isinstance(error, CorruptRowError) else "unreachable"


async def _mend(database: Database, finding: Finding, repaired: Repaired) -> None:
    blob_id = finding.blob_id
    if blob_id is None:
        return
    copies = await database.read(lambda connection: blobs.read_copies(connection, blob_id))
    damaged = next((blob for blob in copies if blob.blob_id == blob_id), None)
    if damaged is None:
        return
    for copy in copies:
        if copy is damaged:
            continue
        # A stranger's storage may raise anything, and give it: one failure stops no other repair.
        try:
            data = await _intact(database, copy)
            if data is not None:
                await _replace(database, damaged, data, finding)
                repaired.mended.append(finding)
                return
        except Exception as error:
            repaired.failures.append(
                f"node {finding.node_id}, copy of blob {copy.blob_id}: {in_words(error)}"
            )


async def _intact(database: Database, blob: Blob) -> Data | None:
    """The data of a blob, if it is as it was saved."""
    check_location(blob.location)
    storage = get_blob_storage(blob.storage, f"blob {blob.blob_id}", database)
    data = await storage.read_up_to(blob.location, blob.size + 1)
    digest = await asyncio.to_thread(hashlib.sha256, data)
    is_intact = (len(data), digest.hexdigest()) == (blob.size, blob.sha256)
    return data if is_intact else None


async def _replace(database: Database, blob: Blob, data: Data, finding: Finding) -> None:
    check_location(blob.location)
    storage = get_blob_storage(blob.storage, f"node {finding.node_id}", database)
    if finding.damage == "missing":
        await storage.discard(blob.location)  # what a repair that died has left
        await storage.create(data, location=blob.location)
    else:
        await storage.update(blob.location, data)
