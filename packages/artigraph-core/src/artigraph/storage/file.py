"""Data as files below one directory.

    3f/3f0c…        one file a location, complete from the moment it has this name
    tmp/3f0c….1a2b  what is being written for it; only a process that dies leaves something here

The directory itself may be a symbolic link; below it none is followed.
"""

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from io import BufferedReader, BufferedWriter, FileIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from artigraph.errors import ArtigraphError, BlobMissingError, StorageError
from artigraph.folders import sync, sync_name
from artigraph.loop import to_the_end
from artigraph.memory import new_memory
from artigraph.spec import Data, Storage, StreamingStorage, check_location, new_location

__all__ = ["FileSystem", "FileSystemStorage"]


class FileSystem(StreamingStorage):
    """Keeps data in files below one directory, which is made when it is first needed.

    What is created or updated is on the disk under its name when the call returns; once begun, a
    write ends before a cancellation goes on. Files get the mode 0666 and folders 0777, less the
    umask.

    Args:
        directory: A relative one is taken from the current folder of the moment.
        name: What rows call the storage, by default `file:` and the absolute path. With a name of
            its own a directory can be moved, and differ between machines.
    """

    def __init__(self, directory: str | os.PathLike[str], *, name: str | None = None) -> None:
        path = os.path.abspath(Path(directory).expanduser())  # resolves '..', but no links
        self.directory = Path(path)
        self.name = f"file:{path}" if name is None else name
        self._folders_on_disk: set[Path] = set()
        """Of which this object knows that their names are on the disk."""

    def __repr__(self) -> str:
        return f"FileSystem({str(self.directory)!r}, name={self.name!r})"

    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        await to_the_end(asyncio.to_thread(self._create, location, data))
        return location

    async def read(self, location: str) -> bytes:
        check_location(location)
        return await asyncio.to_thread(self._read, location)

    async def read_up_to(self, location: str, size: int) -> bytes:
        check_location(location)
        return await asyncio.to_thread(self._read_up_to, location, size)

    async def read_writable(self, location: str, size: int) -> memoryview:
        check_location(location)
        return await asyncio.to_thread(self._read_writable, location, size)

    async def update(self, location: str, data: Data) -> None:
        check_location(location)
        await to_the_end(asyncio.to_thread(self._update, location, data))

    async def delete(self, location: str) -> None:
        check_location(location)
        await to_the_end(asyncio.to_thread(self._delete, location))

    async def create_from(
        self, write: Callable[[BinaryIO], object], *, location: str | None = None
    ) -> str:
        location = new_location() if location is None else location
        check_location(location)
        await to_the_end(asyncio.to_thread(self._create_from, location, write))
        return location

    async def fetch(self, location: str, folder: Path) -> Path:
        check_location(location)
        return await asyncio.to_thread(self._fetch, location)

    async def discard(self, location: str) -> None:
        check_location(location)
        await to_the_end(asyncio.to_thread(self._delete, location))

    async def exists(self, location: str) -> bool:
        check_location(location)
        return await asyncio.to_thread(self._exists, location)

    def _create(self, location: str, data: Data) -> None:
        with self._explained("create", location):
            with self._written(location, lambda file: file.write(data)) as temporary:
                self._enter(location, temporary, lambda folder, name: _holds(folder, name, data))

    def _create_from(self, location: str, write: Callable[[BinaryIO], object]) -> None:
        failure: BaseException | None = None

        def write_observed(file: "BufferedWriter[_TargetFile]") -> None:
            nonlocal failure
            try:
                write(file)
            except BaseException as error:
                refusal = file.raw.refusal
                if refusal is not None:  # whatever the function has made of it
                    raise refusal from None
                failure = error
                raise _WriteError from error

        with suppress(_WriteError), self._explained("create", location):
            with self._written(location, write_observed) as temporary:
                self._enter(location, temporary, lambda folder, name: False)
        if failure is not None:
            raise failure  # as it is: not explained, and with the cause that it has

    def _enter(self, location: str, temporary: Path, is_same: Callable[[int, str], bool]) -> None:
        """Give a finished file its name, unless one that is the same has it."""
        self._make_folder(location[:2])
        with self._located(location) as (folder, name):
            try:
                _give_name(temporary, folder, name)
            except FileExistsError:
                if not is_same(folder, name):
                    raise self._taken(location) from None
            sync(folder)

    def _fetch(self, location: str) -> Path:
        with self._explained("read", location), self._located(location) as (folder, name):
            _opened(folder, name).close()
        return self.directory / location

    def _read(self, location: str) -> bytes:
        with self._explained("read", location), self._located(location) as (folder, name):
            with _opened(folder, name) as file:
                return file.readall()

    def _read_up_to(self, location: str, size: int) -> bytes:
        with self._explained("read", location), self._located(location) as (folder, name):
            with BufferedReader(_opened(folder, name)) as file:
                return file.read(_at_most(size, file.fileno()))

    def _read_writable(self, location: str, size: int) -> memoryview:
        with self._explained("read", location), self._located(location) as (folder, name):
            with BufferedReader(_opened(folder, name)) as file:
                memory = new_memory(_at_most(size, file.fileno()))
                return memory[: file.readinto(memory)]

    def _update(self, location: str, data: Data) -> None:
        with self._explained("update", location), self._located(location) as (folder, name):
            _opened(folder, name).close()
            with self._written(location, lambda file: file.write(data)) as temporary:
                os.replace(temporary, name, dst_dir_fd=folder)
            sync(folder)

    def _delete(self, location: str) -> None:
        _, _, name = location.partition("/")
        with self._explained("delete", location), suppress(FileNotFoundError):
            # What a writer that died has left; or a name that a loss of power has brought back.
            unfinished = list(self._unfinished().glob(f"{name}.*"))
            for each in unfinished:
                each.unlink(missing_ok=True)
            if unfinished:
                sync_name(unfinished[0])
            with self._located(location) as (folder, name):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                # Also where it was gone: who removed it may have died before it came to this.
                sync(folder)

    def _exists(self, location: str) -> bool:
        with self._explained("look for", location), suppress(FileNotFoundError):
            with self._located(location) as (folder, name):
                return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        return False

    def _unfinished(self) -> Path:
        """The folder of what is being written, which is no link either."""
        folder = self.directory / "tmp"
        if folder.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), folder.name)
        return folder

    def _make_folder(self, name: str) -> None:
        """Make a folder below the directory; it is on the disk before there is anything in it.

        So is one that is found: who made it may have died, or be about to sync its name.
        """
        folders = [self.directory / name]
        if self.directory not in self._folders_on_disk:
            folders.insert(0, self.directory)
        for folder in folders:
            is_new = _make_folder(folder)
            if is_new or folder not in self._folders_on_disk:
                # Where one may not read the folder above, the directory is somebody else's work.
                with nullcontext() if is_new else suppress(PermissionError):
                    sync_name(folder)
                self._folders_on_disk.add(folder)

    @contextmanager
    def _located(self, location: str) -> Generator[tuple[int, str]]:
        """The open folder of a location, and the name in it."""
        folder, _, name = location.partition("/")
        descriptor = os.open(self.directory / folder, os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    @contextmanager
    def _written(
        self, location: str, write: "Callable[[BufferedWriter[_TargetFile]], object]"
    ) -> Generator[Path]:
        """A file with all that is written, on the disk, under a name that it loses at the end."""
        _, _, name = location.partition("/")
        temporary = self._unfinished() / f"{name}.{uuid4().hex}"
        self._make_folder("tmp")
        try:
            with BufferedWriter(_TargetFile(temporary)) as file:
                write(file)
                file.flush()
                file.raw.sync()
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, operation: str, location: str) -> Generator[None]:
        try:
            yield
        except ArtigraphError:
            raise
        except (OSError, ValueError) as error:  # ValueError: no path at all, as with a NUL in it
            if isinstance(error, FileNotFoundError) and operation in ("read", "update"):
                raise self._missing(location) from error
            raise StorageError(
                self.name, f"{operation} {location!r}", _reason(error), _remedy(error)
            ) from error

    def _taken(self, location: str) -> StorageError:
        return StorageError(
            self.name, f"create {location!r}", "other data is there", "It was not replaced."
        )

    def _missing(self, location: str) -> BlobMissingError:
        reason = f"storage {self.name!r} has none there."
        if not self.directory.exists():
            reason += f" There is no directory {str(self.directory)!r}: is its disk mounted?"
        return BlobMissingError(f"the data at location {location!r}", reason)


