"""Who runs a run, and whether that process is provably gone."""

import json
import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Any


def owner_of_this_process() -> str:
    """What a run keeps of the process that runs it, as JSON."""
    return json.dumps(_owner(os.getpid()), separators=(",", ":"))


def is_gone(owner: str | None) -> bool:
    """Whether the process that `owner` tells of has ended: it ran on this host, and is not here.

    Of a process on another host nothing is known, so that it counts as running; the same for rows
    that say nothing or something else.
    """
    try:
        told: Any = json.loads(owner or "null")
        process = int(told["process"])
        host, boot, start = told["host"], told["boot"], told["process_started"]
    except (ValueError, TypeError, LookupError):
        return False
    here = _owner(os.getpid())
    if host != here["host"] or boot is None or here["boot"] is None:
        return False
    return boot != here["boot"] or start != _process_start(process)


@lru_cache(maxsize=1)
def _owner(process: int) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _first_line(Path("/proc/sys/kernel/random/boot_id")),
        "process": process,
        "process_started": _process_start(process),
    }


def _process_start(process: int) -> str | None:
    """When a process began, in clock ticks since boot: field 22 of proc_pid_stat(5)."""
    line = _first_line(Path(f"/proc/{process}/stat"))
    return None if line is None else line.rpartition(")")[2].split()[19]


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().splitlines()[0]
    except OSError:
        return None  # no such process, or not on this operating system
