"""What `python -m artigraph plugins` shows: every plugin, its state, and what it provides."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from artigraph.index import BUILT_IN, CORE, Plugin
from artigraph.plugins import Loaded, Registry, State
from artigraph.spec import Serializer


@dataclass(frozen=True)
class ListedPlugin:
    """A plugin, and what is known of it."""

    plugin: Plugin
    state: State
    reason: str = ""
    """Why it provides nothing, unless it was only not loaded yet."""
    serializers: tuple[Serializer[Any], ...] = ()
    schemes: tuple[str, ...] = ()
    """What the URIs of its storages begin with."""


def list_plugins(registry: Registry, *, load: bool = False) -> list[ListedPlugin]:
    """All plugins by their distributions, the built-in ones first.

    Args:
        registry: That finds them.
        load: Import each; otherwise only what was imported already tells what it provides.
    """
    listed = [_listed(registry, plugin, load) for plugin in registry.installed()]
    return sorted(listed, key=_rank)


def as_text(listed: Sequence[ListedPlugin]) -> str:
    """A few lines a distribution, for people."""
    names = Counter(one.name for each in listed for one in each.serializers)
    lines: list[str] = []
    for distribution, plugins in groupby(listed, key=lambda each: each.plugin.distribution):
        group = list(plugins)
        version = next((each.plugin.version for each in group if each.plugin.version), "")
        lines.append(f"{distribution} {version}".rstrip())
        lines += (f"  {line}" for each in group for line in _lines(each, names))
    return "\n".join(lines)


def as_json(listed: Sequence[ListedPlugin]) -> list[dict[str, Any]]:
    """The same as plain values, for programs."""
    return [
        {
            "distribution": each.plugin.distribution,
            "version": each.plugin.version,
            "module": each.plugin.module,
            "keys": sorted(each.plugin.keys),
            "disabled_keys": sorted(each.plugin.disabled_keys),
            "state": each.state,
            "reason": each.reason,
            "serializers": [
                {
                    "name": serializer.name,
                    "types": [_type_name(kind) for kind in serializer.types],
                    "executes_code": serializer.executes_code,
                }
                for serializer in each.serializers
            ],
            "storages": list(each.schemes),
        }
        for each in listed
    ]


def _rank(listed: ListedPlugin) -> tuple[bool, bool, str]:
    plugin = listed.plugin
    return plugin.distribution != CORE, not plugin.is_official, plugin.distribution


def _listed(registry: Registry, plugin: Plugin, load: bool) -> ListedPlugin:
    if plugin.is_disabled:
        reason = "switched off by ARTIGRAPH_DISABLE_PLUGINS or ARTIGRAPH_PLUGINS"
        return ListedPlugin(plugin, "disabled", reason)
    # What is built in or damaged is known without importing anything of anybody's.
    is_known = plugin in BUILT_IN or bool(plugin.damage)
    loaded = registry.load(plugin) if load or is_known else registry.find_loaded(plugin)
    if loaded is None:
        return ListedPlugin(plugin, "not loaded")
    schemes = tuple(sorted(loaded.schemes))
    return ListedPlugin(plugin, loaded.state, _reason(loaded), loaded.serializers, schemes)


def _reason(loaded: Loaded) -> str:
    error = loaded.error
    return "" if error is None else getattr(error, "cause", str(error))


def _lines(listed: ListedPlugin, names: Counter[str]) -> Iterator[str]:
    plugin = listed.plugin
    off = frozenset[str]() if plugin.is_disabled else plugin.disabled_keys
    keys = [f"{key} (switched off)" if key in off else key for key in sorted(plugin.keys)]
    yield f"{', '.join(keys) or 'no keys'}: {listed.state}"
    if listed.reason:
        yield f"  {listed.reason}"
    for serializer in listed.serializers:
        types = ", ".join(map(_type_name, serializer.types)) or "what is given to it"
        notes = ["it can execute code"] if serializer.executes_code else []
        if names[serializer.name] > 1:
            notes.append("another distribution has a serializer of this name")
        yield "; ".join([f"  serializer {serializer.name} for {types}", *notes])
    for scheme in listed.schemes:
        yield f"  storage {scheme}:..."


def _type_name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
