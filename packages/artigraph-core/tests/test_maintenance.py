"""`python -m artigraph check`, `collect` and `delete`: what they print, and their exit codes."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

import artigraph
from artigraph import ArtifactModel, Run, RunManager, artifact_field
from artigraph.__main__ import main
from artigraph.spec import registered_storages
from artigraph.storage.file import FileSystem

Told = Callable[..., tuple[int, str]]


@dataclass
class Photo(ArtifactModel, version=1, name="maintenance.Photo"):
    title: str
    pixels: bytes


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command, and gives its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(arguments)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return (tmp_path / "files").as_uri()


@pytest.fixture
def run_id(database_url: str, storage: str) -> UUID:
    """A run with three photos, in a database that the commands are told of."""

    async def save() -> UUID:
        async with RunManager(Run(label="nightly")) as manager:
            for number in range(3):
                await manager.save_artifact(f"{number}", Photo("x", bytes([number]) * 100_000))
        return manager.run.node_id

    artigraph.set_database(database_url, storage=storage)
    return asyncio.run(save())


def test_what_is_intact_is_told_as_such(
    told: Told, database_url: str, storage: str, run_id: UUID
) -> None:
    """All of it, or what is in a run; read, or only looked for."""
    database = ("--url", database_url, "--storage", storage)

    code, text = told("check", "--deep", *database)

    assert code == 0
    assert "3 artifacts, 3 values with data of their own, 300,000 bytes read: 0 damaged" in text
    assert told("check", f"{run_id}", *database)[0] == 0
    assert f"no run {UUID(int=7)}" in told("check", f"{UUID(int=7)}", *database)[1]


def test_what_is_damaged_is_named(
    told: Told, database_url: str, storage: str, run_id: UUID, tmp_path: Path
) -> None:
    """By its state, label, field and place; the exit code says it too."""
    database = ("--url", database_url, "--storage", storage)
    gone, cut, *_ = sorted((tmp_path / "files").glob("??/*"))
    gone.unlink()
    cut.write_bytes(b"short")

    code, text = told("check", "--deep", *database)

    assert code == 4
    assert "missing     artifact '" in text
    assert "maintenance.Photo.pixels" in text
    assert gone.name in text
    assert "its data is truncated" in text
    assert "2 damaged" in text
    found = json.loads(told("check", "--deep", "--json", *database)[1])
    assert sorted(each["damage"] for each in found["findings"]) == ["missing", "truncated"]


def test_a_copy_mends_what_is_damaged(
    told: Told, database_url: str, storage: str, tmp_path: Path
) -> None:
    """Where another artifact has the same data."""

    async def save() -> None:
        for _ in range(2):
            await Photo("twin", b"x" * 100_000).save("twin")

    artigraph.set_database(database_url, storage=storage)
    asyncio.run(save())
    next((tmp_path / "files").glob("??/*")).unlink()
    database = ("--url", database_url, "--storage", storage)

    code, text = told("check", "--repair", *database)

    assert code == 0
    assert text.splitlines()[1].startswith("mended")
    assert told("check", "--deep", *database)[0] == 0


def test_nothing_is_removed_without_apply(
    told: Told, database_url: str, storage: str, run_id: UUID, tmp_path: Path
) -> None:
    """A plan is printed instead; with it, first the rows go, and then their data."""
    database = ("--url", database_url, "--storage", storage)

    def files() -> int:
        return len(list((tmp_path / "files").glob("??/*")))

    planned = told("delete", f"{run_id}", *database)
    assert planned[0] == 0
    assert "would be deleted: 1 runs, 3 artifacts, 7 rows" in planned[1]
    assert "for collect: 3 objects, 300,000 bytes" in planned[1]
    assert "repeat it with --apply" in planned[1]

    assert (
        "\ndeleted: 1 runs"
        in told("delete", "--runs", "--label", "nightly", "--apply", *database)[1]
    )
    assert "waiting: 3" in told("collect", "--apply", *database)[1]
    assert "would be removed: 3 objects" in told("collect", "--grace", "0", *database)[1]
    assert files() == 3
    assert (
        "\nremoved: 3 objects, 300,000 bytes"
        in told("collect", "--grace", "0", "--apply", *database)[1]
    )
    assert files() == 0


def test_what_could_not_be_removed_is_told_once(
    told: Told, database_url: str, storage: str, run_id: UUID
) -> None:
    """Here because the storage is not named; as text and as JSON, with the number of objects."""
    told("delete", f"{run_id}", "--apply", "--url", database_url, "--storage", storage)
    failure = "storage 'default': 3 objects could not be removed, such as that at"

    code, text = told("collect", "--grace", "0", "--apply", "--url", database_url)
    _, document = told("collect", "--grace", "0", "--apply", "--json", "--url", database_url)

    assert code == 1
    assert f"\nfailed      {failure}" in text
    assert text.count("failed") == 1
    (line,) = json.loads(document)["failures"]
    assert line.startswith(failure)
    assert "ARTIGRAPH_STORAGE" in line


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (("--artifacts", "--label", "1"), 1),
        (("--artifacts", "--model", "maintenance.Photo"), 3),
        (("--artifacts", "--model", "Other"), 0),
        (("--artifacts", "--created-before", "2013-01-01"), 0),
        (("--runs", "--status", "succeeded"), 3),
        (("--runs", "--status", "failed"), 0),
    ],
)
def test_queries_say_what_is_deleted(
    told: Told, database_url: str, storage: str, run_id: UUID, query: tuple[str, ...], count: int
) -> None:
    """By what the rows say; one that matches nothing deletes nothing."""
    plan = told("delete", *query, "--json", "--url", database_url, "--storage", storage)

    assert json.loads(plan[1])["artifacts"] == count


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--created-before", "yesterday", "'yesterday' is no moment: write 2026-01-31"),
        ("--status", "done", "invalid choice: 'done'"),
    ],
)
def test_an_option_that_says_nothing_is_told(
    capsys: pytest.CaptureFixture[str], option: str, value: str, words: str
) -> None:
    """A query with a slip in it would match nothing, and seem to have worked."""
    with pytest.raises(SystemExit) as caught:
        main(["delete", "--runs", option, value])

    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_storage_that_rows_name_is_registered_by_its_uri(
    told: Told, database_url: str, tmp_path: Path
) -> None:
    """Otherwise nothing is known of what is in it, and nothing of it is removed."""
    own = FileSystem(tmp_path / "own")

    @dataclass
    class Kept(ArtifactModel, version=1):
        data: bytes = artifact_field(storage=own)

    artigraph.set_database(database_url)
    node_id = asyncio.run(Kept(b"data").save("kept"))

    code, text = told("check", "--url", database_url)
    assert code == 4
    assert "unreachable" in text
    register = ("--url", database_url, "--register", own.name)
    with registered_storages.isolated():
        assert told("check", "--deep", *register)[0] == 0
    told("delete", f"{node_id}", "--apply", "--url", database_url)
    code, text = told("collect", "--grace", "0", "--apply", "--url", database_url)
    assert code == 1
    assert "no storage is registered" in text
    assert told("collect", "--grace", "0", "--apply", *register)[0] == 0
    assert not list((tmp_path / "own").glob("??/*"))


def test_a_database_that_is_not_there_is_not_made(told: Told, tmp_path: Path) -> None:
    """A mistyped name is no new, empty database that is well."""
    for arguments in ((), ("--url", f"sqlite:///{tmp_path}/typo.db")):
        code, text = told("check", *arguments)

        assert code == 1
        assert "the file does not exist" in text
    assert not list(tmp_path.iterdir())


def test_the_embedded_database_is_the_default(told: Told, tmp_path: Path) -> None:
    """That of the folder, with its files."""
    asyncio.run(Photo("x", b"x" * 100_000).save("photo"))

    code, text = told("check", "--deep")

    assert code == 0
    assert f"database sqlite:///{tmp_path}/.artigraph/graph.db\n" in text
    shutil.rmtree(tmp_path / ".artigraph/files")
    assert told("check")[0] == 4
