"""What SQLite refuses, in words that say why, as far as the operating system tells, and what to do.

SQLite has one message for many causes, and gives no `errno`: they are looked for afterwards. The
files of a database are never opened for it: closing one would take the locks of SQLite's own
connections from this process (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks).
"""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

Told: TypeAlias = tuple[str, str]
"""The cause, and what to do about it."""

_DESCRIPTORS: Final = 4
"""That SQLite needs at once: for the file, the log, its index, and their folder."""


def explain(name: str, file: Path) -> Told | None:
    """Why SQLite refused something, and what to do, or None where it can't be told.

    Args:
        name: Of the error, such as `SQLITE_IOERR_WRITE`.
        file: Of the database.
    """
    find = _FINDERS.get(family(name))
    return find(name, file) if find is not None else None


def family(name: str) -> str:
    """An error's name without what some have added: https://www.sqlite.org/rescode.html."""
    return "_".join(name.split("_")[:2])


def _of_opening(_: str, file: Path) -> Told | None:
    return _too_many_open() or _no_database(file) or _no_right(file)


def _of_read_only(_: str, file: Path) -> Told | None:
    return _no_right(file)


def _of_input_and_output(name: str, file: Path) -> Told | None:
    if name in _GROWING:
        return _size_limit(file) or _no_space(file, _ROOM) or _no_right(file) or _FAILING
    return _too_many_open() or _FAILING


def _of_space(_: str, file: Path) -> Told | None:
    return _no_space(file)


def _of_damage(_: str, file: Path) -> Told:
    remedy = f"Restore it from a copy, or get what can be read: sqlite3 {str(file)!r} .recover"
    return f"{str(file)!r} is damaged", remedy


def _of_another_kind(_: str, file: Path) -> Told:
    return f"{str(file)!r} is another kind of file", "It was left as it is: choose another path."


_FINDERS: Final = {
    "SQLITE_CANTOPEN": _of_opening,
    "SQLITE_READONLY": _of_read_only,
    "SQLITE_PERM": _of_read_only,
    "SQLITE_IOERR": _of_input_and_output,
    "SQLITE_FULL": _of_space,
    "SQLITE_CORRUPT": _of_damage,
    "SQLITE_NOTADB": _of_another_kind,
}

_GROWING: Final = {"SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE"}

_ROOM: Final = 2**20
"""Bytes that a disk has free which is not full."""

_FAILING: Final = (
    "the disk, or a quota on it, refused to read or write",
    "See what the system says of the disk (dmesg, quota).",
)


def _too_many_open() -> Told | None:
    with ExitStack() as stack:
        try:
            for _ in range(_DESCRIPTORS):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno == errno.EMFILE:
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                cause = f"this process has as many files open as it may, {limit:,}"
                return cause, "Raise the limit of open files (ulimit -n), or open less at once."
            if error.errno == errno.ENFILE:
                cause = "this machine has as many files open as it can have"
                return cause, "End what has them open, or raise the limit (sysctl fs.file-max)."
    return None


def _no_database(file: Path) -> Told | None:
    if not file.parent.is_dir():
        return f"there is no folder {str(file.parent)!r}", "Make it, or check the path."
    if file.is_dir():
        return f"{str(file)!r} is a folder", "Name a file in it, such as graph.db."
    return None


def _no_right(file: Path) -> Told | None:
    try:
        is_read_only = bool(os.statvfs(file.parent).f_flag & os.ST_RDONLY)
    except OSError:
        is_read_only = False
    if is_read_only:
        cause = f"the file system of {str(file.parent)!r} is read-only"
        return cause, "Mount it so that it can be written to, or choose another path."
    remedy = "Give this user the right to read and write there, or choose another path."
    for path in _files(file):
        if not _may(path, os.R_OK | os.W_OK):
            return f"this user may not read and write {str(path)!r}", remedy
    if not _may(file.parent, os.W_OK | os.X_OK):
        cause = f"this user may not make files in {str(file.parent)!r}, where SQLite keeps its log"
        return cause, remedy
    return None


def _size_limit(file: Path) -> Told | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return None
    sizes = ", ".join(f"{path.name!r} has {path.stat().st_size:,}" for path in _files(file))
    return (
        f"no file of this process may have more than {limit:,} bytes; {sizes}",
        "Raise the limit of a file's size (ulimit -f), or give the database a storage for large"
        " values: set_database(url, storage=...).",
    )


def _no_space(file: Path, enough: int | None = None) -> Told | None:
    try:
        disk = os.statvfs(file.parent)
    except OSError:
        return None
    free = disk.f_bavail * disk.f_frsize
    if enough is not None and free >= enough:
        return None
    cause = f"the disk of {str(file.parent)!r} has {free:,} bytes free"
    return cause, "Free some space there, or choose another path."


def _files(file: Path) -> Iterator[Path]:
    """The files of a database that are there."""
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        path = file.with_name(name)
        if path.is_file():
            yield path


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
