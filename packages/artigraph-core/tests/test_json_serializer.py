"""The exact codec by itself: what it keeps, what it refuses, and what its text is."""

import json
from collections import Counter, OrderedDict, namedtuple
from datetime import datetime, timedelta, tzinfo
from enum import Enum, Flag, IntEnum
from typing import Any

import pytest
from hypothesis import given
from values import EXAMPLES, same
from values import values as values_of_all_kinds

from artigraph import LimitError, UnsupportedValueError
from artigraph.serializer.json import (
    MAX_DEPTH,
    JsonSerializer,
    Packer,
    dumps,
    json_serializer,
    loads,
)
from artigraph.testing import SerializerTests


class Color(Enum):
    RED = "r"
    GREEN = "g"


class Level(IntEnum):
    LOW = 1


class Permission(Flag):
    READ = 1
    WRITE = 2


class Text(str):
    pass


class OwnZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(0)


Pair = namedtuple("Pair", "a b")


REFUSED = {"an object": ([object()], "[0]: a value of type object")}


class TestJsonSerializer(SerializerTests):
    """Every kind of value comes back equal and of its type, and so do they in each other."""

    serializer = json_serializer
    values = EXAMPLES
    refused = REFUSED
    strategy = values_of_all_kinds
    detects_truncation = False  # the beginning of 10 is 1

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert same(loaded, saved)


@given(values_of_all_kinds)
def test_the_text_is_strict_json_in_ascii(value: object) -> None:
    """Any JSON reader takes it, and no database's character set matters."""
    text = bytes(json_serializer.serialize(value)).decode("ascii")

    json.loads(text, parse_constant=pytest.fail)
    assert "\\u0000" not in text


@given(values_of_all_kinds)
def test_equal_values_have_one_text(value: object) -> None:
    """What is loaded is saved as the same text again."""
    text = dumps(Packer().pack(value))

    assert dumps(Packer().pack(loads(text))) == text


@pytest.mark.parametrize(
    "value",
    [
        Text("a"),
        Counter("aab"),
        OrderedDict(a=1),
        Pair(1, 2),
        object(),
        int,
        len,
        memoryview(b""),
        range(3),
        datetime(2013, 1, 1, tzinfo=OwnZone()),
        Color.RED,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_change_is_refused_with_the_way_to_it(value: object) -> None:
    """B1: a subclass, a named tuple or a stranger's object is refused, however deep it is."""
    with pytest.raises(UnsupportedValueError, match=r"the value\['a'\]\[1\]: a value of type"):
        json_serializer.serialize({"a": [0, value]})


def test_a_value_in_a_dict_with_other_keys_is_refused_by_its_place() -> None:
    """Keys may be values, and no message holds one: the entry is told by its number."""
    with pytest.raises(UnsupportedValueError, match=r"the value\[entry 1\]"):
        json_serializer.serialize({1: 0, 2: object()})


@pytest.mark.parametrize("member", [Color.RED, Level.LOW, Permission.READ | Permission.WRITE])
def test_a_declared_enumeration_is_kept(member: Enum) -> None:
    """A member comes back as itself where its enumeration is declared."""
    serializer = JsonSerializer({Color, Level, Permission})

    assert serializer.deserialize(serializer.serialize([member])) == [member]
    assert type(serializer.deserialize(serializer.serialize(member))) is type(member)


def test_an_enumeration_that_is_not_declared_is_not_made() -> None:
    """No class is taken from a text."""
    data = JsonSerializer({Color}).serialize(Color.RED)

    with pytest.raises(ValueError, match="no enumeration 'Color' is declared"):
        json_serializer.deserialize(data)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_as_deep_as_the_limit_is_kept() -> None:
    """The limit is the same on every Python, and none runs out of stack below it."""
    value = nested(MAX_DEPTH - 2)

    assert json_serializer.deserialize(json_serializer.serialize(value)) == value


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_deeper_than_the_limit_is_refused(depth: int) -> None:
    """B1: deeper is refused by name, not by a crash."""
    with pytest.raises(LimitError, match="the limit is 200 levels"):
        json_serializer.serialize(nested(depth))


def test_a_list_that_contains_itself_is_refused() -> None:
    """B1: a cycle ends in the same error."""
    cycle: list[Any] = []
    cycle.append(cycle)

    with pytest.raises(LimitError, match="contains itself"):
        json_serializer.serialize(cycle)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "[1",
        '{"$nothing": 1}',
        '{"$tuple": 5}',
        '{"$set": [[]]}',
        '{"$int": "z"}',
        '{"$bytes": "?"}',
        '{"$datetime": 5}',
        '{"$datetime": ["x", 0, null]}',
        '{"$path": ["os", "x"]}',
        '{"$path": []}',
        '{"$decimal": "x"}',
        '{"$fraction": ["1", "0"]}',
        '{"$enum": ["Color", "RED"]}',
        '{"$enum": 5}',
        '{"$tuple": [], "b": 1}',
        '{"$timedelta": [1e400, 0, 0]}',
    ],
)
def test_a_text_that_the_codec_did_not_write_is_an_error(text: str) -> None:
    """H6: whatever a row says, the codec raises a ValueError and nothing else."""
    with pytest.raises(ValueError):
        loads(text)
