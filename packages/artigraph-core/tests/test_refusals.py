"""What is said where SQLite refuses: the cause, which it keeps to itself, and what to do.

Limits and disks belong to a process of its own.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import artigraph
from artigraph import ArtigraphError, DatabaseUnavailableError, Run, RunManager
from artigraph.testing.process import in_fresh_process

NOBODY = 65534

PRELUDE = """
import asyncio, os, resource, sys
from dataclasses import dataclass
import artigraph
from artigraph import ArtifactModel, ArtigraphError

@dataclass
class Note(ArtifactModel, version=1, name="refusals.Note"):
    data: bytes

async def attempt(size=10):
    try:
        note_id = await Note(bytes(size)).save()
    except ArtigraphError as error:
        print(type(error).__name__, error)
    else:
        assert await Note.load(note_id) == Note(bytes(size))
        print("saved")

def limit(name, number):
    kind = getattr(resource, name)
    resource.setrlimit(kind, (number, resource.getrlimit(kind)[1]))

async def main():
    artigraph.set_database(f"sqlite:///{sys.argv[1]}")
    await attempt()
    await fail()
    await attempt()

"""

pytestmark = pytest.mark.sqlite


def told_by(program: str, file: Path) -> str:
    """What is said between two saves that work."""
    printed = in_fresh_process(f"{PRELUDE}{program}\nasyncio.run(main())", str(file)).decode()
    first, *told, last = printed.splitlines()
    assert (first, last) == ("saved", "saved")
    return "\n".join(told)


@pytest.mark.parametrize(("opens", "size"), [(False, 200_000), (True, 10)])
def test_the_limit_of_a_files_size_is_told(tmp_path: Path, opens: bool, size: int) -> None:
    """F6: whether it stops a save, or the opening of the file."""
    program = f"""
async def fail():
    if {opens}:
        await artigraph.close()
    limit("RLIMIT_FSIZE", 20_000)
    await attempt({size})
    limit("RLIMIT_FSIZE", resource.RLIM_INFINITY)
"""

    told = told_by(program, tmp_path / "graph.db")

    assert "disk I/O error: no file of this process may have more than 20,000 bytes" in told
    assert "'graph.db-wal' has " in told
    assert "Nothing was written. Raise the limit of a file's size (ulimit -f)" in told


@pytest.mark.parametrize("left", [0, 2])
def test_too_many_open_files_are_told(tmp_path: Path, left: int) -> None:
    """F6: SQLite needs several, for the file and its log, and has one message for all causes."""
    program = f"""
async def fail():
    await artigraph.close()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit("RLIMIT_NOFILE", 100)
    opened = []
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range({left}):
        os.close(opened.pop())
    await attempt()
    limit("RLIMIT_NOFILE", most)
    for each in opened:
        os.close(each)
"""

    told = told_by(program, tmp_path / "graph.db")

    assert told.startswith("DatabaseUnavailableError")
    assert "unable to open database file: this process has as many files open as it may" in told
    assert "100. Raise the limit of open files (ulimit -n)" in told


ON_A_SMALL_DISK = {
    "full": (
        """
async def fail():
    with open(f"{os.path.dirname(sys.argv[1])}/filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    await attempt(200_000)
    os.unlink(filler.name)
""",
        r"database or disk is full: the disk of '.*/disk' has 0 bytes free\. Nothing was written\."
        r" Free some space",
    ),
    "read-only": (
        """
async def fail():
    await artigraph.close()
    os.system("mount -o remount,ro " + os.path.dirname(sys.argv[1]))
    await attempt()
    os.system("mount -o remount,rw " + os.path.dirname(sys.argv[1]))
""",
        r"the file system of '.*/disk' is read-only\. .*Mount it so that it can be written to",
    ),
}


@pytest.mark.parametrize("cause", ON_A_SMALL_DISK)
def test_a_disk_that_takes_nothing_is_told(tmp_path: Path, cause: str) -> None:
    """F6: with what is free on it, or that it is read-only."""
    (tmp_path / "disk").mkdir()
    program, words = ON_A_SMALL_DISK[cause]
    mounted = [
        "unshare",
        "-m",
        "sh",
        "-ec",
        'mount -t tmpfs -o size=2m tmpfs disk; exec "$@"',
        "sh",
    ]
    if shutil.which("unshare") is None or subprocess.run([*mounted, "true"]).returncode:
        pytest.skip("this user may not mount a small disk")

    command = [sys.executable, "-c", f"{PRELUDE}{program}\nasyncio.run(main())"]
    ended = subprocess.run(
        [*mounted, *command, f"{tmp_path}/disk/graph.db"], capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    first, told, last = ended.stdout.splitlines()
    assert (first, last) == ("saved", "saved")
    assert re.search(words, told)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        os.seteuid(os.getuid())
        Path(folder).chmod(0o755)


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """Root may do anything: it becomes nobody until the end of the test."""
    yield lambda: os.seteuid(NOBODY) if os.getuid() == 0 else None
    os.seteuid(os.getuid())


@pytest.mark.parametrize(
    ("of_file", "of_folder", "words"),
    [
        (0o444, 0o777, "this user may not read and write {file!r}. "),
        (0o000, 0o777, "unable to open database file: this user may not read and write {file!r}. "),
        (0o666, 0o555, "this user may not make files in {folder!r}, where SQLite keeps its log. "),
    ],
)
def test_a_right_that_is_missing_is_told(
    folder: Path, as_nobody: Callable[[], None], of_file: int, of_folder: int, words: str
) -> None:
    """F7: of the file, or of its folder, where others are made beside it."""
    file = folder / "graph.db"
    artigraph.set_database(f"sqlite:///{file}")
    save()
    file.chmod(of_file)
    folder.chmod(of_folder)

    as_nobody()
    error = refusal()

    assert words.format(file=str(file), folder=str(folder)) in str(error)
    assert "Give this user the right to read and write there, or choose another path." in str(error)


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    """With what to write."""
    artigraph.set_database(f"sqlite:///{tmp_path}")

    error = refusal()

    assert isinstance(error, DatabaseUnavailableError)
    assert f"{str(tmp_path)!r} is a folder. Name a file in it" in str(error)


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    """And left alone."""
    (tmp_path / "notes.txt").write_text("nothing of yours" * 100)
    artigraph.set_database(f"sqlite:///{tmp_path}/notes.txt")

    told = str(refusal())

    assert "file is not a database" in told
    assert f"{str(tmp_path / 'notes.txt')!r} is another kind of file" in told
    assert "choose another path" in told


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """With what may help."""
    file = tmp_path / "graph.db"
    artigraph.set_database(f"sqlite:///{file}")
    save()
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    told = str(refusal())

    assert f"{str(file)!r} is damaged. Nothing was written. Restore it from a copy" in told
    assert f"sqlite3 {str(file)!r} .recover" in told


def save() -> None:
    async def begin_and_end() -> None:
        async with RunManager(Run()):
            pass

    asyncio.run(begin_and_end())


def refusal() -> ArtigraphError:
    with pytest.raises(ArtigraphError) as caught:
        save()
    return caught.value
