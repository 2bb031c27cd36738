"""The event loop goes on turning whatever is saved and loaded, and hears how far it has come."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import numpy as np
import pytest

import artigraph.serializer
from artigraph import ArtifactMapping, ArtifactModel, ArtifactSequence, Progress, artifact_field
from artigraph.memory import give_way
from artigraph.spec import Data, LocalFile, MappingSerializer, StreamingSerializer
from artigraph.storage.file import FileSystem

MIB = 2**20
SERIALIZERS = str(Path(artigraph.serializer.__file__).parent)


class Text:
    """A value of which a serializer of our own makes data."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and self.text == other.text

    __hash__ = None  # type: ignore[assignment]


class TextSerializer(StreamingSerializer[Text], MappingSerializer[Text]):
    """Knows the threads in which it was called."""

    name = "tests.text"
    types = (Text,)

    def __init__(self) -> None:
        self.threads: dict[str, threading.Thread] = {}

    def serialize(self, value: Text) -> Data:
        self.threads["serialize"] = threading.current_thread()
        return value.text

    def deserialize(self, data: Data) -> Text:
        self.threads["deserialize"] = threading.current_thread()
        return Text(bytes(data))

    def estimate(self, value: Text) -> int:
        return len(value.text)

    def dump(self, value: Text, file: BinaryIO) -> None:
        self.threads["dump"] = threading.current_thread()
        file.write(value.text)

    def map(self, file: LocalFile) -> Text:
        self.threads["map"] = threading.current_thread()
        return Text(bytes(file.data))


serializer = TextSerializer()


@dataclass
class Page(ArtifactModel, version=1, name="event_loop.Page"):
    text: Text = artifact_field(serializer=serializer)


@dataclass
class LaterPage(ArtifactModel, version=1, name="event_loop.LaterPage"):
    text: artigraph.Lazy[Text] = artifact_field(serializer=serializer)


@dataclass
class Any_(ArtifactModel, version=1, name="event_loop.Any"):
    value: Any


@pytest.fixture(autouse=True)
async def connected(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'graph.db'}"
    artigraph.set_database(url, storage=FileSystem(tmp_path / "files"))
    await Any_(0).save("first use")


async def test_serializers_run_in_threads() -> None:
    """Whether they stream, map, or give all data at once."""
    serializer.threads.clear()
    small, large = Text(b"small"), Text(b"large" * 2 * MIB)

    assert await Page.load(await Page(small).save("small")) == Page(small)
    assert await Page.load(await Page(large).save("large")) == Page(large)
    page = await LaterPage.load(await LaterPage(artigraph.Lazy(large)).save("lazy"))
    assert await page.text.map() == large

    assert serializer.threads.keys() == {"serialize", "deserialize", "dump", "map"}
    assert threading.main_thread() not in serializer.threads.values()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(list(range(200_000)), id="list"),
        pytest.param({f"{n}": [n] for n in range(50_000)}, id="dict"),
        pytest.param(ArtifactMapping({f"{n}": Any_(n) for n in range(5_000)}), id="models"),
        pytest.param(np.zeros(4 * MIB), id="array"),
    ],
)
async def test_the_loop_turns_while_a_large_value_is_saved_and_loaded(value: object) -> None:
    """What serializers do with it is done in threads, and nothing waits for these."""
    with watched_serializers() as calls:
        work = asyncio.ensure_future(Any_(value).save("large"))
        await calls.hold_while_the_loop_turns(200, work)
        await calls.hold_while_the_loop_turns(200, asyncio.ensure_future(Any_.load(await work)))

    assert calls.in_the_loop < 20, "a small value takes some three"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\xe9" * 8 * MIB, id="text"),
        pytest.param(list(range(700_000)), id="numbers"),
        pytest.param([["\xe9" * 2 * MIB], [b"a" * 8 * MIB]], id="texts in lists"),
        pytest.param({f"{n}": [n, n / 7] for n in range(100_000)}, id="lists in a dict"),
        pytest.param(tuple(f"{n}" * 3 for n in range(200_000)), id="texts in a tuple"),
        pytest.param(bytearray(8 * MIB), id="bytes"),
    ],
)
async def test_no_step_takes_all_of_a_large_value(value: object) -> None:
    """Others have the interpreter's lock for each half of a megabyte at least."""
    pauses = 0

    def see(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal pauses
        pauses += event == "call" and frame.f_code is give_way.__code__

    threads = ThreadPoolExecutor(initializer=sys.setprofile, initargs=(see,))
    asyncio.get_running_loop().set_default_executor(threads)
    told: list[Progress] = []
    with artigraph.on_progress(told.append):
        node_id = await Any_(value).save("large")
        size, saved, pauses = told[-1].done, pauses, 0
        loaded = await Any_.load(node_id)

    assert loaded == Any_(value)
    assert size > 2 * MIB
    pieces = size // (MIB // 2)
    assert saved + 1 >= pieces
    assert pauses + 1 >= pieces


async def test_nobody_waits_where_there_is_little_to_do() -> None:
    """A pause for others takes longer than a small value does."""
    pauses = 0

    def see(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal pauses
        pauses += event == "call" and frame.f_code is give_way.__code__

    threads = ThreadPoolExecutor(initializer=sys.setprofile, initargs=(see,))
    asyncio.get_running_loop().set_default_executor(threads)
    value = Any_(["text", b"bytes", bytearray(b"more"), "\0", (1, 2), {3: 4}, {5}] * 100)
    larger = Any_(["a" * 200_000, tuple(range(20_000)), b"a" * 100_000])
    sys.setprofile(see)
    try:
        for each in (value, Any_("a" * 100_000), Any_(b"a" * 100_000)):
            assert await Any_.load(await each.save("little")) == each
        assert pauses == 0
        assert await Any_.load(await larger.save("much")) == larger
    finally:
        sys.setprofile(None)

    assert pauses > 0


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["a" * 60_000] * 500, id="texts"),
        pytest.param([b"a" * 60_000] * 500, id="bytes"),
        pytest.param([["a" * 20_000] * 3] * 500, id="texts in lists"),
    ],
)
async def test_many_values_that_are_not_small_are_looked_at_in_threads(values: list[Any]) -> None:
    """They are few, so that their number does not tell how much there is to do."""
    with watched_serializers() as calls:
        calls.go_on()
        node_id = await Any_(ArtifactSequence(values)).save("many")
        assert await Any_.load(node_id) == Any_(ArtifactSequence(values))

    assert calls.in_the_loop < 100


