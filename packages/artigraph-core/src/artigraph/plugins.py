"""Which plugins are installed, and the one that a value or a row needs.

The index comes from the metadata of the installed distributions and imports none of them. A plugin
is imported when one of its keys is asked for, without holding a lock: a plugin whose module body
registers something would otherwise wait for itself. What it then provides is committed at once, or,
if it is broken, kept as the error that names it.
"""

import os
import re
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distributions
from inspect import isroutine
from typing import Any

import pluggy

from artigraph.errors import (
    AmbiguousSerializerError,
    MissingExtraError,
    PluginLoadError,
    RegistrationError,
    SerializerNotFoundError,
    UnknownStorageError,
)
from artigraph.spec import (
    Serializer,
    SerializerPlugin,
    Storage,
    StoragePlugin,
    check_serializer_name,
    registered_serializers,
    registered_storages,
)

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

OFFICIAL = frozenset({CORE, *(distribution for distribution, _ in KNOWN.values())})


@dataclass(frozen=True)
class Plugin:
    """A module of a distribution, and the keys that it claims."""

    distribution: str
    version: str
    module: str
    keys: frozenset[str]

    @property
    def is_official(self) -> bool:
        return self.distribution in OFFICIAL


@dataclass(frozen=True)
class Loaded:
    """What a plugin provides, or why it provides nothing."""

    plugin: Plugin
    serializers: tuple[Serializer[Any], ...] = ()
    hooks: "_HookManager | None" = None
    error: PluginLoadError | MissingExtraError | None = None


