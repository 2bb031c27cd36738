"""What the figures were measured on, without names of hosts or folders."""

import os
import platform
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path

DISTRIBUTIONS = (
    *("artigraph-core", "SQLAlchemy", "aiosqlite", "asyncpg", "asyncmy"),
    *("numpy", "pyarrow", "polars", "aioboto3"),
)


def machine() -> str:
    """The processor, the memory and the disk, in one line."""
    cores = os.cpu_count()
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores of {_processor()}, {gibibytes:.0f} GiB of memory, {_disk()}"


def versions() -> str:
    """Of Python, SQLite and the distributions that take part."""
    installed = [f"{name} {version(name)}" for name in DISTRIBUTIONS]
    python = f"Python {platform.python_version()}"
    return ", ".join([python, f"SQLite {sqlite3.sqlite_version}", *installed])


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _disk() -> str:
    """The kind of disk that temporary files are on, as far as the system tells."""
    device = Path(tempfile.gettempdir()).stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not block.exists():
        return "temporary files in memory or on an unknown disk"
    disk = next(
        (part for part in (block.resolve(), block.resolve().parent) if (part / "queue").exists()),
        None,
    )
    if disk is None:
        return "an unknown disk"
    if disk.name.startswith("vd"):
        return "a virtual disk (virtio)"
    turns = (disk / "queue/rotational").read_text().strip() == "1"
    return "a disk that turns" if turns else "a solid-state disk"
