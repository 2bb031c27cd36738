"""`python -m artigraph`: what can be asked of an installation from a shell."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import Any

from artigraph.errors import ArtigraphError
from artigraph.listing import as_json, as_text, list_plugins
from artigraph.new_plugin import module_name, write_plugin
from artigraph.plugins import registry


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say, and return the exit code: 1 where something is wrong."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ArtigraphError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m artigraph")
    commands = parser.add_subparsers(required=True, metavar="command")

    plugins = commands.add_parser(
        "plugins", help="list the plugins that are installed, and what they provide"
    )
    plugins.add_argument("--load", action="store_true", help="import each, to see whether it works")
    plugins.add_argument("--json", action="store_true", help="print one JSON document")
    plugins.set_defaults(command=_plugins)

    new_plugin = commands.add_parser(
        "new-plugin",
        help="write a distribution with a serializer and its tests, to begin with",
    )
    new_plugin.add_argument(
        "name", type=_distribution, help="of the distribution, such as acme-maps"
    )
    new_plugin.set_defaults(command=_new_plugin)

    _add_check(commands)
    _add_collect(commands)
    _add_delete(commands)
    return parser


def _add_check(commands: Any) -> None:
    parser = _add_maintenance(commands, "check", "look whether all that is saved can be read")
    parser.add_argument("run", nargs="?", help="only what is in this run and below it: its id")
    parser.add_argument("--deep", action="store_true", help="read all data, and compare digests")
    parser.add_argument("--in-storage", metavar="NAME", help="only data that is in this storage")
    parser.add_argument(
        "--repair", action="store_true", help="replace damaged data by a copy, where there is one"
    )


def _add_collect(commands: Any) -> None:
    parser = _add_maintenance(commands, "collect", "remove data that no artifact names any more")
    parser.add_argument(
        "--grace",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="keep what was given up less than this ago (default: %(default)s)",
    )
    parser.add_argument("--apply", action="store_true", help="do it; otherwise only count")


def _add_delete(commands: Any) -> None:
    parser = _add_maintenance(commands, "delete", "delete runs and artifacts with all below them")
    parser.add_argument("ids", nargs="*", metavar="id", help="of a run or an artifact")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--runs", action="store_true", help="and all runs that the rest means")
    kinds.add_argument("--artifacts", action="store_true", help="and all artifacts that it means")
    parser.add_argument("--label")
    parser.add_argument("--status", choices=_STATUSES, help="of runs")
    parser.add_argument(
        "--include-running", action="store_true", help="also runs that are still running"
    )
    parser.add_argument("--model", help="of artifacts: the stored name of the class")
    parser.add_argument(
        "--created-before", type=_moment, metavar="TIME", help="as 2026-01-31, in UTC"
    )
    parser.add_argument("--apply", action="store_true", help="do it; otherwise only count")


_STATUSES = ("succeeded", "failed", "cancelled", "crashed", "running")


def _add_maintenance(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--url", help="of the database (default: ARTIGRAPH_URL, or the embedded)")
    parser.add_argument("--storage", metavar="URI", help="of the database's large values")
    parser.add_argument(
        "--register",
        metavar="URI",
        action="append",
        default=[],
        help="a storage that rows name; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=_maintain, name=name)
    return parser


def _maintain(options: argparse.Namespace) -> int:
    # Not at the top: the other commands need no database, and this imports SQLAlchemy.
    from artigraph.maintenance import run

    return run(options)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is no moment: write 2026-01-31, or 2026-01-31T09:00:00+01:00"
        raise argparse.ArgumentTypeError(message) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _plugins(options: argparse.Namespace) -> int:
    with redirect_stdout(sys.stderr):  # a plugin may print something when it is imported
        listed = list_plugins(registry, load=options.load)
    print(json.dumps({"plugins": as_json(listed)}, indent=2) if options.json else as_text(listed))
    return int(any(each.state == "failed" for each in listed))


def _distribution(name: str) -> str:
    try:
        module_name(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def _new_plugin(options: argparse.Namespace) -> int:
    try:
        folder = write_plugin(options.name)
    except OSError as error:
        remedy = "Choose another name, or run this in another folder."
        print(f"{options.name}/ can't be made: {error.strerror}. {remedy}", file=sys.stderr)
        return 1
    print(f"{folder}/ is a plugin. Try it:")
    print(f"    cd {folder} && pip install --editable '.[test]' && pytest")
    return 0


if __name__ == "__main__":
    sys.exit(main())
