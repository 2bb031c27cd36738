"""Data on its way to a storage and back: in bounded numbers, and verified."""

import asyncio
import hashlib
import io
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias, cast

from artigraph.blobs import Blob
from artigraph.engine import DEFAULT_STORAGE, Database
from artigraph.errors import (
    ArtifactLoadError,
    ArtigraphError,
    BlobMissingError,
    CorruptBlobError,
    CorruptRowError,
    StorageError,
    UnknownStorageError,
    shown,
)
from artigraph.graph import Node, Row
from artigraph.ids import new_id
from artigraph.loop import to_the_end
from artigraph.memory import new_memory
from artigraph.plugins import registry
from artigraph.progress import Progress, report
from artigraph.spec import Data, Storage, StreamingStorage, check_location, new_location

MAX_INLINE: Final = 1024 * 1024
"""Data of more bytes than this is not put into a row."""

_HASHED_ON_THE_LOOP: Final = 2**16
"""Bytes that take less time to hash than to hand to a thread."""

MAX_TRANSFERS: Final = 16
"""How many objects a save or a load moves at once."""

PIECE: Final = 8 * 2**20
"""How many bytes of a stream are written, and hashed meanwhile, before anything else is done."""

GATHERED: Final = PIECE // 2
"""Smaller pieces than this, in bytes, are gathered: handing them to a thread takes its time too."""

Write: TypeAlias = Callable[[BinaryIO], object]
"""Writes all of a value's data to a file."""


@dataclass
class Transfer:
    """Data on its way to a storage: made already, or made while it is written."""

    row: Row
    where: str
    """What messages call the value."""
    storage_name: str
    storage: Storage
    data: Data | Write

    @property
    def is_streamed(self) -> bool:
        """Whether its size and SHA-256 are known only when it is written."""
        return callable(self.data)


def new_blob(transfer: Transfer) -> Blob:
    """A blob at a new location for the data; of a stream it is not known yet what that is."""
    return Blob(
        new_id(),
        transfer.storage_name,
        new_location(),
        transfer.row["artifact_size"] or 0,
        transfer.row["artifact_sha256"] or "",
    )


async def write_blobs(transfers: Sequence[tuple[Transfer, Blob, bool]]) -> None:
    """Write all data to its storages; the first failure stops the rest.

    Args:
        transfers: Each with its blob, and whether that is new; where it is not, data is written
            only if it is missing.

    Raises:
        StorageError: A storage refused.
    """
    turns = asyncio.Semaphore(MAX_TRANSFERS)

    async def write(transfer: Transfer, blob: Blob, is_new: bool) -> None:
        async with turns:
            if is_new or not await transfer.storage.exists(blob.location):
                await _create(transfer, blob.location)

    try:
        async with asyncio.TaskGroup() as group:
            for each in transfers:
                group.create_task(write(*each))
    except BaseExceptionGroup as errors:
        first = _first(errors)
        raise first from first.__cause__


async def _create(transfer: Transfer, location: str) -> None:
    storage = transfer.storage
    try:
        if isinstance(transfer.data, Data):
            used = await _create_whole(transfer, transfer.data, location)
        else:
            used = await _create_piece_by_piece(transfer, transfer.data, location)
    except ArtigraphError:
        raise
    except Exception as error:
        raise StorageError(storage.name, f"keep {location}", in_words(error)) from error
    if used != location:
        raise StorageError(storage.name, f"keep {location}", f"it used {shown(used)} instead")


async def _create_whole(transfer: Transfer, data: Data, location: str) -> str:
    report(Progress("save", transfer.where, 0, len(data)))
    used = await transfer.storage.create(data, location=location)
    report(Progress("save", transfer.where, len(data), len(data)))
    return used


async def _create_piece_by_piece(transfer: Transfer, write: Write, location: str) -> str:
    assert isinstance(transfer.storage, StreamingStorage)
    is_cancelled = threading.Event()

    def write_measured(file: BinaryIO) -> None:
        measured = _Measured(file, transfer.where, is_cancelled)
        try:
            try:
                write(cast("BinaryIO", measured))
            finally:
                # What writing had raised, whatever the serializer has made of that.
                if measured.failure is not None:
                    raise measured.failure from measured.failure.__cause__
            size, sha256 = measured.finish()
        finally:
            measured.stop()
        transfer.row["artifact_size"], transfer.row["artifact_sha256"] = size, sha256

    # A serializer that runs in a thread does not hear of a cancellation; the file tells it.
    work = asyncio.ensure_future(transfer.storage.create_from(write_measured, location=location))
    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:
        is_cancelled.set()
        await to_the_end(_ended(work))
        raise
    return work.result()


