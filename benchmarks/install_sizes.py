"""What each extra of Artigraph installs and imports, as the table in docs/installs.md.

    python benchmarks/install_sizes.py

The wheels are built as they are released. Each row is a new environment of one requirement, with
the versions of constraints.txt. Its size is that of all files in site-packages but bytecode; uv
puts neither pip nor setuptools there. Modules are those that a new process has in `sys.modules`
after some statements and did not have before them.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from uv import find_uv_bin

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/installs.md"
BEGIN, END = "<!-- written by make sizes -->\n", "<!-- to here -->\n"

EXTRAS = ("numpy", "pandas", "polars", "pyarrow", "aws", "postgresql", "mysql", "all")
REQUIREMENTS = ("artigraph-core", *(f"artigraph[{extra}]" for extra in EXTRAS))

FRONT_DOOR = "import artigraph"
MODELS_AND_RUNS = "from artigraph import ArtifactModel, Run, RunManager"
FIRST_SAVE = """\
import asyncio
from dataclasses import dataclass

from artigraph import ArtifactModel

@dataclass
class Score(ArtifactModel, version=1):
    accuracy: float

asyncio.run(Score(0.93).save(label="score"))
"""
NEW_MODULES = """\
import sys
before = {{*sys.modules}}
{statements}
print(*({{*sys.modules}} - before))
"""

HEAD = """\
| install | MB | distributions | front door | models and runs | first save | of these libraries |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""


class Row(NamedTuple):
    install: str
    megabytes: str
    distributions: int
    front_door: int
    models_and_runs: int
    first_save: int
    libraries: str

    def __str__(self) -> str:
        return f"| {' | '.join(map(str, self))} |\n"


def build(folder: Path) -> Path:
    """Constraints that take each of our distributions from its wheel, whatever an index has."""
    uv(
        *("build", "--all-packages", "--wheel", "--no-build-isolation"),
        *("--python", sys.executable, "--out-dir", folder, ROOT),
        env={"ARTIGRAPH_RELEASE": "1"},
    )
    built = folder / "built.txt"
    wheels = [*folder.glob("*.whl")]
    built.write_text("".join(f"{path.name.split('-')[0]} @ {path.as_uri()}\n" for path in wheels))
    return built


def install(requirement: str, folder: Path, built: Path) -> Path:
    python = folder / "bin/python"
    uv("venv", "--python", sys.executable, folder)
    constraints = ("--constraint", built, "--constraint", ROOT / "constraints.txt")
    uv("pip", "install", "--python", python, *constraints, requirement)
    return python


def measure(requirement: str, python: Path, folder: Path) -> Row:
    (folder / ".artigraph").mkdir()  # one in a folder above would be taken instead
    (site_packages,) = folder.glob("lib/python*/site-packages")
    files = [path for path in site_packages.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files if path.parent.name != "__pycache__")
    first_save = new_modules(python, folder, FIRST_SAVE)
    # Cython and sysconfig put names into sys.modules that no distribution has.
    installed = {path.name.partition(".")[0] for path in site_packages.iterdir()} - {"artigraph"}
    return Row(
        install=f"`{requirement}`",
        megabytes=f"{size / 1e6:.1f}",
        distributions=len([*site_packages.glob("*.dist-info")]),
        front_door=len(new_modules(python, folder, FRONT_DOOR)),
        models_and_runs=len(new_modules(python, folder, MODELS_AND_RUNS)),
        first_save=len(first_save),
        libraries=", ".join(sorted(installed & {name.partition(".")[0] for name in first_save})),
    )


def new_modules(python: Path, folder: Path, statements: str) -> set[str]:
    script = folder / "script.py"
    script.write_text(NEW_MODULES.format(statements=statements))
    return set(output([python, "-I", script], folder).split())


def uv(*arguments: str | Path, env: dict[str, str] | None = None) -> None:
    output([find_uv_bin(), "--quiet", *arguments], ROOT, env)


def output(command: list[str | Path], folder: Path, env: dict[str, str] | None = None) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARTIGRAPH_")}
    result = subprocess.run(
        command, cwd=folder, env={**kept, **(env or {})}, stdout=subprocess.PIPE, text=True
    )
    if result.returncode:
        sys.exit(f"{Path(command[0]).name} has failed: what it said stands above.")
    return result.stdout


def main() -> None:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"docs/{PAGE.name} has no place for the table: it lacks {BEGIN!r} or {END!r}.")

    system = f"{platform.system()} {platform.machine()}"
    table = f"Measured with Python {platform.python_version()} on {system}:\n\n{HEAD}"
    print(table, end="")
    with tempfile.TemporaryDirectory() as wheels:
        built = build(Path(wheels))
        for requirement in REQUIREMENTS:
            with tempfile.TemporaryDirectory() as folder:
                python = install(requirement, Path(folder), built)
                row = measure(requirement, python, Path(folder))
            print(row, end="", flush=True)
            table += str(row)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
