"""What `python -m artigraph plugins` says, and what it does not do to say it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artigraph.__main__ import main
from artigraph.listing import ListedPlugin, as_json, as_text, list_plugins
from artigraph.plugins import Registry, registry

Install = Callable[..., Path]
"""The fixture `install`: a name, its entry points, and the source of each module."""

WORKING = """
    import acme
    from artigraph.spec import Serializer

    class Cube: pass
    class Ball: pass

    class Own(Serializer):
        def __init__(self, name, *types): self.name, self.types = name, types
        def serialize(self, value): return b""
        def deserialize(self, data): return Cube()

    class Pickled(Own):
        executes_code = True

    def artigraph_serializers():
        return [Own("acme.solid.v1", Cube, Ball), Own("acme.any"), Pickled("acme.pickle", Cube)]

    def artigraph_open_storage(uri): return None
"""

MISSING = """
    from artigraph.errors import MissingExtraError
    raise MissingExtraError("a cube", "cubes", "")
"""


def listed(distribution: str, *, load: bool = False) -> ListedPlugin:
    """What a new registry lists of a distribution with one plugin."""
    (found,) = [
        each
        for each in list_plugins(Registry(), load=load)
        if each.plugin.distribution == distribution
    ]
    return found


@contextmanager
def only(*names: str) -> Iterator[None]:
    """The registry of the process, with these distributions and what is built in alone."""
    with pytest.MonkeyPatch.context() as context, registry.isolated():
        context.setenv("ARTIGRAPH_PLUGINS", ", ".join(names))
        yield


def test_what_is_built_in_is_loaded_without_asking() -> None:
    """It is imported to list anything."""
    built_in = {
        min(each.plugin.keys): each.state
        for each in list_plugins(Registry())
        if each.plugin.distribution == "artigraph-core"
    }

    assert built_in == {
        **dict.fromkeys(["builtins", "file", "json"], "loaded"),
        "numpy": "not loaded",
    }


def test_a_plugin_is_not_loaded_until_it_is_asked_for(install: Install) -> None:
    """By the listing or by anyone else; then it says what it provides."""
    install("acme", {"acme": "acme", "vault": "acme"}, acme=WORKING)
    registry = Registry()

    before = listed("acme")
    registry.get_serializer("acme.any")
    after = next(each for each in list_plugins(registry) if each.plugin.distribution == "acme")

    assert (before.state, before.serializers, before.schemes) == ("not loaded", (), ())
    assert (after.state, after.reason) == ("loaded", "")
    assert [one.name for one in after.serializers] == ["acme.solid.v1", "acme.any", "acme.pickle"]
    assert after.schemes == ("vault",)


@pytest.mark.parametrize(
    ("source", "state", "reason"),
    [
        (WORKING, "loaded", ""),
        ("raise ValueError('no licence')", "failed", "ValueError: no licence"),
        (
            MISSING,
            "unavailable",
            "a cube needs cubes, which is not installed. pip install 'cubes'",
        ),
    ],
    ids=["loaded", "failed", "unavailable"],
)
def test_loading_tells_whether_it_works(
    install: Install, source: str, state: str, reason: str
) -> None:
    """Its own fault is a failure, a library that is not there is none."""
    install("acme", {"acme": "acme"}, acme=source)

    assert listed("acme").state == "not loaded"
    assert "acme" not in sys.modules
    found = listed("acme", load=True)
    assert (found.state, found.reason) == (state, reason)


@pytest.mark.parametrize(
    ("variable", "value", "is_damaged"),
    [
        ("ARTIGRAPH_DISABLE_PLUGINS", "acme", False),
        ("ARTIGRAPH_DISABLE_PLUGINS", "Acme.Cubes", False),
        ("ARTIGRAPH_DISABLE_PLUGINS", "Acme.Cubes", True),
        ("ARTIGRAPH_PLUGINS", "pandas", False),
        ("ARTIGRAPH_PLUGINS", "pandas", True),
    ],
)
def test_what_is_switched_off_is_not_tried(
    install: Install, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, is_damaged: bool
) -> None:
    """Nor is the damage of its metadata a failure: who has switched it off knows."""
    info = install("acme-cubes", {"acme": "acme"}, acme="raise AssertionError('imported')")
    if is_damaged:
        (info / "METADATA").unlink()
    monkeypatch.setenv(variable, value)

    found = listed("acme-cubes", load=True)

    assert found.state == "disabled"
    assert found.reason == "switched off by ARTIGRAPH_DISABLE_PLUGINS or ARTIGRAPH_PLUGINS"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("METADATA", None, "ValueError: 'METADATA is missing, or has no Name and Version'"),
        (
            "METADATA",
            "Metadata-Version: 2.1\nName: acme\n",
            "ValueError: 'METADATA is missing, or has no Name and Version'",
        ),
        (
            "entry_points.txt",
            "[artigraph]\nacme\n",
            "ValueError: \"entry_points.txt has a line that is not 'key = module'\"",
        ),
    ],
    ids=["no metadata", "no version", "no entry"],
)
def test_damaged_metadata_is_listed_by_its_folder(
    install: Install, name: str, text: str | None, reason: str
) -> None:
    """Nothing is imported to see it, so it is known at once."""
    path = install("acme-cubes", {"acme": "acme"}, acme=WORKING) / name
    path.unlink()
    if text is not None:
        path.write_text(text)

    found = listed("acme-cubes")

    assert found.state == "failed"
    assert found.plugin.version == "1.5"
    assert found.reason == f"its metadata can't be read ({reason})"
    assert as_text([found]).splitlines()[:2] == ["acme-cubes 1.5", "  no keys: failed"]


def test_the_text_has_a_few_lines_for_each_distribution(install: Install) -> None:
    """The core, then ours, then others by name; types as they are written in Python."""
    install("acme", {"acme": "acme", "vault": "acme"}, acme=WORKING)
    install("Bolt", {"bolt": "bolt"}, bolt="raise ValueError('no\\n licence')")

    text = as_text(list_plugins(Registry(), load=True))

    assert text.startswith("artigraph-core ")
    assert text.index("\nartigraph-polars ") < text.index("\nacme 1.5\n")
    assert "\n  builtins, text: loaded\n    serializer text for str\n" in text
    assert "\n  file: loaded\n    storage file:...\n" in text
    assert text.endswith(
        "\n"
        "acme 1.5\n"
        "  acme, vault: loaded\n"
        "    serializer acme.solid.v1 for acme.Cube, acme.Ball\n"
        "    serializer acme.any for what is given to it\n"
        "    serializer acme.pickle for acme.Cube; it can execute code\n"
        "    storage vault:...\n"
        "bolt 1.5\n"
        "  bolt: failed\n"
        "    ValueError: no licence"
    )


def test_a_key_that_is_switched_off_is_marked(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin is there for its other keys."""
    install("acme", {"acme": "acme", "vault": "acme"}, acme=WORKING)
    monkeypatch.setenv("ARTIGRAPH_DISABLE_PLUGINS", "vault")

    found = listed("acme", load=True)

    assert "\n  acme, vault (switched off): loaded\n" in as_text([found])
    assert "storage" not in as_text([found])
    assert as_json([found])[0]["disabled_keys"] == ["vault"]