async def _ended(work: "asyncio.Future[Any]") -> None:
    await asyncio.wait({work})
    if not work.cancelled():
        work.exception()  # seen: what the caller gets is the cancellation


class _Measured(io.RawIOBase):
    """A file that is written to, and learns the size and SHA-256 of what is written."""

    def __init__(self, file: BinaryIO, where: str, is_cancelled: threading.Event) -> None:
        self._file = file
        self._where = where
        self._is_cancelled = is_cancelled
        self._size = 0
        self._digest = hashlib.sha256()
        # Neither hashing nor writing holds the interpreter, so that they take the time of one.
        self._hashing = ThreadPoolExecutor(1, "artigraph-sha256")
        self._gathered = self._other = memoryview(b"")
        self._filled = 0
        self._hashed: Future[None] | None = None
        """Of what was gathered before."""
        self.failure: BaseException | None = None
        """What `write` has raised."""

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        if not view.nbytes:
            return 0  # a view without items can't be cast
        view = view.cast("B")
        try:
            for start in range(0, len(view), PIECE):
                self._take(view[start : start + PIECE])
        except BaseException as error:
            self.failure = error
            raise
        return len(view)

    def finish(self) -> tuple[int, str]:
        """The size and SHA-256 of all that was written."""
        self._put_gathered()
        if self._hashed is not None:
            self._hashed.result()
        report(Progress("save", self._where, self._size, self._size))
        return self._size, self._digest.hexdigest()

    def stop(self) -> None:
        """Wait for the thread; not in `close`, which a serializer may call that wraps the file."""
        self._hashing.shutdown()

    def _take(self, piece: memoryview) -> None:
        if self._is_cancelled.is_set():
            raise asyncio.CancelledError
        if self._size % PIECE + len(piece) >= PIECE or not self._size:
            report(Progress("save", self._where, self._size, None))
        if len(piece) < GATHERED:
            self._gather(piece)
        else:
            self._put_gathered()
            hashed = self._hashing.submit(self._digest.update, piece)
            try:
                self._write_all(piece)
            finally:
                hashed.result()  # the piece is the writer's again when this returns
        self._size += len(piece)

    def _gather(self, piece: memoryview) -> None:
        if self._filled + len(piece) > len(self._gathered):
            self._put_gathered()
            if not self._gathered:
                self._gathered = new_memory(PIECE)
        self._gathered[self._filled : self._filled + len(piece)] = piece
        self._filled += len(piece)

    def _put_gathered(self) -> None:
        """Write what was gathered; it may be hashed still while more is."""
        if not self._filled:
            return
        piece = self._gathered[: self._filled]
        hashed = self._hashing.submit(self._digest.update, piece)
        self._write_all(piece)
        if self._hashed is not None:
            self._hashed.result()
        self._hashed = hashed
        self._gathered, self._other = self._other, self._gathered
        self._filled = 0

    def _write_all(self, piece: memoryview) -> None:
        while piece:
            piece = piece[self._file.write(piece) :]


@dataclass
class Request:
    """A node whose data is to be read."""

    node: Node
    artifact: str
    """What messages call it."""
    declared: Storage | None
    """The storage of its field."""
    is_writable: Callable[[], bool] = lambda: False
    """Whether the value wants to lie in the data; called in a worker thread, where that is much."""


async def read_all(requests: Sequence[Request], database: Database) -> list[Data]:
    """The verified data of nodes.

    Raises:
        ArtifactLoadError: Some data is missing, or not what was saved.
        StorageError: A storage refused.
    """
    turns = asyncio.Semaphore(MAX_TRANSFERS)

    async def read(each: Request) -> Data:
        async with turns:
            return await read_data(each, database)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(each)) for each in requests]
    except BaseExceptionGroup as errors:
        first = _first(errors)
        raise first from first.__cause__
    return [task.result() for task in tasks]


async def read_data(request: Request, database: Database) -> Data:
    """The verified data of one node, from its row or its storage.

    Raises:
        ArtifactLoadError: It is missing, or not what was saved.
        StorageError: The storage refused.
    """
    node, artifact = request.node, request.artifact
    check_row(node, artifact)
    data = node.data if node.data is not None else None
    where = "The row"
    if data is None:
        data = await _read_blob(request, database)
        where = f"Storage {shown(node.blob_storage)} at {node.blob_location}"
    if not isinstance(data, Data):  # pyright: ignore[reportUnnecessaryIsInstance]  # SQLite keeps a text as well
        reason = f"{where} has a {type(data).__name__} for its bytes."
        raise CorruptBlobError(artifact, reason, "altered")
    check_size(len(data), node, artifact, where)
    if len(data) > _HASHED_ON_THE_LOOP:
        digest = await asyncio.to_thread(hashlib.sha256, data)
    else:
        digest = hashlib.sha256(data)
    check_sha256(digest.hexdigest(), node, artifact, where)
    return data


