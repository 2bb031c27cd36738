"""`python -m artigraph`: what can be asked of an installation from a shell."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

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
    return parser


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
