"""What every plugin promises, as tests: it is found by its metadata, and imported when needed."""

import json
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import requires
from typing import Any

import pytest

from artigraph.errors import SerializerNotFoundError, UnknownStorageError
from artigraph.index import CORE, Plugin, normalized
from artigraph.plugins import Loaded, registry
from artigraph.spec import Serializer, Storage
from artigraph.testing.process import in_fresh_process

_MODULES_AFTER = """
import json, sys
from artigraph.plugins import registry
{work}
json.dump(sorted(sys.modules), sys.stdout)
"""

_FIND_BY_NAME = """
import sys
from artigraph.serializer import get_serializer
print(type(get_serializer(sys.argv[1])).__qualname__)
"""

_FIND_AT_ONCE = """
import sys, threading
from artigraph.serializer import get_serializer

barrier, found = threading.Barrier(16), []

def find():
    barrier.wait()
    found.append(get_serializer(sys.argv[1]))

threads = [threading.Thread(target=find, daemon=True) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
print(len(found), len(set(map(id, found))))
"""

_NAME_OF_STORAGE = """
import sys
from artigraph.storage import open_storage
print(open_storage(sys.argv[1]).name)
"""


class PluginTests:
    """The tests of one distribution, as it is installed: also an editable install is one.

    A subclass names it, and a URI for each kind of storage that it opens:

        class TestPlugin(PluginTests):
            distribution = "acme-maps"
            uris = ["tiles:/data/tiles"]
    """

    distribution: str

    uris: Sequence[str] = ()
    """Of storages that it opens; nothing has to be there."""

    is_chosen: bool = True
    """Whether its serializers are chosen by the types of values. False for one that stands beside
    another plugin for the same types, and is only chosen where it is asked for."""

    def test_it_is_installed(self) -> None:
        """Its entry points are in the group `artigraph`, and can be read."""
        plugins = self._plugins()

        assert plugins, f"{self.distribution} has no entry points in the group 'artigraph'"
        assert not [plugin.damage for plugin in plugins if plugin.damage]

    def test_it_requires_the_core(self) -> None:
        """So that an installer finds versions that fit together; an extra may not be wanted."""
        required = [each for each in requires(self.distribution) or [] if "extra ==" not in each]

        names = {normalized(re.split(r"[^\w.-]", each, maxsplit=1)[0]) for each in required}
        assert CORE in {*names, normalized(self.distribution)}

    def test_listing_imports_nothing(self) -> None:
        """Neither a module of it, nor a library that it serves."""
        modules = self._modules_after("registry.installed()")

        assert not modules & self._own_modules()

    def test_values_of_other_types_import_nothing(self) -> None:
        """Saving a number does not need it."""
        modules = self._modules_after("registry.find_serializer_for(int)")

        assert not modules & self._own_modules()

    def test_it_works(self) -> None:
        """All its modules can be imported, all their hooks are known and give what they should."""
        for loaded in self._loaded():
            assert loaded.error is None, str(loaded.error)
            assert loaded.serializers or loaded.schemes, f"{loaded.plugin.module} provides nothing"

    def test_types_belong_to_its_keys(self) -> None:
        """A value of a type leads to the plugin: it is looked for under the type's module."""
        for loaded, serializer in self._serializers():
            for kind in serializer.types:
                key = kind.__module__.partition(".")[0]
                assert key in {*loaded.plugin.keys, "builtins"}, f"{serializer.name}: {kind}"

    def test_a_fresh_process_finds_each_serializer_by_its_name(self) -> None:
        """Nothing but the name is in a row; nobody has imported the plugin."""
        for _, serializer in self._serializers():
            found = in_fresh_process(_FIND_BY_NAME, serializer.name).decode()

            assert found.strip() == type(serializer).__qualname__, serializer.name

    def test_each_type_is_served(self) -> None:
        """By a serializer of this distribution, without being asked for."""
        if not self.is_chosen:
            pytest.skip("the plugin declares that it is chosen by name only")

        names = {serializer.name for _, serializer in self._serializers()}
        for _, serializer in self._serializers():
            for kind in serializer.types:
                found = registry.find_serializer_for(kind)
                assert found is not None, kind
                assert found.name in names, kind

    def test_sixteen_threads_find_one_serializer(self) -> None:
        """Also where they all want it for the first time, at the same moment."""
        for _, serializer in list(self._serializers())[:1]:
            told = in_fresh_process(_FIND_AT_ONCE, serializer.name).decode()

            assert told.split() == ["16", "1"]

    def test_it_can_be_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if it were not installed."""
        if normalized(self.distribution) == CORE:
            pytest.skip("what is built in can't be switched off")
        names = [serializer.name for _, serializer in self._serializers()]
        monkeypatch.setenv("ARTIGRAPH_DISABLE_PLUGINS", self.distribution)

        with registry.isolated():
            for name in names:
                with pytest.raises(SerializerNotFoundError, match="switched off"):
                    registry.get_serializer(name)
            for uri in self.uris:
                with pytest.raises(UnknownStorageError, match="switched off"):
                    registry.open_storage(uri)

    def test_its_uris_open_storages(self) -> None:
        """There is one for each scheme; rows have their names, which are the same everywhere."""
        schemes = {scheme for loaded in self._loaded() for scheme in loaded.schemes}
        assert {uri.partition(":")[0] for uri in self.uris} == schemes

        for uri in self.uris:
            storage = registry.open_storage(uri)
            assert isinstance(storage, Storage)
            assert in_fresh_process(_NAME_OF_STORAGE, uri).decode() == f"{storage.name}\n"

    def test_uris_of_others_are_left_alone(self) -> None:
        """Only a URI of its own schemes is opened."""
        for loaded in self._loaded():
            assert loaded.hooks is not None, str(loaded.error)
            assert not loaded.hooks.hook.artigraph_open_storage(uri="scheme-of-nobody:/data")

    def _plugins(self) -> list[Plugin]:
        name = normalized(self.distribution)
        return [plugin for plugin in registry.installed() if plugin.distribution == name]

    def _loaded(self) -> list[Loaded]:
        return [registry.load(plugin) for plugin in self._plugins()]

    def _serializers(self) -> Iterator[tuple[Loaded, Serializer[Any]]]:
        for loaded in self._loaded():
            for serializer in loaded.serializers:
                yield loaded, serializer

    def _own_modules(self) -> set[str]:
        """The plugin's modules, and those of the libraries that its keys name."""
        plugins = [plugin for plugin in self._plugins() if plugin.distribution != CORE]
        keys = {key for plugin in self._plugins() for key in plugin.keys}
        served = {key for key in keys if plugins or key == "numpy"} - {"builtins"}
        return served | {plugin.module for plugin in plugins}

    def _modules_after(self, work: str) -> set[str]:
        return set(json.loads(in_fresh_process(_MODULES_AFTER.format(work=work))))
