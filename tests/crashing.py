"""Processes that die at a point that has a name, and what they told before.

A nursery imports everything once, puts hooks at the points, and is forked for every process. What a
process does is a list of steps, which are methods of `Doomed`, with their arguments:

    nursery.run(place, ["save", "a"], ["arm", "file synced", 2], ["save", "b"])

saves "a", and then "b" up to the second time that a file of it was synced, where it kills itself.
"""

import asyncio
import ctypes
import errno
import inspect
import json
import os
import random
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeAlias
from uuid import UUID

import artigraph
from artigraph import (
    ArtifactModel,
    ArtifactQuery,
    ArtifactSequence,
    ArtigraphError,
    Run,
    RunManager,
    RunQuery,
    Storage,
    use_database,
)
from artigraph.storage import file
from artigraph.storage.file import FileSystem

Step: TypeAlias = list[Any]
"""The name of a method of `Doomed`, and its arguments."""

LONGEST = 60
"""Seconds after which a process is ended that hangs."""

NOBODY = 65534
CLONE_NEWNS = 0x20000

IN_PARTS = 16 * 2**20 + 1
"""Bytes that go to S3 in parts."""


@dataclass
class Album(ArtifactModel, version=1, name="crashing.Album"):
    """Something with data in rows and in a storage."""

    title: str
    cover: bytes
    pictures: ArtifactSequence[bytes]


