"""The file system as a storage: the contract, and what is its own."""

import asyncio
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from artigraph.errors import StorageError
from artigraph.spec import new_location
from artigraph.storage import open_storage
from artigraph.storage.file import FileSystem, FileSystemStorage
from artigraph.testing import StreamingStorageTests

LOCATION = "ab/" + "ab" * 16
OTHER = "cd/" + "cd" * 16


class TestFileSystem(StreamingStorageTests):
    """A directory keeps what every storage promises to keep, and nothing else."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[FileSystem]:
        storage = FileSystem(tmp_path / "files")
        yield storage
        assert unfinished(storage) == []

    def plant(self, storage: FileSystem, location: str, data: bytes) -> None:
        path = storage.directory / location
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def inspect(self, storage: FileSystem, location: str) -> bytes | None:
        path = storage.directory / location
        return path.read_bytes() if path.exists() else None

    def another(self, storage: FileSystem) -> FileSystem:
        return FileSystem(storage.directory)


class TestFileSystemWithoutHardLinks(TestFileSystem):
    """FAT and some network file systems have none; a FAT disk can't be had in a test."""

    decides_races = False

    @pytest.fixture(autouse=True)
    def without_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)


@pytest.fixture
def storage(tmp_path: Path) -> FileSystem:
    return FileSystem(tmp_path / "files")


def unfinished(storage: FileSystem) -> list[Path]:
    return list(storage.directory.glob("tmp/*"))


def test_the_name_is_the_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written, and from wherever it is used later."""
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = ("~/a", "a", "./b/../a", tmp_path / "a", f"{tmp_path}//a/")
    storages = [FileSystem(path) for path in paths]
    monkeypatch.chdir("/")

    assert {storage.name for storage in storages} == {f"file:{tmp_path}/a"}
    assert {storage.directory for storage in storages} == {tmp_path / "a"}
    assert FileSystem("a", name="lake").name == "lake"


def test_both_names_are_one_class() -> None:
    """`FileSystemStorage` is what some call it."""
    assert FileSystemStorage is FileSystem


async def test_the_directory_is_made_when_something_is_created(storage: FileSystem) -> None:
    """And not by asking what is in it."""
    await storage.exists(LOCATION)
    await storage.delete(LOCATION)
    assert not storage.directory.exists()

    await storage.create(b"data", location=LOCATION)

    assert sorted(path.name for path in storage.directory.iterdir()) == ["ab", "tmp"]


async def test_directories_above_are_made_too(tmp_path: Path) -> None:
    """The path may lead through folders that are not there yet."""
    storage = FileSystem(tmp_path / "a" / "b" / "c")

    assert await storage.read(await storage.create(b"data")) == b"data"


async def test_the_directory_may_be_a_link(tmp_path: Path) -> None:
    """Large values are often on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "files").symlink_to("disk")

    await FileSystem(tmp_path / "files").create(b"data", location=LOCATION)

    assert (tmp_path / "disk" / LOCATION).read_bytes() == b"data"


@pytest.mark.parametrize(
    ("umask", "file", "folder"),
    [(0o000, 0o666, 0o777), (0o022, 0o644, 0o755), (0o077, 0o600, 0o700)],
)
async def test_modes_are_what_the_umask_leaves(
    storage: FileSystem, umask: int, file: int, folder: int
) -> None:
    """A team shares a directory by its umask; a single user keeps it private by it."""
    before = os.umask(umask)
    try:
        await storage.create(b"data", location=LOCATION)
        await storage.update(LOCATION, b"more")
    finally:
        os.umask(before)

    folders = [storage.directory, storage.directory / "ab", storage.directory / "tmp"]
    assert mode(storage.directory / LOCATION) == file
    assert [mode(path) for path in folders] == [folder] * 3


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str | int]:
    """What is put on the disk, by inode, and where files get their names."""
    calls: list[str | int] = []
    fsync = os.fsync

    def recorded(name: str) -> Callable[..., None]:
        original = getattr(os, name)

        def call(*arguments: object, **options: object) -> None:
            calls.append(name)
            original(*arguments, **options)

        return call

    def synced(descriptor: int) -> None:
        calls.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    for name in ("link", "replace"):
        monkeypatch.setattr(os, name, recorded(name))
    return calls


