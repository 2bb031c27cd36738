"""What the workers of all peers share: what they save, and how they answer.

A worker runs in the environment of its peer, so that this module needs the standard library alone.
It reads requests as lines of JSON, and answers each with the seconds of its parts.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

DEPTH = 50
"""Of models in each other."""


def scalars(number: int) -> dict[str, Any]:
    """The fields of one model: three whole numbers, three floats, three strings, a bool."""
    n = number
    return {
        **dict(zip("abc", (n, 2 * n, 3 * n), strict=True)),
        **dict(zip("def", (n / 7, n / 11, n / 13), strict=True)),
        **dict(zip("ghi", (f"{n:020}", f"{n:>20}", f"{n:<20}"), strict=True)),
        "j": n % 2 == 0,
    }


def field_names(count: int) -> list[str]:
    """Those of a wide model, in the order in which a database sorts them too."""
    return [f"field_{number:06}" for number in range(count)]


class Task:
    """One workload to do once: how much of it, where, and how long its parts took."""

    def __init__(self, size: int, folder: Path) -> None:
        self.size = size
        self.folder = folder
        """New and empty."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, part: str) -> Generator[None]:
        gc.collect()  # no part pays for what another has left behind
        start = perf_counter()
        yield
        self.seconds[part] = perf_counter() - start


def serve(workloads: dict[str, Callable[[Task], Any]]) -> None:
    """Answer requests until there are no more; a workload that is not here has no seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        request = json.loads(line)
        task = Task(request["size"], Path(request["folder"]))
        work = workloads.get(request["workload"])
        if work is not None:
            os.chdir(task.folder)
            result = work(task)
            if asyncio.iscoroutine(result):
                asyncio.run(result)
        print(json.dumps(task.seconds), file=answers, flush=True)