class Registry:
    """Finds serializers and storages: registered explicitly, built in, or provided by plugins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installed: dict[str, list[Plugin]] | None = None
        self._loaded: dict[Plugin, Loaded] = {}
        self._preferred: tuple[str, ...] = ()
        self._allowed: set[str] = set()
        self._by_type: weakref.WeakKeyDictionary[type[Any], Serializer[Any] | None] = (
            weakref.WeakKeyDictionary()
        )

    def get_serializer(self, name: str, distribution: str | None = None) -> Serializer[Any]:
        """The serializer of this name.

        Args:
            name: As stored in a row.
            distribution: The one that provided it when the row was written; it is asked first.

        Raises:
            SerializerNotFoundError: None has the name; the error says what to install.
            PluginLoadError: It may be in a plugin that is installed and broken.
            MissingExtraError: Its plugin is here, the library that it serves is not.
        """
        registered = registered_serializers.get(name)
        if registered is not None:
            return registered
        key = name.partition(".")[0]
        failures: list[PluginLoadError | MissingExtraError] = []
        plugins = self._claimants(key)
        for plugin in sorted(plugins, key=lambda plugin: plugin.distribution != distribution):
            loaded = self._load(plugin)
            for serializer in loaded.serializers:
                if serializer.name == name:
                    return serializer
            if loaded.error is not None:
                failures.append(loaded.error)
        if failures:
            raise failures[0]
        remedy = _what_to_install(key, distribution)
        raise SerializerNotFoundError(f"as {name!r}", self._names(), remedy)

    def find_serializer_for(self, kind: type[Any]) -> Serializer[Any] | None:
        """The serializer that a value of exactly this type gets by itself, or None.

        What was registered explicitly comes first, then what is preferred, then the official
        plugins, then all others.

        Raises:
            AmbiguousSerializerError: Several of the last two have an equal claim.
            PluginLoadError: No working plugin has one, and a broken one may.
            MissingExtraError: The same for a plugin whose library is not there.
        """
        registered = self.find_registered_for(kind)
        if registered is not None:
            return registered
        if kind not in self._by_type:
            self._by_type[kind] = self._choose(kind)
        return self._by_type[kind]

    def find_registered_for(self, kind: type[Any]) -> Serializer[Any] | None:
        """The explicitly registered serializer for this type, the latest first, or None."""
        for serializer in reversed(registered_serializers.values()):
            if takes(serializer, kind):
                return serializer
        return None

    def get_storage(self, name: str) -> Storage:
        """The registered storage of this name; a row never makes one.

        Raises:
            UnknownStorageError: None is registered under it.
        """
        storage = registered_storages.get(name)
        if storage is None:
            raise UnknownStorageError(name, tuple(sorted(registered_storages)))
        return storage

    def open_storage(self, uri: str) -> Storage:
        """The storage that a URI of the application's names.

        Raises:
            UnknownStorageError: No plugin knows its scheme.
            PluginLoadError: The plugin that does is broken.
            MissingExtraError: The plugin that does is not installed.
        """
        scheme = uri.partition(":")[0]
        failures: list[PluginLoadError | MissingExtraError] = []
        for plugin in self._claimants(scheme):
            loaded = self._load(plugin)
            if loaded.error is not None:
                failures.append(loaded.error)
            elif loaded.hooks is not None:
                for storage in loaded.hooks.hook.artigraph_open_storage(uri=uri):
                    return storage
        if failures:
            raise failures[0]
        if scheme in KNOWN:
            raise MissingExtraError(f"a storage with the scheme {scheme!r}", *KNOWN[scheme])
        raise UnknownStorageError(uri, tuple(sorted(registered_storages)))

    def distribution_of(self, serializer: Serializer[Any]) -> str | None:
        """The distribution whose plugin has the class of this serializer, if one does."""
        package = _top_level_module(type(serializer))
        if package == GROUP:
            return CORE
        for plugins in self._index().values():
            for plugin in plugins:
                if plugin.module.partition(".")[0] == package:
                    return plugin.distribution
        return None

    def is_served(self, key: str) -> bool:
        """Whether an installed plugin claims this key."""
        return bool(self._claimants(key))

    def prefer(self, name: str) -> None:
        """Choose the serializer of this name for its types, before all other plugins'.

        Raises:
            SerializerNotFoundError: None has the name.
        """
        self.get_serializer(name)
        with self._lock:
            self._preferred = (name, *(other for other in self._preferred if other != name))
            self._by_type.clear()

    def allow(self, name: str) -> None:
        """Let the serializer of this name execute code in this process, if it is one that does."""
        self._allowed.add(name)

    def is_allowed(self, name: str) -> bool:
        return name in self._allowed

    def _choose(self, kind: type[Any]) -> Serializer[Any] | None:
        failures: list[PluginLoadError | MissingExtraError] = []
        for base in kind.__mro__:
            candidates: list[tuple[Plugin, Serializer[Any]]] = []
            for plugin in self._claimants(_top_level_module(base)):
                loaded = self._load(plugin)
                candidates += ((plugin, one) for one in loaded.serializers if takes(one, kind))
                if loaded.error is not None:
                    failures.append(loaded.error)
            if candidates:
                return self._best(kind, candidates)
        if failures:
            raise failures[0]
        return None

    def _best(
        self, kind: type[Any], candidates: list[tuple[Plugin, Serializer[Any]]]
    ) -> Serializer[Any]:
        for name in self._preferred:
            for _, serializer in candidates:
                if serializer.name == name:
                    return serializer
        level = [pair for pair in candidates if pair[0].is_official] or candidates
        first, chosen = level[0]
        if all(plugin == first for plugin, _ in level):
            return chosen
        claims = tuple(f"{one.name!r} of {plugin.distribution}" for plugin, one in level)
        raise AmbiguousSerializerError(f"{kind.__module__}.{kind.__qualname__}", claims)

    def _claimants(self, key: str) -> list[Plugin]:
        return _BUILT_IN.get(key) or self._index().get(key, [])

    def _index(self) -> dict[str, list[Plugin]]:
        if self._installed is None:
            index: dict[str, list[Plugin]] = {}
            for plugin in _installed_plugins():
                for key in plugin.keys:
                    index.setdefault(key, []).append(plugin)
            self._installed = index
        return self._installed

    def _load(self, plugin: Plugin) -> Loaded:
        loaded = self._loaded.get(plugin)
        if loaded is not None:
            return loaded
        loaded = _load(plugin)
        with self._lock:
            return self._loaded.setdefault(plugin, loaded)

    def _names(self) -> tuple[str, ...]:
        loaded = [one.name for each in list(self._loaded.values()) for one in each.serializers]
        return tuple(sorted({*registered_serializers, *loaded}))


class _HookManager(pluggy.PluginManager):
    """One plugin's hooks. A function is one if its name begins with `artigraph_`."""

    def __init__(self) -> None:
        super().__init__(GROUP)
        self.add_hookspecs(SerializerPlugin)
        self.add_hookspecs(StoragePlugin)

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        return {"firstresult": False} if name.startswith(f"{GROUP}_") else None

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        marked = super().parse_hookimpl_opts(plugin, name)
        is_hook = name.startswith(f"{GROUP}_") and isroutine(getattr(plugin, name, None))
        return marked if marked is not None or not is_hook else {}


