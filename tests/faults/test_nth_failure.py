"""Storages and databases that fail at one call, whichever it is, and work before and after it."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from crashing import Album, Place, Told, album
from invariants import Store, expire_leases, roots
from sqlalchemy import Engine, event
from torture import Tally, stride

import artigraph
from artigraph import (
    ArtifactQuery,
    DatabaseError,
    Run,
    RunManager,
    RunQuery,
    Storage,
    StorageError,
    check,
    collect,
    delete,
    use_database,
)

VERBS = (*("create", "create_from", "read", "read_up_to", "fetch", "exists", "delete", "discard"),)

on_servers = pytest.mark.parametrize(
    "url_of_session",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
    indirect=True,
)
with_files = pytest.mark.parametrize("store", ["files"], indirect=True)


class Once:
    """Something that happens at one call of many, and only then."""

    def __init__(self, number: int) -> None:
        self._left = number

    def is_now(self) -> bool:
        self._left -= 1
        return self._left == 0

    @property
    def has_happened(self) -> bool:
        return self._left <= 0


def make_unreliable(storage: Storage, once: Once, error: Exception, *, is_done: bool) -> None:
    """Let one call of the storage fail, whatever it is for, before or after it is done."""

    def unreliable(verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def called(*arguments: Any, **options: Any) -> Any:
            fails = once.is_now()
            if fails and not is_done:
                raise error
            result = await verb(*arguments, **options)
            if fails:
                raise error
            return result

        return called

    for name in VERBS:
        if hasattr(type(storage), name):
            setattr(storage, name, unreliable(getattr(type(storage), name).__get__(storage)))


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [StorageError("here", "be reached", "it is away"), OSError(5)])
async def test_f4_a_storage_that_fails_at_any_call(
    store: Store, tally: Tally, is_done: bool, error: Exception
) -> None:
    """F4: it is told, what was not acknowledged is not seen, and the second try works."""
    told = Told()
    storage = store.place.storage()
    for number in range(1, 100, stride(3)):
        once, label = Once(number), f"{number}"
        make_unreliable(storage, once, error, is_done=is_done)
        with use_database(store.place.url, storage=storage):
            await live_with_an_unreliable_storage(label, told)
            await artigraph.close()
        if not once.has_happened:
            break
        tally["errors of storages"] += 1
    assert once.has_happened is False
    assert number > 5
    if close := getattr(storage, "close", None):
        await close()
    await store.assert_sound(told)


async def live_with_an_unreliable_storage(label: str, told: Told) -> None:
    """Save, load, check, delete and collect; whatever fails is done once more."""
    one = album(label)
    told.begun.add(label)
    try:
        told.saved[label] = await one.save(label)
    except StorageError:
        assert label not in await roots()
        told.saved[label] = await one.save(label)
    try:
        assert await Album.load(told.saved[label]) == one
    except StorageError:
        assert await Album.load(told.saved[label]) == one
    findings = (await check(deep=True)).findings
    assert {each.damage for each in findings} <= {"unreachable"}
    assert not findings or (await check(deep=True)).findings == []
    told.deleting.add(label)
    await delete(ArtifactQuery(label=label))
    told.deleted.add(label)
    await expire_leases()
    if (await collect(grace=0)).failures:
        assert (await collect(grace=0)).failures == []


def refused(connection: Any) -> tuple[str, ...]:
    """Statements that the database answers with an error that no second try helps against."""
    return {
        "sqlite": ("SELECT abs(-9223372036854775808)",),
        "postgresql": ("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$",),
        "mysql": ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021",),
    }[connection.dialect.name]


def deadlocked(connection: Any) -> tuple[str, ...]:
    """Statements that the database answers with a deadlock."""
    return {
        "postgresql": ("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40P01'; END $$",),
        "mysql": ("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213",),
    }[connection.dialect.name]


def lost(connection: Any) -> tuple[str, ...]:
    """Statements that end the connection, in the midst of which the client finds out."""
    return {
        "postgresql": ("SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1"),
        "mysql": ("EXECUTE IMMEDIATE CONCAT('KILL ', CONNECTION_ID())", "SELECT 1"),
    }[connection.dialect.name]


@contextmanager
def failing_statement(
    once: Once, statements: Callable[[Any], tuple[str, ...]], *, is_done: bool
) -> Iterator[None]:
    """Let the database refuse one statement, before or after it has executed it."""

    def refuse(cursor: Any, connection: Any) -> None:
        for each in statements(connection):
            cursor.execute(each, ())
        raise AssertionError("the database refuses it")

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        if not once.is_now():
            return None
        if is_done:
            context.dialect.do_execute(cursor, statement, parameters, context)
        refuse(cursor, context.root_connection)
        return True

    def execute_many(cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        if not once.is_now():
            return None
        if is_done:
            context.dialect.do_executemany(cursor, statement, parameters, context)
        refuse(cursor, context.root_connection)
        return True

    event.listen(Engine, "do_execute", execute)
    event.listen(Engine, "do_executemany", execute_many)
    try:
        yield
    finally:
        event.remove(Engine, "do_execute", execute)
        event.remove(Engine, "do_executemany", execute_many)


is_done = pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])


@with_files
@is_done
async def test_f5_a_statement_that_is_refused(store: Store, tally: Tally, is_done: bool) -> None:
    """F5: whichever it is, the error is one of ours, nothing is half there, and it works again."""
    assert await surfaced_errors(store, tally, refused, is_done=is_done) > 0


@on_servers
@with_files
@is_done
async def test_f5_a_statement_in_a_deadlock(store: Store, tally: Tally, is_done: bool) -> None:
    """F5: the transaction is done again, and nobody is told of it."""
    assert await surfaced_errors(store, tally, deadlocked, is_done=is_done, only_writes=True) == 0


@on_servers
@with_files
@is_done
async def test_f5_a_statement_that_ends_its_connection(
    store: Store, tally: Tally, is_done: bool
) -> None:
    """F5: the transaction is begun again over another one, and nobody is told of it."""
    assert await surfaced_errors(store, tally, lost, is_done=is_done) == 0


async def surfaced_errors(
    store: Store,
    tally: Tally,
    statements: Callable[[Any], tuple[str, ...]],
    *,
    is_done: bool,
    only_writes: bool = False,
) -> int:
    """How many errors came to the surface, of one for each statement of a whole life."""
    told = Told()
    surfaced = 0
    async with store.reopened():
        await store.save("first use", told)
        for number in range(1, 200, stride(4)):
            once = Once(number)
            life = Life(f"{number}", told)
            with failing_statement(once, statements, is_done=is_done):
                await life.live(only_writes=only_writes)
            surfaced += life.errors
            if not once.has_happened:
                break
            tally["errors of databases"] += 1
        assert once.has_happened is False
        assert number > 5
    await store.assert_sound(told, then_empty=True)
    return surfaced


class Life:
    """Of an artifact and a run; what fails is done once more, and works."""

    def __init__(self, label: str, told: Told) -> None:
        self._label, self._told = label, told
        self.errors = 0

    async def live(self, *, only_writes: bool) -> None:
        one, told, label = album(self._label), self._told, self._label
        told.begun |= {label, f"{label} in a run"}
        told.saved[label] = await self._again(lambda: one.save(label))
        if not only_writes:
            loaded = await self._again(lambda: Album.load(told.saved[label]))
            assert loaded == one
        told.saved[f"{label} in a run"] = await self._again(self._run)
        if not only_writes:
            assert (await self._again(lambda: check(deep=True))).findings == []
            told.deleting |= {label, f"{label} in a run"}
            await self._again(lambda: delete(ArtifactQuery(label=label)))
            await self._again(lambda: delete(RunQuery(label=label), include_running=True))
            told.deleted |= {label, f"{label} in a run"}
            assert (await self._again(lambda: collect(grace=0))).failures == []

    async def _run(self) -> UUID:
        """Save in a run, whose end may not have been recorded; nothing else is missing then."""
        label = f"{self._label} in a run"
        one, manager = album(label), RunManager(Run(label=self._label))
        await self._again(manager.__aenter__)
        album_id = await self._again(lambda: manager.save_artifact(label, one))
        try:
            await manager.__aexit__(None, None, None)
        except DatabaseError:
            self.errors += 1
            assert (await Run.load(manager.run.node_id)).status in ("running", "succeeded")
        return album_id

    async def _again(self, work: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await work()
        except DatabaseError:
            self.errors += 1
            return await work()


@is_done
async def test_f5_a_statement_of_the_first_use_is_refused(
    new_database_url: Callable[[], str], tmp_path: Path, tally: Tally, is_done: bool
) -> None:
    """F5: the tables are made by the next one, whatever was made before the error."""
    for number in range(1, 100, stride(4)):
        once = Once(number)
        store = Store(Place(new_database_url(), str(tmp_path / f"files{number}")))
        with use_database(store.place.url, storage=store.place.storage()):
            with failing_statement(once, refused, is_done=is_done):
                try:
                    await check()
                except DatabaseError:
                    tally["errors of databases"] += 1
            assert await Album.load(await album("it").save("it")) == album("it")
            await artigraph.close()
        if not once.has_happened:
            break
    assert number > 5
