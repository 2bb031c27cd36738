"""Bytes as they are."""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

from artigraph.errors import UnsupportedValueError
from artigraph.memory import as_bytes
from artigraph.spec import Data, StreamingSerializer


class BytesSerializer(StreamingSerializer[bytes]):
    """`bytes`, without a copy on the way out; or all of what an iterator of bytes yields."""

    name = "bytes"
    types = (bytes,)
    sources = (Iterator,)

    def serialize(self, value: bytes) -> Data:
        return value

    def deserialize(self, data: Data) -> bytes:
        return as_bytes(data)

    def estimate(self, value: bytes) -> int:
        return len(value)

    def dump(self, value: bytes | Iterator[bytes], file: BinaryIO) -> None:
        pieces = [value] if isinstance(value, bytes) else cast("Iterable[object]", value)
        for number, piece in enumerate(pieces):
            if not isinstance(piece, bytes):
                kind = type(piece).__name__
                raise UnsupportedValueError(f"the value[{number}]", kind, "Yield bytes.")
            file.write(piece)


bytes_serializer = BytesSerializer()


def artigraph_serializers() -> list[StreamingSerializer[Any]]:
    return [bytes_serializer]
