"""The module of a plugin: a serializer and a storage, and the two hooks that hand them out."""

import struct
from dataclasses import dataclass

from artigraph.errors import BlobMissingError, StorageError
from artigraph.spec import Data, Serializer, Storage, check_location, new_location


@dataclass(frozen=True)
class Point:
    """A value of a stranger's type."""

    x: float
    y: float


class PointSerializer(Serializer[Point]):
    """Points as two doubles, the lowest byte first."""

    name = "acme.point"
    types = (Point,)

    def serialize(self, value: Point) -> Data:
        return struct.pack("<2d", value.x, value.y)

    def deserialize(self, data: Data) -> Point:
        x, y = struct.unpack("<2d", data)
        return Point(x, y)


class MemoryStorage(Storage):
    """Keeps data as long as the process lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._data: dict[str, bytes] = {}

    async def create(self, data: Data, *, location: str | None = None) -> str:
        location = new_location() if location is None else location
        check_location(location)
        if self._data.setdefault(location, bytes(data)) != data:
            raise StorageError(self.name, f"create {location!r}", "other data is there")
        return location

    async def read(self, location: str) -> bytes:
        if location not in self._data:
            raise BlobMissingError(f"the data at location {location!r}", "there is none.")
        return self._data[location]

    async def update(self, location: str, data: Data) -> None:
        await self.read(location)
        self._data[location] = bytes(data)

    async def delete(self, location: str) -> None:
        self._data.pop(location, None)

    async def exists(self, location: str) -> bool:
        return location in self._data


point_serializer = PointSerializer()


def artigraph_serializers() -> list[Serializer[Point]]:
    return [point_serializer]


def artigraph_open_storage(uri: str) -> Storage | None:
    return MemoryStorage(uri) if uri.startswith("memory:") else None
