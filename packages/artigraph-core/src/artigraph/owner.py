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

    Of a process on another host or in another container nothing is known, so that it counts as
    running; the same for rows that say nothing or something else.
    """
    try:
        told: Any = json.loads(owner or "null")
        process = int(told["process"])
        host, boot, namespace = told["host"], told["boot"], told["namespace"]
        start = told["process_started"]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return False
    here = _owner(os.getpid())
    if host != here["host"] or boot is None or here["boot"] is None:
        return False
    if boot != here["boot"]:
        return True
    return namespace == here["namespace"] and not _may_be_here(process, start)


@lru_cache(maxsize=1)
def _owner(process: int) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _text(Path("/proc/sys/kernel/random/boot_id")),
        "namespace": _namespace(),
        "process": process,
        "process_started": _process_start(process),
    }


def _namespace() -> str | None:
    """In which process ids mean what they mean here: containers may share a host's name."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None  # not on this operating system


def _process_start(process: int) -> str | None:
    """When a process began, in clock ticks since boot."""
    _, start = _state_and_start(process)
    return start


def _may_be_here(process: int, start: str | None) -> bool:
    """Whether a process goes on that began at that time, as far as this user may know."""
    state, found = _state_and_start(process)
    if state is None:
        return _exists(process)
    # A zombie has ended; it waits for its parent, which may never ask.
    return state not in "ZX" and found == start


def _state_and_start(process: int) -> tuple[str, str] | tuple[None, None]:
    """Fields 3 and 22 of proc_pid_stat(5), behind a name that may have any characters."""
    text = _text(Path(f"/proc/{process}/stat"))
    if text is None:
        return None, None
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]


def _exists(process: int) -> bool:
    """Whether there is a process of this id; of others /proc may show nothing (`hidepid`)."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's, or no id at all
    return True


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None  # no such process, or not on this operating system
