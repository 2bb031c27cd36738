"""Discovery under fire: hostile plugins, installed as wheels, harm nothing but themselves.

All of them are in one environment, beside the core, pandas and a plugin that behaves well. Programs
run in it as users would run them.
"""

import base64
import csv
import hashlib
import io
import json
import os
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any
from zipfile import ZipFile

import pytest
from distributions import Environment, uv

VERSION = "1.5"

LIBRARY = """
    class Thing:
        def __init__(self, text):
            self.text = text
        def __eq__(self, other):
            return type(other) is Thing and other.text == self.text
"""

# Leaves its name where a test looks for what was imported.
TRACE = """
    import os
    with open(os.environ.get("TRACE", os.devnull), "a") as trace:
        print(__name__, file=trace)
"""

SERIALIZER = """
    from {library} import Thing
    from artigraph.spec import Serializer

    class ThingSerializer(Serializer):
        name = "{name}"
        types = (Thing,)
        def serialize(self, value): return value.text.encode()
        def deserialize(self, data): return Thing(bytes(data).decode())

    serializer = ThingSerializer()
"""

HOOK = """
    def artigraph_serializers():
        return [serializer]
"""

THIEF = """
    import io, pandas
    from artigraph.spec import Serializer

    class Stolen(Serializer):
        name = "pandas.dataframe.parquet"
        types = (pandas.DataFrame,)
        def serialize(self, value): return value.to_json().encode()
        def deserialize(self, data):
            frame = pandas.read_json(io.BytesIO(data))
            frame.attrs["by"] = "thief"
            return frame

    serializer = Stolen()
"""

# Reads from a pipe, and so waits until somebody has opened its other end, and closed it again.
WAIT = """
    if "GATE" in os.environ:
        with open(os.environ["GATE"]) as gate:
            gate.read()
"""

MISSING = """
    from artigraph.errors import MissingExtraError
    raise MissingExtraError("a cube", "acme-cubes", "")
"""

NOISE = r"""
    print("{ this is no JSON")
    raise RuntimeError("a line\n and another, \udcff")
"""


@dataclass(frozen=True)
class Plugin:
    """A distribution, and how it is listed once its modules were imported."""

    name: str
    key: str
    source: str
    state: str = "loaded"
    reason: str = ""
    requires: str = "artigraph-core~=0.2.0"
    value: str = ""
    """Of its entry point, if that is not its module."""
    has_library: bool = True
    """Whether the module of its types is its own, by the name of its key."""

    @property
    def module(self) -> str:
        return self.name.replace("-", "_") + "_plugin"

    @property
    def modules(self) -> dict[str, str]:
        """The source of each."""
        own = {self.module: dedent(TRACE) + dedent(self.source)}
        return {**own, self.key: dedent(LIBRARY)} if self.has_library else own

    @property
    def entry_points(self) -> str:
        return f"[artigraph]\n{self.key} = {self.value or self.module}\n"


def working(key: str, name: str = "") -> str:
    return SERIALIZER.format(library=key, name=name or f"{key}.thing")


BEHAVED = (
    Plugin("acme-notes", "notes", working("notes") + HOOK),
    Plugin(
        "newer-optional",
        "optional",
        working("optional")
        + HOOK
        + """
    import pluggy

    @pluggy.HookimplMarker("artigraph")(optionalhook=True)
    def artigraph_migrations(since):
        raise AssertionError("this core does not know it")
""",
        requires="artigraph-core",
    ),
    Plugin("self-registering", "registering", working("registering") + "serializer.register()"),
    Plugin("slow-to-import", "slow", WAIT + working("slow") + HOOK),
    Plugin("pandas-thief", "pandas", THIEF + HOOK, has_library=False),
    Plugin("twin-one", "twin", working("twin", "twin.one") + HOOK),
    Plugin("twin-two", "twin", working("twin", "twin.two") + HOOK, has_library=False),
    Plugin("namesake-one", "namesake", working("namesake") + HOOK),
    Plugin("namesake-two", "namesake", working("namesake") + HOOK, has_library=False),
)

UNAVAILABLE = (
    Plugin(
        *("acme-cubes-plugin", "cubes", MISSING, "unavailable"),
        "a cube needs acme-cubes, which is not installed. pip install 'acme-cubes'",
    ),
)