def test_a_name_that_two_distributions_have_is_marked_in_both(install: Install) -> None:
    """It is ambiguous where a row does not say who wrote it."""
    for name in ("acme", "bolt"):
        install(name, {"acme": name}, **{name: WORKING.replace("import acme", "")})

    text = as_text(list_plugins(Registry(), load=True))

    note = "; another distribution has a serializer of this name\n"
    for name in ("acme", "bolt"):
        assert f"    serializer acme.any for what is given to it{note}" in text
        assert f"serializer acme.pickle for {name}.Cube; it can execute code{note}" in f"{text}\n"
    assert "serializer json for what is given to it\n" in text


def test_json_has_the_same_for_programs(install: Install) -> None:
    """One object for each plugin, always with the same keys."""
    install("acme", {"acme": "acme", "vault": "acme"}, acme=WORKING)
    install("bolt", {"bolt": "bolt"}, bolt="raise ValueError('no licence')")

    values = as_json(list_plugins(Registry(), load=True))

    of = {each["distribution"]: each for each in json.loads(json.dumps(values))}
    assert of["acme"] == {
        "distribution": "acme",
        "version": "1.5",
        "module": "acme",
        "keys": ["acme", "vault"],
        "disabled_keys": [],
        "state": "loaded",
        "reason": "",
        "serializers": [
            {
                "name": "acme.solid.v1",
                "types": ["acme.Cube", "acme.Ball"],
                "executes_code": False,
            },
            {"name": "acme.any", "types": [], "executes_code": False},
            {"name": "acme.pickle", "types": ["acme.Cube"], "executes_code": True},
        ],
        "storages": ["vault"],
    }
    assert of["bolt"]["reason"] == "ValueError: no licence"
    assert {tuple(each) for each in values} == {tuple(of["acme"])}


