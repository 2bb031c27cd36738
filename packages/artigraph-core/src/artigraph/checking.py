"""Looking whether everything that is saved can still be read, and mending what has a copy."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, Literal, TypeAlias
from uuid import UUID

from artigraph import blobs, graph
from artigraph.artifact import get_blob_storage, read_data
from artigraph.blobs import Blob
from artigraph.database import Database, current_database
from artigraph.errors import (
    ArtigraphError,
    BlobMissingError,
    CorruptBlobError,
    CorruptRowError,
    NodeNotFoundError,
    shortened,
    shown,
)
from artigraph.graph import Node
from artigraph.loading import check_tree, identifier
from artigraph.spec import Data, check_location

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
    """Of the data that was read, in bytes."""
    findings: list[Finding] = field(default_factory=list[Finding])


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
    async for nodes in _trees(database, top):
        for _, tree in groupby(nodes, key=lambda node: node.tree_id):
            checked.artifacts += 1
            checked.findings += _check_rows(list(tree))
        parts = [node for node in nodes if _is_of(node, storage)]
        by_id = {node.node_id: node for node in nodes}
        for start in range(0, len(parts), _AT_ONCE):
            some = parts[start : start + _AT_ONCE]
            looks = (_check_data(database, node, _name(node, by_id), deep) for node in some)
            found = await asyncio.gather(*looks)
            checked.findings += [finding for finding in found if finding is not None]
            checked.size += sum(node.size or 0 for node in some if deep or node.data is not None)
        checked.parts += len(parts)
    return checked


async def repair(findings: Sequence[Finding]) -> list[Finding]:
    """Replace damaged or missing data by an intact copy, where some other artifact has one.

    Returns:
        The findings that are mended.

    Raises:
        DatabaseError: The database refused.
    """
    database = current_database()
    wanted = [each for each in findings if each.damage in ("missing", "truncated", "altered")]
    return [finding for finding in wanted if await _mend(database, finding)]


async def _trees(database: Database, run_id: UUID | None) -> AsyncGenerator[list[Node]]:
    """Pages of the nodes of whole trees."""
    after = UUID(int=0)
    while True:
        tree_ids = await database.read(
            lambda connection, after=after: graph.read_tree_ids(connection, after, _PAGE, run_id)
        )
        if not tree_ids:
            return
        after = tree_ids[-1]
        yield await database.read(
            lambda connection, tree_ids=tree_ids: graph.read_trees(connection, tree_ids)
        )


async def _existing(database: Database, run_id: UUID | str) -> UUID:
    top = identifier(run_id, "run", database)
    if await database.read(lambda connection: graph.find_run(connection, top)) is None:
        raise NodeNotFoundError(f"run {top}", database.name)
    return top


def _check_rows(tree: Sequence[Node]) -> Iterator[Finding]:
    try:
        check_tree(tree)
    except ArtigraphError as error:
        root = tree[0].tree_id or tree[0].node_id
        yield Finding("rows", root, root, str(error))


def _is_of(node: Node, storage: str | None) -> bool:
    return node.node_type == "artifact" and storage in (None, node.blob_storage)


def _name(node: Node, by_id: Mapping[UUID, Node]) -> str:
    """The label of the artifact, and the way to the value in it, of a long one the end."""
    steps: list[str] = []
    top = node
    while top.node_id != top.tree_id and len(steps) < len(by_id):  # altered rows may be a cycle
        parent = by_id.get(top.node_parent_id) if top.node_parent_id else None
        if parent is None:
            break
        steps.append(f".{top.label}" if parent.node_type == "model" else f"[{top.label}]")
        top = parent
    model = top.model_name or ""
    way = shortened(f"{model}{''.join(reversed(steps))}")
    return f"artifact {shown(top.label)} (node {top.node_id}), {shown(way)} (node {node.node_id})"


async def _check_data(database: Database, node: Node, name: str, deep: bool) -> Finding | None:
    try:
        if deep or node.data is not None:
            await read_data(node, name, None, database)
        else:
            await _look_for(database, node, name)
    except ArtigraphError as error:
        artifact_id = node.tree_id or node.node_id
        return Finding(_damage(error), artifact_id, node.node_id, str(error), node.blob_id)
    return None


async def _look_for(database: Database, node: Node, name: str) -> None:
    if node.blob_location is None or node.blob_storage is None or node.blob_state != "live":
        raise CorruptRowError(name, "the blob that its row names is not a live one.")
    check_location(node.blob_location)
    storage = get_blob_storage(node.blob_storage, name, database)
    if not await storage.exists(node.blob_location):
        raise BlobMissingError(
            name, f"storage {storage.name!r} has nothing at {node.blob_location}."
        )


def _damage(error: ArtigraphError) -> Damage:
    if isinstance(error, BlobMissingError):
        return "missing"
    if isinstance(error, CorruptBlobError):
        return "truncated" if error.damage == "truncated" else "altered"
    return "rows" if isinstance(error, CorruptRowError) else "unreachable"


async def _mend(database: Database, finding: Finding) -> bool:
    blob_id = finding.blob_id
    if blob_id is None:
        return False
    copies = await database.read(lambda connection: blobs.read_copies(connection, blob_id))
    damaged = next((blob for blob in copies if blob.blob_id == blob_id), None)
    if damaged is None:
        return False
    for copy in copies:
        data = None if copy is damaged else await _intact(database, copy)
        if data is not None:
            await _replace(database, damaged, data, finding)
            return True
    return False


async def _intact(database: Database, blob: Blob) -> Data | None:
    """The data of a blob, if it is there and as it was saved."""
    try:
        check_location(blob.location)
        storage = get_blob_storage(blob.storage, f"blob {blob.blob_id}", database)
        data = await storage.read(blob.location)
    except (ArtigraphError, FileNotFoundError):
        return None
    digest = await asyncio.to_thread(hashlib.sha256, data)
    is_intact = (len(data), digest.hexdigest()) == (blob.size, blob.sha256)
    return data if is_intact else None


async def _replace(database: Database, blob: Blob, data: Data, finding: Finding) -> None:
    check_location(blob.location)
    storage = get_blob_storage(blob.storage, f"node {finding.node_id}", database)
    if finding.damage == "missing":
        await storage.create(data, location=blob.location)
    else:
        await storage.update(blob.location, data)
