"""The long form of the tests, `make torture`: how much more they do, and what they count.

`ARTIGRAPH_TEST_TORTURE=1` is the whole of it, up to an hour; a fraction is a part.
"""

import os
from collections import Counter

FACTOR = float(os.environ.get("ARTIGRAPH_TEST_TORTURE") or 0)
"""How long the long form is; 0 is the short one."""


def scaled(short: int, long: int) -> int:
    """How much is done: as much as in the short form, or the part of the long one that is asked."""
    return max(short, round(long * FACTOR))


def stride(short: int) -> int:
    """From one of many cases to the next: all of them are taken in the long form alone."""
    return 1 if FACTOR else short


class Tally(Counter[str]):
    """What a test has done, for the table in docs/guarantees.md; `most of` something is a peak."""

    def at_most(self, what: str, number: int) -> None:
        self[f"{MOST}{what}"] = max(self[f"{MOST}{what}"], number)


MOST = "most "
"""Begins the names of numbers of which the largest counts, and not the sum."""