HOOKS = "the hooks are artigraph_serializers and artigraph_open_storage"
NEWER = "requires artigraph-core~=9.1; here is CORE"
BROKEN = (
    Plugin(
        *("raises-on-import", "raising", "raise RuntimeError('no licence was found')", "failed"),
        "RuntimeError: no licence was found",
    ),
    Plugin(
        *("imports-half", "half", working("half") + HOOK + "\n    import half_of_it", "failed"),
        "ModuleNotFoundError: No module named 'half_of_it'",
    ),
    Plugin(
        "misspelt-hook",
        "misspelt",
        working("misspelt") + HOOK.replace("serializers", "serialisers"),
        "failed",
        "PluginValidationError: unknown hook 'artigraph_serialisers' in plugin <module"
        " 'misspelt_hook_plugin' from 'SITE/misspelt_hook_plugin.py'>"
        f" ({HOOKS}; misspelt-hook requires artigraph-core~=0.2.0; here is CORE)",
    ),
    Plugin(
        "gives-rubbish",
        "rubbish",
        working("rubbish") + HOOK.replace("[serializer]", "[serializer, 'csv']"),
        "failed",
        "TypeError: artigraph_serializers() gave a str",
    ),
    Plugin(
        *("pandas-claimant", "pandas", "raise SystemExit('pandas is ours')", "failed"),
        "SystemExit: pandas is ours",
        has_library=False,
    ),
    Plugin(
        *("noisy-failure", "noisy", NOISE, "failed"),
        r"RuntimeError: a line and another, \udcff",
    ),
    Plugin(
        *("newer-name", "newer", "from artigraph.spec import StreamSerializer", "failed"),
        "ImportError: cannot import name 'StreamSerializer' from 'artigraph.spec'"
        f" (SITE/artigraph/spec.py) (newer-name {NEWER})",
        requires="artigraph-core~=9.1",
    ),
    Plugin(
        *("newer-hook", "hook", "def artigraph_migrations(since): return []", "failed"),
        "PluginValidationError: unknown hook 'artigraph_migrations' in plugin <module"
        f" 'newer_hook_plugin' from 'SITE/newer_hook_plugin.py'> ({HOOKS};"
        f" newer-hook {NEWER})",
        requires="artigraph-core~=9.1",
    ),
    Plugin(
        *("newer-argument", "argument"),
        working("argument") + HOOK.replace("()", "(dialect)"),
        "failed",
        "PluginValidationError: Plugin 'newer_argument_plugin' for hook 'artigraph_serializers'"
        " hookimpl definition: artigraph_serializers(dialect) Argument(s) {'dialect'} are declared"
        f" in the hookimpl but can not be found in the hookspec ({HOOKS}; newer-argument {NEWER})",
        requires="artigraph-core~=9.1",
    ),
    Plugin(
        *("damaged-value", "damaged", "", "failed"),
        "its entry point names no module: 'damaged_plugin:hooks'",
        value="damaged_plugin:hooks",
    ),
)

UNREADABLE = "its metadata can't be read (ValueError: "
DAMAGED = (
    Plugin(
        *("damaged-line", "line", "", "failed"),
        UNREADABLE + "\"entry_points.txt has a line that is not 'key = module'\")",
    ),
    Plugin(
        *("damaged-name", "name", "", "failed"),
        UNREADABLE + "'METADATA is missing, or has no Name and Version')",
    ),
    Plugin(
        *("damaged-missing", "missing", "", "failed"),
        UNREADABLE + "'METADATA is missing, or has no Name and Version')",
    ),
)

# None of ours: what is wrong with them is no concern of Artigraph's.
STRANGERS = (
    Plugin("stranger", "strange", ""),
    Plugin("stranger-with-extra", "extra", ""),
)

FAILED = (*BROKEN, *DAMAGED)
PLUGINS = (*BEHAVED, *UNAVAILABLE, *FAILED)

PRELUDE = """\
import asyncio, os, sys, threading
from dataclasses import dataclass
from importlib import import_module
from uuid import UUID

from artigraph import ArtifactModel, artifact_field
from artigraph.serializer import Serializer, get_serializer, prefer

@dataclass
class Holder(ArtifactModel, version=1):
    value: object

"""


