"""Files as serializers get them, to be written and to be read, and what that takes in memory."""

import gc
import io
import mmap
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest


class WrittenFile(io.RawIOBase):
    """A file that can only be written to, and may be full.

    Args:
        full_at: The number of the call that raises `failure`, and from which on all do.
    """

    def __init__(self, full_at: int | None = None) -> None:
        self.data = bytearray()
        self.calls = 0
        self.failure = OSError("the file is full")
        self._full_at = full_at

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.calls += 1
        if self._full_at is not None and self.calls > self._full_at:
            raise self.failure
        view = memoryview(data).cast("B")
        self.data += view
        return len(view)


class Sieve(io.RawIOBase):
    """A file that forgets what is written, and knows how much that was."""

    def __init__(self) -> None:
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        self.size += size
        return size


class MappedFile(NamedTuple):
    """Data as a file on this machine."""

    path: Path
    data: memoryview


@contextmanager
def local_file(data: bytes) -> Generator[MappedFile]:
    """A file with this data, which has a name until the end of the block.

    Whatever writes to it ends the process.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a=1 * [b].data"  # nothing that a library reads more into
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) if data else b""
        finally:
            os.close(descriptor)
        yield MappedFile(path, memoryview(mapped))


@contextmanager
def peak_memory() -> Generator[Callable[[], int]]:
    """Tells how much more memory this process has taken since, at its peak, in bytes.

    Skips the test where the system does not tell.
    """
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
    except OSError:
        pytest.skip("this system does not tell the peak of a process's memory")
    yield lambda: _memory("VmHWM") - before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
