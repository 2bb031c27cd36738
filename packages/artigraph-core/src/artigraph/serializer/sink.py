"""The files that Parquet and Arrow IPC are written to, piece by piece, and checked on the way.

A library is given one of these for its file. Whatever it makes of an error of the file, and goes on
to write, `passing_errors` raises the error itself, and nothing follows it into the file.
"""

import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, Self, cast

from artigraph.serializer.expansion import check_expansion, size_allowing
from artigraph.serializer.footer import footer_of, without_extension_types
from artigraph.serializer.ipc import Meter
from artigraph.serializer.parquet import bound_parquet

PIECE: Final = 8 * 2**20
"""How many bytes are handed on at once of what was held back."""

HELD_BACK: Final = 16 * 2**20
"""How many bytes of the end of a Parquet file are held back, beside what its schema takes."""


class Sink(io.RawIOBase):
    """What is written goes on to a file, until that raises an error."""

    def __init__(self, file: "BinaryIO | Sink") -> None:
        self._file = cast("BinaryIO", file)
        self.failure: BaseException | None = None
        """What the file has raised."""
        self.size = 0
        """How many bytes were written."""

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._take(view)
        self.size += len(view)
        return len(view)

    @contextmanager
    def passing_errors(self) -> Generator[Self]:
        """Raise what the file has raised, for whatever a library raises because of it."""
        try:
            yield self
        except BaseException:
            self._raise_failure()
            raise
        self._raise_failure()

    def _take(self, view: memoryview) -> None:
        self._hand_on(view)

    def _hand_on(self, view: memoryview) -> None:
        self._raise_failure()
        try:
            while view:
                view = view[self._file.write(view) :]
        except BaseException as error:
            self.failure = error
            raise

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure from None


class IpcSink(Sink):
    """Takes an uncompressed Arrow IPC file, and knows what it takes in memory.

    Args:
        file: Gets what is written.
        per_value: As for `measure_ipc`.
    """

    def __init__(self, file: BinaryIO | Sink, *, per_value: int = 0) -> None:
        super().__init__(file)
        self._meter = Meter(per_value)

    def finish(self, *, spent: int = 0) -> None:
        """Hold the file, which is complete, against what data may take; `spent` comes on top.

        Raises:
            LimitError: It would not be read.
        """
        check_expansion(self._meter.size + spent, self.size)

    def _take(self, view: memoryview) -> None:
        self._meter.feed(view)
        self._hand_on(view)


class ParquetSink(Sink):
    """Takes a Parquet file, and holds its end back until that was looked at.

    Args:
        file: Gets what is written.
        per_value: As for `measure_parquet`.
        schema_size: Of what the schema adds to the footer, in bytes.
    """

    def __init__(self, file: BinaryIO | Sink, *, per_value: int = 0, schema_size: int = 0) -> None:
        super().__init__(file)
        self._per_value = per_value
        self._most = HELD_BACK + 2 * schema_size
        self._end = bytearray()

    def finish(self, *, longest: list[int] | None = None, spent: int = 0) -> None:
        """Write what was held back, and before the footer, as nothing, what the file lacks in size.

        So it can be read however small it became.

        Args:
            longest: As for `bound_parquet`.
            spent: What the value takes in memory beside the file's, in bytes.

        Raises:
            UnsupportedValueError: It looks as if it named an extension type.
        """
        without_extension_types(self._end)
        footer = footer_of(self._end)
        expanded = bound_parquet(footer, per_value=self._per_value, longest=longest)
        self._give(len(self._end) - 8 - len(footer))
        missing = size_allowing(expanded + spent) - self.size
        for start in range(0, missing, PIECE):
            self._hand_on(memoryview(bytes(min(PIECE, missing - start))))
        self._give(len(self._end))

    def _take(self, view: memoryview) -> None:
        self._raise_failure()
        self._end += view
        while len(self._end) >= self._most + PIECE:
            self._give(PIECE)

    def _give(self, size: int) -> None:
        with memoryview(self._end) as end, end[:size] as piece:
            self._hand_on(piece)
        del self._end[:size]