@dataclass(frozen=True)
class Installed:
    """An environment with all of them, and a folder to run a program in."""

    python: Path
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, source: str, *arguments: str, **environ: str) -> str:
        """What a program prints."""
        result = self.call("-c", PRELUDE + dedent(source), *arguments, **environ)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def call(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run Python; whatever warns or waits for ever is an error."""
        ours = {key: text for key, text in os.environ.items() if not key.startswith("ARTIGRAPH_")}
        return subprocess.run(
            [self.python, "-W", "error", *arguments],
            cwd=self.folder,
            # Compiled once: most of the time goes into it.
            env={**ours, "PYTHONDONTWRITEBYTECODE": "", **self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def list_plugins(self, *options: str, code: int, **environ: str) -> list[dict[str, Any]]:
        result = self.call("-m", "artigraph", "plugins", "--json", *options, **environ)
        assert result.returncode == code, result.stderr
        return json.loads(result.stdout)["plugins"]

    def trace(self) -> list[str]:
        """The modules of plugins that were imported, once for each import."""
        path = self.folder / "trace"
        return path.read_text().split() if path.exists() else []

    def rows(self) -> list[tuple[str | None, ...]]:
        """What was saved, in this order: the serializer and the distribution in each row."""
        with sqlite3.connect(self.folder / ".artigraph/graph.db") as connection:
            return connection.execute(
                "SELECT artifact_serializer, artifact_distribution FROM artigraph_node"
                " WHERE artifact_serializer IS NOT NULL ORDER BY node_id"
            ).fetchall()


@pytest.fixture(scope="module")
def python(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the environment."""
    folder = tmp_path_factory.mktemp("hostile")
    beside = folder / "beside-hostile-plugins.txt"
    beside.write_text("artigraph-core\nartigraph-pandas\n")
    python = environment(f"--requirement={beside}")
    built = [build_wheel(folder, plugin) for plugin in (*PLUGINS, *STRANGERS)]
    # Without their requirements: some want a core that does not exist.
    uv("pip", "install", "--python", python, "--no-deps", *built)
    damage(site_packages(python))
    return python


@pytest.fixture
def installed(python: Path, tmp_path: Path) -> Installed:
    return Installed(python, tmp_path, {"TRACE": str(tmp_path / "trace")})


@pytest.fixture(scope="module")
def listing(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is listed of each distribution after all were imported."""
    environment = Installed(python, tmp_path_factory.mktemp("listing"))
    return {each["distribution"]: each for each in environment.list_plugins("--load", code=1)}


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_each_is_listed_with_its_state_and_its_cause(
    listing: dict[str, dict[str, Any]], python: Path, wheels: dict[str, Path], plugin: Plugin
) -> None:
    """By distribution and version, in the words of what went wrong."""
    core = wheels["artigraph-core"].name.split("-")[1]
    reason = plugin.reason.replace("SITE", str(site_packages(python))).replace("CORE", core)

    listed = listing[plugin.name]

    assert (listed["version"], listed["state"]) == (VERSION, plugin.state)
    assert listed["reason"] == reason
    assert plugin in DAMAGED or listed["keys"] == [plugin.key]
    assert listed["module"] == ("" if plugin in DAMAGED else plugin.value or plugin.module)
    assert bool(listed["serializers"]) is (plugin.state == "loaded" and HOOK in plugin.source)


def test_what_is_broken_and_none_of_ours_is_not_listed(listing: dict[str, Any]) -> None:
    """Only who has something to do with Artigraph is looked at."""
    assert set(listing) == {
        *("artigraph-core", "artigraph-pandas"),
        *(plugin.name for plugin in PLUGINS),
    }


def test_listing_imports_no_plugin(installed: Installed) -> None:
    """What is not loaded may be broken or not; damaged metadata is known to be."""
    before = {each["distribution"]: each["state"] for each in installed.list_plugins(code=1)}

    known = {"artigraph-core": "not loaded", **{each.name: "failed" for each in DAMAGED}}
    known["damaged-value"] = "failed"
    assert before == {**dict.fromkeys(before, "not loaded"), **known}
    assert installed.trace() == []


def test_listing_succeeds_when_what_fails_is_switched_off(installed: Installed) -> None:
    """Who has switched off what is broken is not told of it for ever, and it is not imported."""
    off = ", ".join(plugin.name for plugin in FAILED)

    listed = installed.list_plugins("--load", code=0, ARTIGRAPH_DISABLE_PLUGINS=off)

    disabled = {each["distribution"] for each in listed if each["state"] == "disabled"}
    assert disabled == {plugin.name for plugin in FAILED}
    assert not set(installed.trace()) & {plugin.module for plugin in FAILED}


def test_only_what_is_allowed_is_imported(installed: Installed) -> None:
    """With a list of those that are allowed nobody else is asked for pandas, either."""
    program = """
        import pandas

        async def main():
            await Holder(pandas.DataFrame({"a": [1]})).save(label="frame")

        asyncio.run(main())
    """

    installed.run(program, ARTIGRAPH_PLUGINS="artigraph-pandas, acme-notes")

    assert installed.trace() == []
    assert installed.rows() == [("pandas.dataframe.parquet", "artigraph-pandas")]


def test_what_works_saves_and_loads_beside_them(installed: Installed) -> None:
    """JSON, text, pandas, and the plugins that behave: in two processes."""
    program = """
        import notes, optional, pandas, registering

        frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]})
        things = [module.Thing("it works") for module in (notes, optional, registering)]
        values = [2**70, {"nested": (1, [2.5])}, "text " * 20_000, *things]

        async def main():
            ids = [UUID(argument) for argument in sys.argv[1:]]
            if not ids:
                for value in [frame, *values]:
                    print(await Holder(value).save(label="holder"))
                return
            first, *others = [(await Holder.load(artifact_id)).value for artifact_id in ids]
            assert first.equals(frame) and not first.attrs
            assert others == values
            assert [type(other) for other in others] == [type(value) for value in values]

        asyncio.run(main())
    """

    ids = installed.run(program).split()
    installed.run(program, *ids)

    assert len(ids) == 7


@pytest.fixture(scope="module")
def refusals(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For each broken plugin: what saving a value of its type says, at the second attempt."""
    program = """
        import json
        from artigraph import PluginLoadError

        async def main():
            texts = {}
            for key in sys.argv[1:]:
                value = Holder(import_module(key).Thing("of a broken plugin"))
                for _ in range(2):
                    try:
                        await value.save(label="refused")
                    except PluginLoadError as error:
                        texts[key] = "\\n".join([str(error), *error.__notes__])
            print(json.dumps(texts))

        asyncio.run(main())
    """
    environment = Installed(python, tmp_path_factory.mktemp("refusals"))
    # What the noisy one prints comes first.
    keys = [plugin.key for plugin in BROKEN if plugin.has_library]
    return json.loads(environment.run(program, *keys).splitlines()[-1])


