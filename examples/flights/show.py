"""Prints what is stored below a run: a line for each row, with its size and its place.

It asks in plain SQL, to show what the rows are: any tool can read them.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from uuid import UUID

MAX_ALIKE = 2
"""How many values of a mapping or a sequence get lines of their own."""

_ROWS = """
    WITH RECURSIVE below (id) AS (
        SELECT ? UNION SELECT node_id FROM artigraph_node JOIN below ON node_parent_id = id
    )
    SELECT *, coalesce(artifact_size, length(model_fields), 0) AS size
    FROM artigraph_node JOIN below ON node_id = id
    LEFT JOIN artigraph_blob ON artifact_blob_id = blob_id
    ORDER BY node_id -- which is the order in which the rows were made
"""


def show(folder: Path, run_id: UUID) -> None:
    """Print the tree of a run in the embedded database in `folder`."""
    with closing(sqlite3.connect(folder / "graph.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(_ROWS, [run_id.bytes]).fetchall()
    print_columns("label", "what it is", "size", "where")
    for line in _Tree(rows).lines(rows[0], rows[0]["run_label"]):
        print_columns(*line)
    in_files = [row["size"] for row in rows if row["blob_location"]]
    in_rows = [row["size"] for row in rows if not row["blob_location"]]
    print(f"{len(rows)} rows with {_human(sum(in_rows))} in {folder.name}/graph.db, ", end="")
    print(f"{len(in_files)} files with {_human(sum(in_files))} in {folder.name}/files")


def print_columns(name: str, what: str = "", number: str = "", remark: str = "") -> None:
    """Print a line of a table of four columns; the last but one is of numbers."""
    print(f"  {name:<30}{shorten(what, 38, placeholder=' …'):<39}{number:>9}  {remark}".rstrip())


class _Tree:
    """Rows, found by the one above them."""

    def __init__(self, rows: list[sqlite3.Row]) -> None:
        self._below: dict[bytes, list[sqlite3.Row]] = defaultdict(list)
        for row in rows:
            self._below[row["node_parent_id"]].append(row)

    def lines(
        self, row: sqlite3.Row, name: str, branch: str = "", indent: str = ""
    ) -> Iterator[tuple[str, ...]]:
        """The row, after `branch`, and all below it, after `indent`: what to print, in columns."""
        below = self._below[row["node_id"]]
        yield branch + name, *self._describe(row)
        if row["run_error_type"]:
            error = row["run_error_type"].rpartition(".")[2]
            message = row["run_error_message"].splitlines()[0]
            yield (f"{indent}{'│' if below else ' '}  {error}: {message}",)
        shown = below[:MAX_ALIKE] if row["node_type"] in ("mapping", "sequence") else below
        for child, child_name in zip(shown, _names(row, shown), strict=True):
            branch, further = ("└─ ", "   ") if child is below[-1] else ("├─ ", "│  ")
            yield from self.lines(child, child_name, indent + branch, indent + further)
        if hidden := below[len(shown) :]:
            size = sum(child["size"] for child in hidden)
            yield f"{indent}└─ {len(hidden)} more", "", _human(size), "rows"

    def _describe(self, row: sqlite3.Row) -> tuple[str, ...]:
        match row["node_type"]:
            case "run":
                return (f"run, {_outcome(row)}",)
            case "artifact":
                what = row["artifact_serializer"]
            case "model":
                fields = ", ".join(json.loads(row["model_fields"]))
                what = f"{row['model_name']} v{row['model_version']}{fields and ': '}{fields}"
            case node_type:
                what = f"{node_type} of {len(self._below[row['node_id']])}"
        place = f"files/{row['blob_location'][:11]}…" if row["blob_location"] else "row"
        return what, _human(row["size"]), place


def _names(parent: sqlite3.Row, children: list[sqlite3.Row]) -> list[str]:
    labels = [child["artifact_label"] or child["run_label"] for child in children]
    match parent["node_type"]:
        case "model":
            return [f".{label}" for label in labels]
        case "mapping":
            keys = json.loads(parent["model_fields"])["keys"]
            return [f"[{keys[int(label)]!r}]" for label in labels]
        case "sequence":
            return [f"[{label}]" for label in labels]
        case _:
            return labels


def _outcome(run: sqlite3.Row) -> str:
    started, finished = map(datetime.fromisoformat, (run["run_started_at"], run["run_finished_at"]))
    preposition = "in" if run["run_status"] == "succeeded" else "after"
    return f"{run['run_status']} {preposition} {(finished - started).total_seconds():.1f} s"


def _human(size: int) -> str:
    if size < 1_000:
        return f"{size} B"
    return f"{size / 1_000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"
