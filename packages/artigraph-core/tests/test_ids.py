"""Identifiers: UUIDs of version 7 that sort in the order in which they were made."""

import os
import threading
import time
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest

from artigraph import ids
from artigraph.ids import new_id

COUNTER_BITS = 42


def millisecond_of(identifier: UUID) -> int:
    """The first 48 bits."""
    return identifier.int >> 80


def counter_of(identifier: UUID) -> int:
    """The 12 bits after the version and the first 30 after the variant."""
    return (identifier.int >> 64 & 0xFFF) << 30 | identifier.int >> 32 & 0x3FFFFFFF


def test_the_layout_is_that_of_the_standard() -> None:
    """RFC 9562, section 5.7: Unix time in milliseconds, version 7, variant 0b10."""
    before = time.time_ns() // 1_000_000
    identifier = new_id()
    after = time.time_ns() // 1_000_000

    assert before <= millisecond_of(identifier) <= after
    assert identifier.version == 7
    assert identifier.variant == RFC_4122
    assert identifier.int >> 62 & 0b11 == 0b10


def test_each_sorts_after_all_before_it() -> None:
    """As integers, bytes and text: every database orders them alike."""
    made = [new_id() for _ in range(20_000)]

    assert all(one < other for one, other in pairwise(made))
    assert all(one.bytes < other.bytes for one, other in pairwise(made))
    assert all(str(one) < str(other) for one, other in pairwise(made))


def test_each_sorts_after_all_before_it_in_other_threads() -> None:
    """There is one order for the process, not one for each thread."""
    made: list[UUID] = []
    in_turn = threading.Lock()

    def make() -> None:
        for _ in range(2_000):
            with in_turn:
                made.append(new_id())

    run_in_threads(make)

    assert len(made) == 8_000
    assert all(one < other for one, other in pairwise(made))


def test_threads_that_make_them_at_once_make_different_ones() -> None:
    """Nobody waits for a turn, and each thread sees its own in order."""
    made: list[list[UUID]] = []
    run_in_threads(lambda: made.append([new_id() for _ in range(5_000)]))

    assert len({identifier for each in made for identifier in each}) == 20_000
    assert all(one < other for each in made for one, other in pairwise(each))


def test_a_clock_that_goes_back_changes_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a correction by the network: the last millisecond is counted on."""
    before = new_id()
    an_hour_ago = time.time_ns() - 3_600 * 10**9

    with monkeypatch.context() as clock:
        clock.setattr(time, "time_ns", lambda: an_hour_ago)
        meanwhile = [new_id() for _ in range(100)]
    after = new_id()

    made = [before, *meanwhile, after]
    assert all(one < other for one, other in pairwise(made))
    assert {millisecond_of(each) for each in meanwhile} == {millisecond_of(before)}


def test_a_full_counter_runs_into_the_next_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bit of it reaches the version."""
    before = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: millisecond_of(before) * 1_000_000)
    monkeypatch.setattr(ids, "_last_millisecond", millisecond_of(before))
    monkeypatch.setattr(ids, "_counter", 2**COUNTER_BITS - 2)

    last, first = new_id(), new_id()

    assert counter_of(last) == 2**COUNTER_BITS - 1
    assert (counter_of(first), millisecond_of(first)) == (0, millisecond_of(before) + 1)
    assert {last.version, first.version} == {7}
    assert last < first


def test_each_millisecond_starts_somewhere_else() -> None:
    """In the lower half of the counter, so that there is room above."""
    starts: dict[int, int] = {}
    while len(starts) < 20:
        identifier = new_id()
        starts.setdefault(millisecond_of(identifier), counter_of(identifier))

    assert len(set(starts.values())) == 20
    assert all(start < 2 ** (COUNTER_BITS - 1) for start in starts.values())


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_forked_children_make_other_ones() -> None:
    """Four children and their parent, all in the same millisecond or the next."""
    new_id()
    read, write = os.pipe()
    children = [child_that_writes_ids(write) for _ in range(4)]
    own = [new_id() for _ in range(50)]
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    for child in children:
        os.waitpid(child, 0)

    theirs = [UUID(bytes=data[start : start + 16]) for start in range(0, len(data), 16)]
    assert len(theirs) == 200
    assert len({*own, *theirs}) == 250


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_child_waits_for_no_thread_of_its_parent() -> None:
    """A fork may come while another thread makes an identifier; in the child nobody does."""
    ids._lock.acquire()
    read, write = os.pipe()
    try:
        child = child_that_writes_ids(write)
    finally:
        ids._lock.release()
    os.close(write)

    with os.fdopen(read, "rb") as pipe:
        assert len(pipe.read()) == 16 * 50
    os.waitpid(child, 0)


def child_that_writes_ids(pipe: int) -> int:
    """A forked child that writes 50 into the pipe, and is killed where that takes it long."""
    import signal

    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os.write(pipe, b"".join(new_id().bytes for _ in range(50)))
        os._exit(0)
    return child


def run_in_threads(work: object) -> None:
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
