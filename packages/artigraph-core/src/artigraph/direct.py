"""Statements that are compiled once, and whose values are processed a column at a time.

SQLAlchemy processes value by value, which takes longer than the database takes for the statement.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

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
    """A statement, for every dialect.

    Args:
        statement: Without parameters whose number varies; or what makes it for a dialect.
        parameters: The columns that they are held against, or put into.
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

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it for rows, each with a value for every parameter."""
        compiled = self._compile(connection.dialect)
        values = map(itemgetter(*compiled.names), rows)
        connection.exec_driver_sql(compiled.sql, list(_processed(values, compiled.to_driver)))

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
