"""Many saves by one transaction: all or none, in bounded memory."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from observing import statements

import artigraph
from artigraph import (
    ArtifactModel,
    ArtifactQuery,
    ConflictError,
    LabelError,
    NodeNotFoundError,
    Run,
    RunManager,
    RunStateError,
    UnsupportedValueError,
    delete,
)
from artigraph.ids import new_id
from artigraph.storage.file import FileSystem


@dataclass
class Score(ArtifactModel, version=1, name="gathering.Score"):
    value: float
    data: Any = None


@pytest.fixture(autouse=True)
async def connected(database_url: str, tmp_path: Path) -> None:
    artigraph.set_database(database_url, storage=FileSystem(tmp_path / "files"))
    await Score(0).save("first use")


async def count() -> int:
    """How many artifacts there are, but the first."""
    return (await delete(ArtifactQuery(), dry_run=True)).artifacts - 1


async def gather_and_fail(*scores: Score) -> None:
    async with artigraph.gather_saves():
        for score in scores:
            await score.save("score")
        _ = 1 / 0


async def test_many_models_are_one_insert() -> None:
    """Their ids come in their order."""
    scores = [Score(n / 7) for n in range(1_000)]

    with statements() as seen:
        ids = await artigraph.save_many(scores)

    assert len(seen) == 2  # 500 models each
    assert [await Score.load(node_id) for node_id in ids[::100]] == scores[::100]
    assert await count() == 1_000


async def test_labels_and_a_parent_are_given_for_all() -> None:
    """As in a run."""
    async with RunManager(Run()) as manager:
        await artigraph.save_many(
            (Score(n) for n in range(3)), labels=["a", "b", "c"], parent_id=manager.run.node_id
        )

        assert await manager.load_artifacts() == {"a": Score(0), "b": Score(1), "c": Score(2)}


async def test_nothing_is_no_statement() -> None:
    """An empty list has no ids."""
    with statements() as seen:
        assert await artigraph.save_many([]) == []
        async with artigraph.gather_saves():
            pass
    assert seen == []


async def test_nothing_is_saved_if_one_can_not_be() -> None:
    """Whatever is in the way, and however late."""
    run_id = new_id()
    async with RunManager(Run()) as manager:
        await manager.save_artifact("taken", 1)
        run = manager.run.node_id
        labels = [f"{n}" for n in range(1_200)]
        scores = [Score(n) for n in range(1_200)]

        with pytest.raises(ConflictError, match="label 'taken'"):
            await artigraph.save_many(scores, labels=[*labels[:-1], "taken"], parent_id=run)
        with pytest.raises(ConflictError, match="label '7'"):
            await artigraph.save_many(scores, labels=[*labels[:-1], "7"], parent_id=run)
        with pytest.raises(NodeNotFoundError, match=str(run_id)):
            await artigraph.save_many(scores, labels=labels, parent_id=run_id)
        with pytest.raises(UnsupportedValueError, match=r"Score\.data"):
            await artigraph.save_many([*scores, Score(1, data=object())])
        with pytest.raises(UnsupportedValueError, match=r"models\[1200\]: a int"):
            await artigraph.save_many([*scores, 5])
        with pytest.raises(LabelError, match="not as many as models"):
            await artigraph.save_many(scores, labels=labels[:-1], parent_id=run)
        with pytest.raises(LabelError, match="below a parent"):
            await artigraph.save_many(scores, parent_id=run)
        with pytest.raises(ZeroDivisionError):
            await artigraph.save_many(Score(1 / (900 - n)) for n in range(1_200))
        assert await manager.load_artifacts() == {"taken": 1}
    assert await count() == 1


async def test_saves_are_gathered_to_the_end_of_the_block() -> None:
    """Of models and in runs, with small and large values: one transaction, and equal values."""
    scores = [Score(n, data=bytes([n]) * (100_000 if n % 5 == 0 else 10)) for n in range(20)]
    async with RunManager(Run()) as manager:
        async with artigraph.gather_saves():
            ids = [await score.save("score") for score in scores]
            inner = await Score(7).save("below", parent_id=ids[0])
            await manager.save_artifact("in the run", 5)
            with pytest.raises(NodeNotFoundError):
                await Score.load(ids[0])

        assert [await Score.load(node_id) for node_id in ids] == scores
        assert await Score.load(inner) == Score(7)
        assert await manager.load_artifacts() == {"in the run": 5}


async def test_nothing_is_saved_if_the_block_raises() -> None:
    """Also where its data was written already."""
    with pytest.raises(ZeroDivisionError):
        await gather_and_fail(Score(1, data=b"x" * 100_000))

    assert await count() == 0
    assert (await artigraph.check(deep=True)).findings == []


async def test_a_block_in_a_block_joins_it_and_drops_only_its_own() -> None:
    """So does `save_many`."""
    async with artigraph.gather_saves():
        await Score(1).save("kept")
        with pytest.raises(ZeroDivisionError):
            await gather_and_fail(Score(2))
        async with artigraph.gather_saves():
            await artigraph.save_many([Score(3), Score(4)])
        assert await count() == 0

    assert await count() == 3


async def test_tasks_of_the_block_are_gathered_and_one_that_outlives_it_saves_for_itself() -> None:
    """Nothing that returned an id is lost."""
    is_over = asyncio.Event()

    async def save_late() -> UUID:
        await is_over.wait()
        return await Score(9).save("late")

    async with artigraph.gather_saves():
        late = asyncio.create_task(save_late())
        ids = await asyncio.gather(*(Score(n).save("score") for n in range(20)))
        assert await count() == 0
    is_over.set()

    assert [await Score.load(node_id) for node_id in ids] == [Score(n) for n in range(20)]
    assert await Score.load(await late) == Score(9)


async def test_a_run_does_not_begin_where_saves_are_gathered() -> None:
    """It would be over before what is saved in it is there."""
    async with artigraph.gather_saves():
        with pytest.raises(RunStateError, match="gather inside the run"):
            async with RunManager(Run()):
                pass


async def test_saves_to_another_database_are_not_gathered(tmp_path: Path) -> None:
    """The block is about one."""
    async with artigraph.gather_saves():
        with artigraph.use_database(f"sqlite:///{tmp_path / 'other.db'}"):
            node_id = await Score(1).save("score")
            assert await Score.load(node_id) == Score(1)
            await artigraph.close()


async def test_gathered_saves_can_be_repeated_after_a_failure() -> None:
    """Of the same objects, in another block."""
    scores = [Score(n) for n in range(3)]
    with pytest.raises(ZeroDivisionError):
        await gather_and_fail(*scores)

    async with artigraph.gather_saves():
        ids = [await score.save("score") for score in scores]

    assert await count() == 3
    assert [await Score.load(node_id) for node_id in ids] == scores
