"""How many statements and commits each call takes: the same on every machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

import artigraph
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    ArtifactSequence,
    ConflictError,
    Run,
    RunManager,
)
from artigraph.database import current_database
from artigraph.storage.file import FileSystem


@dataclass
class Wide(ArtifactModel, version=1):
    number: int
    inner: "Wide | None" = None
    by_name: ArtifactMapping[str, Any] = field(default_factory=ArtifactMapping)
    in_order: ArtifactSequence[Any] = field(default_factory=ArtifactSequence)


def wide(count: int) -> Wide:
    return Wide(
        count,
        Wide(1, Wide(2)),
        ArtifactMapping({f"{n}": Wide(n) for n in range(count)}),
        ArtifactSequence(range(count)),
    )


@contextmanager
def counted() -> Iterator[list[str]]:
    """The first words of the statements that are sent, and the commits, as they happen."""
    seen: list[str] = []

    def execute(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        seen.append("SELECT" if statement.startswith("WITH") else statement.split()[0])

    def commit(connection: Any) -> None:
        seen.append("COMMIT")

    event.listen(Engine, "before_cursor_execute", execute)
    event.listen(Engine, "commit", commit)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", execute)
        event.remove(Engine, "commit", commit)


@pytest.fixture
async def connected(database_url: str, tmp_path: Path) -> None:
    """The database after its first use, which is not counted."""
    artigraph.set_database(database_url, storage=FileSystem(tmp_path / "files"))
    await Wide(0).save("first use")


@pytest.fixture
def commit(database_url: str) -> list[str]:
    """On PostgreSQL a statement that is alone is a transaction, and takes one trip, not three."""
    return [] if database_url.startswith("postgresql") else ["COMMIT"]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("count", [0, 1, 300])
async def test_a_save_is_one_insert_and_one_commit(count: int, commit: list[str]) -> None:
    """Whatever is in it: models, mappings and sequences of any size."""
    with counted() as seen:
        await wide(count).save("x")

    assert seen == ["INSERT", *commit]


@pytest.mark.usefixtures("connected")
async def test_any_number_of_models_is_one_insert_and_one_commit(commit: list[str]) -> None:
    """Where they are saved by one call."""
    async with RunManager(Run()) as manager:
        with counted() as seen:
            await manager.save_artifacts({f"{n}": wide(1) for n in range(1_000)})

    assert seen == ["INSERT", *commit]


async def test_data_in_rows_is_one_insert_however_much_it_is(
    database_url: str, commit: list[str]
) -> None:
    """Also where it is more than PostgreSQL takes as arrays."""
    artigraph.set_database(database_url)  # without a storage, so that data stays in the rows
    await Wide(0).save("first use")
    model = Wide(1, in_order=ArtifactSequence(bytes([n]) * 1_000_000 for n in range(68)))

    with counted() as seen:
        node_id = await model.save("x")

    assert seen == ["INSERT", *commit]
    assert await Wide.load(node_id) == model


async def test_data_in_rows_is_all_or_nothing_however_much_it_is(database_url: str) -> None:
    """The last row is refused, when the server has taken those before it."""
    artigraph.set_database(database_url)
    async with RunManager(Run()) as manager:
        await manager.save_artifact("taken", 1)

        with pytest.raises(ConflictError, match="taken"):
            await manager.save_artifacts(
                {**{f"{n}": bytes([n]) * 1_000_000 for n in range(68)}, "taken": 2}
            )

        assert await manager.load_artifacts() == {"taken": 1}


@dataclass
class Flat(ArtifactModel, version=1, name="statements.Flat"):
    number: int


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])
@pytest.mark.parametrize(
    "new_database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
async def test_a_model_by_itself_is_one_trip_to_mariadb(database_url: str, driver: str) -> None:
    """No transaction is begun and ended, or rolled back, around what is one statement."""
    artigraph.set_database(database_url.replace("mysql", f"mysql+{driver}", 1))
    ids = [await Flat(0).save("first use")]

    async def trips() -> int:
        """Those of the one connection, this one too."""
        statement = "SHOW SESSION STATUS LIKE 'Questions'"
        return await current_database().read(
            lambda connection: int(connection.exec_driver_sql(statement).one()[1])
        )

    before = await trips()
    ids += [await Flat(n).save("one") for n in range(10)]
    saved = await trips()
    assert [(await Flat.load(node_id)).number for node_id in ids] == [0, *range(10)]
    loaded = await trips()

    assert saved - before == 10 + 1
    assert loaded - saved == 11 + 1


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("count", [1, 20])
async def test_a_save_with_blobs_is_two_inserts_one_update_two_commits(count: int) -> None:
    """For any number of blobs: intents first, then all the rest at once."""
    model = Wide(1, by_name=ArtifactMapping({f"{n}": b"x" * 100_000 for n in range(count)}))

    with counted() as seen:
        node_id = await model.save("x")

    assert seen == ["INSERT", "COMMIT", "UPDATE", "INSERT", "COMMIT"]
    assert await Wide.load(node_id) == model


@pytest.mark.usefixtures("connected")
async def test_the_blobs_of_many_artifacts_cost_no_more() -> None:
    """What is saved by one call is one save."""
    async with RunManager(Run()) as manager:
        with counted() as seen:
            await manager.save_artifacts({f"{n}": bytes(100_000) for n in range(5)})

    assert seen == ["INSERT", "COMMIT", "UPDATE", "INSERT", "COMMIT"]


@pytest.mark.usefixtures("connected")
async def test_a_load_is_one_select() -> None:
    """By id, whatever is in it, blobs too."""
    model = wide(100)
    model.by_name["blob"] = b"x" * 100_000
    node_id = await model.save("x")

    with counted() as seen:
        await Wide.load(node_id)

    assert seen == ["SELECT"]


@pytest.mark.usefixtures("connected")
async def test_every_question_to_a_run_is_one_select() -> None:
    """One label, all labels, everything below, the runs below."""
    async with RunManager(Run()) as manager:
        await manager.save_artifacts({f"{n}": wide(2) for n in range(20)})
        for _ in range(3):
            async with RunManager(Run()) as inner:
                await inner.save_artifact("a", wide(1))

    for question in (
        manager.load_artifact("3"),
        manager.load_artifacts(),
        manager.load_descendant_artifacts(),
        manager.load_descendant_runs(),
        Run.load(manager.run.node_id),
    ):
        with counted() as seen:
            await question
        assert seen == ["SELECT"]


@pytest.mark.usefixtures("connected")
async def test_a_run_is_one_insert_and_one_update() -> None:
    """One at its beginning, one at its end."""
    with counted() as seen:
        async with RunManager(Run()):
            pass

    assert seen == ["INSERT", "COMMIT", "UPDATE", "COMMIT"]


@pytest.mark.usefixtures("connected")
async def test_a_run_that_fails_costs_no_more() -> None:
    """Its error goes with its end."""
    with counted() as seen, pytest.raises(KeyError):
        async with RunManager(Run()):
            raise KeyError("nothing")

    assert seen == ["INSERT", "COMMIT", "UPDATE", "COMMIT"]


@pytest.mark.usefixtures("connected")
async def test_only_a_failure_pays_for_its_reason() -> None:
    """It is looked for when there is one, in one statement."""
    async with RunManager(Run()) as manager:
        await manager.save_artifact("x", 1)

        with counted() as seen, pytest.raises(artigraph.ConflictError):
            await manager.save_artifact("x", 2)

    assert seen == ["INSERT", "SELECT"]


@pytest.mark.usefixtures("connected")
async def test_a_refused_save_writes_nothing() -> None:
    """B1: what can't be kept is found before the first statement."""
    with counted() as seen, pytest.raises(artigraph.UnsupportedValueError):
        await Wide(object()).save("x")  # type: ignore[arg-type]

    assert seen == []
