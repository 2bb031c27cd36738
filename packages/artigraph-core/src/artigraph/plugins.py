"""The serializer or storage that a value or a row needs, out of the plugins that are there.

A plugin is imported when one of its keys is asked for, without holding a lock: a plugin whose
module body registers something would otherwise wait for itself. What it then provides is committed
at once, or, if it is broken, kept as the error that names it.
"""

import threading
import weakref
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from inspect import isroutine
from typing import Any, Literal, TypeAlias

import pluggy

from artigraph.errors import (
    AmbiguousSerializerError,
    ArtigraphError,
    MissingExtraError,
    PluginLoadError,
    RegistrationError,
    SerializerNotFoundError,
    StorageError,
    UnknownStorageError,
    shown,
)
from artigraph.index import (
    BUILT_IN,
    CORE,
    GROUP,
    KNOWN,
    Plugin,
    installed_plugins,
    is_distribution_name,
    normalized,
)
from artigraph.spec import (
    Serializer,
    SerializerPlugin,
    Storage,
    StoragePlugin,
    StreamingSerializer,
    check_serializer,
    registered_serializers,
    registered_storages,
)

State: TypeAlias = Literal["not loaded", "loaded", "failed", "unavailable", "disabled"]

LoadError: TypeAlias = PluginLoadError | MissingExtraError


@dataclass(frozen=True)
class Loaded:
    """What a plugin provides, or why it provides nothing."""

    plugin: Plugin
    serializers: tuple[Serializer[Any], ...] = ()
    hooks: "_HookManager | None" = None
    error: LoadError | None = None

    @property
    def state(self) -> State:
        if self.error is None:
            return "loaded"
        return "unavailable" if isinstance(self.error, MissingExtraError) else "failed"

    @property
    def schemes(self) -> frozenset[str]:
        """What the URIs of its storages begin with: the keys that are no serializer's."""
        if self.hooks is None or not self.hooks.hook.artigraph_open_storage.get_hookimpls():
            return frozenset()
        return self.plugin.enabled_keys - {_key_of(one.name) for one in self.serializers}


