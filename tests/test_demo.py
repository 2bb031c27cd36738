"""The demo: what it prints, and that its second process would see a difference."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

Compare = Callable[[object, object, str], Iterable[tuple[str, bool]]]

FLIGHTS = Path(__file__).parent.parent / "examples" / "flights"


def test_the_demo_stores_a_pipeline_and_a_second_process_loads_it(tmp_path: Path) -> None:
    """It uses the embedded database in the folder it is given, whatever the environment names."""
    elsewhere = tmp_path / "elsewhere.db"

    result = run_demo(tmp_path, ARTIGRAPH_URL=f"sqlite:///{elsewhere}")

    assert (result.returncode, result.stderr) == (0, "")
    assert ".artigraph" in result.stdout.splitlines()[0]
    assert re.search(r"─ weather +run, failed after", result.stdout)
    assert "MergeError: Merge keys are not unique" in result.stdout
    assert re.search(r"─ \.frame +pandas\.dataframe\.\w+ +\d\.\d MB  files/", result.stdout)
    assert re.search(r"─ \.totals +Totals v1: .* B  row\n", result.stdout)
    assert re.search(r"^  error of weather +tuple +1  equal$", result.stdout, re.MULTILINE)
    assert result.stdout.splitlines()[-1].startswith("All equal: ")
    assert (tmp_path / ".artigraph" / "graph.db").exists()
    assert not elsewhere.exists()


def test_the_demo_leaves_data_alone_that_it_did_not_make(tmp_path: Path) -> None:
    """Only the demo's own folder is emptied."""
    precious = tmp_path / ".artigraph" / "graph.db"
    precious.parent.mkdir()
    precious.write_text("precious")

    result = run_demo(tmp_path)

    assert result.returncode == 1
    assert "choose another folder" in result.stderr
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (1, True),
        (date(2013, 1, 1), datetime(2013, 1, 1)),  # noqa: DTZ001  # a subclass, not an equal
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1], [1, 2]),
        (np.array([1], "i2"), np.array([1], "i4")),
        (np.array([[1, 2]]), np.array([1, 2])),
        (pa.table({"a": [1]}), pa.table({"a": [1]}, metadata={"b": "c"})),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}, {"a": pl.Int8})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, dtype="int8")),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, index=[0])),
    ],
)
def test_the_second_process_sees_every_difference(
    compare: Compare, found: object, expected: object
) -> None:
    """Also those that `==` or `equals` may forgive: of type, of order, of an index."""
    assert not all(is_same for _, is_same in compare(found, expected, "it"))
    assert all(is_same for _, is_same in compare(expected, expected, "it"))


@pytest.fixture
def compare() -> Compare:
    spec = spec_from_file_location("equality", FLIGHTS / "equality.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compare


def run_demo(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FLIGHTS / "demo.py", "--in", folder],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
