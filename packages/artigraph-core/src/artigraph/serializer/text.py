"""Strings as UTF-8, unpaired surrogates included."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from artigraph.memory import pieces_of, text_of
from artigraph.spec import Data, Serializer, StreamingSerializer


class TextSerializer(StreamingSerializer[str]):
    """Every `str`, exactly. Unpaired surrogates are encoded as if UTF-8 allowed them."""

    name = "text"
    types = (str,)

    def serialize(self, value: str) -> Data:
        return b"".join(_encoded(value))

    def deserialize(self, data: Data) -> str:
        return text_of(data)

    def estimate(self, value: str) -> int:
        return len(value)

    def dump(self, value: str, file: BinaryIO) -> None:
        file.writelines(_encoded(value))


def _encoded(text: str) -> Iterator[bytes]:
    for piece in pieces_of(text):
        yield piece.encode("utf-8", "surrogatepass")


text_serializer = TextSerializer()


def artigraph_serializers() -> list[Serializer[Any]]:
    return [text_serializer]
