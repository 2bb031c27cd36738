"""Identifiers that the client makes, so that no save waits for a database to number its rows."""

import os
import threading
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_COUNTER_BITS = 42

_lock = threading.Lock()
_last_millisecond = 0
_counter = 0


def new_id() -> UUID:
    """A UUIDv7 that sorts after every other one made by this process.

    Layout of [RFC 9562](https://www.rfc-editor.org/rfc/rfc9562), section 5.7 with method 1 of
    section 6.2: 48 bits of Unix time in milliseconds, a 42-bit counter that starts at a random
    value in each millisecond, and 32 random bits.
    """
    global _last_millisecond, _counter
    random = os.urandom(9)
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_millisecond:
            _last_millisecond = now
            # The top bit stays free, so that the counter has room before it runs over.
            _counter = int.from_bytes(random[4:]) >> 1 & ((1 << _COUNTER_BITS - 1) - 1)
        else:
            _counter += 1
            if _counter >> _COUNTER_BITS:
                _last_millisecond += 1
                _counter = 0
        millisecond, counter = _last_millisecond, _counter
    return UUID(
        int=millisecond << 80
        | _VERSION_7
        | (counter >> 30) << 64
        | _VARIANT
        | (counter & 0x3FFFFFFF) << 32
        | int.from_bytes(random[:4])
    )


def _start_anew_in_child() -> None:
    """Give a forked child a lock that nobody holds; random bits tell its ids from the parent's."""
    global _lock, _last_millisecond
    _lock = threading.Lock()
    _last_millisecond = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
