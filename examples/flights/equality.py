"""Exact equality, however deep: `==` refuses frames inside of dataclasses, and forgives types."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import singledispatch

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


def compare(found: object, expected: object, where: str) -> Iterator[tuple[str, bool]]:
    """Where each value in `found` is, and whether it equals the one in `expected`, type and all."""
    if type(found) is not type(expected):
        yield where, False
    elif is_dataclass(found):
        for field in fields(found):
            name = field.name
            yield from compare(getattr(found, name), getattr(expected, name), f"{where}.{name}")
    elif isinstance(found, dict) and isinstance(expected, dict):
        yield f"{where}, its keys", list(found) == list(expected)
        for key in found.keys() & expected.keys():
            yield from compare(found[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(found, list) and isinstance(expected, list):
        yield f"{where}, its length", len(found) == len(expected)
        for position, (item, other) in enumerate(zip(found, expected, strict=False)):
            yield from compare(item, other, f"{where}[{position}]")
    else:
        yield where, bool(is_equal(found, expected))


@singledispatch
def is_equal(found: object, expected: object) -> bool:
    """Whether two values of one type are equal."""
    return found == expected


@is_equal.register
def _(found: np.ndarray, expected: np.ndarray) -> bool:
    same_layout = found.dtype == expected.dtype and found.shape == expected.shape
    return same_layout and found.tobytes() == expected.tobytes()


@is_equal.register
def _(found: pa.Table, expected: pa.Table) -> bool:
    return found.equals(expected, check_metadata=True)


@is_equal.register
def _(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    return found.schema == expected.schema and found.equals(expected)


@is_equal.register
def _(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    try:
        pd.testing.assert_frame_equal(
            found, expected, check_exact=True, check_index_type=True, check_column_type=True
        )
    except AssertionError:
        return False
    return True
