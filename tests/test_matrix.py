"""The matrix of faults: no case without a test, and none without a row in the docs."""

from matrix import BEGIN, CASES, END, PAGE, find_tests


def test_every_case_has_a_test() -> None:
    """Tests name it at the beginning of their docstrings, and name no other."""
    named = {name for names in find_tests().values() for name in names}

    assert named == CASES.keys()


def test_every_case_has_a_row() -> None:
    """In the order of the matrix; `make torture` writes the table."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]

    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if "|" in line]

    assert rows[2:] == list(CASES)
