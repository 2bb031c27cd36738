"""Bytes as they are."""

from typing import Any

from artigraph.spec import Data, Serializer


class BytesSerializer(Serializer[bytes]):
    """`bytes`, without a copy on the way out."""

    name = "bytes"
    types = (bytes,)

    def serialize(self, value: bytes) -> Data:
        return value

    def deserialize(self, data: Data) -> bytes:
        return bytes(data)


bytes_serializer = BytesSerializer()


def artigraph_serializers() -> list[Serializer[Any]]:
    return [bytes_serializer]
