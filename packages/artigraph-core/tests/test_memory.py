"""What takes no more memory for more or larger values."""

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import artigraph
from artigraph import ArtifactModel


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


def lines(number: int) -> Iterator[Line]:
    return (Line(n, f"{n:200}") for n in range(number))