@pytest.mark.parametrize(
    "plugin", [each for each in BROKEN if each.has_library], ids=lambda plugin: plugin.name
)
def test_a_value_that_needs_a_broken_plugin_is_refused_with_all_there_is_to_know(
    refusals: dict[str, str], listing: dict[str, dict[str, Any]], plugin: Plugin
) -> None:
    """Key, distribution, version, cause and command; what an earlier attempt said is not in it."""
    module = plugin.value or plugin.module

    text, *notes = refusals[plugin.key].split("\n")

    assert text.startswith(
        f"plugin {module!r} of {plugin.name} {VERSION}, which claims {plugin.key!r}, can't be"
        f" loaded: {listing[plugin.name]['reason']}. Everything that does not need it keeps working"
    )
    assert "pip install" in text
    assert text.endswith(plugin.name)
    assert notes == ["It was needed to save Holder.value."]


@pytest.mark.parametrize("argument", [[], ["saved"]], ids=["save", "load"])
def test_a_slow_import_does_not_stop_the_event_loop(
    installed: Installed, argument: list[str]
) -> None:
    """It runs in a thread: the plugin waits for what a task of the same loop does."""
    program = """
        import slow

        async def main():
            if sys.argv[1:]:
                using = asyncio.create_task(Holder.load(UUID(sys.argv[1])))
            else:
                using = asyncio.create_task(Holder(slow.Thing("patience")).save(label="slow"))
            if "GATE" in os.environ:
                gate = await asyncio.to_thread(open, os.environ["GATE"], "w")
                for _ in range(1_000):
                    await asyncio.sleep(0)
                await Holder(["something", "else"]).save(label="else")
                assert not using.done()
                gate.close()
            print(await using)

        asyncio.run(main())
    """
    os.mkfifo(installed.folder / "gate")
    gate = str(installed.folder / "gate")
    arguments = [installed.run(program).strip()] if argument else []

    printed = installed.run(program, *arguments, GATE=gate)

    assert printed.startswith("Holder(value=<slow.Thing" if argument else "0")
    assert installed.trace().count("slow_to_import_plugin") == 1 + len(arguments)


