"""Statements that are compiled once, and whose values are processed a column at a time.

SQLAlchemy processes value by value, which takes longer than the database takes for the statement.
"""

import asyncio
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Connection, Table, bindparam, insert
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only

from artigraph.dialects import insert_arrays, takes_arrays
from artigraph.tables import Processor


class _Compiled(NamedTuple):
    sql: str
    names: Sequence[str]
    """Of the parameters, in their order."""
    constants: Mapping[str, Any]
    """The values that stand in the statement itself."""
    to_driver: Sequence[Processor | None]
    from_driver: Sequence[Processor | None]


class Direct:
    """A statement that selects, for every dialect.

    Args:
        statement: Without parameters whose number varies; or what makes it for a dialect.
        parameters: The columns that they are held against.
        types: Of the columns that it selects; None leaves one as the driver has it.
    """

    def __init__(
        self,
        statement: ClauseElement | Callable[[Dialect], ClauseElement],
        parameters: Mapping[str, Column[Any]],
        types: Sequence[TypeEngine[Any] | None] = (),
    ) -> None:
        self._statement = statement
        self._parameters = parameters
        self._types = types
        self._compiled: weakref.WeakKeyDictionary[Dialect, _Compiled] = weakref.WeakKeyDictionary()

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The rows that it gives, as the driver has them."""
        compiled = self._compile(connection.dialect)
        given = {**compiled.constants, **parameters}
        values = [[given[name] for name in compiled.names]]
        (processed,) = _processed(values, compiled.to_driver)
        return connection.exec_driver_sql(compiled.sql, processed).all()

    def processed(self, dialect: Dialect, rows: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        """Rows that it gave, with the values of their columns."""
        return _processed(rows, self._compile(dialect).from_driver)

    def _compile(self, dialect: Dialect) -> _Compiled:
        compiled = self._compiled.get(dialect)
        if compiled is None:
            statement = self._statement
            if not isinstance(statement, ClauseElement):
                statement = statement(dialect)
            made: Any = statement.compile(dialect=dialect)
            names: list[str] = made.positiontup
            compiled = self._compiled[dialect] = _Compiled(
                str(made),
                names,
                {name: made.params[name] for name in names if name not in self._parameters},
                [_bind_processor(self._parameters.get(name), dialect) for name in names],
                [_result_processor(each, dialect) for each in self._types],
            )
        return compiled


class Insertion:
    """Inserts rows into a table, naming only the columns in which any of them has a value.

    Args:
        table: Where they go.
        names: Of its columns, two or more, of which every row has a value or None.
    """

    def __init__(self, table: Table, names: Collection[str]) -> None:
        self._table = table
        self._names = [column.name for column in table.columns if column.name in names]
        self._values = itemgetter(*self._names)
        self._compiled: weakref.WeakKeyDictionary[Dialect, dict[object, str]] = (
            weakref.WeakKeyDictionary()
        )

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
        all_values = zip(*map(self._values, rows), strict=True)
        for name, values in zip(self._names, all_values, strict=True):
            if any(value is not None for value in values):
                process = _bind_processor(self._table.c[name], dialect)
                columns[name] = list(values if process is None else map(process, values))
        return columns

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


def _bind_processor(column: Column[Any] | None, dialect: Dialect) -> Processor | None:
    return None if column is None else column.type.dialect_impl(dialect).bind_processor(dialect)


def _result_processor(kind: TypeEngine[Any] | None, dialect: Dialect) -> Processor | None:
    return None if kind is None else kind.dialect_impl(dialect).result_processor(dialect, None)


def _processed(
    rows: Iterable[Sequence[Any]], processors: Sequence[Processor | None]
) -> Iterable[tuple[Any, ...]]:
    columns = zip(*rows, strict=True)
    return zip(
        *(
            column if process is None else map(process, column)
            for column, process in zip(columns, processors, strict=False)
        ),
        strict=True,
    )
