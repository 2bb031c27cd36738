"""What users install: each distribution as a wheel, in an environment that has nothing else."""

import re
import sys
import tomllib
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
import servers
from distributions import ROOT, Environment, output, uv

FOLDERS = {"artigraph": ROOT, **{path.name: path for path in (ROOT / "packages").iterdir()}}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

# Saves without arguments, and loads what has the given id: in two processes, by id alone.
ROUND_TRIP = """\
import asyncio
import sys
from dataclasses import dataclass
from uuid import UUID

import artigraph
from artigraph import ArtifactModel, artifact_field

{imports}

@dataclass
class Holder(ArtifactModel, version=1):
    value: {type} = artifact_field({field})

async def main() -> None:
    value = {value}
    if len(sys.argv) == 1:
        print(await Holder(value).save(label="holder"))
    else:
        loaded = (await Holder.load(UUID(sys.argv[1]))).value
        assert type(loaded) is type(value), type(loaded)
        assert {equal}, loaded

asyncio.run(main())
"""

VALUES = {
    "numpy": {
        "imports": "import numpy",
        "type": "numpy.ndarray",
        "value": "numpy.arange(6.0).reshape(2, 3)",
        "equal": "loaded.dtype == value.dtype and numpy.array_equal(loaded, value)",
    },
    "pandas": {
        "imports": "import pandas",
        "type": "pandas.DataFrame",
        "value": "pandas.DataFrame({'a': [1, 2], 'b': ['x', None]})",
        "equal": "loaded.equals(value)",
    },
    "polars": {
        "imports": "import polars",
        "type": "polars.DataFrame",
        "value": "polars.DataFrame({'a': [1, 2], 'b': ['x', None]})",
        "equal": "loaded.equals(value)",
    },
    "pyarrow": {
        "imports": "import pyarrow",
        "type": "pyarrow.Table",
        "value": "pyarrow.table({'a': [1, 2], 'b': ['x', None]})",
        "equal": "loaded.equals(value)",
    },
    "aws": {
        "imports": (
            "import os\n"
            "from artigraph.storage.aws import S3Storage\n"
            "endpoint = os.environ['ENDPOINT']\n"
            "bucket = S3Storage(os.environ['BUCKET'], endpoint_url=endpoint).register()\n"
        ),
        "type": "bytes",
        "field": "storage=bucket",
        "value": "bytes(range(256)) * 4096",
    },
}
SCALARS = {
    "type": "dict",
    "value": "{'int': 2**70, 'text': 'h\\u00e9', 'none': None, 'nested': (1, [2.5, b'\\0'])}",
}

DOORS = {
    "artigraph.serializer.numpy": "numpy",
    "artigraph.serializer.pandas": "pandas",
    "artigraph.serializer.polars": "polars",
    "artigraph.serializer.pyarrow": "pyarrow",
    "artigraph.storage.aws": "aws",
}


def test_there_are_six_distributions_of_one_version(wheels: dict[str, Path]) -> None:
    """They are released together, under one number."""
    versions = {name: metadata(path)["Version"] for name, path in wheels.items()}

    assert versions == dict.fromkeys(FOLDERS, VERSION)
    assert len(versions) == 6


def test_the_core_says_which_version_it_is(environment: Environment, tmp_path: Path) -> None:
    """`artigraph.__version__` is that of the distribution."""
    script = "import artigraph; print(artigraph.__version__)"

    assert run(environment("artigraph-core"), tmp_path, "-c", script).strip() == VERSION


def test_the_meta_distribution_has_no_code(wheels: dict[str, Path]) -> None:
    """It is its metadata, so nothing of it can be imported or shadow the core."""
    names = contents(wheels["artigraph"])

    assert all(name.startswith(f"artigraph-{VERSION}.dist-info/") for name in names)


def test_the_meta_distribution_pins_what_was_tested_together(wheels: dict[str, Path]) -> None:
    """Every requirement is exact, and no folder of the machine that built it is left in it."""
    requirements = metadata(wheels["artigraph"]).get_all("Requires-Dist", [])

    assert requirements
    assert all(f"=={VERSION}" in requirement for requirement in requirements)
    assert not any("file:" in requirement for requirement in requirements)


def test_the_meta_distribution_forwards_the_extras(wheels: dict[str, Path]) -> None:
    """`all` is every data library and storage, and leaves out the drivers of database servers."""
    requirements = metadata(wheels["artigraph"]).get_all("Requires-Dist", [])
    extras: dict[str, set[str]] = {}
    for requirement in requirements:
        name, _, extra = requirement.partition("; extra == ")
        extras.setdefault(extra.strip("'\""), set()).add(name.partition("==")[0])
    data = ["aws", "numpy", "pandas", "polars", "pyarrow"]

    assert extras.pop("") == {"artigraph-core"}
    assert extras.pop("mysql") == {"artigraph-core[mysql]"}
    assert extras.pop("postgresql") == {"artigraph-core[postgresql]"}
    assert extras.pop("all") == set().union(*(extras[extra] for extra in data))
    assert sorted(extras) == data


def test_a_plugin_takes_every_patch_release_of_its_core(wheels: dict[str, Path]) -> None:
    """A plugin and a later patch of the core can be mixed; another minor version can't."""
    plugins = set(wheels) - {"artigraph", "artigraph-core"}

    pins = {
        name: [
            requirement
            for requirement in metadata(wheels[name]).get_all("Requires-Dist", [])
            if requirement.startswith("artigraph")
        ]
        for name in plugins
    }

    assert pins == {name: [f"artigraph-core~={VERSION}"] for name in plugins}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_has_its_licence_and_its_types(wheels: dict[str, Path], name: str) -> None:
    """Whoever has the wheel alone has the licence, and a type checker reads its annotations."""
    names = contents(wheels[name])

    licence = f"{name.replace('-', '_')}-{VERSION}.dist-info/licenses/LICENSE"
    assert ZipFile(wheels[name]).read(licence) == (ROOT / "LICENSE").read_bytes()
    assert name == "artigraph" or any(path.endswith("/py.typed") for path in names)


