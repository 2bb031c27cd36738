"""Strings as UTF-8, unpaired surrogates included."""

from typing import Any

from artigraph.spec import Data, Serializer


class TextSerializer(Serializer[str]):
    """Every `str`, exactly. Unpaired surrogates are encoded as if UTF-8 allowed them."""

    name = "text"
    types = (str,)

    def serialize(self, value: str) -> Data:
        return value.encode("utf-8", "surrogatepass")

    def deserialize(self, data: Data) -> str:
        return str(data, "utf-8", "surrogatepass")


text_serializer = TextSerializer()


def artigraph_serializers() -> list[Serializer[Any]]:
    return [text_serializer]
