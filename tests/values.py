"""Values of every kind that a field keeps exactly, and how to tell whether two are the same."""

import math
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

EXAMPLES: Mapping[str, object] = {
    "None": None,
    "true": True,
    "false": False,
    "zero": 0,
    "the largest of 64 bits": 2**63 - 1,
    "the smallest of 64 bits": -(2**63),
    "beyond 64 bits": 2**63,
    "negative beyond 64 bits": -(2**63) - 1,
    "an int of 5,000 digits": 10**5000,
    "float zero": 0.0,
    "negative zero": -0.0,
    "1e22": 1e22,
    "the smallest float": 5e-324,
    "the largest float": 1.7976931348623157e308,
    "a third": 1 / 3,
    "nan": math.nan,
    "infinity": math.inf,
    "negative infinity": -math.inf,
    "an empty str": "",
    "accents and emoji": "na\u00efve e\u0301 \U0001f600",
    "NUL in a str": "a\0b",
    "an unpaired surrogate": "a\ud800b",
    "a surrogate pair, unpaired": "\ud83d\ude00",
    "quotes and backslashes": "\"'\\\n\t\u2028",
    "a str like a tag": '{"$tuple": [1]}',
    "empty list": [],
    "empty dict": {},
    "empty tuple": (),
    "empty set": set(),
    "empty frozenset": frozenset(),
    "a tuple in a list": [(1, [2, (3,)])],
    "a set of tuples": {(1, 2), (1, "2")},
    "a frozenset in a set": {frozenset({1}), frozenset()},
    "bytes in a list": [b"", b"\0\xff", bytearray(b"ab")],
    "int keys": {1: "a", 2: "b"},
    "keys 1 and '1'": {1: "int", "1": "str"},
    "True and None as keys": {True: 0, None: 1},
    "tuple keys": {(1, 2): {"x": 1}},
    "a dict like a tag": {"$tuple": [1, 2]},
    "a dict like an escaped tag": {"$$tuple": {"$": 1, "$$": 2}},
    "a tag beside another key": {"$set": [], "b": 1},
    "NUL in a key": {"a\0": 1},
    "order of keys": {"b": 1, "a": 2},
    "datetime": datetime(2013, 1, 1, 5, 15, 0, 123456),  # noqa: DTZ001  # naive, on purpose
    "datetime in UTC": datetime(2013, 1, 1, tzinfo=UTC),
    "datetime with an offset": datetime(2013, 1, 1, tzinfo=timezone(timedelta(hours=5.5))),
    "datetime with a named offset": datetime(1, 1, 1, tzinfo=timezone(timedelta(1) / 3, "x\0")),
    "datetime in a zone": datetime(2013, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    "the second 2:30": datetime(2013, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    "the last datetime": datetime.max,  # noqa: DTZ901  # naive, on purpose
    "date": date(1, 1, 1),
    "time": time(23, 59, 59, 999999),
    "time with a zone": time(1, 2, tzinfo=UTC, fold=1),
    "timedelta": timedelta(-1, 1, 1),
    "the largest timedelta": timedelta.max,
    "Decimal": Decimal("1.10"),
    "Decimal NaN": Decimal("-sNaN123"),
    "Decimal with exponent": Decimal("-0E+10"),
    "Fraction": Fraction(-1, 3),
    "complex": complex(-0.0, math.inf),
    "UUID": UUID(int=1),
    "Path": Path("a/../b c"),
    "PurePosixPath": PurePosixPath("/"),
    "PureWindowsPath": PureWindowsPath(r"C:\x"),
}


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of one type, at every depth; a NaN is the same as a NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return len(a) == len(b) and all(
            same(x, y) for x, y in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, Set):
        return sorted(map(typed, a)) == sorted(map(typed, b))
    if isinstance(a, Sequence) and not isinstance(a, str | bytes | bytearray):
        return len(a) == len(b) and all(map(same, a, b))
    return typed(a) == typed(b)


def typed(value: object) -> str:
    """A text that tells apart what `==` takes for equal: 1 and True, 0.0 and -0.0, two zones."""
    if isinstance(value, tuple | frozenset):
        inner = map(typed, value)
        return f"{type(value)}{list(inner) if isinstance(value, tuple) else sorted(inner)}"
    if isinstance(value, int) and not isinstance(value, bool | Enum):
        return f"int {value:x}"
    if isinstance(value, datetime | time):
        return f"{value!r} {value.fold}"
    return f"{type(value)} {value!r}"


_zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]).map(ZoneInfo),
)

hashables: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**62, 2**66),
    st.floats(),
    st.text(),
    st.text(st.characters(codec=None)),
    st.sampled_from(["$tuple", "$$", "$", "\0"]),
    st.binary(),
    st.datetimes(timezones=_zones, allow_imaginary=True),
    st.dates(),
    st.times(timezones=st.sampled_from([None, UTC])),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.uuids(),
    st.text(st.characters(codec="ascii", exclude_characters="\0")).map(PurePosixPath),
)

keys = st.recursive(hashables, lambda inner: st.tuples(inner, inner), max_leaves=3)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # A NaN in a set or as a key is not found again by ==, in Python itself.
    found = keys.filter(lambda key: "nan" not in repr(key).lower())
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.dictionaries(found, inner, max_size=3),
        st.sets(found, max_size=3),
        st.frozensets(found, max_size=3),
    )


values: st.SearchStrategy[Any] = st.recursive(hashables, containers, max_leaves=12)
"""Anything that a field keeps, nested."""