def test_a_slow_import_does_not_stop_other_threads(installed: Installed) -> None:
    """Other keys are looked up meanwhile; who asks for the same one gets the same serializer."""
    program = """
        import notes

        found = []
        slow = [
            threading.Thread(target=lambda: found.append(get_serializer("slow.thing")))
            for _ in range(2)
        ]
        slow[0].start()
        gate = open(os.environ["GATE"], "w")
        slow[1].start()

        names = ["json", "text", "notes.thing", "twin.one", "pandas.dataframe.parquet"]
        assert [get_serializer(name).name for name in names] == names
        assert not found
        gate.close()
        for thread in slow:
            thread.join()
        assert found[0] is found[1]
    """
    os.mkfifo(installed.folder / "gate")

    installed.run(program, GATE=str(installed.folder / "gate"))

    assert installed.trace().count("slow_to_import_plugin") == 1


def test_a_plugin_registers_in_its_module_while_sixteen_threads_look_it_up(
    installed: Installed,
) -> None:
    """All get it, by its type and by its name, nobody waits for ever, and it is imported once."""
    program = """
        import registering
        from artigraph.plugins import registry

        barrier = threading.Barrier(16)
        found = []

        def look_up(by_type):
            barrier.wait()
            if by_type:
                found.append(registry.find_serializer_for(registering.Thing))
            else:
                found.append(get_serializer("registering.thing"))
            found.append(get_serializer("notes.thing"))

        threads = [threading.Thread(target=look_up, args=(n % 2,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(found) == 32
        assert {one.name for one in found} == {"registering.thing", "notes.thing"}
        assert len(set(found)) == 2
    """

    installed.run(program)

    assert sorted(installed.trace()) == ["acme_notes_plugin", "self_registering_plugin"]


def test_a_stolen_name_is_told_apart_by_the_distribution_in_the_row(installed: Installed) -> None:
    """Ours comes first, by type and by name; what the thief wrote is read by the thief.

    The order is: what the field says, what the application registered, what it prefers, the
    official plugins, all others.
    """
    saving = """
        import pandas
        from artigraph_pandas import dataframe_feather_serializer

        class Mine(Serializer):
            name = "mine.frame"
            types = (pandas.DataFrame,)
            def serialize(self, value): return b"mine"
            def deserialize(self, data): raise NotImplementedError

        @dataclass
        class Explicit(ArtifactModel, version=1):
            value: object = artifact_field(serializer=dataframe_feather_serializer)

        frame = pandas.DataFrame({"a": [1, 2]})
        name = "pandas.dataframe.parquet"

        async def main():
            assert type(get_serializer(name)).__module__.startswith("artigraph_pandas.")
            print(await Holder(frame).save(label="official"))
            prefer(name, distribution="Pandas_Thief")
            print(await Holder(frame).save(label="preferred"))
            Mine().register()
            await Holder(frame).save(label="registered")
            await Explicit(frame).save(label="explicit")

        asyncio.run(main())
    """
    loading = """
        async def main():
            official, preferred = [(await Holder.load(UUID(each))).value for each in sys.argv[1:]]
            assert official.equals(preferred)
            print(official.attrs, preferred.attrs)

        asyncio.run(main())
    """

    ids = installed.run(saving).split()
    printed = installed.run(loading, *ids)

    assert installed.rows() == [
        ("pandas.dataframe.parquet", "artigraph-pandas"),
        ("pandas.dataframe.parquet", "pandas-thief"),
        ("mine.frame", None),
        ("pandas.dataframe.feather", "artigraph-pandas"),
    ]
    assert printed.strip() == "{} {'by': 'thief'}"