class Registry:
    """Finds serializers and storages: registered explicitly, built in, or provided by plugins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installed: tuple[Plugin, ...] | None = None
        self._loaded: dict[Plugin, Loaded] = {}
        self._preferred: tuple[tuple[str, str | None], ...] = ()
        self._allowed: frozenset[str] = frozenset()
        self._by_type: weakref.WeakKeyDictionary[type[Any], Serializer[Any] | None] = (
            weakref.WeakKeyDictionary()
        )

    def get_serializer(self, name: str, distribution: str | None = None) -> Serializer[Any]:
        """The serializer of this name.

        Args:
            name: As stored in a row.
            distribution: The one that provided it when the row was written; it is asked first,
                then ours, then all others.

        Raises:
            SerializerNotFoundError: None has the name; the error says what to install.
            AmbiguousSerializerError: Several of the others have it.
            PluginLoadError: It may be in a plugin that is installed and broken.
            MissingExtraError: Its plugin is here, the library that it serves is not.
        """
        registered = registered_serializers.get(name)
        if registered is not None:
            return registered
        key = _key_of(name)
        offers, failures = self._offers(key)
        if name in registered_serializers:  # by the module of a plugin, imported just now
            return registered_serializers[name]
        offers = [(plugin, one) for plugin, one in offers if one.name == name]
        if offers:
            return self._best(repr(name), offers, distribution)
        if failures:
            raise _fresh(failures[0])
        remedy = self._what_to_install(key, distribution)
        raise SerializerNotFoundError(f"as {shown(name)}", self._names(), remedy)

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
        by_type = self._by_type  # prefer() puts another in its place
        if kind not in by_type:
            by_type[kind] = self._choose(kind)
        return by_type[kind]

    def find_registered_for(self, kind: type[Any]) -> Serializer[Any] | None:
        """The explicitly registered serializer for this type, the latest first, or None."""
        for serializer in registered_serializers.latest_first():
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
            remedy = "Make it as it was made for saving, and call its .register()."
            raise UnknownStorageError(
                f"as {shown(name)}", tuple(sorted(registered_storages)), remedy
            )
        return storage

    def open_storage(self, uri: str) -> Storage:
        """The storage that a URI of the application's names.

        Raises:
            UnknownStorageError: No plugin knows its scheme.
            StorageError: The plugin that does refuses the URI, or fails on it.
            PluginLoadError: The plugin that does is broken.
            MissingExtraError: The plugin that does is not installed.
        """
        scheme = uri.partition(":")[0]
        failures: list[LoadError] = []
        for plugin in self._claimants(scheme):
            loaded = self.load(plugin)
            if loaded.error is not None:
                failures.append(loaded.error)
            elif (storage := _opened(loaded, scheme, uri)) is not None:
                return storage
        if failures:
            raise _fresh(failures[0])
        if scheme in KNOWN and not self.explain_disabled(scheme):
            raise MissingExtraError(f"a storage with the scheme {scheme!r}", *KNOWN[scheme])
        # Without the rest of the URI, which may hold a password.
        raise UnknownStorageError(
            f"for URIs that begin with '{scheme}:'",
            tuple(sorted(registered_storages)),
            self.explain_disabled(scheme)
            or "Install the plugin that opens them, or check the URI.",
        )

    def distribution_of(self, serializer: Serializer[Any]) -> str | None:
        """The distribution whose plugin has the class of this serializer, if one does."""
        package = _top_level_module(type(serializer))
        if package == GROUP:
            return CORE
        for plugin in self.installed():
            if plugin.module.partition(".")[0] == package:
                return plugin.distribution
        return None

    def is_served(self, key: str) -> bool:
        """Whether an installed plugin claims this key."""
        return bool(self._claimants(key))

    def explain_disabled(self, key: str) -> str:
        """What to do where a plugin for the key is there, and switched off; else nothing."""
        for plugin in self.installed():
            if key in plugin.disabled_keys:
                return (
                    f"{plugin.distribution} has it, and is switched off: see the environment"
                    " variables ARTIGRAPH_DISABLE_PLUGINS and ARTIGRAPH_PLUGINS."
                )
        return ""

    def prefer(self, name: str, *, distribution: str | None = None) -> None:
        """Choose the serializer of this name for its types, before all other plugins'.

        Args:
            name: Of the serializer.
            distribution: The one that is meant, where several have the name.

        Raises:
            SerializerNotFoundError: None has the name, or the distribution has none of it.
            AmbiguousSerializerError: Several have it.
            PluginLoadError: It may be in a plugin that is installed and broken.
        """
        if distribution is None:
            self.get_serializer(name)
        else:
            distribution = normalized(distribution)
            self._check_provides(distribution, name)
        with self._lock:
            others = (each for each in self._preferred if each[0] != name)
            self._preferred = ((name, distribution), *others)
            self._by_type = weakref.WeakKeyDictionary()

    def allow(self, name: str) -> None:
        """Let the serializer of this name execute code in this process, if it is one that does."""
        self._allowed |= {name}

    def is_allowed(self, name: str) -> bool:
        return name in self._allowed

    def installed(self) -> tuple[Plugin, ...]:
        """All plugins, the built-in ones first; those that are switched off or damaged too."""
        if self._installed is None:
            self._installed = (*BUILT_IN, *installed_plugins())
        return self._installed

    def find_loaded(self, plugin: Plugin) -> Loaded | None:
        """What a plugin provides, or None if nobody has needed it yet."""
        return self._loaded.get(plugin)

    def load(self, plugin: Plugin) -> Loaded:
        """What a plugin provides, or why it provides nothing; it is imported if it was not."""
        loaded = self._loaded.get(plugin)
        if loaded is not None:
            return loaded
        loaded = _load(plugin)
        with self._lock:
            return self._loaded.setdefault(plugin, loaded)

    @contextmanager
    def isolated(self) -> Generator[None]:
        """For tests: undo at the end of the block what is registered, preferred and allowed in it.

        In the block, and again after it, installed plugins are looked for anew, so that changes of
        `sys.path` and of the environment are seen.
        """
        before = dict(vars(self))
        with ExitStack() as stack:
            stack.enter_context(registered_serializers.isolated())
            stack.enter_context(registered_storages.isolated())
            self._installed, self._loaded = None, {}
            self._by_type = weakref.WeakKeyDictionary()
            try:
                yield
            finally:
                vars(self).update(before)
                self._installed = None

    def _choose(self, kind: type[Any]) -> Serializer[Any] | None:
        failures: list[LoadError] = []
        for base in kind.__mro__:
            offers, failed = self._offers(_top_level_module(base))
            registered = self.find_registered_for(kind)
            if registered is not None:  # by the module of a plugin, imported just now
                return registered
            offers = [(plugin, one) for plugin, one in offers if takes(one, kind)]
            if offers:
                return self._best(f"{kind.__module__}.{kind.__qualname__}", offers)
            failures += failed
        if failures:
            raise _fresh(failures[0])
        return None

    def _check_provides(self, distribution: str, name: str) -> None:
        """Refuse a distribution whose plugins have no serializer of this name."""
        key = _key_of(name)
        plugins = [each for each in self._claimants(key) if each.distribution == distribution]
        loaded = [self.load(plugin) for plugin in plugins]
        if any(one.name == name for each in loaded for one in each.serializers):
            return
        for each in loaded:
            if each.error is not None:
                raise _fresh(each.error)
        remedy = self._what_to_install(key, distribution)
        raise SerializerNotFoundError(f"as {name!r} by {distribution}", self._names(), remedy)

    def _offers(self, key: str) -> "tuple[list[_Offer], list[LoadError]]":
        """All serializers of those who claim a key, and what is in the way of more."""
        loaded = [self.load(plugin) for plugin in self._claimants(key)]
        offers = [(each.plugin, one) for each in loaded for one in each.serializers]
        return offers, [each.error for each in loaded if each.error is not None]

    def _best(
        self, wanted: str, offers: "Sequence[_Offer]", distribution: str | None = None
    ) -> Serializer[Any]:
        """The first of the offers of the one plugin that comes before all others."""
        of_wanted = [offer for offer in offers if offer[0].distribution == distribution]
        preferred = [offer for each in self._preferred for offer in offers if _is(offer, each)]
        official = [offer for offer in offers if offer[0].is_official]
        level = of_wanted or _of_first_name(preferred) or official or offers
        first, chosen = level[0]
        if all(plugin == first for plugin, _ in level):
            return chosen
        claims = tuple(f"{one.name!r} of {plugin.distribution}" for plugin, one in level)
        remedy = (
            "Choose with artifact_field(serializer=...), or once for the process:"
            f" artigraph.serializer.prefer({chosen.name!r}, distribution={first.distribution!r})."
        )
        raise AmbiguousSerializerError(wanted, claims, remedy)

    def _claimants(self, key: str) -> list[Plugin]:
        built_in = [plugin for plugin in BUILT_IN if key in plugin.keys]
        return built_in or [each for each in self.installed() if key in each.enabled_keys]

    def _names(self) -> tuple[str, ...]:
        loaded = [one.name for each in list(self._loaded.values()) for one in each.serializers]
        return tuple(sorted({*registered_serializers, *loaded}))

    def _what_to_install(self, key: str, distribution: str | None) -> str:
        if disabled := self.explain_disabled(key):
            return disabled
        for plugin in self.installed():
            if plugin.distribution == distribution and plugin.damage:
                return f"{distribution} is damaged, reinstall it: {plugin.damage}"
        if key in KNOWN:
            return f'Install what provides it: pip install "artigraph[{KNOWN[key][1]}]"'
        if distribution is not None and is_distribution_name(distribution):
            return f"It was provided by {distribution}: pip install {distribution}"
        return "Install the plugin that provides it, or register the serializer before loading."


_Offer: TypeAlias = tuple[Plugin, Serializer[Any]]


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
    if isinstance(serializer, StreamingSerializer) and issubclass(kind, serializer.sources):
        return True
    return serializer.subclasses and issubclass(kind, serializer.types)


def _load(plugin: Plugin) -> Loaded:
    if plugin.damage:
        return Loaded(plugin, error=_load_error(plugin, plugin.damage))
    try:
        hooks = _HookManager()
        hooks.register(import_module(plugin.module))
        hooks.check_pending()
        provided = tuple(one for some in hooks.hook.artigraph_serializers() for one in some)
        _check(plugin, provided)
        return Loaded(plugin, provided, hooks)
    except MissingExtraError as error:
        return Loaded(plugin, error=error)
    except KeyboardInterrupt:
        raise
    # A stranger's module may do anything, sys.exit() included, and must harm nothing else.
    except BaseException as cause:
        error = _load_error(plugin, f"{_in_words(cause)}{_hint(plugin, cause)}")
        error.__cause__ = cause
        return Loaded(plugin, error=error)


def _load_error(plugin: Plugin, cause: str) -> PluginLoadError:
    key = min(plugin.keys, default="nothing")
    module = plugin.module or "?"
    return PluginLoadError(key, plugin.distribution, plugin.version, module, cause)


def _fresh(error: LoadError) -> LoadError:
    """A copy to raise, since what is raised collects notes and a traceback."""
    fresh = copy(error)
    fresh.__cause__ = error.__cause__
    return fresh


def _in_words(cause: BaseException) -> str:
    """A stranger's error on one line that can be printed."""
    try:
        text = " ".join(str(cause).split())
    except Exception as error:
        text = f"its text can't be had ({type(error).__name__})"
    text = text.encode(errors="backslashreplace").decode()
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _hint(plugin: Plugin, cause: BaseException) -> str:
    """What may explain a hook or a name that is not here: the plugin is made for another core."""
    is_hook = isinstance(cause, pluggy.PluginValidationError)
    if not (is_hook or _lacks_ours(cause)):
        return ""
    told = ["the hooks are artigraph_serializers and artigraph_open_storage"] if is_hook else []
    if plugin.core_requirement:
        told.append(f"{plugin.distribution} requires {plugin.core_requirement}")
        told.append(f"here is {version(CORE)}")
    return f" ({'; '.join(told)})" if told else ""


