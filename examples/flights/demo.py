"""Artigraph's demo: a pipeline on the flights of 2013, stored, shown, and loaded again.

What is stored is in `models.py`, how it is saved in `pipeline.py`, and how it is loaded in
`verify.py`. The steps themselves, in `steps.py`, are plain functions; `show.py` prints the rows,
and `equality.py` compares values.
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
"""What the embedded database is called, in the folder that a process works in or in one above."""


def main() -> int:
    """Run the demo; return the exit code of its second process."""
    parser = argparse.ArgumentParser(description="A pipeline on the flights of 2013, stored.")
    parser.add_argument("--in", dest="parent", type=Path, help="a folder that has no data yet")
    folder = make_folder(parser.parse_args().parent)
    print(f"Artigraph's demo puts the flights of 2013 into {os.path.relpath(folder)}, made anew.")
    use_embedded_database(folder)

    start = perf_counter()
    run_id = asyncio.run(run_pipeline())
    print(f"Stored in {perf_counter() - start:.1f} s, as run {run_id}:\n")
    show(folder, run_id)

    print(f"\nA second process has this id alone: python verify.py {run_id}\n", flush=True)
    return subprocess.run([sys.executable, HERE / "verify.py", str(run_id)], check=False).returncode


def make_folder(parent: Path | None) -> Path:
    """An empty folder for the database: in `parent`, or else here, in place of an earlier one."""
    folder = (parent or HERE).absolute() / FOLDER
    if parent is None and folder.exists():
        shutil.rmtree(folder)
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        sys.exit(f"{folder} exists, and may hold data of yours: choose another folder.")
    return folder


def use_embedded_database(folder: Path) -> None:
    """Make it the database of this process and of those that it starts, whatever was set before."""
    for setting in ("ARTIGRAPH_URL", "ARTIGRAPH_STORAGE"):
        os.environ.pop(setting, None)
    os.chdir(folder.parent)


if __name__ == "__main__":
    sys.exit(main())
