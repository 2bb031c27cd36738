"""The exact codec by itself: what it keeps, what it refuses, and what its text is."""

import json
import re
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum, Flag, IntEnum
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from values import EXAMPLES, same
from values import values as values_of_all_kinds

from artigraph import LimitError, UnsupportedValueError
from artigraph.serializer.codec import MAX_DEPTH, Packer, dumps, loads
from artigraph.serializer.json import JsonSerializer, json_serializer
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


MIB = 2**20

LARGE = {
    "numbers": [number / 7 for number in range(100_000)],
    "a list of lists": [[[number, str(number)], [[None] * 4]] for number in range(15_000)],
    "one list in another": [[], [list(range(200_000))], 1],
    "light and heavy": [1, [2] * 50_000, "3", {"4": [5] * 50_000}, 6, b"7" * MIB, "8"],
    "an object": {f"{number}": [number, {"$": number}] for number in range(20_000)},
    "an object of objects": {"a": {"b": {"c": [{"d": n} for n in range(20_000)]}, "$e": 1}},
    "a dict": {number: (number, {number}) for number in range(15_000)},
    "a dict with much in it": {(1, 2): [3] * 200_000, 4: {5: "6" * MIB}},
    "a tuple": tuple(range(200_000)),
    "a set": {f"{number}" * 5 for number in range(60_000)},
    "a set with much in it": frozenset([b"a" * MIB, tuple(range(200_000)), "b" * MIB, None]),
    "letters": '\xe9\U0001f600\\"\n' * 100_000,
    "escapes that are none": ["a" * n + "\\ud83d" * 60_000 for n in range(7)],
    "a text that UTF-8 does not have": "\ud800\0" * MIB,
    "bytes": bytes(range(256)) * 5_001,
    "keys": {"k" * MIB: 1, "$" * MIB: 2, "3": 3, "\xe9" * MIB: ["4" * MIB]},
    "a key that JSON does not have": {"k" * MIB + "\0": 1},
    "dates": [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(15_000)],
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)
def test_large_values_are_written_and_read_in_pieces(value: object) -> None:
    """With the text that they have in one piece, from which they come back too."""
    pieces: list[int] = []

    class File(BytesIO):
        def write(self, data: Any, /) -> int:
            pieces.append(len(data))
            return super().write(data)

    file = File()
    json_serializer.dump(value, file)
    text = file.getvalue().decode("ascii")

    assert text == dumps(Packer().pack(value))
    assert max(pieces) <= 2 * MIB
    assert same(json_serializer.deserialize(text.encode()), value)
    assert same(loads(text), value)


@given(
    st.lists(values_of_all_kinds, min_size=1, max_size=5),
    st.integers(0, 40_000),
    st.sampled_from([1, 100, 2_000]),
)
@settings(max_examples=20, deadline=None)
def test_wherever_a_text_is_cut_it_is_read_as_in_one_piece(
    values: list[object], before: int, times: int
) -> None:
    """What is cut may be a number, a string, an escape, a key, a tag."""
    value = [" " * before, *values * times, "a" * MIB]
    data = json_serializer.serialize(value)

    assert same(json_serializer.deserialize(data), value)
    with pytest.raises(ValueError, match="something follows"):
        json_serializer.deserialize(bytes(data) + b" ")


def outcome(read: Callable[[], object]) -> object:
    try:
        return read()
    except ValueError:
        return "refused"


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_large_text_of_another_hand_is_read_as_in_one_piece_or_refused(
    data: st.DataObject,
) -> None:
    """Also where something of it is missing, doubled, or of another kind."""
    inner = {"a": '\ud83d\ude00\\"', "b": [[], {}, True, None]}
    text = json.dumps(
        [{"$tuple": []}, [1.5e-7, inner], "\u00e9," * 9] * 6_000,
        indent=data.draw(st.sampled_from([None, 0, 1])),
    )
    if data.draw(st.booleans()):
        text = text.replace('"$', '"\\u0024')
    for _ in range(data.draw(st.integers(0, 2))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.sampled_from([0, 1, 2, 50_000]))
        text = text[:start] + data.draw(st.sampled_from([*'[]{},:" \\019e.-', ""])) + text[end:]

    expected = outcome(lambda: loads(text))

    assert outcome(lambda: json_serializer.deserialize(text.encode("ascii"))) == expected


@pytest.mark.parametrize(
    ("value", "way"),
    [
        ([[0] * 99_999, [*range(99_998), object()]], "[1][99998]"),
        ((*range(99_998), object()), "[99998]"),
        ({"a": [object()] * 99_999}, "['a'][0]"),
        ({1: "b" * MIB, 2: ["b" * MIB, object()]}, "[entry 1][1]"),
        ({1: 2, 3: [object()] * 99_999}, "[entry 1][0]"),
    ],
    ids=["list", "tuple", "object", "dict", "entry"],
)
def test_the_way_is_told_through_a_large_value_too(value: object, way: str) -> None:
    """By the same steps as through a small one."""
    with pytest.raises(UnsupportedValueError, match=re.escape(f"the value{way}: a value of type")):
        json_serializer.serialize(value)


@pytest.mark.parametrize(
    ("wrap", "levels"),
    [
        (lambda value: [value], 1),
        (lambda value: {"a": value}, 1),
        (lambda value: (value,), 2),
        (lambda value: {1: value}, 3),
        (lambda value: frozenset([value]), 2),
    ],
    ids=["list", "object", "tuple", "dict", "set"],
)
def test_a_large_value_is_as_deep_as_a_small_one(
    wrap: Callable[[object], object], levels: int
) -> None:
    """The limit counts what is opened as what is not, and none runs out of stack below it."""
    value: object = "a" * MIB
    for _ in range((MAX_DEPTH - 2) // levels):
        value = wrap(value)

    data = json_serializer.serialize(value)
    assert within(600, lambda: json_serializer.deserialize(data)) == value
    with pytest.raises(LimitError, match="the limit is 200 levels"):
        json_serializer.serialize(wrap(value))


def within(calls: int, work: Callable[[], object]) -> object:
    """What the work gives, done within so many calls."""
    return within(calls - 1, work) if calls else work()