def _lacks_ours(cause: BaseException) -> bool:
    """Whether what is missing is a module of Artigraph, or a name in one."""
    module = cause.name if isinstance(cause, ImportError) else None
    if isinstance(cause, AttributeError):
        module = getattr(cause.obj, "__name__", None)
    return _key_of(str(module)) == GROUP


def _check(plugin: Plugin, provided: Iterable[Serializer[Any]]) -> None:
    names: set[str] = set()
    for serializer in provided:
        if isinstance(serializer, type):
            raise TypeError(f"artigraph_serializers() gave the class {serializer.__name__} itself")
        if not isinstance(serializer, Serializer):  # pyright: ignore[reportUnnecessaryIsInstance]  # a stranger's word
            raise TypeError(f"artigraph_serializers() gave a {type(serializer).__name__}")
        check_serializer(serializer)
        if _key_of(serializer.name) not in plugin.keys:
            keys = ", ".join(sorted(plugin.keys))
            raise RegistrationError(serializer.name, f"the keys of its plugin are {keys}")
        if serializer.name in names:
            raise RegistrationError(serializer.name, "its plugin has two of this name")
        names.add(serializer.name)


def _opened(loaded: Loaded, scheme: str, uri: str) -> Storage | None:
    """What a plugin makes of a URI; the text of what it raises may hold a password."""
    assert loaded.hooks is not None
    plugin = loaded.plugin
    try:
        opened: list[object] = loaded.hooks.hook.artigraph_open_storage(uri=uri)
    except ArtigraphError:
        raise
    except Exception as error:
        reason = f"{plugin.module} of {plugin.distribution} raised {type(error).__name__}"
        raise StorageError(f"{scheme}:", "be opened", reason) from error
    for storage in opened:
        if not isinstance(storage, Storage):
            reason = f"{plugin.module} of {plugin.distribution} gave a {type(storage).__name__}"
            raise StorageError(f"{scheme}:", "be opened", reason)
        return storage
    return None


def _is(offer: _Offer, preference: tuple[str, str | None]) -> bool:
    plugin, serializer = offer
    name, distribution = preference
    return serializer.name == name and distribution in (None, plugin.distribution)


def _of_first_name(offers: Sequence[_Offer]) -> list[_Offer]:
    return [offer for offer in offers if offer[1].name == offers[0][1].name]


def _key_of(name: str) -> str:
    return name.partition(".")[0]


def _top_level_module(kind: type[Any]) -> str:
    return _key_of(str(kind.__module__))


registry = Registry()
