from hypothesis import strategies as st

from artigraph.serializer.bytes import bytes_serializer
from artigraph.testing import SerializerTests

VALUES = {"nothing": b"", "one": b"\0", "all": bytes(range(256)), "many": bytes(2**23)}


class TestBytesSerializer(SerializerTests):
    """Bytes as they are."""

    serializer = bytes_serializer
    values = VALUES
    strategy = st.binary()
    detects_truncation = False
