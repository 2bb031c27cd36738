"""Data as files on this machine, mapped into memory."""

import asyncio
import atexit
import hashlib
import mmap
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple
from uuid import UUID
from weakref import WeakValueDictionary

from artigraph.engine import Database
from artigraph.errors import BlobMissingError
from artigraph.graph import Node
from artigraph.progress import Progress, report
from artigraph.spec import LocalFile, Storage, StreamingStorage
from artigraph.transfer import (
    PIECE,
    Request,
    check_row,
    check_sha256,
    check_size,
    place_of,
    read_data,
    reading,
)


async def fetch(
    node: Node, artifact: str, declared: Storage | None, database: Database
) -> LocalFile:
    """The data of one node as a file on this machine, verified when it is first seen.

    A file that was verified in this process, and is the same by its inode, size and times, is not
    read again.

    Raises:
        ArtifactLoadError: It is missing, or not what was saved.
        StorageError: The storage refused.
    """
    check_row(node, artifact)
    path = await _path_of(node, artifact, declared, database)
    try:
        return await asyncio.to_thread(_verified, path, node, artifact)
    except OSError as error:
        raise BlobMissingError(artifact, f"the file {path} is gone ({error.strerror}).") from error


async def _path_of(node: Node, artifact: str, declared: Storage | None, database: Database) -> Path:
    """Where the data is on this machine, after it was brought here, once, if it was not."""
    key = node.blob_id or node.node_id
    lock = _locks.setdefault((asyncio.get_running_loop(), key), asyncio.Lock())
    async with lock:
        made = _made.get(key)
        if made is not None and made.exists():
            return made
        path = await _bring(node, artifact, declared, database)
        if _folder(os.getpid()) in path.parents:
            _made[key] = path
        return path


async def _bring(node: Node, artifact: str, declared: Storage | None, database: Database) -> Path:
    if node.blob_id is not None:
        storage, location = place_of(node, artifact, declared, database)
        if isinstance(storage, StreamingStorage):
            unused = _unused.setdefault(os.getpid(), [])
            folder = unused.pop() if unused else await asyncio.to_thread(_new_folder)
            with reading(storage, location, artifact):
                path = await storage.fetch(location, folder)
            if folder not in path.parents:
                unused.append(folder)
            return path
    data = await read_data(Request(node, artifact, declared), database)
    path = await asyncio.to_thread(_new_folder) / "data"
    await asyncio.to_thread(path.write_bytes, data)
    return path


_made: dict[UUID, Path] = {}
"""The files that this process has made, by the blobs or the nodes whose data they hold."""

_locks: "WeakValueDictionary[tuple[asyncio.AbstractEventLoop, UUID], asyncio.Lock]" = (
    WeakValueDictionary()
)

_unused: dict[int, list[Path]] = {}
"""Folders that are still empty, by the process that has made them: storages of files need none."""


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(dir=_folder(os.getpid())))


@cache
def _folder(process: int) -> Path:
    """The folder of the files that this process makes; it is removed with the process."""
    folder = Path(tempfile.mkdtemp(prefix="artigraph-"))

    def remove() -> None:
        if os.getpid() == process:  # and no child of it, which inherits what is done at its end
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


class _MappedFile(NamedTuple):
    path: Path
    data: memoryview


def _verified(path: Path, node: Node, artifact: str) -> LocalFile:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        facts = os.fstat(descriptor)
        check_size(facts.st_size, node, artifact, f"The file {path}")
        data = memoryview(b"")
        if facts.st_size:
            data = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)
    file = _Seen(
        *(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns),
        node.sha256 or "",
    )
    if file not in _seen:
        check_sha256(_sha256_of(data, artifact), node, artifact, f"The file {path}")
        _seen.add(file)
    return _MappedFile(path, data)


class _Seen(NamedTuple):
    """A file as it was when its content was verified."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    sha256: str


_seen: set[_Seen] = set()


def _sha256_of(data: memoryview, artifact: str) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(data), PIECE):
        report(Progress("load", artifact, start, len(data)))
        digest.update(data[start : start + PIECE])
    report(Progress("load", artifact, len(data), len(data)))
    return digest.hexdigest()