def test_two_claimants_of_a_type_are_an_error_that_names_both(installed: Installed) -> None:
    """Nothing is saved until somebody has chosen; either can still be loaded."""
    program = """
        import twin
        from artigraph import AmbiguousSerializerError

        async def main():
            try:
                await Holder(twin.Thing("mine")).save(label="refused")
            except AmbiguousSerializerError as error:
                print(error)
            prefer("twin.two")
            artifact_id = await Holder(twin.Thing("mine")).save(label="chosen")
            assert (await Holder.load(artifact_id)).value == twin.Thing("mine")

        asyncio.run(main())
    """

    text = installed.run(program)

    claims = ("'twin.one' of twin-one", "'twin.two' of twin-two")
    claimed = [f"twin.Thing is claimed by {a} and by {b}." for a in claims for b in claims]
    assert text.startswith(tuple(claimed))
    assert "Choose with artifact_field(serializer=...), or once for the process" in text
    assert installed.rows() == [("twin.two", "twin-two")]


def test_two_of_one_name_are_an_error_that_names_both(installed: Installed) -> None:
    """On save, and where a row does not say who wrote it; `prefer` decides, also against rows."""
    program = """
        import namesake
        from artigraph import AmbiguousSerializerError, SerializerNotFoundError

        async def main():
            thing = namesake.Thing("mine")
            try:
                await Holder(thing).save(label="refused")
            except AmbiguousSerializerError as error:
                print(error)
            for choose in (get_serializer, prefer):
                try:
                    choose("namesake.thing")
                except AmbiguousSerializerError as error:
                    print(error)
            try:
                prefer("namesake.thing", distribution="twin-one")
            except SerializerNotFoundError as error:
                print(error)
            for name in ("namesake-two", "namesake-one"):
                prefer("namesake.thing", distribution=name)
                artifact_id = await Holder(thing).save(label=name)
                assert (await Holder.load(artifact_id)).value == thing

        asyncio.run(main())
    """

    by_type, by_name, preferred, not_there = installed.run(program).splitlines()

    for text in (by_type, by_name):
        assert "'namesake.thing' of namesake-one" in text
        assert "'namesake.thing' of namesake-two" in text
        assert "artigraph.serializer.prefer('namesake.thing', distribution='namesake-" in text
    assert by_type.startswith("namesake.Thing is claimed by")
    assert by_name.startswith("'namesake.thing' is claimed by")
    assert preferred == by_name
    assert not_there.startswith("no serializer is registered as 'namesake.thing' by twin-one.")
    assert installed.rows() == [("namesake.thing", f"namesake-{name}") for name in ("two", "one")]


def build_wheel(folder: Path, plugin: Plugin) -> Path:
    """A wheel as build back ends make it, of a few modules."""
    stem = f"{plugin.name.replace('-', '_')}-{VERSION}"
    info = f"{stem}.dist-info"
    files = {
        **{f"{module}.py": source for module, source in plugin.modules.items()},
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {plugin.name}\nVersion: {VERSION}\n"
            f"Requires-Dist: {plugin.requires}\n"
        ),
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        f"{info}/entry_points.txt": plugin.entry_points,
    }
    path = folder / f"{stem}-py3-none-any.whl"
    with ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", record(files, f"{info}/RECORD"))
    return path


def record(files: dict[str, str], own: str) -> str:
    """The list of a wheel's files, with the hash and the size of each but itself."""
    text = io.StringIO()
    rows: list[Sequence[str | int]] = []
    for name, content in files.items():
        data = content.encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append((name, f"sha256={digest}", len(data)))
    csv.writer(text, lineterminator="\n").writerows([*rows, (own, "", "")])
    return text.getvalue()


def damage(site: Path) -> None:
    """Do to installed metadata what a full disk, or an install that was interrupted, does."""
    replace(site, "damaged_line", "entry_points.txt", b"[artigraph]\nline damaged_line_plugin\n")
    replace(site, "damaged_name", "METADATA", b"Metadata-Version: 2.1\n")
    replace(site, "damaged_missing", "METADATA", None)
    replace(site, "stranger", "METADATA", None)
    replace(site, "stranger", "entry_points.txt", b"\xff\xfe[artigraph]\n")
    scripts = b"[console_scripts]\nextra = extra:main [artigraph]\nno entry\n"
    replace(site, "stranger_with_extra", "METADATA", None)
    replace(site, "stranger_with_extra", "entry_points.txt", scripts)


def replace(site: Path, distribution: str, name: str, data: bytes | None) -> None:
    path = site / f"{distribution}-{VERSION}.dist-info" / name
    path.unlink()  # never in place: it is a hard link to the file in the installer's cache
    if data is not None:
        path.write_bytes(data)


def site_packages(python: Path) -> Path:
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    return site
