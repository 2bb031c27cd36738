"""Disks that are full, limits that are reached, rights that are missing: told, and nothing is lost.

Everything happens in a process of its own, to which the limits and rights belong; a small disk is
mounted where it alone sees it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from crashing import Nursery, Place, Step


@dataclass(frozen=True)
class Refusal:
    """A cause, what it stops, and what is said of it."""

    begins: Sequence[Step]
    ends: Sequence[Step]
    error: str
    words: str
    label: str = "it"
    prepared: Sequence[Step] = ()
    readable: bool = True
    """Whether what was saved before can be loaded meanwhile."""


SMALL_DISK: list[Step] = [["mount", "disk"]]

OF_FILES = {
    "disk full": Refusal(
        [["fill", "disk/filler", 100_000]],
        [["remove", "disk/filler"]],
        "StorageError",
        "No space left on device.*Free some space",
        prepared=SMALL_DISK,
    ),
    "quota": Refusal(
        [["limit", "RLIMIT_FSIZE", 10 * 2**20]],
        [["limit", "RLIMIT_FSIZE", None]],
        "StorageError",
        "File too large.*ulimit -f",
        label="film",
    ),
    "read-only": Refusal(
        [["call", "mount", "-o", "remount,ro", "disk"]],
        [["call", "mount", "-o", "remount,rw", "disk"]],
        "StorageError",
        "Read-only file system.*another directory",
        prepared=SMALL_DISK,
    ),
    "no permission": Refusal(
        [["forbid", "disk/files"]],
        [["allow", "disk/files"]],
        "StorageError",
        "Permission denied.*right to read and write",
        readable=False,
    ),
    "open files": Refusal(
        [["limit", "RLIMIT_NOFILE", 1]],
        [["limit", "RLIMIT_NOFILE", None]],
        "StorageError",
        "Too many open files.*ulimit -n",
        readable=False,
    ),
}

OF_SQLITE = {
    "disk full": Refusal(
        [["fill", "disk/filler", 8192]],
        [["remove", "disk/filler"]],
        "DatabaseError",
        "database or disk is full.*Nothing was written",
        prepared=SMALL_DISK,
    ),
    "quota": Refusal(
        [["limit", "RLIMIT_FSIZE", 4096]],
        [["limit", "RLIMIT_FSIZE", None]],
        "DatabaseError",
        "disk I/O error.*Nothing was written",
        label="small",
    ),
    "read-only": Refusal(
        [["close"], ["call", "mount", "-o", "remount,ro", "disk"]],
        [["close"], ["call", "mount", "-o", "remount,rw", "disk"]],
        "DatabaseUnavailableError",
        "unable to open database file",
        prepared=SMALL_DISK,
        readable=False,
    ),
    "no permission": Refusal(
        [["close"], ["forbid", "disk"]],
        [["close"], ["allow", "disk"]],
        "DatabaseUnavailableError",
        "Permission denied",
        readable=False,
    ),
    "open files": Refusal(
        [["close"], ["limit", "RLIMIT_NOFILE", 1]],
        [["close"], ["limit", "RLIMIT_NOFILE", None]],
        "DatabaseUnavailableError",
        "unable to open database file",
        readable=False,
    ),
}


@pytest.mark.parametrize("cause", OF_FILES)
def test_f6_f7_a_directory_refuses(nursery: Nursery, tmp_path: Path, cause: str) -> None:
    """F6, F7: nothing of the save is seen, and the same object is saved when the cause is gone."""
    place = Place(f"sqlite:///{tmp_path}/graph.db", str(tmp_path / "disk/files"))

    assert_refused(nursery, place, OF_FILES[cause])


@pytest.mark.parametrize("cause", OF_SQLITE)
def test_f6_f7_sqlite_refuses(nursery: Nursery, tmp_path: Path, cause: str) -> None:
    """F6, F7: nothing of the save is seen, and the same object is saved when the cause is gone."""
    place = Place(f"sqlite:///{tmp_path}/disk/graph.db", str(tmp_path / "files"))

    assert_refused(nursery, place, OF_SQLITE[cause])


def assert_refused(nursery: Nursery, place: Place, refusal: Refusal) -> None:
    Path("disk").mkdir()
    meanwhile: list[Step] = [["load", "before"]] if refusal.readable else []

    told = nursery.run(
        place,
        ["go", str(Path.cwd())],
        *refusal.prepared,
        ["save", "before"],
        *refusal.begins,
        ["try_to_save", refusal.label],
        *meanwhile,
        *refusal.ends,
        ["load", "before"],
        ["try_to_save", refusal.label],
        ["load", refusal.label],
        ["save", "after"],
        ["assert_sound"],
    )

    if told.impossible:
        pytest.skip(f"not here: {told.impossible[0][0]}")
    error, text = told.refused[refusal.label]
    assert error == refusal.error
    assert re.search(refusal.words, text)
    assert (told.begun, set(told.saved)) == ({"before", refusal.label, "after"},) * 2
