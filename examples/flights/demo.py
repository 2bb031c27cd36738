"""Artigraph's demo: a pipeline on the flights of 2013, stored, shown, and loaded again.

    python examples/flights/demo.py

What is stored is in `models.py`, how it is saved in `pipeline.py`, and how it is loaded in
`verify.py`. The steps themselves, in `steps.py`, are plain functions; `show.py` prints the rows.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from pipeline import run_pipeline
from show import show

HERE = Path(__file__).parent
FOLDER = ".artigraph"
"""What the embedded database is called, in the folder that a process works in or one above it."""


def main() -> int:
    """Run the demo; return the exit code of its second process."""
    parser = argparse.ArgumentParser(description="A pipeline on the flights of 2013, stored.")
    parser.add_argument("--in", dest="folder", type=Path, help="an empty folder to work in")
    folder = make_folder(parser.parse_args().folder)
    print(f"Artigraph's demo stores the flights of 2013 in {os.path.relpath(folder)}, from scratch.")
    use_embedded_database(folder)

    start = perf_counter()
    run_id = asyncio.run(run_pipeline())
    print(f"\nStored in {perf_counter() - start:.1f} s, as run {run_id}:")
    show(folder, run_id)

    print(f"\nA second process has nothing but this id: python verify.py {run_id}", flush=True)
    return subprocess.run([sys.executable, HERE / "verify.py", str(run_id)], check=False).returncode


def make_folder(parent: Path | None) -> Path:
    """An empty folder for the database: in `parent`, or else here, in place of an earlier one."""
    if parent is None:
        shutil.rmtree(HERE / FOLDER, ignore_errors=True)
    folder = (parent or HERE).absolute() / FOLDER
    folder.mkdir(mode=0o700, parents=True)
    return folder


def use_embedded_database(folder: Path) -> None:
    """Make it the database of this process and of those that it starts, whatever was set before."""
    for setting in ("ARTIGRAPH_URL", "ARTIGRAPH_STORAGE"):
        os.environ.pop(setting, None)
    os.chdir(folder.parent)


if __name__ == "__main__":
    sys.exit(main())