async def test_data_is_on_the_disk_before_its_name_is(
    storage: FileSystem, tmp_path: Path, order: list[str | int]
) -> None:
    """F13: the file, its name, then the folder, after those above it: no power cut shows a part."""
    await storage.create(b"data", location=LOCATION)

    paths = (tmp_path, storage.directory, storage.directory / LOCATION)
    above, directory, file = (path.stat().st_ino for path in paths)
    folder = (storage.directory / "ab").stat().st_ino
    assert order == [above, directory, file, directory, "link", folder]

    order.clear()
    await storage.update(LOCATION, b"more")

    assert order == [(storage.directory / LOCATION).stat().st_ino, "replace", folder]


def stream(mebibytes: int) -> Callable[[BinaryIO], object]:
    """What writes so much, in pieces."""
    return lambda file: file.writelines(bytes(2**20) for _ in range(mebibytes))


async def test_much_data_goes_to_the_disk_while_it_is_written(
    storage: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that little is left to wait for; all of it is there before its name is."""
    sizes: list[int] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode):
            sizes.append(facts.st_size)

    def linked(*arguments: Any, **options: Any) -> None:
        sizes.append(-1)
        link(*arguments, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)

    await storage.create_from(stream(100), location=LOCATION)

    assert sizes[-1] == -1
    assert len(sizes) > 2
    assert sizes[-2] == 100 * 2**20
    assert (storage.directory / LOCATION).stat().st_size == 100 * 2**20


@pytest.mark.parametrize("mebibytes", [40, 200])
async def test_what_the_disk_refuses_once_is_refused(
    storage: FileSystem, monkeypatch: pytest.MonkeyPatch, mebibytes: int
) -> None:
    """F7: a system tells of an error in writing back once, to whoever syncs first."""
    fsync, refused = os.fsync, threading.Event()

    def refuse(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and not refused.is_set():
            refused.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(StorageError, match="Input/output error"):
        await storage.create_from(stream(mebibytes), location=LOCATION)

    assert refused.is_set()
    assert not await storage.exists(LOCATION)
    assert list((storage.directory / "tmp").iterdir()) == []


KILLED = """
import asyncio, os, signal, sys
from artigraph.storage.file import FileSystem

storage, location, name, times = FileSystem(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
asyncio.run(storage.create(b"warm", location="ef/" + "ef" * 16))
original = getattr(os, name)

def die(*arguments, **options):
    global times
    times -= 1
    if not times:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(os, name, die)
asyncio.run(storage.create(bytes(10**6), location=location))
"""


@pytest.mark.parametrize(
    ("call", "times", "is_there"),
    [
        ("fsync", 1, False),
        ("fsync", 2, False),
        ("link", 1, False),
        ("fsync", 3, True),
        ("unlink", 1, True),
    ],
)
def test_a_process_that_is_killed_leaves_all_or_nothing(
    storage: FileSystem, call: str, times: int, is_there: bool
) -> None:
    """F1: before the link there is nothing at the location, after it everything."""
    asyncio.run(storage.create(b"data", location=OTHER))

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, storage.directory, LOCATION, call, str(times)]
    )

    assert killed.returncode == -signal.SIGKILL
    assert (storage.directory / LOCATION).exists() is is_there
    asyncio.run(storage.create(bytes(10**6), location=LOCATION))
    assert asyncio.run(storage.read(LOCATION)) == bytes(10**6)
    assert asyncio.run(storage.read(OTHER)) == b"data"


REFUSED = """
import asyncio, os, resource, sys
from artigraph.errors import StorageError
from artigraph.storage.file import FileSystem

async def create(storage):
    return await storage.create(bytes(10**6), location=sys.argv[2])

async def main():
    # The thread that will do the work is started while there are files to be had.
    await asyncio.to_thread(int)
    exec(sys.argv[3])
    try:
        await create(FileSystem(sys.argv[1]))
    except StorageError as error:
        print(error)

asyncio.run(main())
"""


STREAMED = """
def write(file):
    try:
        for _ in range(10):
            file.write(bytes(10**5))
    except OSError as error:
        raise Exception("something else") from error

async def create(storage):
    return await storage.create_from(write, location=sys.argv[2])
"""


def refused(storage: FileSystem, limit: str) -> str:
    """What the error says when a child creates 1 MB at LOCATION under a limit."""
    command = [sys.executable, "-c", REFUSED, storage.directory, LOCATION, limit]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))", ["too large", "ulimit -f"]),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))", ["open files", "ulimit -n"]),
        ("os.geteuid() or (os.setgid(65534), os.setuid(65534))", ["denied", "right to"]),
    ],
    ids=["no space", "no descriptors", "no rights"],
)
def test_a_write_that_fails_leaves_nothing(
    storage: FileSystem, limit: str, words: list[str]
) -> None:
    """F6, F7: no short file and no temporary one, nothing lost; and the error says what to do."""
    asyncio.run(storage.create(b"data", location=OTHER))
    (storage.directory / "tmp").chmod(0o500 if "setuid" in limit else 0o700)

    message = refused(storage, limit)

    assert f"storage '{storage.name}' can't create '{LOCATION}'" in message
    for word in words:
        assert word in message
    assert unfinished(storage) == []
    assert not (storage.directory / LOCATION).exists()
    assert asyncio.run(storage.read(OTHER)) == b"data"


def test_a_stream_that_fails_leaves_nothing(storage: FileSystem) -> None:
    """F6: the error is that of the disk, and not what the function that writes made of it."""
    message = refused(storage, STREAMED + "resource.setrlimit(resource.RLIMIT_FSIZE, (10**5,) * 2)")

    assert "too large" in message
    assert "ulimit -f" in message
    assert unfinished(storage) == []
    assert not (storage.directory / LOCATION).exists()


@pytest.mark.parametrize("where", ["", "ab", "tmp"])
async def test_a_file_where_a_folder_should_be_is_told(storage: FileSystem, where: str) -> None:
    """F7: it is not touched."""
    path = storage.directory / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")

    with pytest.raises(StorageError, match=r"[Nn]ot a directory.*move it away"):
        await storage.create(b"data", location=LOCATION)

    assert path.read_bytes() == b"mine"


def plant_link(path: Path) -> None:
    path.symlink_to(path.parent / "secret")


def plant_pipe(path: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path) -> None:
    path.mkdir()


def plant_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def plant_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(path.parent)  # its path may not be long
        listening.bind(path.name)
        os.chdir(before)


def plant_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


@pytest.mark.parametrize(
    "plant",
    [plant_link, plant_link_to_a_device, plant_pipe, plant_socket, plant_device, plant_folder],
)
async def test_only_regular_files_are_data(
    storage: FileSystem, plant: Callable[[Path], None]
) -> None:
    """C3: nothing else is read, waited for or replaced."""
    path = storage.directory / LOCATION
    path.parent.mkdir(parents=True)
    secret = path.parent / "secret"
    secret.write_bytes(b"secret")
    plant(path)
    kind = stat.S_IFMT(path.lstat().st_mode)

    assert not await storage.exists(LOCATION)
    for work in (
        storage.read(LOCATION),
        storage.update(LOCATION, b"data"),
        storage.create(b"secret", location=LOCATION),
    ):
        with pytest.raises(StorageError, match="move it away"):
            await work
    assert stat.S_IFMT(path.lstat().st_mode) == kind
    assert secret.read_bytes() == b"secret"


async def test_a_link_in_the_place_of_a_folder_is_not_followed(
    storage: FileSystem, tmp_path: Path
) -> None:
    """C3: who may write in the directory can't make the storage work elsewhere."""
    elsewhere = tmp_path / "elsewhere" / LOCATION[3:]
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"secret")
    storage.directory.mkdir()
    (storage.directory / "ab").symlink_to(elsewhere.parent)

    for work in (
        storage.read(LOCATION),
        storage.exists(LOCATION),
        storage.update(LOCATION, b"data"),
        storage.delete(LOCATION),
        storage.create(b"secret", location=LOCATION),
    ):
        with pytest.raises(StorageError, match="ab"):
            await work

    assert elsewhere.read_bytes() == b"secret"


@pytest.mark.parametrize("call", ["create", "update", "delete"])
async def test_a_link_in_the_place_of_unfinished_data_is_not_followed(
    storage: FileSystem, tmp_path: Path, call: str
) -> None:
    """Neither are files made or removed behind it, under whatever names."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{LOCATION[3:]}.kept").write_bytes(b"kept")
    await storage.create(b"data", location=LOCATION)
    (storage.directory / "tmp").rmdir()
    (storage.directory / "tmp").symlink_to(elsewhere)

    with pytest.raises(StorageError, match="tmp"):
        await {
            "create": lambda: storage.create(b"data", location=OTHER),
            "update": lambda: storage.update(LOCATION, b"more"),
            "delete": lambda: storage.delete(LOCATION),
        }[call]()

    assert [path.name for path in elsewhere.iterdir()] == [f"{LOCATION[3:]}.kept"]


async def test_a_link_among_unfinished_data_is_removed_and_not_followed(
    storage: FileSystem, tmp_path: Path
) -> None:
    """Where it leads to stays."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    await storage.create(b"data", location=LOCATION)
    (storage.directory / "tmp" / f"{LOCATION[3:]}.left").symlink_to(secret)

    await storage.delete(LOCATION)

    assert secret.read_bytes() == b"secret"
    assert unfinished(storage) == []


async def test_a_directory_that_is_gone_is_told(storage: FileSystem) -> None:
    """F7: a disk that is not mounted looks like data that is lost."""
    with pytest.raises(FileNotFoundError, match=r"no directory .*files.*mounted"):
        await storage.read(LOCATION)


async def test_a_path_that_is_none_is_told() -> None:
    """F7: as everything that can't be written to."""
    with pytest.raises(StorageError, match="null"):
        await FileSystem("a\0b").create(b"data")


async def test_a_cancelled_write_is_over_when_it_says_so(storage: FileSystem) -> None:
    """F12: no thread goes on to write behind the caller's back."""
    creating = asyncio.ensure_future(storage.create(bytes(10**7), location=LOCATION))
    await asyncio.sleep(0)

    creating.cancel()
    await asyncio.wait({creating})

    assert creating.cancelled()
    assert unfinished(storage) == []
    assert (storage.directory / LOCATION).stat().st_size == 10**7


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:/data/files", "/data/files"),
        ("file:///data/files", "/data/files"),
        ("file://localhost/data/files", "/data/files"),
        ("file:/data/100%25", "/data/100%25"),
        ("file:///data/100%25%20%C3%A9", "/data/100% é"),
    ],
)
def test_a_uri_opens_a_directory(uri: str, path: str) -> None:
    """As a storage's name it is taken literally, as a URL percent-encoded."""
    storage = open_storage(uri)

    assert isinstance(storage, FileSystem)
    assert storage.directory == Path(path)
    assert open_storage(storage.name).name == storage.name


@pytest.mark.parametrize("path", ["/data/100% é#?", "/a b", "/x%41"])
def test_a_path_as_a_uri_opens_that_path(path: str) -> None:
    """What `Path.as_uri()` writes."""
    assert open_storage(Path(path).as_uri()).name == f"file:{path}"


@pytest.mark.parametrize("uri", ["file:", "file:data", "file://data/files", "file://"])
def test_a_uri_that_is_not_absolute_is_refused(uri: str) -> None:
    """It would mean another directory in another folder."""
    with pytest.raises(StorageError, match="file:///absolute/path"):
        open_storage(uri)


def test_locations_are_spread_over_folders() -> None:
    """256 of them, by the first two digits."""
    folder, _, name = new_location().partition("/")

    assert name.startswith(folder)
    assert len(folder) == 2
