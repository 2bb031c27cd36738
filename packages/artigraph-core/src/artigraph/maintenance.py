"""`python -m artigraph check`, `collect` and `delete`, for a database and its storages."""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeAlias

from artigraph.checking import Checked, Repaired, check, repair
from artigraph.collection import Collected, collect
from artigraph.database import close, current_database, set_existing_database
from artigraph.deletion import Deletion, delete
from artigraph.query import ArtifactQuery, NodeQuery, RunQuery
from artigraph.storage import open_storage

DAMAGED = 4
"""The exit code of a check that found something."""


def run(options: argparse.Namespace) -> int:
    """Do what the options say on the database that they name, and return the exit code."""
    return asyncio.run(_run(_COMMANDS[options.name], options))


Command: TypeAlias = Callable[[argparse.Namespace], Awaitable[int]]


async def _run(command: Command, options: argparse.Namespace) -> int:
    set_existing_database(options.url, options.storage)
    for uri in options.register:
        open_storage(uri).register()
    if not options.json:
        print(f"database {current_database().name}")
    try:
        return await command(options)
    finally:
        await close()


async def _check(options: argparse.Namespace) -> int:
    checked = await check(options.run, storage=options.in_storage, deep=options.deep)
    repaired = await repair(checked.findings) if options.repair else Repaired()
    mended = repaired.mended
    left = [finding for finding in checked.findings if finding not in mended]
    if options.json:
        _print_json({**asdict(checked), **asdict(repaired)})
    else:
        for finding in checked.findings:
            state = "mended" if finding in mended else finding.damage
            print(f"{state:12}{finding.message}")
        for failure in repaired.failures:
            print(f"{'failed':12}{failure}")
        print(_summary(checked, len(left)))
    return DAMAGED if left else 0


def _summary(checked: Checked, damaged: int) -> str:
    looked = f"{checked.artifacts:,} artifacts, {checked.parts:,} values with data of their own"
    return f"{looked}, {checked.size:,} bytes read: {damaged:,} damaged"


async def _collect(options: argparse.Namespace) -> int:
    collected = await collect(grace=options.grace, dry_run=not options.apply)
    if options.json:
        _print_json(asdict(collected))
    else:
        for failure in collected.failures:
            print(f"failed      {failure}")
        print(_told(collected, options.apply))
    return int(bool(collected.failures))


def _told(collected: Collected, is_done: bool) -> str:
    would = "" if is_done else "would be "
    lines = [
        f"{would}given up: {collected.abandoned:,} of writers that died,"
        f" {collected.unused:,} that nothing names",
        f"{would}removed: {collected.removed:,} objects, {collected.removed_size:,} bytes",
        f"waiting: {collected.waiting:,}",
    ]
    return "\n".join(lines if is_done else [*lines, _NOTHING_DONE])


async def _delete(options: argparse.Namespace) -> int:
    what = [*options.ids, *_queries(options)]
    deletion = await delete(
        *what, dry_run=not options.apply, include_running=options.include_running
    )
    if options.json:
        _print_json(asdict(deletion))
    else:
        print(_deleted(deletion, options.apply))
    return 0


def _queries(options: argparse.Namespace) -> list[NodeQuery]:
    common = {"label": options.label, "created_before": options.created_before}
    if options.runs:
        return [RunQuery(**common, status=options.status)]
    if options.artifacts:
        return [ArtifactQuery(**common, model=options.model)]
    return []


def _deleted(deletion: Deletion, is_done: bool) -> str:
    told = (
        f"{'' if is_done else 'would be '}deleted: {deletion.runs:,} runs,"
        f" {deletion.artifacts:,} artifacts, {deletion.nodes:,} rows\n"
        f"for collect: {deletion.blobs:,} objects, {deletion.size:,} bytes"
    )
    return told if is_done else f"{told}\n{_NOTHING_DONE}"


_NOTHING_DONE = "nothing was changed: repeat it with --apply"

_COMMANDS: dict[str, Command] = {"check": _check, "collect": _collect, "delete": _delete}


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))