@pytest.mark.parametrize(
    ("source", "options", "code"),
    [
        (WORKING, [], 0),
        (WORKING, ["--load"], 0),
        (MISSING, ["--load"], 0),
        ("raise ValueError('no licence')", [], 0),
        ("raise ValueError('no licence')", ["--load"], 1),
        ("raise ValueError('no licence')", ["--load", "--json"], 1),
    ],
)
def test_the_exit_code_says_whether_a_plugin_failed(
    install: Install,
    capsys: pytest.CaptureFixture[str],
    source: str,
    options: list[str],
    code: int,
) -> None:
    """What was not loaded has not failed, and what lacks its library has not, either."""
    install("acme", {"acme": "acme"}, acme=source)

    with only("acme"):
        assert main(["plugins", *options]) == code
    assert "acme" in capsys.readouterr().out


def test_what_a_plugin_prints_is_no_part_of_the_document(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs read the standard output."""
    install("acme", {"acme": "acme"}, acme="print('Welcome to Acme!')")

    with only("acme"):
        main(["plugins", "--load", "--json"])

    printed = capsys.readouterr()
    assert states(printed.out)["acme"] == "loaded"
    assert printed.err == "Welcome to Acme!\n"


def test_the_command_shows_what_the_functions_say(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text, and as one document."""
    install("acme", {"acme": "acme"}, acme=WORKING)

    with only("acme"):
        main(["plugins", "--load"])
        text = capsys.readouterr().out
        main(["plugins", "--json"])
        document = capsys.readouterr().out
        plugins = list_plugins(registry)

    assert text == as_text(plugins) + "\n"
    assert json.loads(document) == {"plugins": as_json(plugins)}
    assert states(document)["artigraph-pandas"] == "disabled"


def test_the_command_asks_for_one_that_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """And shows what there is."""
    for arguments in ([], ["plugin"], ["plugins", "--lode"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: python -m artigraph" in capsys.readouterr().err


def test_listing_imports_neither_a_database_nor_a_data_library(tmp_path: Path) -> None:
    """All are installed here: what is imported is what the listing needs itself."""
    heavy = {
        *("sqlalchemy", "aiosqlite", "numpy", "pandas", "polars", "pyarrow", "aioboto3"),
        *("botocore", "aiohttp", "greenlet"),
    }
    command = [sys.executable, "-X", "importtime", "-m", "artigraph", "plugins"]

    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert {f"artigraph-{name} " in result.stdout for name in ("pandas", "aws")} == {True}
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"artigraph", "pluggy"} <= imported
    assert not imported & heavy


def states(document: str) -> dict[str, Any]:
    """The state of each distribution, of its last plugin where it has several."""
    plugins = json.loads(document)["plugins"]
    return {each["distribution"]: each["state"] for each in plugins}
