"""docs/extending.md: what it shows is the example, and what it says to type works."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from distributions import ROOT, install, output

EXAMPLE = ROOT / "examples/artigraph-example"
PAGE = (ROOT / "docs/extending.md").read_text()


class Block(NamedTuple):
    language: str
    text: str


BLOCKS = [
    Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
]


@pytest.fixture(scope="module")
def python(author: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has the example, as its users get it."""
    install(author, EXAMPLE, tmp_path_factory.mktemp("example"))
    return author


def of(language: str) -> Iterator[str]:
    for block in BLOCKS:
        if block.language == language:
            yield block.text


def is_quoted(text: str) -> bool:
    """Whether it is in a file of the example, to the letter."""
    files = [EXAMPLE / "pyproject.toml", *EXAMPLE.glob("src/**/*.py"), *EXAMPLE.glob("tests/*.py")]
    return any(text in file.read_text() for file in files)


def test_every_kind_of_block_is_tested() -> None:
    """One in another language would be shown, and never looked at."""
    assert {block.language for block in BLOCKS} == {"console", "python", "text", "toml"}


def test_what_is_quoted_is_the_example() -> None:
    """Word for word, so that the page can't fall behind."""
    assert all(map(is_quoted, of("toml")))
    assert sum(map(is_quoted, of("python"))) == 5


def test_the_other_blocks_run(python: Path, tmp_path: Path) -> None:
    """One after the other, where the example is installed."""
    program = "\n".join(text for text in of("python") if not is_quoted(text))

    output([python, "-W", "error", "-c", program], tmp_path)


def test_what_is_typed_works(author: Path, tmp_path: Path) -> None:
    """From an empty folder to a plugin that is installed, tested and listed."""
    folder = tmp_path
    printed = ""
    for line in "".join(of("console")).splitlines():
        match shlex.split(line):
            case ["cd", name]:
                folder /= name
            case ["pip", "install", "--editable", ".[test]"]:
                install(author, folder, tmp_path / "wheels")
            case ["pytest"]:
                printed = output([author, "-m", "pytest"], folder)
                assert re.search(r"\d+ passed in", printed)
            case ["python", *arguments]:
                printed = output([author, *arguments], folder)
            case _:
                pytest.fail(f"nobody knows how to test {line!r}")
    assert "acme-maps 0.1.0\n  acme_maps: loaded\n    serializer acme_maps.point" in printed


def test_what_must_not_be_missing_is_there() -> None:
    """Each attribute of the contracts and of the tests that an author can set."""
    names = {
        *("name", "types", "subclasses", "deterministic", "executes_code"),
        *("is_chosen", "detects_truncation", "survives_damage", "is_installed"),
        *("decides_races", "can_update"),
        *("sources", "large", "extra_memory", "table", "names", "alter", "part", "collect"),
    }

    assert {name for name in names if f"`{name}`" not in PAGE} == set()
