from base64 import b64encode
from collections.abc import Callable

import pytest

from artigraph.errors import UnsupportedValueError
from artigraph.serializer.footer import (
    EXTENSION_KEY,
    refuse_extension_types,
    without_extension_types,
)


def arrow_file(footer: bytes, body: bytes = b"body") -> bytes:
    return b"ARROW1\0\0" + body + footer + len(footer).to_bytes(4, "little") + b"ARROW1"


def parquet_file(footer: bytes, body: bytes = b"body") -> bytes:
    return b"PAR1" + body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


NAMING = [arrow_file(b"schema " + EXTENSION_KEY + b" x")] + [
    parquet_file(b"ARROW:schema" + b64encode(b"-" * shift + EXTENSION_KEY + b"-"))
    for shift in range(6)
]


@pytest.mark.parametrize("data", NAMING)
def test_a_file_that_names_an_extension_type_is_refused(data: bytes) -> None:
    """Wherever in its schema, which Parquet keeps as base64."""
    for kind in (bytes, bytearray, memoryview):
        with pytest.raises(ValueError, match="extension type"):
            refuse_extension_types(kind(data))


@pytest.mark.parametrize("data", NAMING)
def test_what_would_be_refused_is_not_written(data: bytes) -> None:
    """A text that looks like the name of a type is an error on save, not on load."""
    with pytest.raises(UnsupportedValueError, match="ARROW:extension:name"):
        without_extension_types(data)


@pytest.mark.parametrize("file", [arrow_file, parquet_file])
def test_values_are_not_looked_at(file: Callable[..., bytes]) -> None:
    """Only the footer says what is read as which type."""
    data = file(b"schema", body=EXTENSION_KEY + b64encode(EXTENSION_KEY))

    refuse_extension_types(data)

    assert without_extension_types(data) is data


@pytest.mark.parametrize("data", [b"", arrow_file(b"")[:-1], b"x" * 100])
def test_another_file_is_an_error(data: bytes) -> None:
    """Nothing is known of it."""
    with pytest.raises(ValueError, match="neither"):
        refuse_extension_types(data)
