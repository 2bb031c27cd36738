"""Which module may import which: the contracts of pyproject.toml, and what these can't say."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = ("artigraph_arrow", "artigraph_aws", "artigraph_pandas", "artigraph_polars")

# What each distribution requires, or has from what it requires; what only an extra brings counts.
LIBRARIES = {
    "artigraph": {"aiosqlite", "numpy", "pluggy", "pytest", "sqlalchemy", "typing_extensions"},
    "artigraph_arrow": {"pyarrow"},
    "artigraph_aws": {"aioboto3", "aiobotocore", "aiohttp", "botocore", "types_aiobotocore_s3"},
    "artigraph_pandas": {"numpy", "pandas", "pyarrow"},
    "artigraph_polars": {"polars"},
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    packages = ("artigraph", *PLUGINS)
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


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


@pytest.mark.parametrize("package", LIBRARIES)
def test_a_package_imports_what_it_requires(graph: grimp.ImportGraph, package: str) -> None:
    """A library that happens to be installed is not one that users have."""
    modules = {package, *graph.find_descendants(package)}
    imported = {
        name for module in modules for name in graph.find_modules_directly_imported_by(module)
    }
    ours = {"artigraph", *PLUGINS}

    libraries = {name.partition(".")[0] for name in imported} - ours - sys.stdlib_module_names

    assert libraries <= LIBRARIES[package]


def importers(graph: grimp.ImportGraph, module: str) -> set[str]:
    return graph.find_modules_that_directly_import(module)
