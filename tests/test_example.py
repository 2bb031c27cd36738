"""The example of a stranger's plugin: from its wheel, beside our wheels, far from this checkout."""

import ast
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from distributions import ROOT, install, output, run_tests

EXAMPLE = ROOT / "examples/artigraph-example"
SOURCES = [*EXAMPLE.glob("src/**/*.py"), *EXAMPLE.glob("tests/*.py")]

PUBLIC = {"artigraph.errors", "artigraph.serializer.json", "artigraph.spec", "artigraph.testing"}

# Saves without arguments, and loads what has the given id: in two processes, by id alone.
ROUND_TRIP = """\
import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import artigraph
import networkx as nx
from artigraph import ArtifactModel, artifact_field
from artigraph.storage import open_storage

archive = open_storage(f"sqlar:{os.getcwd()}/values.sqlar").register()

@dataclass
class Network(ArtifactModel, version=1):
    title: str
    graph: nx.MultiDiGraph = artifact_field(storage=archive)

async def main() -> None:
    flight = (("EWR", 1), "LAX", "UA", {"on": date(2013, 1, 1)})
    graph = nx.MultiDiGraph([flight, ("LAX", "EWR")], year=2013)
    if len(sys.argv) == 1:
        print(artigraph.__file__)
        print(await Network("flights", graph).save(label="flights"))
    else:
        loaded = await Network.load(UUID(sys.argv[1]))
        assert loaded.title == "flights"
        assert type(loaded.graph) is nx.MultiDiGraph
        assert nx.utils.graphs_equal(loaded.graph, graph)

asyncio.run(main())
"""

REFUSED = """\
import networkx as nx
from artigraph import UnsupportedValueError
from artigraph_example.plugin import GraphSerializer

path = nx.path_graph(3)
own = type("Own", (nx.Graph,), {})
for value in (path.subgraph([1]), nx.freeze(path.copy()), path.to_directed(as_view=True), own()):
    try:
        GraphSerializer().serialize(value)
    except UnsupportedValueError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def python(author: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has the example, as its users get it."""
    install(author, EXAMPLE, tmp_path_factory.mktemp("example"))
    return author


def test_it_is_short() -> None:
    """A serializer and a storage, with their tests, are read in a few minutes."""
    assert SOURCES
    assert sum(len(path.read_text().splitlines()) for path in SOURCES) < 150


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_uses_public_names_alone(path: Path) -> None:
    """What it imports of Artigraph is for everyone: the contracts, the errors, JSON, the tests."""
    imported = {
        (node.module or "", alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert {module for module, _ in imported if module.partition(".")[0] == "artigraph"} <= PUBLIC
    assert not any(name.startswith("_") for _, name in imported)
    assert "import artigraph" not in path.read_text()


def test_its_tests_pass(python: Path, tmp_path: Path) -> None:
    """The tests that hold our own plugins hold it too; no source is near."""
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")

    run_tests(python, tmp_path)


def test_a_graph_is_loaded_by_another_process(python: Path, tmp_path: Path) -> None:
    """It gets an id, and the plugin is found by what is installed."""
    script = tmp_path / "round_trip.py"
    script.write_text(ROUND_TRIP)

    where, node_id = output([python, script], tmp_path).split()
    output([python, script, node_id], tmp_path)

    assert Path(where).is_relative_to(python.parent.parent)
    with closing(sqlite3.connect(tmp_path / "values.sqlar")) as archive:
        rows = archive.execute("SELECT mode, sz = length(data) FROM sqlar").fetchall()
    assert rows == [(0o100644, True)]


def test_what_would_come_back_as_something_else_is_refused(python: Path, tmp_path: Path) -> None:
    """A view would come back as a graph of its own, a subclass as its base."""
    refused = output([python, "-c", REFUSED], tmp_path)

    assert (
        refused.splitlines()
        == ["the value: a frozen graph or subclass can't be kept exactly. Copy it."] * 4
    )


def test_its_readme_runs(python: Path, tmp_path: Path) -> None:
    """Whoever copies the example from there gets what it promises."""
    _, block = (EXAMPLE / "README.md").read_text().split("```python\n", 1)

    printed = output([python, "-c", block.partition("```")[0]], tmp_path)

    assert printed == "to the coast [('EWR', 'LAX', {'miles': 2454})]\n"


@pytest.mark.parametrize("is_editable", [False, True], ids=["wheels", "editable"])
@pytest.mark.parametrize(
    ("checker", "options", "folders"),
    [
        ("mypy", ("--strict", "--python-executable"), ["src", "tests"]),
        # To pyright most of what networkx hands out is unknown, so the tests are left to mypy.
        ("basedpyright", ("--pythonpath",), ["src"]),
    ],
)
def test_it_passes_the_strict_checkers(
    python: Path,
    tmp_path: Path,
    checker: str,
    options: tuple[str, ...],
    folders: list[str],
    is_editable: bool,
) -> None:
    """Our types say what a plugin needs to know, in wheels and in a checkout."""
    where = Path(sys.executable) if is_editable else python
    for folder in folders:
        shutil.copytree(EXAMPLE / folder, tmp_path / folder)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')

    result = subprocess.run(
        [sys.executable, "-m", checker, *options, where, "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": "src"},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout + result.stderr
