"""Strings as UTF-8, unpaired surrogates included."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from artigraph.memory import give_way, text_of
from artigraph.spec import Data, Serializer, StreamingSerializer

_PIECE = 2**18
"""Letters that are encoded at once, which takes about a millisecond."""


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
    for start in range(0, len(text) or 1, _PIECE):
        yield text[start : start + _PIECE].encode("utf-8", "surrogatepass")
        give_way()


text_serializer = TextSerializer()


def artigraph_serializers() -> list[Serializer[Any]]:
    return [text_serializer]
