"""Servers that are killed, and connections that are cut, in the middle of saves."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias
from uuid import UUID

import pytest
import servers
from crashing import Album, Place, Told, album
from invariants import Store, clear, live_locations, roots
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

import artigraph
from artigraph import (
    ArtifactQuery,
    ArtifactSequence,
    DatabaseError,
    DatabaseUnavailableError,
    Run,
    RunManager,
    SaveOutcomeUnknownError,
    collect,
    delete,
    run_manager,
    use_database,
)
from artigraph.database import current_database
from artigraph.dialects import with_driver

INTENTS, NODES = 1, 2
"""The commits of a save with data in a storage, by their numbers."""

Moment: TypeAlias = Literal["before", "halfway", "sent", "answered"]
"""Before the server gets a word; when it has half of what the word is in; when it has all of that,
and may or may not have done it; when it has answered, and nobody has heard it."""


@dataclass(frozen=True)
class Server:
    """A server that only these tests use, and a database on it."""

    program: servers.Program
    url: str

    def kill(self) -> None:
        self.program.kill()

    def restart(self) -> None:
        self.program.kill()
        self.program.start()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
)
def server_of_module(request: pytest.FixtureRequest) -> Iterator[Server]:
    own, kind = {
        "postgresql": (servers.own_postgresql, servers.PostgreSQL),
        "mysql": (servers.own_mariadb, servers.MySQL),
    }[request.param]
    try:
        with own() as server:
            with closing(kind(server.url)) as databases:
                url = databases.create()
            yield Server(server.program, url)
    except servers.NoServerError as error:
        pytest.skip(f"left out, {error}")


@pytest.fixture
async def server(server_of_module: Server) -> Server:
    """With empty tables."""
    async with Store(Place(server_of_module.url)).reopened() as database:
        await database.write(clear)
    return server_of_module


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Store:
    return Store(Place(server.url, str(tmp_path / "files")))


async def test_f9_a_server_killed_halfway_through_a_statement(store: Store, server: Server) -> None:
    """F9: the error says that it is not there, and nothing was saved; later it is."""
    told = Told({"it"})
    one = album("it")
    async with wire(store.place) as cut:
        cut.at(b"INSERT INTO artigraph_node", "halfway", server.kill)
        with pytest.raises(DatabaseUnavailableError):
            await one.save("it")
        server.program.start()

        assert await roots() == {}
        told.saved["it"] = await one.save("it")

    await store.assert_sound(told)


async def test_f8_a_connection_cut_halfway_through_a_statement(store: Store) -> None:
    """F8: the transaction is begun again, over another connection, and the save says nothing."""
    told = Told({"it"}, {"it"})
    async with wire(store.place) as cut:
        cut.at(b"INSERT INTO artigraph_node", "halfway", lambda: None)

        await store.save("it", told)

        assert cut.is_done
    await store.assert_sound(told)


async def test_f8_a_session_ended_in_a_statement(store: Store, server: Server) -> None:
    """F8: as an administrator does; when it is ended again, the error says so."""
    told = Told({"it"})
    one = album("it")
    async with store.reopened(), holder(server.url) as other:
        await other.hold("statement")
        saving = asyncio.create_task(one.save("it"))
        await other.end_who_waits()
        await other.end_who_waits()
        with pytest.raises(DatabaseUnavailableError):
            await saving
        await other.let_go()

        assert await roots() == {}
        told.saved["it"] = await one.save("it")

    await store.assert_sound(told)


async def test_f9_a_session_ended_in_a_commit(store: Store, server: Server) -> None:
    """F9: the save looks, finds nothing, does it again, and says nothing."""
    told = Told({"it"}, {"it"})
    async with store.reopened(), holder(server.url) as other:
        await other.hold("commit")
        saving = asyncio.create_task(store.save("it", told))
        await other.end_who_waits()
        await other.let_go()
        await saving

    await store.assert_sound(told)


@pytest.mark.parametrize("commit", [INTENTS, NODES])
@pytest.mark.parametrize("moment", ["before", "sent", "answered"])
async def test_f9_a_server_killed_in_a_commit_and_started_later(
    store: Store, server: Server, commit: int, moment: Moment
) -> None:
    """F9: the error says that it is not known; the same object, saved again, is there once."""
    told = Told({"it"}, {"it"})
    one = album("it")
    async with wire(store.place) as cut:
        cut.at(b"COMMIT", moment, server.kill, skip=commit - 1)
        with pytest.raises(SaveOutcomeUnknownError, match="Do the same again"):
            await one.save("it")
        server.program.start()

        before = await roots()
        told.saved["it"] = await one.save("it")

    was_saved = {"it": [told.saved["it"]]}
    assert before in ([was_saved] if (commit, moment) == (NODES, "answered") else [{}, was_saved])
    assert not before or (commit == NODES and moment != "before")
    await store.assert_sound(told)


@pytest.mark.parametrize("commit", [INTENTS, NODES])
@pytest.mark.parametrize("moment", ["before", "sent", "answered"])
async def test_f9_a_server_killed_in_a_commit_and_started_at_once(
    store: Store, server: Server, commit: int, moment: Moment
) -> None:
    """F9: the save looks what has become of it, does the rest, and says nothing."""
    told = Told({"it"}, {"it"})
    async with wire(store.place) as cut:
        cut.at(b"COMMIT", moment, server.restart, skip=commit - 1)

        await store.save("it", told)

        assert cut.is_done
    await store.assert_sound(told)


@pytest.mark.parametrize("moment", ["before", "sent", "answered"])
async def test_f9_a_server_killed_when_equal_data_is_held(
    server: Server, tmp_path: Path, moment: Moment
) -> None:
    """F9: what is found of the commit is what is new in it; the rest was there before."""
    place = Place(server.url, str(tmp_path / "files"), share_data=True)
    before = album("before")
    async with wire(place) as cut:
        await before.save("before")
        for pictures in ([*before.pictures, b"new" * 30_000], before.pictures):
            one = Album("it", b"", ArtifactSequence(pictures))
            cut.at(b"COMMIT", moment, server.restart)

            album_id = await one.save("it")

            assert cut.is_done
            assert await Album.load(album_id) == one
        assert len((await roots())["it"]) == 2
        assert len(await live_locations()) == 4


@pytest.mark.parametrize("moment", ["before", "sent", "answered"])
async def test_f9_a_server_killed_in_the_commit_of_a_deletion(
    store: Store, server: Server, moment: Moment
) -> None:
    """F9: it is done or not, as a whole, and can be done again; the same of a collection."""
    told = Told()
    async with wire(store.place) as cut:
        await store.save("it", told)
        await store.save("kept", told)
        told.deleting.add("it")
        cut.at(b"COMMIT", moment, server.kill)
        with pytest.raises(DatabaseError):
            await delete(ArtifactQuery(label="it"))
        server.program.start()
        assert set(await roots()) in ({"it", "kept"}, {"kept"})
        await delete(ArtifactQuery(label="it"))
        told.deleted.add("it")

        cut.at(b"COMMIT", moment, server.kill)
        with pytest.raises(DatabaseError):
            await collect(grace=0)
        server.program.start()

    await store.assert_sound(told)


async def test_f8_f9_a_server_killed_again_and_again(store: Store, server: Server) -> None:
    """F8, F9: of eight savers; what an error says of a save is what is found afterwards."""
    told = Told()

    async def work(saver: int) -> None:
        for number in range(12):
            label = f"{saver}.{number}"
            told.begun.add(label)
            told.committing.add(label)
            await save_at_last(label)
            if len(told.saved) % 15 == 0:
                server.restart()

    async def save_at_last(label: str) -> None:
        one = album(label)
        while label not in told.saved:
            try:
                told.saved[label] = await one.save(label)
            except SaveOutcomeUnknownError:
                pass
            except DatabaseError:
                assert label not in await found_at_last()

    async def found_at_last() -> dict[str, list[UUID]]:
        while True:
            with suppress(DatabaseError):
                return await roots()

    async with store.reopened():
        await asyncio.gather(*map(work, range(8)))
    await store.assert_sound(told)


async def test_f14_a_server_killed_in_the_body_of_a_run(store: Store, server: Server) -> None:
    """F14: what the body raises is what arrives, with a note; the run's end is not recorded."""
    told = Told()
    async with store.reopened():
        await store.save("before", told)
        manager = RunManager(Run())

        async def run() -> None:
            async with manager:
                server.kill()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            await run()
        server.program.start()

        assert "could not be recorded" in "".join(caught.value.__notes__)
        assert run_manager(allow_none=True) is None
        assert (await Run.load(manager.run.node_id)).status == "running"
    await store.assert_sound(told)


