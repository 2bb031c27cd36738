"""Discovery: which plugin is imported, when, and what a broken one does to the others."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from artigraph import (
    AmbiguousSerializerError,
    ArtigraphError,
    PluginLoadError,
    RegistrationError,
    Serializer,
    SerializerNotFoundError,
    StorageError,
    UnknownStorageError,
)
from artigraph.plugins import Registry
from artigraph.spec import Storage
from artigraph.storage.file import FileSystem

Install = Callable[..., Path]
"""The fixture `install`: a name, its entry points, and the source of each module."""


def plugin(
    name: str, types: str, *, library: str = "library", extra: str = "", given: str = "Own()"
) -> str:
    """The source of a plugin with one serializer."""
    return f"""
        import {library}
        from artigraph.spec import Serializer

        class Own(Serializer):
            name = {name!r}
            types = ({types}{"," * bool(types)})
            {extra}
            def serialize(self, value): return value.text.encode()
            def deserialize(self, data): return {library}.Thing(bytes(data).decode())

        def artigraph_serializers():
            return [{given}]
    """


UNPRINTABLE = """
    class Unprintable(Exception):
        def __str__(self): return str(1 / 0)
    raise Unprintable
"""

LIBRARY = """
    class Thing:
        def __init__(self, text): self.text = text
    class Special(Thing): pass
    class Other: pass