def album(label: str) -> Album:
    """What is saved under a label; one with "film" in it has a picture that goes in parts.

    Another picture is in all albums. One with "small" in it has none.
    """
    chance = random.Random(label)
    pictures = [each.randbytes(70_000) for each in (chance, random.Random(1), chance)]
    if "small" in label:
        pictures = []
    if "film" in label:
        pictures = [chance.randbytes(2**16) * (IN_PARTS // 2**16) + b"."]
    return Album(label, chance.randbytes(1_000), ArtifactSequence(pictures))


@dataclass(frozen=True)
class Place:
    """A database and its storage, as any process can open them."""

    url: str
    directory: str = ""
    s3: dict[str, str] = field(default_factory=dict[str, str])
    share_data: bool = False

    def opened(self) -> AbstractContextManager[None]:
        return use_database(self.url, storage=self.storage(), share_data=self.share_data)

    def storage(self) -> Storage:
        if not self.s3:
            return FileSystem(self.directory)
        from artigraph_aws import S3Storage

        return S3Storage(
            self.s3["bucket"],
            self.s3["prefix"],
            endpoint_url=self.s3["endpoint_url"],
            region_name=self.s3["region"],
            session=_session(),
            client_options={
                "aws_access_key_id": self.s3["access_key"],
                "aws_secret_access_key": self.s3["secret_key"],
            },
        )


@dataclass
class Told:
    """What processes have told of what they did."""

    begun: set[str] = field(default_factory=set[str])
    """Labels whose save was called."""
    committing: set[str] = field(default_factory=set[str])
    """Labels whose rows were about to be committed."""
    saved: dict[str, UUID] = field(default_factory=dict[str, UUID])
    """The ids of labels whose save has returned."""
    deleting: set[str] = field(default_factory=set[str])
    deleted: set[str] = field(default_factory=set[str])
    refused: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """The class and the text of the error of what was refused, by its label."""
    calls: list[list[str]] = field(default_factory=list[list[str]])
    """System calls that were recorded, and the paths that they were about."""
    collected: list[Any] = field(default_factory=list[Any])
    impossible: list[list[str]] = field(default_factory=list[list[str]])
    """Why the steps can't be taken here."""
    exit_code: int = 0

    def hear(self, what: str, *about: Any) -> None:
        heard: Any = getattr(self, what)
        if isinstance(heard, set):
            heard.add(*about)
        elif isinstance(heard, list):
            heard.append([*about])
        else:
            heard[about[0]] = UUID(about[1]) if what == "saved" else about[1:]


class Nursery:
    """Where processes come from."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, place: Place, *steps: Step, kill_after: int | None = None, told: Told | None = None
    ) -> Told:
        """What a process told while it took its steps, until it ended or was killed.

        Args:
            place: What it opens.
            steps: What it does.
            kill_after: The number of saves that have returned when it is killed from outside.
            told: What others told before, which this one adds to.
        """
        told = Told() if told is None else told
        self._send({"place": vars(place), "steps": steps, "kill_after": kill_after})
        failure = ""
        while True:
            what, *about = json.loads(self._output.readline())
            if what == "ended":
                break
            if what == "failed":
                failure = about[0]
            else:
                told.hear(what, *about)
        assert not failure, failure
        told.exit_code = about[0]
        return told

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import crashing; crashing.main()"],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # closes its input, at which it ends, and waits for that
        yield Nursery(process)


def python_path() -> str:
    """Where a process finds this module, beside what this one was told."""
    return os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


# What follows is done in the nursery, and in the processes that are forked from it.


def main() -> None:
    """Fork a process for every order that comes in, and pass on what it tells."""
    put_hooks()
    _warm_up()
    for order in sys.stdin:
        _pass_on(json.loads(order))


def _pass_on(order: Any) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _live(order, writing)
    os.close(writing)
    saved = 0
    with os.fdopen(reading) as told:
        for line in told:
            print(line, end="", flush=True)
            if line.startswith('["saved"'):
                saved += 1
                if saved == order["kill_after"]:
                    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(json.dumps(["ended", os.waitstatus_to_exitcode(status)]), flush=True)


def _live(order: Any, writing: int) -> None:
    global _pipe
    _pipe = writing
    signal.alarm(LONGEST)
    try:
        asyncio.run(_take(Place(**order["place"]), order["steps"]))
    except Impossible as error:
        tell("impossible", str(error))
    except BaseException:
        tell("failed", traceback.format_exc())
    os._exit(0)


async def _take(place: Place, steps: list[Step]) -> None:
    doomed = Doomed(place)
    with place.opened():
        for name, *arguments in steps:
            await getattr(doomed, name)(*arguments)


class Doomed:
    """The steps."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._storage = place.storage()
        self._tried: dict[str, Album] = {}

    async def arm(self, point: str, times: int = 1) -> None:
        """Die when this point is passed for the `times`-th time from now on."""
        _armed.set(point, times)

    async def arm_any(self, times: int) -> None:
        """Die when `times` points were passed, whichever they are."""
        _armed.set(None, times)

    async def record(self) -> None:
        """Tell of system calls, and of commits."""
        global _is_recording
        _is_recording = True

    async def save(self, label: str) -> None:
        _label.set(label)
        tell("begun", label)
        album_id = await album(label).save(label)
        tell("saved", label, str(album_id))

    async def save_for_ever(self, label: str) -> None:
        """Three tasks save one after the other."""
        await asyncio.gather(*(self._save_many(f"{label} {task}", count()) for task in range(3)))

    async def work_for_ever(self, label: str) -> None:
        """Two tasks save, and a third deletes what it has saved, and collects."""

        async def come_and_go() -> None:
            for number in count():
                await self.save(f"{label} to go {number}")
                await self.delete(f"{label} to go {number}")
                await self.collect()

        saving = (self._save_many(f"{label} {task}", count()) for task in range(2))
        await asyncio.gather(come_and_go(), *saving)

    async def save_some(self, label: str, number: int) -> None:
        await self._save_many(label, range(number))

    async def _save_many(self, label: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            await self.save(f"{label}.{number}")

    async def save_at_once(self, *labels: str) -> None:
        await asyncio.gather(*(asyncio.create_task(self.save(label)) for label in labels))

    async def save_in_run(self, run: str, *labels: str) -> None:
        async with RunManager(Run(label=run)) as manager:
            for label in labels:
                _label.set(label)
                tell("begun", label)
                tell("saved", label, str(await manager.save_artifact(label, album(label))))

    async def try_to_save(self, label: str) -> None:
        """Save, and tell of a refusal; later attempts take the same object."""
        one = self._tried.setdefault(label, album(label))
        _label.set(label)
        tell("begun", label)
        try:
            tell("saved", label, str(await one.save(label)))
        except ArtigraphError as error:
            tell("refused", label, type(error).__name__, str(error))

    async def load(self, label: str) -> None:
        assert await Album.load(_told.saved[label]) == album(label)

    async def keep(self, location: str) -> None:
        """Keep something at a location of the storage, without any row."""
        await self._storage.create(location.encode(), location=location)
        _record("kept", location)

    async def keep_beside(self, point: str, times: int, *locations: str) -> None:
        """Keep two things, the second while the first is held at a point."""
        _held.point, _held.left = point, times
        first = asyncio.create_task(self.keep(locations[0]))
        await asyncio.to_thread(_held.reached.wait)
        await self.keep(locations[1])
        _held.released.set()
        await first

    async def delete(self, label: str) -> None:
        tell("deleting", label)
        await artigraph.delete(ArtifactQuery(label=label))
        tell("deleted", label)

    async def delete_run(self, run: str, *labels: str) -> None:
        for label in labels:
            tell("deleting", label)
        await artigraph.delete(RunQuery(label=run))
        for label in labels:
            tell("deleted", label)

    async def collect(self) -> None:
        collected = await artigraph.collect(grace=0)
        tell("collected", vars(collected))

    async def repair(self) -> None:
        await artigraph.repair((await artigraph.check(deep=True)).findings)

    async def close(self) -> None:
        """Close the database, which is opened again by the next step that needs it."""
        await artigraph.close()

    async def limit(self, name: str, number: int | None) -> None:
        """Set a limit of this process, above what it has open now; None lifts it."""
        kind = getattr(resource, name)
        _, most = resource.getrlimit(kind)
        if name == "RLIMIT_NOFILE" and number is not None:
            await asyncio.to_thread(int)  # the thread that works later is started now
            number += max(int(each) for each in os.listdir("/dev/fd"))  # noqa: PTH208
        resource.setrlimit(kind, (most if number is None else number, most))

    async def go(self, folder: str) -> None:
        """Take paths from there from now on."""
        os.chdir(folder)

    async def forbid(self, folder: str) -> None:
        """Take the right to a folder from this process. Root has every right: it is nobody then."""
        if os.getuid() == 0:
            os.seteuid(NOBODY)
        else:
            Path(folder).chmod(0o500)

    async def allow(self, folder: str) -> None:
        if os.getuid() == 0:
            os.seteuid(0)
        else:
            Path(folder).chmod(0o700)

    async def mount(self, folder: str) -> None:
        """Put a disk of 8 MiB at a folder, which only this process sees, and no longer than it."""
        if ctypes.CDLL(None).unshare(CLONE_NEWNS):
            raise Impossible("this user may not mount a small disk")
        await self.call("mount", "--make-rprivate", "/")
        await self.call("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)

    async def call(self, *command: str) -> None:
        result = subprocess.run(command, capture_output=True, text=True)  # noqa: ASYNC221  # alone
        if result.returncode:
            raise Impossible(result.stderr)

    async def fill(self, path: str, free: int) -> None:
        """Write a file that takes all space of its disk, and give some of it back."""
        with Path(path).open("wb", buffering=0) as file:  # noqa: ASYNC230  # alone in its process
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            file.truncate(max(0, file.tell() - free))

    async def remove(self, path: str) -> None:
        Path(path).unlink()

    async def assert_sound(self) -> None:
        """From inside: nobody else sees the disk."""
        from invariants import Store

        await artigraph.close()
        await Store(self._place).assert_sound(_told)


class Impossible(Exception):
    """Something that a test needs can't be done here; the text says why."""


class _Armed:
    """The point at which the process dies, if there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._point: str | None = None
        self._left = 0

    def set(self, point: str | None, times: int) -> None:
        self._point, self._left, self._is_set = point, times, True

    def pass_by(self, point: str) -> None:
        with self._lock:
            if point and self._is_set and self._point in (None, point):
                self._left -= 1
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)


class _Held:
    """The point at which one thread waits for another."""

    def __init__(self) -> None:
        self.point, self.left = "", 0
        self.reached, self.released = threading.Event(), threading.Event()

    def pass_by(self, point: str) -> None:
        if point != self.point:
            return
        self.left -= 1
        if not self.left:
            self.reached.set()
            self.released.wait()


_armed = _Armed()
_held = _Held()
_pipe = -1
_told = Told()
_is_recording = False
_label: ContextVar[str] = ContextVar("label")
_doing: ContextVar[str] = ContextVar("doing", default="other rows")
"""What the transaction that is open here is about."""


def tell(what: str, *about: Any) -> None:
    if _pipe >= 0:
        if what != "failed":
            _told.hear(what, *about)
        os.write(_pipe, (json.dumps([what, *about]) + "\n").encode())


_inserted: dict[int, list[str]] = {}
"""By connection, the labels of what is in its transaction."""


def passing(point: str) -> None:
    _armed.pass_by(point)
    _held.pass_by(point)


def _record(*call: object) -> None:
    if _is_recording:
        tell("calls", *map(str, call))


def put_hooks() -> None:
    """Put hooks at all points, for this process and those that are forked from it."""
    from artigraph import blobs, graph, writing

    watch(blobs, "insert_intents", "intents begun", "intents inserted", about="intents")
    watch(writing, "write_blobs", "data begun", "all data kept")
    watch(blobs, "publish", "publishing begun", "blobs published", about="nodes")
    watch(graph, "insert_artifacts", "", "nodes inserted", about="nodes")
    watch(blobs, "condemn_abandoned", "", "abandoned given up", about="abandoned")
    watch(blobs, "condemn_unused", "", "unused given up", about="unused")
    watch(blobs, "forget", "forgetting begun", "blobs forgotten", about="forgotten")
    _put_hooks_into_the_database()
    _put_hooks_into_the_file_system()
    _put_hooks_into_s3()


def watch(owner: Any, name: str, before: str, after: str, *, about: str = "") -> None:
    """Pass a point before, and one after, each call of a function."""
    function = getattr(owner, name)

    def enter() -> None:
        if about:
            _doing.set(about)
        passing(before)

    def watched(*arguments: Any, **options: Any) -> Any:
        enter()
        result = function(*arguments, **options)
        passing(after)
        return result

    async def watched_coroutine(*arguments: Any, **options: Any) -> Any:
        enter()
        result = await function(*arguments, **options)
        passing(after)
        return result

    is_coroutine = inspect.iscoroutinefunction(function)
    setattr(owner, name, watched_coroutine if is_coroutine else watched)


def _put_hooks_into_the_database() -> None:
    from sqlalchemy import Engine, event
    from sqlalchemy.engine.default import DefaultDialect

    from artigraph import graph
    from artigraph.deletion import _Plan

    watch(_Plan, "execute", "deletion begun", "", about="deleted rows")
    commit = DefaultDialect.do_commit

    def do_commit(self: Any, connection: Any) -> None:
        subject = _doing.get()
        # Saves that wait for their turn at SQLite share a commit.
        labels = _inserted.pop(id(connection.dbapi_connection), [])
        for label in labels:
            tell("committing", label)
        passing(f"commit of {subject} begun")
        _record("commit", subject, *labels)
        commit(self, connection)
        passing(f"{subject} committed")

    DefaultDialect.do_commit = do_commit

    insert_artifacts = graph.insert_artifacts

    def insert(connection: Any, rows: Any) -> None:
        insert_artifacts(connection, rows)
        roots = [row for row in rows if row["node_id"] == row["artifact_tree_id"]]
        labels = _inserted.setdefault(id(connection.connection.dbapi_connection), [])
        labels += (row["artifact_label"] for row in roots)

    graph.insert_artifacts = insert

    @event.listens_for(Engine, "rollback")
    def rolled_back(connection: Any) -> None:
        _inserted.pop(id(connection.connection.dbapi_connection), None)

    @event.listens_for(Engine, "after_cursor_execute")
    def executed(*about: Any) -> None:
        statement = str(about[2]).strip()
        if statement.startswith("CREATE "):
            passing("table or index made")
        if statement.startswith("DELETE FROM artigraph_link"):
            passing("links deleted")
        if statement.startswith("DELETE FROM artigraph_node"):
            passing("nodes deleted")


def _put_hooks_into_the_file_system() -> None:
    make, sync, link, unlink = os.mkdir, os.fsync, os.link, os.unlink

    def made(path: Any, *arguments: Any, **options: Any) -> None:
        try:
            make(path, *arguments, **options)
        except FileExistsError:
            _record("mkdir", path)  # who made it may be about to tell
            raise
        _record("mkdir", path)
        passing("folder made")

    def synced(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        passing(f"{kind} to be synced")
        sync(descriptor)
        _record("fsync", _path(descriptor))
        passing(f"{kind} synced")

    def linked(source: Any, name: Any, *, dst_dir_fd: int) -> None:
        passing("file to be linked")
        link(source, name, dst_dir_fd=dst_dir_fd)
        _record("link", source, f"{_path(dst_dir_fd)}/{name}")
        passing("file linked")

    def unlinked(path: Any, *, dir_fd: int | None = None) -> None:
        passing("temporary file to be removed" if dir_fd is None else "data to be removed")
        unlink(path, dir_fd=dir_fd)
        _record("unlink", path if dir_fd is None else f"{_path(dir_fd)}/{path}")
        passing("temporary file removed" if dir_fd is None else "data removed")

    file._TargetFile = _HalfWritten  # type: ignore[misc]
    os.mkdir, os.fsync, os.link, os.unlink = made, synced, linked, unlinked  # type: ignore[assignment]


class _HalfWritten(file._TargetFile):
    """A file of a storage that takes half of the first data, and the rest later."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._is_begun = False
        _record("create", path)
        passing("file opened")

    def write(self, data: Any) -> int:
        if self._is_begun:
            return super().write(data)
        self._is_begun = True
        whole = memoryview(data)
        size = super().write(whole[: max(1, len(whole) // 2)])
        passing("file half written")
        return size


def _path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _put_hooks_into_s3() -> None:
    from aiobotocore.client import AioBaseClient

    call = AioBaseClient._make_api_call

    async def called(self: Any, operation: str, *arguments: Any) -> Any:
        passing("data to be removed" if operation == "DeleteObject" else f"{operation} to be sent")
        result = await call(self, operation, *arguments)
        passing("data removed" if operation == "DeleteObject" else f"{operation} answered")
        return result

    AioBaseClient._make_api_call = called
    send, send_message = socket.socket.send, socket.socket.sendmsg

    def sent(self: socket.socket, data: Any, *flags: int) -> int:
        if len(data) > 2**15:  # as if the kernel took no more at once
            size = send(self, memoryview(data)[: len(data) // 2], *flags)
            passing("body half sent")
            return size
        size = send(self, data, *flags)
        if b"COMMIT" in bytes(data[:64]):
            passing(f"commit of {_doing.get()} sent")
        return size

    def message_sent(self: socket.socket, buffers: Any, *rest: Any) -> int:
        if rest:
            return send_message(self, buffers, *rest)
        return sent(self, b"".join(buffers))

    socket.socket.send = sent  # type: ignore[method-assign,assignment]
    socket.socket.sendmsg = message_sent  # type: ignore[method-assign,assignment]


_sessions: list[Any] = []


def _session() -> Any:
    """One for all clients: reading what S3 is takes a tenth of a second."""
    if not _sessions:
        import aioboto3

        _sessions.append(aioboto3.Session())
    return _sessions[0]


def _warm_up() -> None:
    """Import what a process needs."""
    import asyncmy  # noqa: F401
    import asyncpg  # noqa: F401

    s3 = {"bucket": "none", "prefix": "", "endpoint_url": "http://127.0.0.1:1", "region": "none"}
    place = Place("sqlite://", s3={**s3, "access_key": "none", "secret_key": "none"})

    async def warm_up() -> None:
        await artigraph.check()
        await place.storage()._bucket.get()  # type: ignore[attr-defined]  # makes a client

    with place.opened():
        asyncio.run(warm_up())
