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
    ORDER BY node_id
"""


def show(folder: Path, run_id: UUID) -> None:
    """Print the tree of a run in the embedded database in `folder`."""
    with closing(sqlite3.connect(folder / "graph.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(_ROWS, [run_id.bytes]).fetchall()
    print(_line("label", "what it is", "size", "where"))
    for line in _Tree(rows).lines(rows[0], rows[0]["run_label"]):
        print(line)
    in_files = [row["size"] for row in rows if row["blob_location"]]
    in_rows = [row["size"] for row in rows if not row["blob_location"]]
    print(f"{len(rows)} rows with {human(sum(in_rows))} in {folder.name}/graph.db, ", end="")
    print(f"{len(in_files)} files with {human(sum(in_files))} in {folder.name}/files")


def human(size: int) -> str:
    """A number of bytes, as people read it."""
    if size < 1_000:
        return f"{size} B"
    return f"{size / 1_000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


class _Tree:
    """Rows, found by the one above them."""

    def __init__(self, rows: list[sqlite3.Row]) -> None:
        self._below: dict[bytes, list[sqlite3.Row]] = defaultdict(list)
        for row in rows:
            self._below[row["node_parent_id"]].append(row)

    def lines(
        self, row: sqlite3.Row, name: str, branch: str = "", indent: str = ""
    ) -> Iterator[str]:
        """A line for the row, after `branch`, and lines for all below it, after `indent`."""
        children = self._below[row["node_id"]]
        yield self._line(row, branch + name)
        if row["run_error_type"]:
            message = row["run_error_message"].splitlines()[0]
            yield f"{indent}{'│' if children else ' '}    {row['run_error_type']}: {message}"
        shown = children[:MAX_ALIKE] if row["node_type"] in ("mapping", "sequence") else children
        for child, child_name in zip(shown, _names(row, shown), strict=True):
            is_last = child is children[-1]
            yield from self.lines(
                child,
                child_name,
                indent + ("└─ " if is_last else "├─ "),
                indent + ("   " if is_last else "│  "),
            )
        if len(shown) < len(children):
            size = sum(child["size"] for child in children[len(shown) :])
            more = f"{indent}└─ {len(children) - len(shown)} more"
            yield _line(more, "", human(size), "rows")

    def _line(self, row: sqlite3.Row, name: str) -> str:
        if row["node_type"] == "run":
            return _line(name, f"run, {_outcome(row)}", "", "")
        place = f"files/{row['blob_location'][:11]}…" if row["blob_location"] else "row"
        return _line(name, self._description(row), human(row["size"]), place)

    def _description(self, row: sqlite3.Row) -> str:
        match row["node_type"]:
            case "model":
                fields = ", ".join(json.loads(row["model_fields"]))
                return f"{row['model_name']} v{row['model_version']}{fields and ': '}{fields}"
            case "artifact":
                return row["artifact_serializer"]
            case node_type:
                return f"{node_type} of {len(self._below[row['node_id']])}"


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
    start, end = (datetime.fromisoformat(run[f"run_{which}_at"]) for which in ("started", "finished"))
    preposition = "in" if run["run_status"] == "succeeded" else "after"
    return f"{run['run_status']} {preposition} {(end - start).total_seconds():.1f} s"


def _line(name: str, description: str, size: str, place: str) -> str:
    text = shorten(description, 38, placeholder=" …")
    return f"  {name:<30}{text:<39}{size:>9}  {place}".rstrip()