class Calls:
    """Of functions of our serializers."""

    def __init__(self) -> None:
        self.in_the_loop = 0
        self.in_threads = 0
        self._may_go_on = threading.Event()

    async def hold_while_the_loop_turns(self, turns: int, work: asyncio.Future[Any]) -> None:
        """Hold the threads of the work in their first call meanwhile."""
        self.in_threads = 0
        self._may_go_on.clear()
        while turns and not work.done():
            turns -= self.in_threads > 0
            await asyncio.sleep(0)
        self._may_go_on.set()
        assert self.in_threads, "the work was done without a thread"
        assert not turns, "the loop was held too"
        await work

    def go_on(self) -> None:
        """Hold no thread."""
        self._may_go_on.set()

    def see(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SERIALIZERS):
            if threading.current_thread() is threading.main_thread():
                self.in_the_loop += 1
            else:
                self.in_threads += 1
                self._may_go_on.wait(60)


@contextmanager
def watched_serializers() -> Generator[Calls]:
    calls = Calls()
    threads = ThreadPoolExecutor(initializer=sys.setprofile, initargs=(calls.see,))
    asyncio.get_running_loop().set_default_executor(threads)
    sys.setprofile(calls.see)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def test_the_first_use_imports_what_it_needs_in_a_thread(tmp_path: Path) -> None:
    """That takes some tenths of a second."""
    script = """
import asyncio, sys, threading
from dataclasses import dataclass
from artigraph import ArtifactModel

@dataclass
class Score(ArtifactModel, version=1):
    value: int

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sqlalchemy", "aiosqlite", "greenlet"):
            threads.add(threading.current_thread())

threads = set()
sys.meta_path.insert(0, Finder())
asyncio.run(Score(1).save("score"))
assert threads, "nothing was imported"
assert threading.main_thread() not in threads, "the event loop has waited"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


async def test_progress_is_told_in_both_directions() -> None:
    """From the beginning to the end of each large value, never backwards."""
    array = np.zeros(4 * MIB)
    told: list[Progress] = []
    with artigraph.on_progress(told.append):
        node_id = await Any_(array).save("array")
        saved, told = told.copy(), told
        told.clear()
        await Any_.load(node_id)

    size = saved[-1].done
    assert size > array.nbytes
    for direction, some in (("save", saved), ("load", told)):
        assert {progress.direction for progress in some} == {direction}
        assert some[0].done == 0
        assert [progress.done for progress in some] == sorted(progress.done for progress in some)
        assert (some[-1].done, some[-1].total) == (size, size)
    assert len(saved) >= 5
    assert {progress.value for progress in saved} == {"Any_.value"}


async def test_what_a_hook_raises_ends_the_save(tmp_path: Path) -> None:
    """Nothing is saved, and no file is left."""

    def refuse(progress: Progress) -> None:
        if progress.done:
            raise KeyError(progress.value)

    with artigraph.on_progress(refuse), pytest.raises(artigraph.ProgressHookError) as refused:
        await Any_(np.zeros(4 * MIB)).save("array")

    assert isinstance(refused.value.__cause__, KeyError)
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    assert (await artigraph.check()).artifacts == 1


async def test_without_a_hook_nothing_is_told() -> None:
    """A hook is for its block, and an inner block's takes the place of the outer's."""
    outer: list[Progress] = []
    inner: list[Progress] = []
    with artigraph.on_progress(outer.append):
        with artigraph.on_progress(inner.append):
            await Any_(b"x" * MIB).save("bytes")
        assert inner
        assert not outer
    await Any_(b"x" * MIB).save("bytes")
    assert not outer
