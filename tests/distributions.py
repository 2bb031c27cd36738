"""The distributions as wheels, and environments to install them in."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parent.parent


class Environment(Protocol):
    """Makes a new environment of these requirements alone, and returns its Python."""

    def __call__(self, *requirements: str) -> Path: ...


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each distribution, as `make dist` builds it."""
    folder = tmp_path_factory.mktemp("wheels")
    uv(
        *("build", "--all-packages", "--wheel", "--no-build-isolation"),
        *("--python", sys.executable, "--out-dir", folder, ROOT),
        env={"ARTIGRAPH_RELEASE": "1"},
    )
    return {path.name.split("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def environment(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environments")
    # The index may have distributions of these names: what is tested is what was built.
    built = folder / "built.txt"
    built.write_text("".join(f"{name} @ {path.as_uri()}\n" for name, path in wheels.items()))

    def install(*requirements: str) -> Path:
        target = folder / re.sub(r"\W+", "-", " ".join(requirements))
        python = target / "bin/python"
        if not target.exists():
            uv("venv", "--python", sys.executable, target)
            constraints = ("--constraint", built, "--constraint", ROOT / "constraints.txt")
            uv("pip", "install", "--python", python, *constraints, *requirements)
        return python

    return install


@pytest.fixture(scope="session")
def author(environment: Environment) -> Path:
    """The Python of somebody who writes plugins: it has the core, and the tests that it brings."""
    return environment("artigraph-core[testing]")


def install(python: Path, distribution: Path, wheels: Path) -> None:
    """Build the wheel of a folder in another, and install it with what it requires."""
    building = ("--wheel", "--no-build-isolation", "--python", sys.executable)
    uv("build", *building, "--out-dir", wheels, distribution)
    constraints = ("--constraint", ROOT / "constraints.txt")
    uv("pip", "install", "--python", python, *constraints, *wheels.glob("*.whl"))


def run_tests(python: Path, folder: Path) -> None:
    """Run the tests in a folder as their author does: all of them pass, and none is left out."""
    command = [python, "-W", "error", "-m", "pytest", "-q", "-rs", "."]
    result = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    report = result.stdout + result.stderr
    assert result.returncode == 0, report
    assert re.fullmatch(r"\d+ passed in .*", result.stdout.splitlines()[-1]), report


def uv(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    return output([find_uv_bin(), "--quiet", *arguments], ROOT, env)


def output(command: list[str | Path], folder: Path, env: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
