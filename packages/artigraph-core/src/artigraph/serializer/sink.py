"""The files that Parquet and Arrow IPC are written to, piece by piece, and checked on the way.

A library is given one of these for its file. Whatever it makes of an error of the file, and goes on
to write, `passing_errors` raises the error itself, and nothing follows it into the file.
"""

import io
import math
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, BinaryIO, Final, Self, cast

from artigraph.serializer.expansion import check_expansion, size_allowing
from artigraph.serializer.footer import footer_of, without_extension_types
from artigraph.serializer.ipc import Meter, first_message
from artigraph.serializer.parquet import bound_parquet
from artigraph.spec import Data

PIECE: Final = 8 * 2**20
"""How many bytes are handed on at once of what was held back."""


class Sink(io.RawIOBase):
    """What is written goes on to a file, until that raises an error."""

    def __init__(self, file: "BinaryIO | Sink") -> None:
        self._file = cast("BinaryIO", file)
        # Some libraries write in threads of their own.
        self._context = copy_context()
        self.failure: BaseException | None = None
        """What the file has raised."""
        self.size: int = 0
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
                view = view[self._context.run(self._file.write, view) :]
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
        empty: The file that the library writes of the same schema, and of no rows. Beside what is
            in its footer, that of another has only numbers.
        per_value: As for `measure_ipc`.

    Raises:
        UnsupportedValueError: The schema looks as if it named an extension type.
    """

    def __init__(self, file: BinaryIO | Sink, empty: Data, *, per_value: int = 0) -> None:
        super().__init__(file)
        without_extension_types(empty)
        self._meter = Meter(first_message(empty), per_value)

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
        held: How many bytes of the end are held back at least, so that all of the footer is among
            them. None is enough where the writer calls `hold` before it writes the footer.
    """

    def __init__(self, file: BinaryIO | Sink, *, per_value: int = 0, held: int = 0) -> None:
        super().__init__(file)
        self._per_value = per_value
        self._most: float = held
        self._held: deque[bytes] = deque()
        self._held_size = 0
        # The library goes on to encode and compress while the file hashes and writes.
        self._writer = ThreadPoolExecutor(1, "artigraph-parquet")
        self._writing: Future[None] | None = None

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._held.append(piece)
        self._held_size += len(piece)
        self.size += len(piece)
        if self._held_size >= self._most + PIECE:
            self._wait()
            self._writing = self._writer.submit(self._hand_on, self._take_out(PIECE))
        return len(piece)

    def hold(self) -> None:
        """Hold back all that comes from now on."""
        self._most = math.inf

    def close(self) -> None:
        """Wait for what is being written, if anything is."""
        self._writer.shutdown()
        super().close()

    def finish(self, *, longest: list[int] | None = None, spent: int = 0) -> None:
        """Write what was held back, and before the footer, as nothing, what the file lacks in size.

        So it can be read however small it became.

        Args:
            longest: As for `bound_parquet`.
            spent: What the value takes in memory beside the file's, in bytes.

        Raises:
            UnsupportedValueError: It looks as if it named an extension type.
        """
        self._wait()
        end = self._take_out(self._held_size)
        without_extension_types(end)
        footer = footer_of(end)
        expanded = bound_parquet(footer, per_value=self._per_value, longest=longest)
        footer_at = len(end) - 8 - len(footer)
        self._hand_on(end[:footer_at])
        missing: int = size_allowing(expanded + spent) - self.size
        for start in range(0, missing, PIECE):
            self._hand_on(memoryview(bytes(min(PIECE, missing - start))))
        self._hand_on(end[footer_at:])

    def _take_out(self, size: int) -> memoryview:
        """What was held back first, of at least so many bytes."""
        pieces: list[bytes] = []
        while size > 0:
            pieces.append(self._held.popleft())
            self._held_size -= len(pieces[-1])
            size -= len(pieces[-1])
        return memoryview(b"".join(pieces))

    def _wait(self) -> None:
        self._raise_failure()
        if self._writing is not None:
            self._writing.result()
