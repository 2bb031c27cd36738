"""Writes a plugin to begin with: a distribution whose tests pass as they are."""

import keyword
import re
import sys
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from artigraph.index import BUILT_IN, CORE, GROUP, KNOWN, OFFICIAL, normalized

SUFFIX = ".in"
"""Of the files of the template: each is a `string.Template` of what is written."""

TAKEN = frozenset(
    {
        *(GROUP, "test"),  # Python's own tests, which it does not list
        *sys.stdlib_module_names,
        *keyword.kwlist,
        *KNOWN,
        *(key for plugin in BUILT_IN for key in plugin.keys),
        *(name.replace("-", "_") for name in OFFICIAL),
    }
)
"""What can't be both a module and a key: to Python or to Artigraph it is something else."""


def module_name(distribution: str) -> str:
    """The import name of a distribution.

    Raises:
        ValueError: It is no name of a distribution, or no module can have it.
    """
    if not re.fullmatch(r"[a-z]([a-z0-9._-]*[a-z0-9])?", distribution, re.IGNORECASE | re.ASCII):
        raise ValueError(
            "a name begins with a letter and goes on with letters and digits, and . _ - between"
            " them, as acme-maps does"
        )
    module = normalized(distribution).replace("-", "_")
    if module in TAKEN:
        raise ValueError(
            f"{module!r} is something of Python's or of Artigraph's: choose another name, as"
            f" acme-{normalized(distribution)} is"
        )
    return module


def write_plugin(distribution: str, folder: Path | None = None) -> Path:
    """Write the files of a new plugin into a new folder, and return it.

    Args:
        distribution: Its name, such as `acme-maps`; the folder and the module are called by it.
        folder: Where the new folder is made; by default here.

    Raises:
        ValueError: It is no name of a distribution, or no module can have it.
        FileExistsError: There is something of that name.
    """
    module = module_name(distribution)
    top = (folder or Path()) / distribution
    top.mkdir()
    core = ".".join([*version(CORE).split(".")[:2], "0"])
    names = {"distribution": normalized(distribution), "module": module, "core": core}
    _write(files("artigraph") / "template", top, names)
    (top / "src" / module / "py.typed").touch()
    return top


def _write(source: Traversable, target: Path, names: dict[str, str]) -> None:
    target.mkdir(exist_ok=True)
    for each in source.iterdir():
        name = each.name.removesuffix(SUFFIX).replace("__module__", names["module"])
        if each.is_dir():
            _write(each, target / name, names)
        else:
            text = Template(each.read_text("utf-8")).substitute(names)
            (target / name).write_text(text, "utf-8")
