"""lamindb: runs with ten parameters, which it keeps as JSON in one row.

WAL and synchronous=NORMAL, as our own side. A process has one database, which all rounds share.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

from worker import Task, scalars, serve


@cache
def connect() -> tuple[Any, Any]:
    """The module, connected to a new database, and the transform of all runs."""
    folder = Path.home() / "lamin"  # which outlives a round
    folder.mkdir()
    os.chdir(folder)
    import lamindb_setup

    lamindb_setup.init(storage=str(folder / "storage"), name="benchmark")
    import lamindb
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
    return lamindb, lamindb.Transform(key="benchmark", kind="pipeline").save()


def runs(count: int) -> list[Any]:
    lamindb, transform = connect()
    made = [lamindb.Run(transform) for _ in range(count)]
    for number, run in enumerate(made):
        run.params = scalars(number)
    return made


def each(task: Task) -> None:
    lamindb, _ = connect()
    some = runs(task.size)
    with task.timed("save"):
        for run in some:
            run.save()
    with task.timed("load"):
        loaded = [lamindb.Run.get(run.uid) for run in some]
    assert loaded[-1].params == scalars(task.size - 1)


def batch(task: Task) -> None:
    lamindb, _ = connect()
    some = runs(task.size)
    with task.timed("save"):
        lamindb.save(some)
    assert lamindb.Run.get(some[-1].uid).params == scalars(task.size - 1)


if __name__ == "__main__":
    serve({"each": each, "batch": batch})