def test_core_alone_is_small(environment: Environment) -> None:
    """The core brings SQLAlchemy, greenlet, pluggy and aiosqlite, with what these need."""
    assert installed(environment("artigraph-core")) == {
        *("artigraph-core", "sqlalchemy", "greenlet", "pluggy", "aiosqlite", "typing-extensions")
    }


def test_core_alone_is_at_most_eight_distributions(environment: Environment) -> None:
    """Whatever the core comes to require, this is the bound."""
    assert len(installed(environment("artigraph-core"))) <= 8


def test_the_table_of_installs_has_every_extra(wheels: dict[str, Path]) -> None:
    """A new extra is measured too: `make sizes` writes the table."""
    extras = metadata(wheels["artigraph"]).get_all("Provides-Extra", [])
    rows = ["artigraph-core", *(f"artigraph[{extra}]" for extra in extras)]
    page = (ROOT / "docs/installs.md").read_text()

    measured = re.findall(r"^\| `(.+?)` \|(?: [\d.]+ \|){5}", page, re.MULTILINE)

    assert extras
    assert sorted(measured) == sorted(rows)


def test_core_alone_saves_and_loads(environment: Environment, tmp_path: Path) -> None:
    """The core is of use without any extra, and without any set-up."""
    round_trip(environment("artigraph-core"), tmp_path, SCALARS)


@pytest.mark.parametrize(("door", "extra"), DOORS.items())
def test_core_alone_says_what_a_door_needs(
    environment: Environment, tmp_path: Path, door: str, extra: str
) -> None:
    """An import that lacks an extra is an ImportError with the command to type."""
    script = f"try:\n    import {door}\nexcept ImportError as error:\n    print(error)"

    said = run(environment("artigraph-core"), tmp_path, "-c", script)

    assert f'pip install "artigraph[{extra}]"' in said


@pytest.mark.parametrize("extra", ["numpy", "pandas", "polars", "pyarrow"])
def test_an_extra_keeps_the_types_of_its_library(
    environment: Environment, tmp_path: Path, extra: str
) -> None:
    """One extra is enough for the types of one library."""
    round_trip(environment(f"artigraph[{extra}]"), tmp_path, VALUES[extra])


@pytest.mark.s3
def test_the_extra_aws_keeps_values_in_s3(
    environment: Environment, tmp_path: Path, s3_server: servers.S3Server
) -> None:
    """The extra `aws` is enough to keep a value in a bucket."""
    settings = {
        "BUCKET": s3_server.bucket,
        "ENDPOINT": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": s3_server.region,
    }

    round_trip(environment("artigraph[aws]"), tmp_path, VALUES["aws"], settings)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
)
def test_the_extra_of_a_database_brings_its_driver(
    environment: Environment, tmp_path: Path, request: pytest.FixtureRequest, extra: str
) -> None:
    """A plain URL needs the extra of its database and nothing else."""
    databases: servers.Databases = request.getfixturevalue(f"{extra}_databases")
    url = databases.create()

    round_trip(environment(f"artigraph[{extra}]"), tmp_path, SCALARS, {"ARTIGRAPH_URL": url})

    databases.drop(url)


def test_everything_can_be_installed_together(environment: Environment, tmp_path: Path) -> None:
    """The extra `all` opens every door, with versions that go together."""
    run(environment("artigraph[all]"), tmp_path, "-c", f"import {', '.join(DOORS)}")


@pytest.mark.parametrize(
    "statement", ["import artigraph", "from artigraph import ArtifactModel, Run, RunManager"]
)
def test_importing_artigraph_imports_nothing_heavy(tmp_path: Path, statement: str) -> None:
    """Importing a model costs no database and no data library."""
    heavy = {
        *("sqlalchemy", "pluggy", "aiosqlite", "asyncpg", "asyncmy", "importlib.metadata"),
        *("numpy", "pandas", "polars", "pyarrow", "aioboto3", "botocore"),
    }
    script = f"import sys\n{statement}\nprint(*sys.modules)"

    imported = set(run(Path(sys.executable), tmp_path, "-c", script).split())

    assert "artigraph" in imported
    assert not imported & heavy


def round_trip(
    python: Path, folder: Path, case: dict[str, str], settings: dict[str, str] | None = None
) -> None:
    defaults = {"imports": "", "field": "", "equal": "loaded == value"}
    script = folder / "round_trip.py"
    script.write_text(ROUND_TRIP.format(**{**defaults, **case}))
    artifact_id = run(python, folder, str(script), env=settings).strip()
    run(python, folder, str(script), artifact_id, env=settings)


def run(python: Path, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What Python prints; any warning is an error."""
    # An environment is new, so most of the time goes into compiling: once is enough.
    compiling = {"PYTHONDONTWRITEBYTECODE": ""}
    return output([python, "-W", "error", *arguments], folder, {**compiling, **(env or {})})


def installed(python: Path) -> set[str]:
    listed = uv("pip", "freeze", "--python", python)
    return {re.split("==| @ ", line)[0] for line in listed.splitlines()}


def metadata(wheel: Path) -> Message:
    (name,) = (name for name in contents(wheel) if name.endswith(".dist-info/METADATA"))
    with ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(name).decode())


def contents(wheel: Path) -> list[str]:
    with ZipFile(wheel) as archive:
        return archive.namelist()