def check_row(node: Node, artifact: str) -> None:
    """Refuse a row that does not say what its data is.

    Raises:
        CorruptRowError: It does not.
    """
    if node.size is None or node.sha256 is None or (node.data is None) == (node.blob_id is None):
        raise CorruptRowError(artifact, "its row does not say where its data is, or how much.")


def check_size(found: int, node: Node, artifact: str, where: str) -> None:
    """Compare the size of data with the one that its row has.

    Raises:
        CorruptBlobError: It is another.
    """
    assert node.size is not None
    if found != node.size:
        if found < node.size:
            reason = f"{where} has {found} of its {node.size} bytes."
            raise CorruptBlobError(artifact, reason, "truncated")
        reason = f"{where} has more than its {node.size} bytes."
        raise CorruptBlobError(artifact, reason, "altered")


def check_sha256(found: str, node: Node, artifact: str, where: str) -> None:
    """Compare the SHA-256 of data with the one that its row has.

    Raises:
        CorruptBlobError: It is another.
    """
    assert node.sha256 is not None
    if found != node.sha256:
        reason = f"{where} has data of SHA-256 {found[:12]}..., of {node.sha256[:12]}... was saved."
        raise CorruptBlobError(artifact, reason, "altered")


def get_blob_storage(
    name: str, artifact: str, database: Database, declared: Storage | None = None
) -> Storage:
    """The storage that a blob's row names: the database's own, the declared, or a registered.

    Raises:
        ArtifactLoadError: It is none of them.
    """
    if name == DEFAULT_STORAGE:
        if database.storage is not None:
            return database.storage
        raise ArtifactLoadError(
            artifact,
            "its data is in the storage of the database, and none is set:"
            " set_database(url, storage=...), or ARTIGRAPH_STORAGE.",
        )
    if declared is not None and declared.name == name:
        return declared
    try:
        return registry.get_storage(name)
    except UnknownStorageError as error:
        raise ArtifactLoadError(artifact, f"its storage is not here: {error}") from error


def in_words(error: Exception) -> str:
    """An error as it is if it is ours, else its class: its text may hold what must not be told."""
    return str(error) if isinstance(error, ArtigraphError) else f"it raised {type(error).__name__}"


def place_of(
    node: Node, artifact: str, declared: Storage | None, database: Database
) -> tuple[Storage, str]:
    """The storage and the location of a node's blob.

    Raises:
        ArtifactLoadError: The row does not name a live one, at a location that we make.
    """
    location = node.blob_location
    if location is None or node.blob_storage is None or node.blob_state != "live":
        raise CorruptRowError(artifact, "the blob that its row names is not a live one.")
    try:
        check_location(location)
    except CorruptRowError as error:
        raise CorruptRowError(artifact, f"{error.artifact}: {error.reason}") from error
    return get_blob_storage(node.blob_storage, artifact, database, declared), location


@contextmanager
def reading(storage: Storage, location: str, artifact: str) -> Generator[None]:
    """What a storage raises, as an error that names the artifact."""
    try:
        yield
    except FileNotFoundError as error:
        raise BlobMissingError(
            artifact, f"storage {storage.name!r} has nothing at {location}."
        ) from error
    except ArtigraphError as error:
        error.add_note(f"It was raised for {artifact}.")
        raise
    except Exception as error:
        raise StorageError(storage.name, f"read {location}", in_words(error)) from error


async def _read_blob(request: Request, database: Database) -> Data:
    node, artifact = request.node, request.artifact
    size = max(node.size or 0, 0)
    storage, location = place_of(node, artifact, request.declared, database)
    read = storage.read_up_to
    if size > MAX_INLINE and await asyncio.to_thread(request.is_writable):
        read = storage.read_writable
    with reading(storage, location, artifact):
        report(Progress("load", artifact, 0, node.size))
        data = await read(location, size + 1)
    report(Progress("load", artifact, len(data), len(data)))
    return data


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, as if it had been raised alone."""
    first = errors.exceptions[0]
    return _first(cast("BaseExceptionGroup[BaseException]", first)) if _is_group(first) else first


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)
