"""What `python -m artigraph new-plugin` writes, for an author who has nothing but our wheels."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import ROOT, install, output, run_tests

from artigraph.__main__ import main

FILES = {
    *("README.md", "pyproject.toml", "tests/test_plugin.py"),
    *("src/acme_maps/__init__.py", "src/acme_maps/plugin.py", "src/acme_maps/py.typed"),
}

ACME_IN_THE_LIST = """
acme-maps 0.1.0
  acme_maps: loaded
    serializer acme_maps.point for acme_maps.Point
"""

NO_NAMES = ("", "1x", "a b", "../x", "a/b", "x-", "é", "$module", "a\n")
TAKEN_NAMES = (
    "json",
    "class",
    "test",
    "artigraph",
    "artigraph-core",
    "artigraph-aws",
    "s3",
    "file",
)

# Saves without arguments, and loads what has the given id: in two processes, by id alone.
ROUND_TRIP = """\
import asyncio
import sys
from dataclasses import dataclass
from uuid import UUID

from acme_maps import Point
from artigraph import ArtifactModel

@dataclass
class Place(ArtifactModel, version=1):
    title: str
    at: Point

async def main() -> None:
    place = Place("the top", Point(86.925, 27.988))
    if len(sys.argv) == 1:
        print(await place.save(label="place"))
    else:
        assert await Place.load(UUID(sys.argv[1])) == place

asyncio.run(main())
"""

# The checkout's own rules, with nothing of the checkout near.
RULES = f"""\
extend = "{ROOT / "pyproject.toml"}"
src = ["src"]
[lint.extend-per-file-ignores]
"tests/**" = ["D1"]
"""


@pytest.fixture(scope="module")
def written(author: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new plugin."""
    folder = tmp_path_factory.mktemp("empty")
    said = output([author, "-m", "artigraph", "new-plugin", "acme-maps"], folder)
    assert "cd acme-maps && pip install --editable '.[test]' && pytest" in said
    return folder / "acme-maps"


@pytest.fixture(scope="module")
def python(author: Path, written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has the new plugin, as its users get it."""
    install(author, written, tmp_path_factory.mktemp("acme"))
    return author


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    """Another folder of the same content, since tools leave things behind."""
    return Path(shutil.copytree(written, tmp_path / "acme-maps"))


def test_a_whole_distribution_is_written(written: Path) -> None:
    """Its metadata, module, tests and README, and nothing beside."""
    assert files_of(written).keys() == FILES
    assert list(written.parent.iterdir()) == [written]


def test_its_tests_pass_as_they_are_written(python: Path, copy: Path) -> None:
    """An author begins with what works."""
    shutil.rmtree(copy / "src")  # what is tested is what is installed

    run_tests(python, copy)


def test_it_is_listed(python: Path, tmp_path: Path) -> None:
    """Under its key, with what it provides."""
    listed = output([python, "-m", "artigraph", "plugins", "--load"], tmp_path)

    assert ACME_IN_THE_LIST in listed


def test_a_point_is_loaded_by_another_process(python: Path, tmp_path: Path) -> None:
    """It gets an id, and the plugin is found by what is installed."""
    script = tmp_path / "round_trip.py"
    script.write_text(ROUND_TRIP)

    node_id = output([python, script], tmp_path).strip()
    output([python, script, node_id], tmp_path)


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_it_follows_our_own_rules(copy: Path, command: str) -> None:
    """An author has nothing to correct."""
    (copy / "ruff.toml").write_text(RULES)

    ended = run_tool(copy, "ruff", *command.split(), "--no-cache")

    assert ended.returncode == 0, ended.stdout


def test_it_passes_the_strict_checker(python: Path, copy: Path) -> None:
    """All of it has types, the tests too."""
    ended = run_tool(copy, "mypy", "--strict", "--python-executable", str(python), "src", "tests")

    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("name", ["Acme.Maps", "acme_maps"])
def test_other_spellings_are_the_same_plugin(
    written: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Installers take them for one distribution; only the folder is called as the author says."""
    assert main(["new-plugin", name]) == 0

    assert files_of(Path(name)) == files_of(written)
    assert f"cd {name} && pip install" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "a name begins with a letter") for name in NO_NAMES),
        *((name, f"'{name.replace('-', '_')}' is something of") for name in TAKEN_NAMES),
    ],
)
def test_a_name_that_can_not_be_is_refused(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no name of a distribution, and what is a module or a key of somebody else's."""
    with pytest.raises(SystemExit) as ended:
        main(["new-plugin", name])

    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_folder_that_exists_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in it, somebody may need it."""
    folder = Path("acme-maps")
    folder.mkdir()
    (folder / "pyproject.toml").write_text("mine")

    assert main(["new-plugin", "acme-maps"]) == 1

    assert "acme-maps/ can't be made: File exists. Choose another name" in capsys.readouterr().err
    assert files_of(folder) == {"pyproject.toml": "mine"}


def files_of(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def run_tool(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True
    )
