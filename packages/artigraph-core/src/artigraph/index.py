"""The plugins that are installed, by the metadata of their distributions: none is imported.

A plugin is a module that a distribution names in the entry-point group `artigraph`, once for each
key that it claims.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoints, distributions
from pathlib import Path

from artigraph.errors import shown

GROUP = "artigraph"
"""The entry-point group, and the prefix of every hook's name."""

CORE = "artigraph-core"

KNOWN = {
    "numpy": ("numpy", "numpy"),
    "pandas": ("artigraph-pandas", "pandas"),
    "polars": ("artigraph-polars", "polars"),
    "pyarrow": ("artigraph-arrow", "pyarrow"),
    "s3": ("artigraph-aws", "aws"),
}
"""For each key: the distribution that serves it, and the extra of `artigraph` that brings it."""

OFFICIAL = frozenset({CORE, *(name for name, _ in KNOWN.values() if name.startswith(GROUP))})

_OUR_SECTION = re.compile(rf"^\s*\[{GROUP}\]\s*$", re.MULTILINE)
_MODULE = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True)
class Plugin:
    """A module of a distribution, and the keys that it claims."""

    distribution: str
    """Its name, as the packaging standards compare names."""
    version: str
    module: str
    keys: frozenset[str]
    disabled_keys: frozenset[str] = frozenset()
    """Those of `keys` that the environment switches off."""
    is_disabled: bool = False
    """Whether the environment switches all of it off."""
    damage: str = ""
    """Why the metadata can't be used; then there may be neither module nor keys."""
    core_requirement: str = ""
    """What the distribution says of `artigraph-core`, as `artigraph-core~=0.2.0`."""

    @property
    def is_official(self) -> bool:
        return self.distribution in OFFICIAL

    @property
    def enabled_keys(self) -> frozenset[str]:
        return self.keys - self.disabled_keys


BUILT_IN = (
    Plugin(CORE, "", "artigraph.serializer.json", frozenset({"json"})),
    Plugin(CORE, "", "artigraph.serializer.text", frozenset({"text", "builtins"})),
    Plugin(CORE, "", "artigraph.serializer.bytes", frozenset({"bytes", "builtins"})),
    Plugin(CORE, "", "artigraph.storage.file", frozenset({"file"})),
)
"""Found without metadata, so that saving a number scans nothing; always there."""


def installed_plugins() -> Iterator[Plugin]:
    """All but the built-in ones: those that are switched off or damaged too.

    Two environment variables switch plugins off, by key or by distribution:
    `ARTIGRAPH_DISABLE_PLUGINS` has those that are off, `ARTIGRAPH_PLUGINS` the only ones that are
    not; both are lists with commas.
    """
    seen: set[str] = set()
    for distribution in distributions():
        if not _has_plugins(distribution):
            continue
        try:
            name = _name_of(distribution)
            # The first on sys.path is the one that is imported; a second copy is no other claim.
            if name not in seen:
                seen.add(name)
                yield from list(_plugins_of(distribution, name))
        # Metadata of strangers, which may have any kind of damage.
        except Exception as damage:
            yield _damaged(distribution, damage)


def is_distribution_name(name: str) -> bool:
    """Whether a distribution can have this name, which a row may have from anybody."""
    return bool(_DISTRIBUTION.fullmatch(name)) and len(name) <= 100


_DISTRIBUTION = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)


def normalized(name: str) -> str:
    """As the packaging standards compare the names of distributions."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _has_plugins(distribution: Distribution) -> bool:
    try:
        text = distribution.read_text("entry_points.txt")
    except (OSError, ValueError):
        return False  # what can't be read at all is not known to be ours
    return bool(_OUR_SECTION.search(text or ""))


def _name_of(distribution: Distribution) -> str:
    metadata = distribution.metadata
    if "Name" not in metadata or "Version" not in metadata:
        raise ValueError("METADATA is missing, or has no Name and Version")
    return normalized(metadata["Name"])


def _plugins_of(distribution: Distribution, name: str) -> Iterator[Plugin]:
    keys_by_module: dict[str, set[str]] = {}
    for entry_point in _entry_points_of(distribution):
        module = entry_point.value.partition("[")[0].strip()  # without the extras
        keys_by_module.setdefault(module, set()).add(entry_point.name)
    requirements = distribution.requires or []
    of_core = [each for each in requirements if normalized(each).startswith(CORE)]
    for module, keys in keys_by_module.items():
        disabled = {key for key in keys if not _is_enabled(name, key)}
        yield Plugin(
            name,
            distribution.version,
            module,
            frozenset(keys),
            frozenset(disabled),
            is_disabled=disabled == keys,
            damage=_damage_of(module),
            core_requirement=next(iter(of_core), ""),
        )


def _damage_of(module: str) -> str:
    return "" if _MODULE.fullmatch(module) else f"its entry point names no module: {shown(module)}"


def _entry_points_of(distribution: Distribution) -> EntryPoints:
    try:
        return distribution.entry_points.select(group=GROUP)
    except (TypeError, ValueError) as error:
        raise ValueError("entry_points.txt has a line that is not 'key = module'") from error


def _damaged(distribution: Distribution, damage: Exception) -> Plugin:
    # Its name may be what is missing: the folder of the metadata has it, too.
    folder = str(getattr(distribution, "_path", distribution.locate_file("")))
    name, _, rest = Path(folder).name.partition("-")
    version = rest.removesuffix(".dist-info").removesuffix(".egg-info")
    name = normalized(name)
    # Of ours the keys are known all the same, so that who needs one is told of the damage.
    keys = frozenset(key for key, (official, _) in KNOWN.items() if official == name)
    is_disabled = not _is_enabled(name, *keys)
    return Plugin(
        name,
        version,
        "",
        keys,
        keys if is_disabled else frozenset(),
        is_disabled,
        damage=f"its metadata can't be read ({type(damage).__name__}: {shown(str(damage))})",
    )


def _is_enabled(distribution: str, *keys: str) -> bool:
    names = {distribution, *map(normalized, keys)}
    disabled = _names_in("ARTIGRAPH_DISABLE_PLUGINS") or frozenset()
    allowed = _names_in("ARTIGRAPH_PLUGINS")
    return not names & disabled and (allowed is None or bool(names & allowed))


def _names_in(variable: str) -> frozenset[str] | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    return frozenset(normalized(name) for name in text.split(",") if name.strip())