"""


def origin(serializer: Serializer[Any] | None) -> str:
    """What a serializer of these tests says of itself."""
    return serializer.origin  # type: ignore[union-attr]


def thing(name: str = "Thing", module: str = "library") -> type[Any]:
    return getattr(__import__(module), name)


def test_a_plugin_is_found_by_the_type_and_by_the_name(install: Install) -> None:
    """And is imported only then."""
    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))
    registry = Registry()

    assert registry.find_serializer_for(int) is None
    assert "acme" not in sys.modules
    by_type = registry.find_serializer_for(thing())
    assert by_type is not None
    assert by_type.name == "library.thing"
    assert registry.get_serializer("library.thing") is by_type
    assert registry.distribution_of(by_type) == "acme"


def test_looking_for_one_key_imports_no_other_plugin(install: Install) -> None:
    """A broken neighbour is not even looked at."""
    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))
    install("broken", {"elsewhere": "broken"}, broken="raise RuntimeError('never')")

    assert Registry().get_serializer("library.thing").name == "library.thing"
    assert "broken" not in sys.modules


def test_only_exact_types_are_chosen(install: Install) -> None:
    """A serializer of a base class would lose what the subclass adds."""
    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))

    assert Registry().find_serializer_for(thing("Special")) is None


def test_a_serializer_may_take_subclasses(install: Install) -> None:
    """Where it says that they come back as such."""
    install("library", {}, library=LIBRARY)
    source = plugin("library.thing", "library.Thing", extra="subclasses = True")
    install("acme", {"library": "acme"}, acme=source)

    assert Registry().find_serializer_for(thing("Special")) is not None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('on import')", "RuntimeError: on import"),
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def artigraph_serialisers(): return []", "unknown hook 'artigraph_serialisers'"),
        ("def artigraph_serializers(): return [1]", r"artigraph_serializers\(\) gave a int"),
        ("def artigraph_serializers(): return 5", "TypeError: 'int' object is not iterable"),
        ("def artigraph_serializers(): 1 / 0", "ZeroDivisionError"),
        ("raise RuntimeError", "RuntimeError. Everything"),
        ("raise RuntimeError('on\\n  two lines')", "RuntimeError: on two lines"),
        ("raise RuntimeError('\\ud800')", r"RuntimeError: \\ud800"),
        (UNPRINTABLE, r"Unprintable: its text can't be had \(ZeroDivisionError\)"),
        (plugin("stolen.thing", "library.Thing"), "the keys of its plugin are library"),
        (plugin("library thing", "library.Thing"), "a serializer's name is <key>"),
        (plugin("library.thing", "library.Thing", given="Own"), "gave the class Own itself"),
        (plugin("library.thing", "library.Thing", given="Own(), Own()"), "has two of this name"),
        (plugin("library.thing", "'library.Thing'"), "its types are not a tuple of classes"),
        (plugin("library.thing", "list[library.Thing]"), "its types are not a tuple of classes"),
        (
            plugin("library.thing", "", extra="types = [library.Thing]"),
            "'library.thing' can't be registered: its types are not a tuple of classes",
        ),
    ],
)
def test_a_broken_plugin_is_named_and_contained(install: Install, source: str, words: str) -> None:
    """Its error has distribution, version, module, cause and command; others go on working."""
    install("library", {}, library=LIBRARY)
    install("broken", {"library": "broken"}, broken=source)
    registry = Registry()

    with pytest.raises(PluginLoadError, match=words) as caught:
        registry.find_serializer_for(thing())
    assert "plugin 'broken' of broken 1.5, which claims 'library'" in str(caught.value)
    assert "pip install --upgrade --force-reinstall broken" in str(caught.value)
    with pytest.raises(PluginLoadError):
        registry.get_serializer("library.thing")
    assert registry.get_serializer("json").name == "json"


def test_the_error_of_a_broken_plugin_is_a_new_one_each_time(install: Install) -> None:
    """Notes say what one save needed it for: they belong to that save alone."""
    install("library", {}, library=LIBRARY)
    install("broken", {"library": "broken"}, broken="raise RuntimeError('on import')")
    registry = Registry()

    with pytest.raises(PluginLoadError) as first:
        registry.find_serializer_for(thing())
    first.value.add_note("It was needed to save something.")
    with pytest.raises(PluginLoadError) as second:
        registry.find_serializer_for(thing())

    assert not hasattr(second.value, "__notes__")
    assert str(second.value) == str(first.value)
    assert repr(second.value.__cause__) == "RuntimeError('on import')"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("from artigraph.spec import StreamSerializer", "cannot import name 'StreamSerializer'"),
        ("from artigraph import stream", "cannot import name 'stream'"),
        ("import artigraph.stream", "No module named 'artigraph.stream'"),
        ("from artigraph import spec; spec.StreamSerializer", "no attribute 'StreamSerializer'"),
        ("def artigraph_migrations(): return []", "unknown hook 'artigraph_migrations'"),
        ("def artigraph_open_storage(uri, mode): return None", r"Argument\(s\) {'mode'}"),
    ],
)
def test_a_plugin_of_another_core_says_which_it_requires(
    install: Install, source: str, words: str
) -> None:
    """What is not here may be in the core that the plugin was made for."""
    install("broken", {"key": "broken"}, requires="artigraph-core~=9.1", broken=source)

    required = r"broken requires artigraph-core~=9\.1; here is \d+\.\d+\.\d+\)\."
    hint = rf"{words}.* \((the hooks are .*; )?{required}"
    with pytest.raises(PluginLoadError, match=hint):
        Registry().get_serializer("key.thing")


def test_a_hook_of_a_newer_core_can_be_marked_as_optional(install: Install) -> None:
    """One plugin then serves older cores, too."""
    source = dedent(plugin("library.thing", "library.Thing")) + dedent("""
        import pluggy

        @pluggy.HookimplMarker("artigraph")(optionalhook=True)
        def artigraph_migrations(since): return []
    """)
    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=source)

    assert Registry().get_serializer("library.thing").name == "library.thing"


def test_metadata_that_names_no_module_is_the_error_of_its_key(install: Install) -> None:
    """The other keys of the distribution are served."""
    install("library", {}, library=LIBRARY)
    source = plugin("library.thing", "library.Thing")
    install("acme", {"library": "acme", "cubes": "acme:hooks", "empty": ""}, acme=source)
    registry = Registry()

    assert registry.get_serializer("library.thing").name == "library.thing"
    for key, module in (("cubes", "acme:hooks"), ("empty", "")):
        words = f"'{key}', can't be loaded: its entry point names no module: {module!r}"
        with pytest.raises(PluginLoadError, match=words):
            registry.get_serializer(f"{key}.thing")


def test_who_wrote_a_row_and_is_damaged_is_named(install: Install) -> None:
    """It is installed, so to install it again would change nothing."""
    (install("acme", {"library": "acme"}) / "METADATA").unlink()

    with pytest.raises(
        SerializerNotFoundError, match="acme is damaged, reinstall it: its metadata"
    ):
        Registry().get_serializer("library.thing", "acme")


def test_the_keys_of_ours_are_known_where_they_are_damaged(install: Install) -> None:
    """A value that needs one is then refused for the damage, and not for what is not installed."""
    (install("artigraph-polars", {"polars": "fake"}) / "METADATA").unlink()

    damaged = [plugin for plugin in Registry().installed() if plugin.damage]

    assert [(each.distribution, each.version) for each in damaged] == [("artigraph-polars", "1.5")]
    assert damaged[0].keys == {"polars"}


def test_who_only_mentions_us_is_no_plugin(install: Install) -> None:
    """Whatever is wrong with the metadata of strangers."""
    info = install("stranger", {})
    (info / "METADATA").unlink()
    for text in (b"[scripts]\nrun = run:main [artigraph]\nno entry\n", b"[artigraph]\n\xff"):
        (info / "entry_points.txt").write_bytes(text)

        assert not [each for each in Registry().installed() if each.distribution == "stranger"]


def test_a_working_plugin_serves_beside_a_broken_one(install: Install) -> None:
    """Two claim a key, one fails: the other is enough."""
    install("library", {}, library=LIBRARY)
    install("broken", {"library": "broken"}, broken="raise RuntimeError")
    install("acme", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))
    registry = Registry()

    assert registry.get_serializer("library.thing").name == "library.thing"
    assert registry.find_serializer_for(thing()) is not None


def test_two_with_equal_right_are_an_error_that_names_both(install: Install) -> None:
    """Nothing is picked in silence; `prefer` decides."""
    install("library", {}, library=LIBRARY)
    for name in ("acme", "bolt"):
        source = plugin(f"library.{name}", "library.Thing")
        install(name, {"library": name}, **{name: source})
    registry = Registry()

    with pytest.raises(AmbiguousSerializerError, match=r"'library\.\w+' of (acme|bolt) and by"):
        registry.find_serializer_for(thing())
    registry.prefer("library.bolt")
    chosen = registry.find_serializer_for(thing())
    assert chosen is not None
    assert chosen.name == "library.bolt"
    assert registry.get_serializer("library.acme").name == "library.acme"


def test_two_of_one_name_are_an_error_that_names_both(install: Install) -> None:
    """A distribution has to be chosen with the name, and is then asked by type and by name."""
    install("library", {}, library=LIBRARY)
    for name in ("acme", "bolt"):
        source = plugin("library.thing", "library.Thing", extra=f"origin = {name!r}")
        install(name, {"library": name}, **{name: source})
    registry = Registry()

    with pytest.raises(AmbiguousSerializerError, match=r"'library\.thing' is claimed") as caught:
        registry.get_serializer("library.thing")
    assert sorted(caught.value.claims) == [
        f"'library.thing' of {each}" for each in ("acme", "bolt")
    ]
    with pytest.raises(AmbiguousSerializerError, match=r"distribution='(acme|bolt)'"):
        registry.prefer("library.thing")
    for name in ("acme", "bolt"):
        registry.prefer("library.thing", distribution=name.title())
        assert origin(registry.find_serializer_for(thing())) == name
        assert origin(registry.get_serializer("library.thing")) == name
    assert origin(registry.get_serializer("library.thing", "acme")) == "acme"


def test_a_preference_comes_before_ours(install: Install) -> None:
    """The application has the last word, also after a choice was made without it."""
    install("library", {}, library=LIBRARY)
    for name in ("acme", "artigraph-arrow"):
        module = name.replace("-", "_") + "_plugin"
        source = plugin("library.thing", "library.Thing", extra=f"origin = {name!r}")
        install(name, {"library": module}, **{module: source})
    registry = Registry()

    assert origin(registry.find_serializer_for(thing())) == "artigraph-arrow"
    registry.prefer("library.thing", distribution="acme")
    assert origin(registry.find_serializer_for(thing())) == "acme"


def test_a_preference_for_what_a_distribution_has_not_is_refused(install: Install) -> None:
    """It would have no effect; why the distribution has none is said."""
    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))
    install("bolt", {"library": "bolt"}, bolt=plugin("library.bolt", "library.Thing"))
    install("broken", {"library": "broken"}, broken="raise RuntimeError('on import')")
    registry = Registry()

    for name, error, words in (
        ("bolt", SerializerNotFoundError, "registered as 'library.thing' by bolt."),
        ("no-such", SerializerNotFoundError, "provided by no-such: pip install no-such"),
        ("broken", PluginLoadError, "RuntimeError: on import"),
    ):
        with pytest.raises(error, match=words):
            registry.prefer("library.thing", distribution=name)
    with pytest.raises(AmbiguousSerializerError):
        registry.find_serializer_for(thing())


def test_ours_come_before_strangers(install: Install) -> None:
    """An official distribution wins a type; a name finds the stranger all the same."""
    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=plugin("library.acme", "library.Thing"))
    source = plugin("library.official", "library.Thing")
    install("artigraph-arrow", {"library": "official"}, official=source)
    registry = Registry()

    chosen = registry.find_serializer_for(thing())

    assert chosen is not None
    assert chosen.name == "library.official"
    assert registry.get_serializer("library.acme").name == "library.acme"


def test_the_distribution_in_the_row_is_asked_first(install: Install) -> None:
    """Two provide one name: the one that wrote the data reads it."""
    install("library", {}, library=LIBRARY)
    for name in ("acme", "bolt"):
        source = plugin("library.thing", "library.Thing", extra=f"origin = {name!r}")
        install(name, {"library": name}, **{name: source})
    registry = Registry()

    for name in ("acme", "bolt"):
        assert origin(registry.get_serializer("library.thing", name)) == name


class Registered(Serializer[Any]):
    name = "library.registered"

    def serialize(self, value: Any) -> bytes:
        return b""

    def deserialize(self, data: Any) -> Any:
        return None


def test_an_explicit_registration_comes_first(install: Install) -> None:
    """What the application says wins over every plugin."""
    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))
    mine = Registered()
    mine.types = (thing(),)

    registry = Registry()

    assert registry.find_serializer_for(thing()) is not None
    mine.register()
    assert registry.find_serializer_for(thing()) is mine
    assert registry.get_serializer("library.registered") is mine


def test_a_name_that_another_class_has_is_refused() -> None:
    """The same class again takes the place of the first, as in a notebook."""

    class Other(Registered):
        pass

    first = Registered().register()

    assert Registered().register() is not first
    with pytest.raises(RegistrationError, match=r"'library\.registered' can't be registered"):
        Other().register()


def test_what_is_not_installed_is_an_error_with_the_command() -> None:
    """For our own distributions; for others the row's distribution is named."""
    registry = Registry()

    with pytest.raises(SerializerNotFoundError, match=r"pip install \"artigraph\[polars\]\""):
        registry.get_serializer("polars.dataframe.from_the_future")
    with pytest.raises(SerializerNotFoundError, match="pip install acme-frames"):
        registry.get_serializer("acme.frame", "acme-frames")
    with pytest.raises(SerializerNotFoundError, match=r"no serializer is registered as 'no\.such'"):
        registry.get_serializer("no.such")


