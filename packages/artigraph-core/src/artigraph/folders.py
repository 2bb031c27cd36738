"""Folders, and putting the names in them on the disk."""

import errno
import os
from pathlib import Path


def sync_name(path: Path) -> None:
    """Put it on the disk that something has its name, or has it no longer."""
    folder = os.open(path.parent, os.O_DIRECTORY)
    try:
        sync(folder)
    finally:
        os.close(folder)


def sync(folder: int) -> None:
    """Put the names in an open folder on the disk."""
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network file systems have nothing to sync in a folder, and say so.
        if error.errno != errno.EINVAL:
            raise
