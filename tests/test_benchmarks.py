"""The benchmarks run, with hardly anything to do: no time is asserted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import big
from benchmarks.measuring import Side, Stage
from benchmarks.places import SQLite

ROOT = Path(__file__).parents[1]


def test_the_benchmarks_write_a_table_and_a_picture(tmp_path: Path) -> None:
    """A workload on SQLite has a line with a ratio, and a dot."""
    page = tmp_path / "performance.md"
    page.write_text("Before.\n<!-- written by make bench -->\n<!-- to here -->\nAfter.\n")

    few = ("--rounds=1", "--models=4", "--many=8", "--most=16")
    where = ("--only=NORMAL (?!descendants)", "--no-peers", f"--page={page}")
    subprocess.run([sys.executable, "-m", "benchmarks", *few, *where], cwd=ROOT, check=True)

    text = page.read_text()
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    lines = re.findall(r"^\| a run \| 4 models \| (\w+) \|.* \| [\d.]+x \|", text, re.MULTILINE)
    assert lines == ["save", "load"]
    assert page.with_suffix(".svg").read_text().count("<circle") > 10


@pytest.mark.parametrize(
    "side",
    [
        pytest.param(side, id=f"{name}: {kind}")
        for kind, of in big.KINDS.items()
        for name, side in (
            ("raw", (big.bytes_sides if of.data else big.parquet_sides)(kind)[0]),
            ("floor", (big.bytes_floor if of.data else big.parquet_floor)(kind)),
        )
    ],
)
def test_what_stands_beside_big_values_does_its_parts(side: Side, tmp_path: Path) -> None:
    """Each kind of value is written, and read where its side reads it."""
    stage = Stage(1, tmp_path, SQLite("NORMAL"), None)

    side(stage)

    assert stage.seconds.keys() >= {"save"}


@pytest.mark.parametrize("kind", big.WATCHED)
async def test_the_event_loop_is_watched_beside_each_kind_of_value(
    kind: str, tmp_path: Path
) -> None:
    """While it is saved and while it is loaded, on both sides."""
    for side in big.watched_sides(kind):
        stage = Stage(1, tmp_path, SQLite("NORMAL"), f"sqlite:///{tmp_path / 'graph.db'}")

        await side(stage)

        assert stage.stops.keys() == {"save", "load"}
