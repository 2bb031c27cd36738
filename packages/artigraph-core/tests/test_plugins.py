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
    PluginLoadError,
    RegistrationError,
    Serializer,
    SerializerNotFoundError,
    UnknownStorageError,
)
from artigraph.plugins import Registry
from artigraph.spec import Storage
from artigraph.storage.file import FileSystem

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution as an installer would: modules, metadata and entry points."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def add(name: str, entry_points: dict[str, str], **modules: str) -> None:
        for module, source in modules.items():
            (site / f"{module}.py").write_text(dedent(source))
        info = site / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        lines = [f"{key} = {module}" for key, module in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[artigraph]", *lines]))

    yield add
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", None) and str(site) in str(
            sys.modules[module].__file__
        ):
            del sys.modules[module]


def plugin(name: str, types: str, *, library: str = "library", extra: str = "") -> str:
    """The source of a plugin with one serializer."""
    return f"""
        import {library}
        from artigraph.spec import Serializer

        class Own(Serializer):
            name = {name!r}
            types = ({types},)
            {extra}
            def serialize(self, value): return value.text.encode()
            def deserialize(self, data): return {library}.Thing(bytes(data).decode())

        def artigraph_serializers():
            return [Own()]
    """


LIBRARY = """
    class Thing:
        def __init__(self, text): self.text = text
    class Special(Thing): pass
    class Other: pass
"""


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
        (plugin("stolen.thing", "library.Thing"), "the keys of its plugin are library"),
        (plugin("library thing", "library.Thing"), "a serializer's name is <key>"),
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
    assert "pip install --upgrade broken" in str(caught.value)
    with pytest.raises(PluginLoadError):
        registry.get_serializer("library.thing")
    assert registry.get_serializer("json").name == "json"


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
        assert registry.get_serializer("library.thing", name).origin == name  # type: ignore[attr-defined]


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
