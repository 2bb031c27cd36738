"""Checks that a file, which nobody changes, has to pass only once in a process."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from artigraph.spec import LocalFile

MOST: Final = 10_000
"""How many checks are remembered."""


def check_once(file: LocalFile, what: Hashable, check: Callable[[], object]) -> None:
    """Call `check` unless it has passed before for this file, as it is now.

    Reading all of it is too much for a value that stays where it lies, each time it is asked for.

    Args:
        file: The file.
        what: Tells this check from others of the same file.
        check: Raises where it does not pass.
    """
    identity = _identity(file)
    key = (identity, what)
    with _lock:
        if key in _passed:
            _passed.move_to_end(key)
            return
    check()
    if identity is not None:
        with _lock:
            _passed[key] = None
            if len(_passed) > MOST:
                _passed.popitem(last=False)


def _identity(file: LocalFile) -> tuple[int, ...] | None:
    """What another file, or the file when it was changed, does not have; None if that is gone."""
    try:
        found = file.path.stat()
    except OSError:
        return None
    if found.st_size != len(file.data):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


_passed: OrderedDict[tuple[tuple[int, ...] | None, Hashable], None] = OrderedDict()
_lock = threading.Lock()
