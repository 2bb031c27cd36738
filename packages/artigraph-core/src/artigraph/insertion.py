"""Insertion of rows whose values are made ready a column at a time.

SQLAlchemy does so value by value, which takes longer than the database takes for the statement.
"""

import asyncio
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, insert
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.util import await_only

from artigraph.dialects import insert_arrays, takes_arrays
from artigraph.tables import Processor


class Insertion:
    """Inserts rows into a table, naming only the columns in which any of them has a value.

    Args:
        table: Where they go.
        names: Of its columns, two or more, of which every row has a value or None.
    """

    def __init__(self, table: Table, names: Collection[str]) -> None:
        self._table = table
        self._names = [column.name for column in table.columns if column.name in names]
        self._compiled: weakref.WeakKeyDictionary[Dialect, dict[object, str]] = (
            weakref.WeakKeyDictionary()
        )
        self._to_driver: weakref.WeakKeyDictionary[
            Dialect, Sequence[tuple[str, Processor | None]]
        ] = weakref.WeakKeyDictionary()

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, of which there is at least one, by one statement."""
        dialect = connection.dialect
        if len(rows) <= _ON_THE_LOOP:
            columns = self._columns(dialect, rows)
        else:
            columns = await_only(asyncio.to_thread(self._columns, dialect, rows))
        are_arrays = (
            takes_arrays(dialect)
            and len(rows) <= _MAX_ROWS
            and sum(map(_size, columns.values())) <= _MAX_SIZE
        )
        sql = self._sql(dialect, tuple(columns), are_arrays=are_arrays)
        values = columns.values()
        connection.exec_driver_sql(
            sql, tuple(values) if are_arrays else list(zip(*values, strict=True))
        )

    def _columns(
        self, dialect: Dialect, rows: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Sequence[Any]]:
        """What a driver takes for each column, of those in which there is anything."""
        columns: dict[str, Sequence[Any]] = {}
        for name, process in self._processors(dialect):
            values = [row[name] for row in rows]
            if values[0] is not None or any(value is not None for value in values):
                columns[name] = values if process is None else list(map(process, values))
        return columns

    def _processors(self, dialect: Dialect) -> Sequence[tuple[str, Processor | None]]:
        """For each name, what makes its values what a driver takes."""
        known = self._to_driver.get(dialect)
        if known is None:
            known = self._to_driver[dialect] = [
                (name, self._table.c[name].type.dialect_impl(dialect).bind_processor(dialect))
                for name in self._names
            ]
        return known

    def _sql(self, dialect: Dialect, names: tuple[str, ...], *, are_arrays: bool) -> str:
        known = self._compiled.setdefault(dialect, {})
        if (names, are_arrays) not in known:
            columns = [self._table.c[name] for name in names]
            statement: ClauseElement = (
                insert_arrays(self._table, columns, dialect)
                if are_arrays
                else insert(self._table).values({name: bindparam(name) for name in names})
            )
            known[names, are_arrays] = str(statement.compile(dialect=dialect))
        return known[names, are_arrays]


_ON_THE_LOOP: Final = 1_000
"""How many rows are made ready before the event loop should turn; they take two milliseconds."""

_MAX_ROWS: Final = 5_000
"""Of arrays: a driver makes them ready at once, and row after row a part at a time."""

_MAX_SIZE: Final = 1 << 26
"""Characters and bytes of all arrays together; PostgreSQL takes 1 GiB in one of them."""


def _size(values: Sequence[Any]) -> int:
    return sum(len(value) for value in values if isinstance(value, str | bytes))
