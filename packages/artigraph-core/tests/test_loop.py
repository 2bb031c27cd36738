"""What belongs to one event loop: opened once, closed in time, never taken into a child."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from artigraph.loop import (
    LoopLocal,
    Steadfast,
    cancellation_held_back,
    outcome_of,
    to_the_end,
)


class Door:
    """Something that is opened and closed, and knows where."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_open = True


class House:
    """Keeps a door on each loop, and remembers all of them."""

    def __init__(self) -> None:
        self.opened: list[Door] = []
        self.failures: list[Exception] = []
        self.may_open: asyncio.Event | None = None
        self.doors = LoopLocal(self.open, self.close)

    async def open(self) -> Door:
        await (self.may_open.wait() if self.may_open else asyncio.sleep(0))
        if self.failures:
            raise self.failures.pop()
        self.opened.append(Door())
        return self.opened[-1]

    async def close(self, door: Door) -> None:
        await asyncio.sleep(0)
        assert door.loop is asyncio.get_running_loop()
        door.is_open = False


async def test_tasks_that_ask_at_once_share_one_opening() -> None:
    """Twenty tasks on one loop get the same."""
    house = House()

    doors = await asyncio.gather(*(house.doors.get() for _ in range(20)))

    assert set(doors) == {house.opened[0]}
    assert len(house.opened) == 1
    assert await house.doors.get() is house.opened[0]


async def test_a_failed_opening_is_told_to_all_who_wait_and_tried_again() -> None:
    """A failure is of the moment: the next one who asks opens anew."""
    house = House()
    house.failures = [ConnectionError("nobody is there")]

    told = await asyncio.gather(*(house.doors.get() for _ in range(3)), return_exceptions=True)

    assert [str(error) for error in told] == ["nobody is there"] * 3
    assert (await house.doors.get()).is_open


async def test_one_that_is_cancelled_leaves_the_opening_to_the_others() -> None:
    """Whoever asks first is not the owner of what is opened."""
    house = House()
    house.may_open = asyncio.Event()
    first = asyncio.create_task(house.doors.get())
    second = asyncio.create_task(house.doors.get())
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.wait({first})
    house.may_open.set()

    assert first.cancelled()
    assert await second is house.opened[0]
    assert len(house.opened) == 1


async def test_a_failure_that_nobody_waited_for_is_not_told_to_the_next() -> None:
    """The only one who asked was cancelled before the opening failed."""
    house = House()
    house.may_open = asyncio.Event()
    house.failures = [ConnectionError("nobody is there")]
    only = asyncio.create_task(house.doors.get())
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.wait({only})
    house.may_open.set()
    while house.failures:  # noqa: ASYNC110  # nobody tells when an opening that failed is over
        await asyncio.sleep(0)
    await asyncio.sleep(0)

    door = await house.doors.get()

    assert door.is_open


def test_asyncio_run_closes_what_is_open() -> None:
    """Each run has its own, and closes it on its own loop before that is closed."""
    house = House()

    for _ in range(3):
        asyncio.run(house.doors.get())

    assert len(house.opened) == 3
    assert not any(door.is_open for door in house.opened)


def test_what_is_still_being_opened_ends_with_its_loop() -> None:
    """A loop that shuts down meanwhile waits for nothing, and the next one opens its own."""
    house = House()

    async def leave_early() -> None:
        house.may_open = asyncio.Event()
        asyncio.get_running_loop().call_soon(asyncio.create_task, house.doors.get())
        await asyncio.sleep(0)

    asyncio.run(leave_early())
    house.may_open = None
    asyncio.run(house.doors.get())

    assert [door.is_open for door in house.opened] == [False]


def test_what_is_open_stays_open_without_its_owner() -> None:
    """Collecting the owner closes nothing under those who use it; the end of the loop does."""
    house = House()
    opened = house.opened

    async def forget_the_owner() -> None:
        nonlocal house
        await house.doors.get()
        del house
        gc.collect()
        await asyncio.sleep(0)
        assert opened[0].is_open

    asyncio.run(forget_the_owner())

    assert not opened[0].is_open


async def test_what_was_closed_opens_anew() -> None:
    """Closing twice, or what was never opened, does nothing."""
    house = House()
    await house.doors.close()
    first = await house.doors.get()

    await house.doors.close()
    await house.doors.close()

    assert not first.is_open
    assert await house.doors.get() is house.opened[1]
    assert house.opened[1].is_open


async def test_closing_waits_for_an_opening() -> None:
    """Nothing comes open behind the back of whoever closed."""
    house = House()
    house.may_open = asyncio.Event()
    opening = asyncio.create_task(house.doors.get())
    await asyncio.sleep(0)
    closing = asyncio.create_task(house.doors.close())
    await asyncio.sleep(0)

    house.may_open.set()
    await asyncio.gather(opening, closing)

    assert [door.is_open for door in house.opened] == [False]


async def test_closing_after_a_failed_opening_tells_nothing() -> None:
    """Whoever asked was told."""
    house = House()
    house.may_open = asyncio.Event()
    house.failures = [ConnectionError("nobody is there")]
    opening = asyncio.create_task(house.doors.get())
    await asyncio.sleep(0)
    closing = asyncio.create_task(house.doors.close())
    await asyncio.sleep(0)

    house.may_open.set()
    told, closed = await asyncio.gather(opening, closing, return_exceptions=True)

    assert isinstance(told, ConnectionError)
    assert closed is None


