"""Plain values as exact JSON; `artigraph.serializer.codec` tells how it is written."""

from collections.abc import Collection
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO, cast

from artigraph.memory import AT_ONCE
from artigraph.serializer.codec import Enums, loads
from artigraph.serializer.json_pieces import Reader, Writer
from artigraph.spec import Data, Serializer, StreamingSerializer

_ITEM = 8
"""About how many bytes an item has, where nothing is known of it."""


_SEEN = 100
"""Items at which `estimate` looks."""

_TEXTS = str, bytes, bytearray


class JsonSerializer(StreamingSerializer[Any]):
    """Plain values, exactly. The choice of last resort: it has no types.

    Of large ones it writes and reads a piece at a time, so that other threads have their turns.
    """

    name = "json"

    def __init__(self, enums: Enums = ()) -> None:
        self._enums = enums

    def serialize(self, value: Any) -> Data:
        file = BytesIO()
        self.dump(value, file)
        return file.getbuffer()

    def deserialize(self, data: Data) -> Any:
        if len(data) <= AT_ONCE:
            return loads(str(data, "ascii"), self._enums)
        return Reader(data, self._enums).read()

    def estimate(self, value: Any) -> int:
        if isinstance(value, _TEXTS):
            return len(value)
        if isinstance(value, list | tuple | dict | set | frozenset):
            items = cast("Collection[object]", value)
            texts = (each for each in islice(items, _SEEN) if isinstance(each, _TEXTS))
            return _ITEM * len(items) + sum(map(len, texts))
        return _ITEM

    def dump(self, value: Any, file: BinaryIO) -> None:
        Writer(file.write, self._enums).write(value)


json_serializer = JsonSerializer()


def artigraph_serializers() -> list[Serializer[Any]]:
    return [json_serializer]
