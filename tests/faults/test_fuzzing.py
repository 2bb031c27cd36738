"""Data that a fuzzer has made, guided by what it reaches: refused, or a value of the type."""

from importlib.util import find_spec
from pathlib import Path

import fuzzer
import pytest
from decoding import NAMES
from torture import FACTOR, Tally

FUZZED = NAMES if FACTOR else NAMES[:1]
SECONDS = max(2, 600 * FACTOR / len(NAMES))


def test_the_corpus_is_refused_or_a_value(tmp_path: Path, tally: Tally) -> None:
    """H6: in no more than 5 s and ten times its size and 64 MiB, and no code of it is run."""
    told = fuzzer.start("replay", tmp_path, *NAMES)

    assert told["inputs"] == sum(len(list(fuzzer.corpus_of(name))) for name in NAMES)
    assert told["refused"] > 500
    assert told["beyond"] == 0
    tally["inputs of the corpus"] = told["inputs"]


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this Python")
@pytest.mark.parametrize("name", FUZZED)
def test_whatever_is_fuzzed_is_refused_or_a_value(name: str, tmp_path: Path, tally: Tally) -> None:
    """H6: in no more than 5 s and ten times its size and 64 MiB, and no code of it is run."""
    told = fuzzer.start("fuzz", tmp_path, name, f"{SECONDS}")

    assert told["inputs"] > 100
    assert told["beyond"] == 0, list(tmp_path.glob("beyond-*"))
    tally["fuzzed inputs"] = told["inputs"]
    tally.at_most("KiB beyond ten times the input", told["memory"] >> 10)
    tally.at_most("ms for an input", told["milliseconds"])
