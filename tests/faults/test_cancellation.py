"""Work that is cancelled, or runs out of time, at every turn of the event loop that it takes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from crashing import Album, Told, album
from invariants import Store, expire_leases, roots
from observing import turns_of
from torture import Tally, scaled

from artigraph import ArtifactQuery, Run, RunManager, check, collect, delete
from artigraph.database import current_database

POINTS = scaled(6, 150)
"""Of a piece of work, at most, spread over all of it."""


async def ended_after(turns: int, work: Callable[[], Awaitable[Any]], *, is_timeout: bool) -> None:
    """Cancel the work in its midst, or let its time run out; it ends so, or is done."""
    limits: list[asyncio.Timeout] = []

    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await work()

    task = asyncio.create_task(limited())
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    if is_timeout:
        if not task.done():
            limits[0].reschedule(asyncio.get_running_loop().time())
    else:
        task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() or isinstance(task.exception(), TimeoutError | None)


async def every_point(
    tally: Tally, work: Callable[[int], Callable[[], Awaitable[Any]]]
) -> list[int]:
    """End as many of the same works as there are points, each at its own, and give their numbers.

    Args:
        tally: Counts them.
        work: Makes one, by its number.
    """
    turns = await turns_of(work(-1)())
    points = range(0, turns, max(1, turns // POINTS))
    for number, turn in enumerate(points):
        await ended_after(turn, work(number), is_timeout=number % 2 == 0)
        pool: Any = (await current_database()._get()).engine.pool
        assert pool.checkedout() == 0
        tally["cancellations"] += 1
    return list(range(-1, len(points)))


async def assert_sound(store: Store, told: Told) -> None:
    """After the client of S3 is closed: the server may have closed connections that it keeps."""
    if close := getattr(store._storage, "close", None):
        await close()
    await store.assert_sound(told)


async def test_f12_a_save_that_is_cancelled(store: Store, tally: Tally) -> None:
    """F12: it is there as a whole or not at all, and the next one works at once."""
    told = Told()

    def save(number: int) -> Callable[[], Awaitable[Any]]:
        label = f"{number}"
        told.begun.add(label)
        told.committing.add(label)
        one = album(label)
        return lambda: one.save(label)

    async with store.reopened():
        await every_point(tally, save)
        await store.save("next", told)
    await assert_sound(store, told)


async def test_f12_a_load_that_is_cancelled(store: Store, tally: Tally) -> None:
    """F12: nothing of it stays behind, and the next one works at once."""
    told = Told()
    async with store.reopened():
        await store.save("it", told)

        await every_point(tally, lambda _: lambda: Album.load(told.saved["it"]))

        assert await Album.load(told.saved["it"]) == album("it")
    await assert_sound(store, told)


async def test_f12_a_deletion_that_is_cancelled(store: Store, tally: Tally) -> None:
    """F12: all of it is deleted, or nothing."""
    told = Told()
    async with store.reopened():
        for number in range(-1, POINTS * 2):
            await store.save(f"small {number}", told)

        def delete_one(number: int) -> Callable[[], Awaitable[Any]]:
            told.deleting.add(f"small {number}")
            return lambda: delete(ArtifactQuery(label=f"small {number}"))

        numbers = await every_point(tally, delete_one)

        for number in numbers:
            await delete(ArtifactQuery(label=f"small {number}"))
            told.deleted.add(f"small {number}")
        assert not told.deleted & set(await roots())
    await assert_sound(store, told)


async def test_f12_a_collection_or_a_check_that_is_cancelled(store: Store, tally: Tally) -> None:
    """F12: the next one goes on, and finds nothing wrong."""
    told = Told()
    numbers = iter(range(10**6))

    async def leave_garbage() -> None:
        label = f"{next(numbers)}"
        await store.save(label, told)
        told.deleting.add(label)
        await delete(ArtifactQuery(label=label))
        told.deleted.add(label)
        await expire_leases()

    async with store.reopened():
        await store.save("kept", told)

        def clean(_: int) -> Callable[[], Awaitable[Any]]:
            async def work() -> None:
                await leave_garbage()
                await collect(grace=0)
                await check(deep=True)

            return work

        await every_point(tally, clean)
        await expire_leases()
        assert (await collect(grace=0)).failures == []
        assert (await check(deep=True)).findings == []
    told.begun |= set(map(str, range(next(numbers))))
    told.committing |= told.begun - set(told.saved)
    told.deleting |= told.begun - {"kept"}
    await assert_sound(store, told)


@pytest.mark.parametrize("store", ["files"], indirect=True)
async def test_f12_a_run_that_is_cancelled(store: Store, tally: Tally) -> None:
    """F12: at its beginning, in its body or at its end: its artifact is whole or absent."""
    told = Told()
    runs: dict[int, Run] = {}

    def run_one(number: int) -> Callable[[], Awaitable[Any]]:
        run = runs[number] = Run(label=f"{number}")
        told.begun.add(f"{number}")
        told.committing.add(f"{number}")

        async def work() -> UUID:
            async with RunManager(run) as manager:
                return await manager.save_artifact(f"{number}", album(f"{number}"))

        return work

    async with store.reopened():
        await every_point(tally, run_one)
        found = await roots()
        for number, run in runs.items():
            if run.status is not None:
                status = (await Run.load(run.node_id)).status
                assert status == run.status != "running"
                assert status == "cancelled" or f"{number}" in found
            else:
                assert f"{number}" not in found
    await assert_sound(store, told)