FileSystemStorage = FileSystem

_SYNCED_BESIDE = 32 * 2**20
"""Bytes that are brought to the disk while the next are made, hashed and written."""


class _WriteError(Exception):
    """A function that writes has failed by itself."""


class _TargetFile(FileIO):
    """A new file, on its way to the disk while it is written, which remembers a refusal."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x")
        self.refusal: OSError | None = None
        self._unsynced = 0
        self._syncing: Future[None] | None = None
        self._threads = ThreadPoolExecutor(1, "artigraph-sync")

    def write(self, data: Any, /) -> int:
        try:
            size = super().write(data)
            self._unsynced += size
            if self._unsynced >= _SYNCED_BESIDE and (not self._syncing or self._syncing.done()):
                self._end_syncing()
                self._syncing = self._threads.submit(os.fsync, self.fileno())
                self._unsynced = 0
        except OSError as error:
            self.refusal = error
            raise
        return size

    def sync(self) -> None:
        """Return when all that was written is on the disk."""
        self._end_syncing()
        os.fsync(self.fileno())

    def close(self) -> None:
        self._threads.shutdown()  # and the descriptor is theirs until then
        super().close()

    def _end_syncing(self) -> None:
        """Hear what the system has refused, which it tells once."""
        if self._syncing is not None:
            self._syncing.result()


def artigraph_open_storage(uri: str) -> Storage | None:
    """The directory that `file:/path` names as it is, and `file:///path` percent-encoded.

    The first is what a `FileSystem` is called, the second what `Path.as_uri()` writes
    ([RFC 8089](https://www.rfc-editor.org/rfc/rfc8089)).

    Raises:
        StorageError: The path is relative, or on another host.
    """
    if not uri.startswith("file:"):
        return None
    path = uri.removeprefix("file:")
    if path.startswith("//"):
        path = os.fsdecode(unquote_to_bytes(path.removeprefix("//").removeprefix("localhost")))
    if not path.startswith("/"):
        # Without the rest of the URI, which may hold a password.
        raise StorageError(
            "file:",
            "be opened",
            "its URI does not name an absolute path of this machine",
            "Write file:///absolute/path.",
        )
    return FileSystem(path)


def _make_folder(path: Path) -> bool:
    """Make a folder unless there is one, after those above it, whose names are on the disk then."""
    if not path.parent.exists() and _make_folder(path.parent):
        sync_name(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _give_name(temporary: Path, folder: int, name: str) -> None:
    """Enter a finished file in a folder under a name that must be free."""
    try:
        os.link(temporary, name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # FAT, and some network file systems. Between the two calls another writer of the same
        # location would be replaced; a location is made for one.
        _refuse_taken(folder, name)
        os.rename(temporary, name, dst_dir_fd=folder)


_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


def _refuse_taken(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _at_most(size: int, descriptor: int) -> int:
    """How much to read: a row may claim any size, and memory is taken only for what is there."""
    return min(size, os.fstat(descriptor).st_size)


def _holds(folder: int, name: str, data: Data) -> bool:
    with _opened(folder, name) as file:
        if os.fstat(file.fileno()).st_size != len(data):
            return False
        return hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()


def _opened(folder: int, name: str) -> FileIO:
    """A regular file, open for reading: no link is followed, no pipe or device waited for."""

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)

    file = FileIO(name, opener=opener)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", name)
    return file


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {error.filename!s}"


def _remedy(error: OSError | ValueError) -> str:
    return _REMEDIES.get(error.errno or 0, "") if isinstance(error, OSError) else ""


_SPACE = "Free some space there, or choose another directory."
_RIGHTS = "Give this user the right to read and write there, or choose another directory."
_KIND = "Something else is where a file or folder of the storage should be: move it away."
_OPEN_FILES = "Raise the limit of open files (ulimit -n), or save less at once."

_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f), or choose another directory.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOTDIR: _KIND,
    errno.EISDIR: _KIND,
    errno.ELOOP: _KIND,
    errno.EINVAL: _KIND,
    errno.ENXIO: _KIND,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
}
