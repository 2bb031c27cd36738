"""The event loop goes on turning whatever is saved and loaded, and hears how far it has come."""

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from observing import turns_of

import artigraph
from artigraph import ArtifactMapping, ArtifactModel, Progress, artifact_field
from artigraph.spec import Data, LocalFile, MappingSerializer, StreamingSerializer
from artigraph.storage.file import FileSystem

MIB = 2**20


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
    """Its thread has other things to do: a small value takes some twenty turns."""
    turns = await turns_of(Any_(value).save("large"))
    assert turns > 200

    node_id = await Any_(value).save("large")
    assert await turns_of(Any_.load(node_id)) > 200


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
