"""The tests of plugins, tested: a plugin without a flaw passes, each flaw is found."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from artigraph import AmbiguousSerializerError
from artigraph.plugins import registry
from artigraph.testing import PluginTests

Install = Callable[..., Path]
Provide = Callable[..., None]

LIBRARY = """
class Tile:
    def __init__(self, text): self.text = text
"""

PLUGIN = """
import os, sys
from decimal import Decimal
from threading import current_thread, main_thread
import tiles
from artigraph.spec import Serializer, Storage

class TileSerializer(Serializer):
    name = "tiles.tile"
    types = (tiles.Tile,)
    def serialize(self, value): return value.text.encode()
    def deserialize(self, data): return tiles.Tile(bytes(data).decode())

class Tileset(Storage):
    def __init__(self, uri): self.name = uri
    async def create(self, data, *, location=None): ...
    async def read(self, location): ...
    async def update(self, location, data): ...
    async def delete(self, location): ...
    async def exists(self, location): ...

def artigraph_serializers():
    return [TileSerializer()]

def artigraph_open_storage(uri):
    return Tileset(uri) if uri.startswith("tileset:") else None
"""

ENTRY_POINTS = {"tiles": "acme_tiles", "tileset": "acme_tiles"}


class TilesTests(PluginTests):
    distribution = "Acme.Tiles"
    uris = ("tileset:/data/tiles",)


@pytest.fixture
def provide(install: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provide]:
    """Installs the distribution with a flaw or none, for this process and for fresh ones."""

    def add(
        plugin: str = PLUGIN,
        entry_points: dict[str, str] = ENTRY_POINTS,
        requires: str = "artigraph_core>=0.2",
        **modules: str,
    ) -> None:
        modules = {"tiles": LIBRARY, "acme_tiles": plugin, **modules}
        info = install("acme-tiles", entry_points, requires=requires, **modules)
        monkeypatch.setenv("PYTHONPATH", str(info.parent))

    with registry.isolated():
        yield add


class TestTiles(TilesTests):
    """The tests pass for a plugin that keeps its promises."""

    @pytest.fixture(autouse=True)
    def provided(self, provide: Provide) -> None:
        provide()


class TestLargeTiles(TilesTests):
    """They pass for one that takes its time to be imported."""

    @pytest.fixture(autouse=True)
    def provided(self, provide: Provide) -> None:
        provide(f"sum(range(10**6)){PLUGIN}")


FLAWS: dict[str, tuple[str, str, str]] = {
    "fails on import": ("import tiles", "raise RuntimeError", "test_it_works"),
    "misspells its hook": ("artigraph_serializers", "artigraph_serialisers", "test_it_works"),
    "gives a class": ("[TileSerializer()]", "[TileSerializer]", "test_it_works"),
    "gives another key's": ('"tiles.tile"', '"acme.tile"', "test_it_works"),
    "has no hooks": ("def artigraph_", "def acme_", "test_it_works"),
    "serves a type of others": ("tiles.Tile,", "Decimal,", "test_types_belong_to_its_keys"),
    "serves a type that nobody asks it for": (
        "tiles.Tile,",
        "Decimal,",
        "test_each_type_is_served",
    ),
    "is found in this process only": (
        "[TileSerializer()]",
        "[TileSerializer()] if 'pytest' in sys.modules else []",
        "test_a_fresh_process_finds_each_serializer_by_its_name",
    ),
    "has a name for each process": (
        '"tiles.tile"',
        'f"tiles.tile.p{os.getpid()}"',
        "test_a_fresh_process_finds_each_serializer_by_its_name",
    ),
    "is found in the main thread only": (
        "[TileSerializer()]",
        "[TileSerializer()] if current_thread() is main_thread() else []",
        "test_sixteen_threads_find_one_serializer",
    ),
    "registers itself": (
        "[TileSerializer()]",
        "[TileSerializer().register()]",
        "test_it_can_be_switched_off",
    ),
    "opens what it can't": ("Tileset(uri) if", "open(uri) if", "test_its_uris_open_storages"),
    "opens no storage": ("Tileset(uri) if", "uri if", "test_its_uris_open_storages"),
    "misspells its scheme": ('"tileset:"', '"tilesets:"', "test_its_uris_open_storages"),
    "names its storage anew": (
        "self.name = uri",
        "self.name = f'{uri}/{os.getpid()}'",
        "test_its_uris_open_storages",
    ),
    "opens what is another's": (
        'uri.startswith("tileset:")',
        "uri",
        "test_uris_of_others_are_left_alone",
    ),
}
"""For each, the words of the module that are others, and the test that is there for it."""

FLAWS_OF_INSTALLING: dict[str, tuple[dict[str, Any], str]] = {
    "is no plugin": ({"entry_points": {}}, "test_it_is_installed"),
    "names no module": ({"entry_points": {"tiles": "acme tiles"}}, "test_it_is_installed"),
    "names a module that is not there": ({"entry_points": {"tiles": "acme"}}, "test_it_works"),
    "requires nothing": ({"requires": ""}, "test_it_requires_the_core"),
    "requires something else": (
        {"requires": "artigraph-core-tiles>=0.2"},
        "test_it_requires_the_core",
    ),
    "requires the core for an extra": (
        {"requires": "artigraph-core>=0.2; extra == 'all'"},
        "test_it_requires_the_core",
    ),
    "imports its library in every process": (
        {"sitecustomize": "import tiles"},
        "test_listing_imports_nothing",
    ),
    "imports itself in every process": (
        {"sitecustomize": "import acme_tiles"},
        "test_values_of_other_types_import_nothing",
    ),
}
"""For each, what is installed in another way. Python imports `sitecustomize` when it starts, as it
does what a `.pth` file says."""

ALL_TESTS = {name for name in dir(PluginTests) if name.startswith("test_")}


def run(tests: PluginTests, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = getattr(tests, name)
    test(*([monkeypatch] if signature(test).parameters else []))


@pytest.mark.parametrize(("right", "wrong", "test"), FLAWS.values(), ids=FLAWS)
def test_each_flaw_of_a_module_fails_the_test_that_is_there_for_it(
    provide: Provide, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, test: str
) -> None:
    """A few words are enough."""
    assert right in PLUGIN
    provide(PLUGIN.replace(right, wrong))

    with pytest.raises((Exception, pytest.fail.Exception)):
        run(TilesTests(), test, monkeypatch)


@pytest.mark.parametrize(
    ("installed", "test"), FLAWS_OF_INSTALLING.values(), ids=FLAWS_OF_INSTALLING
)
def test_each_flaw_of_an_installation_fails_the_test_that_is_there_for_it(
    provide: Provide, monkeypatch: pytest.MonkeyPatch, installed: dict[str, Any], test: str
) -> None:
    """The module itself has none."""
    provide(**installed)

    with pytest.raises((Exception, pytest.fail.Exception)):
        run(TilesTests(), test, monkeypatch)


@pytest.mark.parametrize("uris", [(), ("tileset:/data", "file:/data")])
def test_every_scheme_is_tested_and_no_other(provide: Provide, uris: tuple[str, ...]) -> None:
    """What the tests don't name, they don't open."""
    provide()
    tests = TilesTests()
    tests.uris = uris

    with pytest.raises(AssertionError):
        tests.test_its_uris_open_storages()


def test_a_type_that_another_plugin_serves_too_is_found(provide: Provide, install: Install) -> None:
    """Unless the plugin says that it is chosen by name only."""
    provide()
    rival = PLUGIN.replace('"tiles.tile"', '"tiles.rival"')
    install("rival-tiles", {"tiles": "rival_tiles"}, rival_tiles=rival)
    tests = TilesTests()

    with pytest.raises(AmbiguousSerializerError, match="rival-tiles"):
        tests.test_each_type_is_served()

    tests.is_chosen = False
    with pytest.raises(pytest.skip.Exception, match="by name only"):
        tests.test_each_type_is_served()


def test_each_test_finds_something() -> None:
    """None of them is there for nothing."""
    assert {test for *_, test in [*FLAWS.values(), *FLAWS_OF_INSTALLING.values()]} == ALL_TESTS


def test_no_pytest_plugin_is_registered() -> None:
    """Whoever installs Artigraph gets nothing loaded into their own tests."""
    ours = [
        each.name
        for each in entry_points(group="pytest11")
        if each.dist is not None and each.dist.name.startswith("artigraph")
    ]

    assert ours == []


TESTS_OF_A_STRANGER = """
from artigraph.serializer.text import text_serializer
from artigraph.storage.file import FileSystem
from artigraph.testing import PluginTests, SerializerTests, StreamingStorageTests
import pytest

class TestFiles(StreamingStorageTests):
    @pytest.fixture
    def storage(self, tmp_path):
        return FileSystem(tmp_path)

    def plant(self, storage, location, data):
        path = storage.directory / location
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    def inspect(self, storage, location):
        path = storage.directory / location
        return path.read_bytes() if path.exists() else None

class TestText(SerializerTests):
    serializer = text_serializer
    values = {"nothing": "", "a word": "word"}
    detects_truncation = False

class TestCore(PluginTests):
    distribution = "artigraph-core"
    uris = ["file:/data"]
"""


def test_the_tests_need_no_pytest_plugin(tmp_path: Path) -> None:
    """Asynchronous ones neither, in a folder without settings and where warnings are errors."""
    (tmp_path / "test_strange.py").write_text(TESTS_OF_A_STRANGER)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "creators or loops or reader or word or Core",
            tmp_path,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "asyncio" not in ended.stdout
