"""Saves that are written by one transaction, all or none."""

import asyncio
import os
import pickle
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice, repeat
from typing import IO, Final
from uuid import UUID

from artigraph.database import current_database
from artigraph.definition import Model, is_model
from artigraph.engine import Database
from artigraph.errors import (
    ArtigraphError,
    LabelError,
    SaveOutcomeUnknownError,
    UnsupportedValueError,
)
from artigraph.graph import Row
from artigraph.saving import AT_ONCE, Begun, begin, finish, is_remembered, save_trees
from artigraph.tree import Tree
from artigraph.writing import Written, leased

IN_MEMORY: Final = 20_000
"""How many rows wait in memory for their transaction; what comes after waits in a file."""


@asynccontextmanager
async def gather_saves() -> AsyncGenerator[None]:
    """Write all that is saved inside the block by one transaction at its end, all or nothing.

        async with artigraph.gather_saves():
            for score in scores:
                await score.save("score")

    Inside, a save checks what it can, writes large data to its storages and returns the id, which
    is that of an artifact from the end of the block on. Nothing is saved if the block raises. A
    block inside of another one joins it, and drops only its own saves if it raises. Saves to
    another database than the current one of the beginning are not gathered.

    Raises:
        ArtigraphError: Something is in the way; nothing was saved.
        SaveOutcomeUnknownError: The connection broke during the commit; a note names an artifact
            that is there if all are.
    """
    database, outer = current_database(), _current.get()
    if outer is not None and outer.database is database:
        with outer.undone_on_error():
            yield
        return
    with tempfile.SpooledTemporaryFile(1) as file:  # made when it is first written to
        async with AsyncExitStack() as leases:
            gathering = Gathering(database, leases, file)
            token = _current.set(gathering)
            try:
                yield
            finally:
                gathering.is_over = True
                _current.reset(token)
            await gathering.finish()


async def save_many(
    models: Iterable[Model],
    *,
    labels: Iterable[str] | None = None,
    parent_id: UUID | None = None,
) -> list[UUID]:
    """Save models by one transaction, all or nothing, and return their ids in their order.

    The models are taken one after the other as they are prepared, so that a generator may make
    more of them than there is memory for.

    Args:
        models: Any number of them.
        labels: One for each; below a parent they are unique.
        parent_id: The node to save them below; without it each stands by itself.

    Raises:
        ArtigraphError: Nothing was saved; the error says what was in the way.
        SaveOutcomeUnknownError: The connection broke during the commit; a note names an artifact
            that is there if all are.
    """
    if labels is None and parent_id is not None:
        raise LabelError("None", "artifacts below a parent need one each")
    ids: list[UUID] = []
    async with gather_saves():
        gathering = _current.get()
        assert gathering is not None
        labelled = _labelled(models, labels)
        while some := list(islice(labelled, AT_ONCE)):
            ids += await gathering.add(some, parent_id)
            await asyncio.sleep(0)
    return ids


async def save(
    database: Database, values: Sequence[tuple[str | None, object]], parent_id: UUID | None
) -> list[UUID]:
    """Save values with their labels below a node, at once, or at the end of the current block."""
    gathering = current_gathering(database)
    if gathering is not None:
        return await gathering.add(values, parent_id)
    return await save_trees(database, values, parent_id)


def current_gathering(database: Database) -> "Gathering | None":
    """What gathers the saves to a database here."""
    gathering = _current.get()
    if gathering is None or gathering.database is not database:
        return None
    # A task that outlives the block it was started in saves for itself again.
    return None if gathering.is_over else gathering


class Gathering:
    """What was saved in a block, and waits for its end."""

    def __init__(self, database: Database, leases: AsyncExitStack, file: IO[bytes]) -> None:
        self.database = database
        self.is_over = False
        self._leases = leases
        self._parts: list[_Part] = []
        self._done: list[tuple[object, Tree]] = []
        self._rows_in_memory = 0
        self._file = file
        self._blob_ids: list[UUID] = []

    async def add(
        self, values: Sequence[tuple[str | None, object]], parent_id: UUID | None
    ) -> list[UUID]:
        """Begin to save values, and return their ids."""
        ids, begun = await begin(self.database, values, parent_id)
        if self.is_over:  # meanwhile
            await finish(self.database, begun)
            return ids
        self._done += begun.done
        if begun.rows:
            self._parts.append(self._part(begun))
        if begun.written.blob_ids:
            if not self._blob_ids:
                await self._leases.enter_async_context(leased(self.database, self._blob_ids))
            self._blob_ids += begun.written.blob_ids
        return ids

    @contextmanager
    def undone_on_error(self) -> Generator[None]:
        """Drop what is saved in the block if that raises."""
        before = len(self._parts)
        try:
            yield
        except BaseException:
            del self._parts[before:]
            raise

    async def finish(self) -> None:
        """Write everything."""
        if not self._parts:
            return
        parts = [part.begun for part in self._parts]
        written = Written(
            [blob_id for part in parts for blob_id in part.written.blob_ids],
            [blob for part in parts for blob in part.written.measured],
        )
        values = [value for part in parts for value in part.values]
        rows = [row for part in parts for row in part.rows]
        try:
            await finish(self.database, Begun(values, rows, written, self._done), self._chunks)
        except SaveOutcomeUnknownError as error:
            root = next(self._chunks())[0]
            error.add_note(f"If artifact {root['node_id']} is there, all of them are.")
            raise

    def _part(self, begun: Begun) -> "_Part":
        if self._rows_in_memory + len(begun.rows) <= IN_MEMORY:
            self._rows_in_memory += len(begun.rows)
            return _Part(begun)
        place = self._file.seek(0, os.SEEK_END)
        # Pickled by this process, for itself, in a file without a name.
        pickle.dump(begun.rows, self._file, pickle.HIGHEST_PROTOCOL)
        remembered = [pair for pair in begun.pairs() if is_remembered(self.database, *pair)]
        rows = [row for _, tree in remembered for row in tree.rows]
        return _Part(Begun([value for value, _ in remembered], rows, begun.written), place)

    def _chunks(self) -> Iterator[Sequence[Row]]:
        for part in self._parts:
            if part.place is None:
                yield part.begun.rows
            else:
                self._file.seek(part.place)
                yield pickle.load(self._file)


@dataclass(frozen=True)
class _Part:
    """What was saved by one call."""

    begun: Begun
    """Where the rows are in the file, only that of which an attempt to save it is remembered."""
    place: int | None = None
    """In the file, where the rows are there."""


def _labelled(
    models: Iterable[object], labels: Iterable[str] | None
) -> Iterator[tuple[str | None, object]]:
    place = -1
    try:
        pairs = zip(repeat(None), models) if labels is None else zip(labels, models, strict=True)
        for place, (label, model) in enumerate(pairs):
            if not is_model(type(model)):
                raise UnsupportedValueError(
                    f"models[{place}]",
                    f"a {type(model).__name__}",
                    "Only a model stands by itself; a run takes any value: save_artifacts({...}).",
                )
            yield label, model
    except ValueError as error:
        if isinstance(error, ArtigraphError):
            raise
        raise LabelError("labels", f"there are not as many as models, after {place + 1}") from error


_current: ContextVar[Gathering | None] = ContextVar("artigraph_gathering", default=None)