class Holder:
    """Somebody who holds up a save, and ends the session that waits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._ended: set[int] = set()

    async def hold(self, what: Literal["statement", "commit"]) -> None:
        """Hold up the next statement that inserts nodes, or the commit after it."""

    async def let_go(self) -> None:
        """Hold up nothing any more."""

    async def end_who_waits(self) -> None:
        """Wait until there is a session that waits, another one each time, and end that."""
        while not (waiting := await self._waiting()):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        (session,) = waiting
        self._ended.add(session)
        await self.execute(self.END.format(session))

    async def _waiting(self) -> set[int]:
        return {session for (session,) in await self.execute(self.WAITING)} - self._ended

    async def execute(self, statement: str) -> Sequence[Any]:
        found = await self._connection.execute(text(statement))
        return found.all() if found.returns_rows else []

    WAITING: ClassVar[str]
    END: ClassVar[str]


class PostgreSQLHolder(Holder):
    """By a trigger that takes a lock."""

    WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory'"
    END = "SELECT pg_terminate_backend({})"

    async def hold(self, what: Literal["statement", "commit"]) -> None:
        when = {"statement": "IMMEDIATE", "commit": "DEFERRED"}[what]
        await self.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'"
        )
        await self.execute(
            "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON artigraph_node"
            f" DEFERRABLE INITIALLY {when} FOR EACH ROW EXECUTE FUNCTION wait()"
        )
        await self.execute("SELECT pg_advisory_lock(1)")

    async def let_go(self) -> None:
        await self.execute("SELECT pg_advisory_unlock(1)")
        await self.execute("DROP FUNCTION wait CASCADE")


class MySQLHolder(Holder):
    """By a lock on a table, or on all commits."""

    WAITING = (
        "SELECT id FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID() AND state LIKE 'Waiting for %'"
    )
    END = "KILL {}"

    async def hold(self, what: Literal["statement", "commit"]) -> None:
        if what == "statement":
            await self.execute("LOCK TABLES artigraph_node WRITE")
            return
        engine = (await current_database()._get()).engine.sync_engine

        @event.listens_for(engine, "commit", once=True)
        def hold_up(_: object) -> None:
            await_only(self.execute("FLUSH TABLES WITH READ LOCK"))

    async def let_go(self) -> None:
        await self.execute("UNLOCK TABLES")


@asynccontextmanager
async def holder(url: str) -> AsyncGenerator[Holder]:
    """Over a connection of its own."""
    engine = create_async_engine(with_driver(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    kind = PostgreSQLHolder if url.startswith("postgresql") else MySQLHolder
    async with engine.connect() as connection:
        yield kind(connection)
    await engine.dispose()


class Cut:
    """Where a wire breaks, and what is done at this moment."""

    def __init__(self) -> None:
        self.is_done = True

    def at(self, word: bytes, moment: Moment, then: Callable[[], None], *, skip: int = 0) -> None:
        self._word, self.moment, self.then, self._skip = word, moment, then, skip
        self.is_done = False

    def is_at(self, data: bytes) -> bool:
        if self.is_done or not re.search(self._word + rb"\b", data):
            return False
        self._skip -= 1
        self.is_done = self._skip < 0
        return self.is_done


@asynccontextmanager
async def wire(place: Place) -> AsyncGenerator[Cut]:
    """The database over a TCP proxy, after the first use, which makes the tables."""
    target = make_url(place.url)
    cut = Cut()
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            from_server, to_server = await asyncio.open_connection(target.host, target.port)
        except ConnectionRefusedError:
            to_client.transport.abort()
            return
        is_here = is_deaf = False

        async def carry_requests() -> None:
            nonlocal is_here, is_deaf
            while data := await from_client.read(1 << 20):
                is_here = is_here or cut.is_at(data)
                if is_here:
                    given = {"before": 0, "halfway": len(data) // 2}.get(cut.moment, len(data))
                    to_server.write(data[:given])
                    await to_server.drain()
                    is_deaf = cut.moment == "answered"
                    if not is_deaf:
                        return
                else:
                    to_server.write(data)

        async def carry_answers() -> None:
            while (data := await from_server.read(1 << 20)) and not is_deaf:
                to_client.write(data)

        carriers = [asyncio.create_task(carry_requests()), asyncio.create_task(carry_answers())]
        await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
        if is_here:
            cut.then()
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)
        to_client.transport.abort()
        to_server.transport.abort()

    async with await asyncio.start_server(serve, servers.LOOPBACK, 0) as proxy:
        url = target.set(port=proxy.sockets[0].getsockname()[1])
        if url.get_backend_name() == "postgresql":
            url = url.update_query_dict({"ssl": "disable"})
        shown = url.render_as_string(hide_password=False)
        with use_database(shown, storage=place.storage(), share_data=place.share_data):
            try:
                assert await roots() == {}
                yield cut
            finally:
                await artigraph.close()
                await asyncio.gather(*filter(None, serving))
