"""The front doors, and that the docs have each."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import artigraph
from artigraph import errors

ROOT = Path(__file__).parents[1]

ERRORS = [
    name
    for name, error in vars(errors).items()
    if inspect.isclass(error)
    and issubclass(error, Exception)
    and error.__module__ == errors.__name__
]


def test_every_public_name_is_there() -> None:
    """`__all__`, `dir()` and the names for type checkers are the same."""
    source = (ROOT / "packages/artigraph-core/src/artigraph/__init__.py").read_text()
    typed = re.findall(r"^    from artigraph\.\w+ import \w+ as (\w+)$", source, re.MULTILINE)

    assert sorted(typed) == sorted(artigraph.__all__)
    assert set(artigraph.__all__) <= set(dir(artigraph))
    assert all(getattr(artigraph, name) is not None for name in artigraph.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="module 'artigraph' has no attribute 'nothing'"):
        artigraph.nothing  # noqa: B018


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_public_and_documented(name: str) -> None:
    """It can be imported from `artigraph`, and has a heading with its builtins."""
    error = getattr(artigraph, name)
    page = (ROOT / "docs/errors.md").read_text()
    builtins = [base.__name__ for base in error.__bases__ if base.__module__ == "builtins"]
    title = f"{name} ({', '.join(builtins)})" if builtins and error is not Exception else name

    assert f"### {title}\n" in page or name == "ArtigraphError"


@pytest.mark.parametrize(
    ("door", "package"),
    [
        ("artigraph.serializer.pandas", "artigraph_pandas"),
        ("artigraph.serializer.polars", "artigraph_polars"),
        ("artigraph.serializer.pyarrow", "artigraph_arrow"),
        ("artigraph.storage.aws", "artigraph_aws"),
    ],
)
def test_a_door_leads_to_all_that_its_distribution_has(door: str, package: str) -> None:
    """A new name of a plugin's is behind its door, too."""
    here, there = import_module(door), import_module(package)

    assert sorted(here.__all__) == sorted(there.__all__)
    assert all(getattr(here, name) is getattr(there, name) for name in there.__all__)
