"""What takes no more memory for more or larger values, or for what is in their place."""

import gc
import os
import resource
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import artigraph
from artigraph import ArtifactModel, CorruptBlobError, Lazy
from artigraph.storage.file import FileSystem

TIB = 2**40


@dataclass
class Line(ArtifactModel, version=1, name="memory.Line"):
    number: int
    text: str


async def test_many_models_are_saved_in_bounded_memory(tmp_path: Path) -> None:
    """A generator of 35,000 models takes no more at its peak than one of 25,000, but their ids."""
    artigraph.set_database(f"sqlite:///{tmp_path / 'graph.db'}")
    await artigraph.save_many(lines(1))

    async def peak(number: int) -> int:
        gc.collect()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        assert len(await artigraph.save_many(lines(number))) == number
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        small, large = await peak(25_000), await peak(35_000)
    finally:
        tracemalloc.stop()
    assert large - small < 10_000 * 150  # an id has 88 bytes, and its place in a list 8


@dataclass
class Picture(ArtifactModel, version=1, name="memory.Picture"):
    data: bytes
    pixels: Lazy[np.ndarray] | None = None


@pytest.mark.skipif(sys.platform != "linux", reason="others don't limit the address space")
async def test_of_a_file_that_is_far_too_large_little_is_read(tmp_path: Path) -> None:
    """Nothing of what has taken the place of data is read, or mapped, but what tells so."""
    storage = FileSystem(tmp_path / "files")
    artigraph.set_database(f"sqlite:///{tmp_path / 'graph.db'}", storage=storage)
    whole = await Picture(bytes(100_000)).save("whole")
    later = await Picture(b"", Lazy(np.zeros(200_000))).save("later")
    pixels = (await Picture.load(later)).pixels
    assert pixels is not None
    for path in storage.directory.glob("??/*"):
        os.truncate(path, TIB)

    with address_space(TIB // 2):
        tracemalloc.start()
        try:
            with pytest.raises(CorruptBlobError, match="has more than its 100000 bytes"):
                await Picture.load(whole)
            for read in (pixels.load, pixels.map):
                with pytest.raises(CorruptBlobError, match=r"has more than its 1600\d+ bytes"):
                    await read()
            checked = await artigraph.check(deep=True)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert [finding.damage for finding in checked.findings] == ["altered", "altered"]
    assert peak < 8 * 2**20


async def test_a_large_value_is_there_once(tmp_path: Path) -> None:
    """What was read becomes the value; of an array it is memory that it can be written to."""
    storage = FileSystem(tmp_path / "files")
    artigraph.set_database(f"sqlite:///{tmp_path / 'graph.db'}", storage=storage)
    data, pixels = bytes(range(256)) * 2**17, np.arange(2**22)
    of_data = await Picture(data).save("data")
    of_pixels = await Picture(b"", Lazy(pixels)).save("pixels")
    await Picture.load(of_data)
    lazy = (await Picture.load(of_pixels)).pixels
    assert lazy is not None

    with traced_peak() as peak:
        array = await lazy.load()
        assert peak() < 2**20
    with traced_peak() as peak:
        loaded = await Picture.load(of_data)
        assert peak() < len(data) + 2**20

    assert loaded.data == data
    assert np.array_equal(array, pixels)
    array[0] = -1
    again = (await Picture.load(of_pixels)).pixels
    assert again is not None
    assert np.array_equal(await again.load(), pixels)


@contextmanager
def traced_peak() -> Iterator[Callable[[], int]]:
    """Tells what bytes, arrays and all other objects of Python have taken since, at their peak."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("left", [0, 1, 2**20, -1])
async def test_an_array_whose_end_is_missing_is_told(tmp_path: Path, left: int) -> None:
    """However little of it is there."""
    storage = FileSystem(tmp_path / "files")
    artigraph.set_database(f"sqlite:///{tmp_path / 'graph.db'}", storage=storage)
    node_id = await Picture(b"", Lazy(np.zeros(2**18))).save("picture")
    pixels = (await Picture.load(node_id)).pixels
    assert pixels is not None
    (file,) = storage.directory.glob("??/*")
    os.truncate(file, left % file.stat().st_size)

    with pytest.raises(CorruptBlobError) as caught:
        await pixels.load()

    assert caught.value.damage == "truncated"


@contextmanager
def address_space(size: int) -> Iterator[None]:
    """This process may read or map no more than this, in bytes."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def lines(number: int) -> Iterator[Line]:
    return (Line(n, f"{n:200}") for n in range(number))