def test_plugins_can_be_switched_off(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """By key or by distribution, or by a list of those that are allowed."""
    install("library", {}, library=LIBRARY)
    install("Acme.Things", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))

    for variable, value, is_on in (
        ("ARTIGRAPH_DISABLE_PLUGINS", "acme-things", False),
        ("ARTIGRAPH_DISABLE_PLUGINS", "pandas, library", False),
        ("ARTIGRAPH_DISABLE_PLUGINS", "pandas", True),
        ("ARTIGRAPH_PLUGINS", "", False),
        ("ARTIGRAPH_PLUGINS", "acme_things", True),
    ):
        with monkeypatch.context() as context:
            context.setenv(variable, value)
            assert Registry().is_served("library") is is_on


def test_one_key_of_a_plugin_can_be_switched_off(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it provides under the other keys stays."""
    monkeypatch.setenv("ARTIGRAPH_DISABLE_PLUGINS", "library")
    install("library", {}, library=LIBRARY)
    source = plugin("acme.thing", "library.Thing")
    install("acme-things", {"acme": "acme", "library": "acme"}, acme=source)
    registry = Registry()

    assert registry.find_serializer_for(thing()) is None
    assert registry.get_serializer("acme.thing").name == "acme.thing"
    with pytest.raises(SerializerNotFoundError, match="acme-things has it, and is switched off"):
        registry.get_serializer("library.thing")


@pytest.mark.parametrize("by", ["type", "name"])
def test_a_plugin_may_do_nothing_but_register_in_its_module(install: Install, by: str) -> None:
    """The look-up that imports it finds what it has registered."""
    install("library", {}, library=LIBRARY)
    source = plugin("library.thing", "library.Thing").partition("def artigraph_")[0]
    install("acme", {"library": "acme"}, acme=dedent(source) + "\nOwn().register()\n")
    registry = Registry()

    if by == "type":
        found = registry.find_serializer_for(thing())
    else:
        found = registry.get_serializer("library.thing")

    assert found is not None
    assert found.name == "library.thing"
    assert registry.distribution_of(found) == "acme"


def test_a_plugin_may_register_in_its_module_while_threads_look_it_up(install: Install) -> None:
    """No lock is held during an import, so nobody waits for ever, and all get one serializer."""
    install("library", {}, library=LIBRARY)
    source = dedent(plugin("library.thing", "library.Thing")) + "\nOwn().register()\n"
    install("acme", {"library": "acme"}, acme=source)
    registry, found = Registry(), []
    barrier = threading.Barrier(16)

    def look_up() -> None:
        barrier.wait()
        found.append(registry.find_serializer_for(thing()))

    threads = [threading.Thread(target=look_up) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(found) == 16
    assert {serializer.name for serializer in found} == {"library.thing"}


def test_a_storage_is_opened_by_its_uri(tmp_path: Path) -> None:
    """By the plugin of its scheme; an unknown scheme is an error."""
    registry = Registry()

    opened: Storage = registry.open_storage(f"file:{tmp_path}")

    assert type(opened) is FileSystem
    assert opened.name == f"file:{tmp_path}"
    with pytest.raises(UnknownStorageError, match="for URIs that begin with 'gopher:'"):
        registry.open_storage("gopher://x")


def test_a_storage_without_its_distribution_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for serializers."""
    monkeypatch.setenv("ARTIGRAPH_PLUGINS", "")

    with pytest.raises(UnknownStorageError, match="artigraph-aws has it, and is switched off"):
        Registry().open_storage("s3://bucket")


def test_a_storage_is_found_by_its_name_when_it_is_registered(tmp_path: Path) -> None:
    """A row never makes one."""
    registry = Registry()
    name = f"file:{tmp_path}"

    with pytest.raises(UnknownStorageError, match=r"call its \.register\(\)"):
        registry.get_storage(name)
    storage = FileSystem(tmp_path).register()
    assert registry.get_storage(name) is storage


STORAGES = {
    "gives-a-number": ("def artigraph_open_storage(uri): return 7", "gave a int"),
    "raises": (
        "def artigraph_open_storage(uri): raise ValueError(f'I do not like {uri}')",
        "raised ValueError",
    ),
    "asks-for-more": ("def artigraph_open_storage(uri, *, region): return uri", "raised TypeError"),
    "is-broken": ("raise RuntimeError('on import')", "RuntimeError: on import"),
    "knows-nothing": (
        "def artigraph_open_storage(uri): return None",
        "no storage is registered for URIs that begin with 'vault:'",
    ),
}


@pytest.mark.parametrize("name", STORAGES)
def test_a_plugin_that_opens_rubbish_is_named_and_the_password_is_not(
    install: Install, name: str
) -> None:
    """A URI may hold one, and what a plugin says about it as well."""
    source, words = STORAGES[name]
    install(name, {"vault": "rubbish"}, rubbish=source)

    with pytest.raises(ArtigraphError, match=words) as caught:
        Registry().open_storage("vault://user:pa55word@host/folder")
    assert "pa55word" not in str(caught.value)
    assert f"of {name}" in str(caught.value) or name == "knows-nothing"


def test_what_a_storage_plugin_says_itself_is_passed_on(install: Install) -> None:
    """An error of ours is meant for the user."""
    source = """
        from artigraph.errors import StorageError

        def artigraph_open_storage(uri):
            raise StorageError("vault:", "be opened", "it is not a vault", "Look elsewhere.")
    """
    install("acme", {"vault": "acme"}, acme=source)

    with pytest.raises(StorageError, match="storage 'vault:' can't be opened: it is not a vault"):
        Registry().open_storage("vault://host")


def test_a_storage_is_opened_beside_plugins_that_do_not(install: Install, tmp_path: Path) -> None:
    """Several may claim a scheme: who is broken or gives nothing leaves it to the others."""
    source = """
        from artigraph.storage.file import FileSystem

        def artigraph_open_storage(uri): return FileSystem(uri.partition(":")[2], name=uri)
    """
    install("broken", {"vault": "broken"}, broken="raise RuntimeError('on import')")
    install("nothing", {"vault": "nothing"}, nothing="def artigraph_open_storage(uri): return None")
    install("acme", {"vault": "acme"}, acme=source)

    assert Registry().open_storage(f"vault:{tmp_path}").name == f"vault:{tmp_path}"


def test_an_isolated_registry_forgets_what_was_done_in_it(install: Install, tmp_path: Path) -> None:
    """Registrations, preferences, what is allowed and what was loaded: a test leaves nothing."""
    install("library", {}, library=LIBRARY)
    for name in ("acme", "bolt"):
        install(name, {"library": name}, **{name: plugin(f"library.{name}", "library.Thing")})
    registry = Registry()
    registry.prefer("library.acme")
    before = registry.find_serializer_for(thing())

    with registry.isolated():
        registry.prefer("library.bolt")
        registry.allow("library.bolt")
        Registered().register()
        storage = FileSystem(tmp_path).register()
        within = registry.find_serializer_for(thing())

    assert before is not None
    assert within is not None
    assert (before.name, within.name) == ("library.acme", "library.bolt")
    assert registry.find_serializer_for(thing()) is before
    assert not registry.is_allowed("library.bolt")
    with pytest.raises(SerializerNotFoundError):
        registry.get_serializer("library.registered")
    with pytest.raises(UnknownStorageError):
        registry.get_storage(storage.name)


def test_an_isolated_registry_starts_from_what_was_there() -> None:
    """What the application has registered, preferred and allowed before holds in it."""
    registry = Registry()
    mine = Registered().register()
    registry.allow(mine.name)

    with registry.isolated():
        assert registry.get_serializer(mine.name) is mine
        assert registry.is_allowed(mine.name)


def test_an_isolated_registry_is_undone_after_an_error() -> None:
    """As it is when a test fails."""
    registry = Registry()

    def fail() -> None:
        with registry.isolated():
            Registered().register()
            raise RuntimeError("a test failed")

    with pytest.raises(RuntimeError, match="a test failed"):
        fail()
    with pytest.raises(SerializerNotFoundError):
        registry.get_serializer(Registered.name)


def test_an_isolated_registry_sees_what_is_installed_and_set_now(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an installation or a variable changes is seen in the block, and again after it."""
    registry = Registry()
    assert not registry.is_served("library")

    install("library", {}, library=LIBRARY)
    install("acme", {"library": "acme"}, acme=plugin("library.thing", "library.Thing"))
    assert not registry.is_served("library")
    with registry.isolated():
        assert registry.get_serializer("library.thing").name == "library.thing"
        with monkeypatch.context() as context, registry.isolated():
            context.setenv("ARTIGRAPH_DISABLE_PLUGINS", "acme")
            assert not registry.is_served("library")
        assert registry.is_served("library")
    assert registry.is_served("library")
    acme = next(each for each in registry.installed() if each.distribution == "acme")
    assert registry.find_loaded(acme) is None