def test_each_thread_has_its_own() -> None:
    """Four loops that run at once never meet."""
    house = House()
    barrier = threading.Barrier(4)

    async def live() -> None:
        door = await house.doors.get()
        barrier.wait(30)
        assert door is await house.doors.get()
        assert door.loop is asyncio.get_running_loop()

    threads = [threading.Thread(target=asyncio.run, args=(live(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({door.loop for door in house.opened}) == 4
    assert not any(door.is_open for door in house.opened)


def test_a_loop_that_is_dropped_takes_its_own_along() -> None:
    """Loops that are closed without being shut down are not kept for ever."""
    house = House()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(house.doors.get())
    dropped = weakref.ref(house.opened.pop())
    loop.close()
    del loop

    asyncio.run(house.doors.get())
    gc.collect()

    assert dropped() is None


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
async def test_a_forked_child_opens_its_own() -> None:
    """It neither gets nor closes what the parent has, which goes on."""
    house = House()
    door = await house.doors.get()

    async def look() -> str:
        own = await house.doors.get()
        return f"{own is door} {len(house.opened)}"

    told = in_a_child(lambda: f"{asyncio.run(look())} {door.is_open} {house.opened[1].is_open}")

    assert told == "False 2 True False"
    assert await house.doors.get() is door
    assert len(house.opened) == 1


def test_a_child_that_ends_by_itself_leaves_what_it_inherited_alone() -> None:
    """No finaliser runs on it, not even at the very end of the child."""
    program = """
import asyncio, os, sys, warnings
from artigraph.loop import LoopLocal

class Connection:
    def __del__(self):
        if os.getpid() != parent:
            os.write(1, b"the child finalised what is the parent's")

async def open(): return Connection()
async def close(connection): print("closed by the parent" if os.getpid() == parent else "child")

async def main():
    await connections.get()
    warnings.simplefilter("ignore", DeprecationWarning)
    if (child := os.fork()) == 0:
        raise SystemExit(0)
    os.waitpid(child, 0)

parent = os.getpid()
connections = LoopLocal(open, close)
try:
    asyncio.run(main())
except SystemExit:
    pass
"""

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (result.stdout, result.stderr) == ("closed by the parent\n", "")


async def test_work_goes_to_its_end_before_a_cancellation() -> None:
    """However often one asks; the outcome comes first."""
    may_end = asyncio.Event()
    has_ended = False

    async def work() -> None:
        nonlocal has_ended
        await may_end.wait()
        has_ended = True

    task = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    await asyncio.wait({task})

    assert has_ended
    assert task.cancelled()


async def test_what_work_gives_or_raises_is_what_its_caller_gets() -> None:
    """Without a cancellation it is as if it had been awaited."""

    async def fail() -> None:
        raise ConnectionError("nobody is there")

    assert await to_the_end(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ConnectionError):
        await to_the_end(fail())


async def test_a_failure_of_cancelled_work_is_not_reported_as_unseen() -> None:
    """The cancellation is what the caller gets."""
    may_end = asyncio.Event()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: reported.append(what))

    async def fail() -> None:
        await may_end.wait()
        raise ConnectionError("nobody is there")

    task = asyncio.create_task(to_the_end(fail()))
    await asyncio.sleep(0)
    task.cancel()
    may_end.set()
    await asyncio.wait({task})
    assert task.cancelled()
    del task
    gc.collect()

    assert reported == []


async def test_a_block_goes_to_its_end_before_a_cancellation() -> None:
    """Over all that it waits for; then the last one goes on, as it was."""
    first, second = Steadfast[str](), Steadfast[str]()
    heard: list[str] = []

    async def work() -> None:
        with cancellation_held_back():
            heard.append(await outcome_of(first))
            heard.append(await outcome_of(second))

    task = asyncio.create_task(work())
    for future, outcome in ((first, "one"), (second, "two")):
        await asyncio.sleep(0)
        task.cancel(f"before {outcome}")
        await asyncio.sleep(0)
        assert not task.done()
        future.set_result(outcome)
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError, match="before two"):
        await task
    assert heard == ["one", "two"]


async def test_a_failure_in_a_cancelled_block_ends_it() -> None:
    """The cancellation goes on, and the failure is not reported as unseen."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: reported.append(what))

    async def work(future: Steadfast[None], *, is_held_back: bool) -> None:
        with cancellation_held_back() if is_held_back else nullcontext():
            await outcome_of(future)
            pytest.fail("it went on")

    for is_held_back in (True, False):
        future = Steadfast[None]()
        task = asyncio.create_task(work(future, is_held_back=is_held_back))
        await asyncio.sleep(0)
        task.cancel()
        future.set_exception(ConnectionError("nobody is there"))
        await asyncio.wait({task})
        assert task.cancelled()
        del future, task
    gc.collect()

    assert reported == []


def in_a_child(work: Callable[[], str]) -> str:
    """What `work` returns in a forked child, or the error that it raises there."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException as error:
            answer = repr(error)
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


async def test_a_timeout_inside_of_what_goes_to_its_end_is_heard() -> None:
    """Libraries bound their own waiting, and that is part of the work."""

    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"

    assert await to_the_end(work()) == "timed out"
