"""Errors: data, text, and what else each of them is."""

import copy
import inspect
import pickle
from dataclasses import fields
from typing import Any
from uuid import UUID

import pytest

from artigraph import ArtigraphError, errors

EXAMPLES: dict[str, Any] = {"UUID": UUID(int=7), "tuple[str, ...]": ("one", "two")}

CLASSES = [
    error
    for error in vars(errors).values()
    if inspect.isclass(error) and issubclass(error, ArtigraphError) and error is not ArtigraphError
]


def example(error: type[Any]) -> Any:
    """An error of this class, every argument telling its own name."""
    return error(*(EXAMPLES.get(str(f.type), f"<{f.name}>") for f in fields(error)))


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_survives_a_process_boundary(error: type[Any]) -> None:
    """Class, text, attributes and arguments are the same after pickling and copying."""
    original = example(error)

    for twin in (pickle.loads(pickle.dumps(original)), copy.copy(original)):
        assert type(twin) is error
        assert str(twin) == str(original)
        assert vars(twin) == vars(original)
        assert twin.args == original.args


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_is_also_a_builtin(error: type[Any]) -> None:
    """What callers without Artigraph in mind would catch."""
    builtins = {base for base in error.__mro__ if base.__module__ == "builtins"}

    assert builtins - {Exception, BaseException, object}


@pytest.mark.parametrize("error", CLASSES)
def test_a_message_has_all_that_the_error_knows(error: type[Any]) -> None:
    """No argument is left out, but the extra that replaces a distribution in the command."""
    original = example(error)
    text = str(original)

    for value in map(str, original.args):
        assert value in text or value in ("<extra>", "('one', 'two')")
    assert text[0] != "("


def test_a_shown_text_is_short_and_printable() -> None:
    """What comes from rows and users can't break a terminal or a log."""
    assert errors.shown("\x1b[31m\u202e") == r"'\x1b[31m\u202e'"
    assert len(errors.shown("x" * 10_000_000)) == 80
