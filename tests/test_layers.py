"""Which module may import which: the contracts of pyproject.toml, and what these can't say.

What a distribution may import is what it requires: `make lint` asks deptry, with the exceptions
in each `pyproject.toml`. Here is shown that deptry finds it, and what deptry does not look at.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(path.name for path in (ROOT / "packages").iterdir())
PLUGINS = ("artigraph_arrow", "artigraph_aws", "artigraph_pandas", "artigraph_polars")

# Which modules of the core may import what only an extra brings.
EXTRAS = {
    "hypothesis": "artigraph.testing",
    "numpy": "artigraph.serializer.numpy",
    "pytest": "artigraph.testing",
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return build_graph()


def test_every_module_imports_only_from_below() -> None:
    """The core is a list of layers; plugins know its contracts, and not each other."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stdout


def test_nobody_behind_the_front_door_uses_it(graph: grimp.ImportGraph) -> None:
    """`artigraph/__init__.py` stands above all layers."""
    assert not graph.find_modules_that_directly_import("artigraph")


def test_nothing_in_the_core_imports_a_door(graph: grimp.ImportGraph) -> None:
    """A door re-exports a plugin, so importing one imports a data library."""
    doors = {
        importer
        for plugin in PLUGINS
        for importer in graph.find_modules_that_directly_import(plugin)
        if importer.startswith("artigraph.")
    }

    assert doors == {
        *("artigraph.serializer.pandas", "artigraph.serializer.polars"),
        *("artigraph.serializer.pyarrow", "artigraph.storage.aws"),
    }
    assert not {door: found for door in doors if (found := importers(graph, door))}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_what_it_requires(tmp_path: Path, package: str) -> None:
    """A library that happens to be installed is not one that users have."""
    top = copy(package, tmp_path)

    as_it_is = deptry(tmp_path)
    (top / "careless.py").write_text("def format_python() -> None:\n    import sybil\n")
    with_sybil = deptry(tmp_path)

    assert as_it_is.returncode == 0, as_it_is.stderr
    assert with_sybil.returncode == 1
    assert f"src/{top.name}/careless.py:2:12: DEP003 'sybil' imported" in with_sybil.stderr


def test_a_package_requires_what_it_imports(tmp_path: Path) -> None:
    """Users don't install what nothing imports."""
    copy("artigraph-polars", tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text().replace('"polars>=', '"sybil", "polars>='))

    result = deptry(tmp_path)

    assert result.returncode == 1
    assert "DEP002 'sybil' defined as a dependency but not used" in result.stderr


@pytest.mark.parametrize(("library", "home"), EXTRAS.items())
def test_the_core_imports_what_an_extra_brings_in_one_place(
    graph: grimp.ImportGraph, library: str, home: str
) -> None:
    """To deptry an extra is as good as a requirement; the core alone has to work without any."""
    found = importers(graph, library)

    core = {name for name in found if name.partition(".")[0] == "artigraph"}
    assert all(name == home or name.startswith(f"{home}.") for name in core), core


def test_a_type_checker_needs_no_other_library(graph: grimp.ImportGraph) -> None:
    """Deptry leaves out `if TYPE_CHECKING:`. The stubs of S3 are for our own checker alone."""
    at_run_time = build_graph(exclude_type_checking_imports=True)

    assert graph.modules - at_run_time.modules == {"types_aiobotocore_s3"}


def build_graph(*, exclude_type_checking_imports: bool = False) -> grimp.ImportGraph:
    return grimp.build_graph(
        "artigraph",
        *PLUGINS,
        include_external_packages=True,
        exclude_type_checking_imports=exclude_type_checking_imports,
        cache_dir=None,
    )


def copy(package: str, folder: Path) -> Path:
    """Copies what deptry reads, and returns the copy of the package that is imported."""
    source = ROOT / "packages" / package
    shutil.copy(source / "pyproject.toml", folder)
    ignored = shutil.ignore_patterns("__pycache__")
    (top,) = shutil.copytree(source / "src", folder / "src", ignore=ignored).iterdir()
    return top


def deptry(package: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("deptry"), "--no-ansi", "src"]
    return subprocess.run(command, cwd=package, capture_output=True, text=True)


def importers(graph: grimp.ImportGraph, module: str) -> set[str]:
    return graph.find_modules_that_directly_import(module)