def takes(serializer: Serializer[Any], kind: type[Any]) -> bool:
    """Whether a serializer is chosen by itself for values of this type."""
    if kind in serializer.types:
        return True
    return serializer.subclasses and issubclass(kind, serializer.types)


def _load(plugin: Plugin) -> Loaded:
    try:
        hooks = _HookManager()
        hooks.register(import_module(plugin.module))
        hooks.check_pending()
        provided = [one for some in hooks.hook.artigraph_serializers() for one in some]
        for serializer in provided:
            _check(plugin, serializer)
        return Loaded(plugin, tuple(provided), hooks)
    except MissingExtraError as error:
        return Loaded(plugin, error=error)
    # A stranger's module may do anything, sys.exit() included, and must harm nothing else.
    except (Exception, SystemExit) as cause:
        key = min(plugin.keys)
        error = PluginLoadError(
            key, plugin.distribution, plugin.version, plugin.module, _in_words(cause)
        )
        error.__cause__ = cause
        return Loaded(plugin, error=error)


def _check(plugin: Plugin, serializer: object) -> None:
    if not isinstance(serializer, Serializer):
        raise TypeError(f"artigraph_serializers() gave a {type(serializer).__name__}")
    check_serializer_name(serializer.name)
    if serializer.name.partition(".")[0] not in plugin.keys:
        keys = ", ".join(sorted(plugin.keys))
        raise RegistrationError(serializer.name, f"the keys of its plugin are {keys}")


def _in_words(cause: BaseException) -> str:
    return f"{type(cause).__name__}: {cause}"


def _top_level_module(kind: type[Any]) -> str:
    return str(kind.__module__).partition(".")[0]


def _what_to_install(key: str, distribution: str | None) -> str:
    if key in KNOWN:
        return f'Install what provides it: pip install "artigraph[{KNOWN[key][1]}]"'
    if distribution is not None:
        return f"It was provided by {distribution}: pip install {distribution}"
    return "Install the plugin that provides it, or register the serializer before loading."


def _built_in(key: str) -> Plugin:
    return Plugin(CORE, "", f"artigraph.serializer.{key}", frozenset({key}))


_BUILT_IN: dict[str, list[Plugin]] = {
    "json": [_built_in("json")],
    "text": [_built_in("text")],
    "bytes": [_built_in("bytes")],
    "builtins": [_built_in("text"), _built_in("bytes")],
}
"""Plugins that need no metadata to be found, so that saving a number scans nothing."""


def _installed_plugins() -> Iterator[Plugin]:
    seen: set[str] = set()
    for distribution in distributions():
        claims: dict[str, set[str]] = {}
        for entry_point in distribution.entry_points:
            if entry_point.group == GROUP:
                claims.setdefault(entry_point.module, set()).add(entry_point.name)
        if not claims:
            continue
        # The first on sys.path is the one that is imported; a second copy is not another claim.
        name = _normalized(distribution.metadata["Name"])
        if name in seen:
            continue
        seen.add(name)
        for module, keys in claims.items():
            enabled = frozenset(_enabled(name, keys))
            if enabled:
                yield Plugin(name, distribution.version, module, enabled)


def _enabled(distribution: str, keys: Iterable[str]) -> Iterator[str]:
    """Those of a plugin's keys that the two environment variables leave."""
    disabled = _names_in("ARTIGRAPH_DISABLE_PLUGINS") or frozenset()
    allowed = _names_in("ARTIGRAPH_PLUGINS")
    for key in keys:
        names = {_normalized(key), distribution}
        if not names & disabled and (allowed is None or names & allowed):
            yield key


def _names_in(variable: str) -> frozenset[str] | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    return frozenset(_normalized(name) for name in text.split(",") if name.strip())


def _normalized(name: str) -> str:
    """As the packaging standards compare the names of distributions."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


registry = Registry()
