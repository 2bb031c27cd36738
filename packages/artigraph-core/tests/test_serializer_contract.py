import json
import pickle
from typing import Any

import pytest

from artigraph.errors import UnsupportedValueError
from artigraph.serializer.json import json_serializer
from artigraph.spec import Data, Serializer
from artigraph.testing.serializer import SerializerTests

VALUES: dict[str, Any] = {"a tuple": (1, [2]), "nothing": None, "text": "é\0"}
REFUSED = {"an object": (object(), "a value of type object")}


class TestExactSerializer(SerializerTests):
    """The tests pass for a serializer that keeps its promise."""

    serializer = json_serializer
    values = VALUES
    refused = REFUSED
    detects_truncation = False  # of None and "" there is little to cut off


class Sloppy(Serializer[Any]):
    """Lists for tuples, the first word of a text, and whatever is asked for."""

    name = "sloppy.words"
    types = (list, tuple)

    def serialize(self, value: Any) -> Data:
        if isinstance(value, list):
            value.append(len(value))
        return json.dumps(value).encode()

    def deserialize(self, data: Data) -> Any:
        try:
            return json.loads(bytes(data))
        except ValueError:
            pass
        try:
            return pickle.loads(data)
        except Exception:
            return "something"


class SloppyTests(SerializerTests):
    serializer = Sloppy()


@pytest.mark.parametrize(
    ("test", "values"),
    [
        ("test_a_value_comes_back", [(1, 2)]),
        ("test_a_value_is_left_as_it_was", [[1, 2]]),
        ("test_the_same_value_gives_the_same_data", [[1, 2]]),
        ("test_what_is_refused_is_refused_by_name", [((1, 2), "tuple")]),
        ("test_truncated_data_is_an_error", []),
        ("test_damaged_data_never_becomes_another_type", []),
        ("test_pickled_data_runs_no_code", []),
        ("test_many_threads_work_at_once", []),
    ],
)
def test_a_sloppy_serializer_fails(test: str, values: list[Any]) -> None:
    """Each of the tests finds what it is there for."""
    tests = SloppyTests()
    tests.values = {"a tuple": (1, 2)}

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(tests, test)(*values)


def test_an_error_that_names_something_else_fails() -> None:
    """A refusal helps only if it says what was refused."""

    class Vague(Sloppy):
        def serialize(self, value: Any) -> Data:
            raise UnsupportedValueError("value", "it", "Try something else.")

    tests = SloppyTests()
    tests.serializer = Vague()

    with pytest.raises(AssertionError):
        tests.test_what_is_refused_is_refused_by_name(((1, 2), "tuple"))
