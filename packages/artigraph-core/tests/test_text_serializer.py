from hypothesis import strategies as st

from artigraph.serializer.text import text_serializer
from artigraph.testing import SerializerTests

VALUES = {
    "nothing": "",
    "NUL": "a\0b\0",
    "accents and emoji": "e\u0301 \U0001f600",
    "an unpaired surrogate": "\ud800b",
    "a surrogate pair, unpaired": "\ud83d\ude00",
    "ends of lines": "a\r\nb\n\u2028",
    "a mark of byte order": "\ufeffa",
    "many megabytes": "\xe9" * 2**22,
    "wider and wider": "a" * 2**19 + "\xe9" * 2**19 + "\u20ac" * 2**19 + "\U0001f600" * 2**19,
    "wide in the end": "a" * 2**19 + "\u20ac",
    "narrow in the end": "\U0001f600" + "a" * 2**19,
    "surrogates across many megabytes": "\ud83d\ude00" * 2**19,
}


class TestTextSerializer(SerializerTests):
    """Every `str`, also what UTF-8 does not allow."""

    serializer = text_serializer
    values = VALUES
    strategy = st.text(st.characters(codec=None))
    detects_truncation = False
