from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from artigraph.serializer.bytes import bytes_serializer
from artigraph.testing import SerializerTests

VALUES = {"nothing": b"", "one": b"\0", "all": bytes(range(256)), "many": bytes(2**23)}


class TestBytesSerializer(SerializerTests):
    """Bytes as they are."""

    serializer = bytes_serializer
    values = VALUES
    strategy = st.binary()
    sources: Mapping[str, Any] = {
        "a generator": (lambda: (bytes([i]) for i in range(3)), b"\0\1\2"),
        "no bytes": (lambda: iter(()), b""),
    }
    large = staticmethod(lambda: bytes(2**28))
    detects_truncation = False
