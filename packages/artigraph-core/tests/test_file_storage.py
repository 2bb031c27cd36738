"""The file system as a storage: the contract, and what is its own."""

from pathlib import Path

import pytest

from artigraph.storage.file import FileSystem
from artigraph.testing import StorageTests


class TestFileSystem(StorageTests):
    """A directory keeps what every storage promises to keep."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> FileSystem:
        return FileSystem(tmp_path / "files")

    def plant(self, storage: FileSystem, location: str, data: bytes) -> None:
        path = storage.directory / location
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def inspect(self, storage: FileSystem, location: str) -> bytes | None:
        path = storage.directory / location
        return path.read_bytes() if path.exists() else None
