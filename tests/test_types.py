"""What type checkers know of Artigraph, by the samples of typing_tests/: no file of them runs."""

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from distributions import ROOT, Environment

SAMPLES = ROOT / "typing_tests"
RIGHT = sorted({path.name for path in SAMPLES.glob("*.py")} - {"wrong.py", "limits.py"})

CHECKERS = {
    "mypy": ("--strict", "--python-executable"),
    "basedpyright": ("--pythonpath",),
}


@pytest.fixture(scope="module", params=["wheels", "editable"])
def python(request: pytest.FixtureRequest, environment: Environment) -> Path:
    """One that has all distributions, and for pandas the types that it does not bring."""
    if request.param == "editable":
        return Path(sys.executable)
    return environment("artigraph[all]", "pandas-stubs")


@pytest.fixture(scope="module", params=CHECKERS)
def checker(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def output(checker: str, python: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the checker says of a copy of the samples, so that no source of ours is near."""
    folder = tmp_path_factory.mktemp("typing") / "samples"
    shutil.copytree(SAMPLES, folder)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')

    result = subprocess.run(
        [sys.executable, "-m", checker, *CHECKERS[checker], python, "."],
        cwd=folder,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes_the_strict_checkers(output: str, name: str) -> None:
    """Every public name has a type, and each value the one that `assert_type` says."""
    assert errors_in(name, output) == {}


@pytest.mark.parametrize("door", ["numpy", "pandas", "polars", "pyarrow"])
def test_every_serializer_behind_a_door_is_among_the_samples(door: str) -> None:
    """A new one gets a field, and so its type is looked at."""
    names = dir(import_module(f"artigraph.serializer.{door}"))
    samples = "".join((SAMPLES / name).read_text() for name in RIGHT)

    serializers = {name for name in names if name.endswith("_serializer")}

    assert serializers
    assert serializers <= set(re.findall(r"\w+", samples))


def test_what_is_wrong_is_found(output: str, checker: str) -> None:
    """So what passes was looked at: each line that is marked has an error, and no other has."""
    marked = marked_lines("wrong.py", checker)

    assert marked
    assert sorted(errors_in("wrong.py", output)) == marked


def test_what_a_checker_can_not_know_is_written_down(output: str, checker: str) -> None:
    """When a checker learns it, `docs/models.md` is out of date."""
    assert sorted(errors_in("limits.py", output)) == marked_lines("limits.py", checker)


def errors_in(name: str, output: str) -> dict[int, str]:
    """The last message for each line of a file."""
    message = rf"\b{re.escape(name)}:(\d+)\S* (?:- )?(?:error|warning): (.*)"
    return {int(line): text for line, text in re.findall(message, output)}


def marked_lines(name: str, checker: str) -> list[int]:
    marks = ("# error", f"# error in {checker}")
    lines = (SAMPLES / name).read_text().splitlines()
    return [number for number, line in enumerate(lines, 1) if line.endswith(marks)]
