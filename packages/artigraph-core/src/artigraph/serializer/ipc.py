"""Arrow IPC files, looked at before a library reads them: what they take in memory.

The metadata of a file are flatbuffers. They say where each buffer of each batch is, and a buffer
that is compressed begins with its size when it is not; nothing is decompressed here.
https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from artigraph.serializer.expansion import check_expansion
from artigraph.spec import Data

MAX_NESTING: Final = 128
"""How deep columns may be nested: some readers do not look, and end the process on their stack."""


def measure_ipc(data: Data, *, per_value: int = 0) -> int:
    """What a file takes in memory when it is read, in bytes, at most.

    Args:
        data: The file.
        per_value: What the reader may take for each value beside what the format does, in bytes.

    Raises:
        LimitError: It is more than `artigraph.serializer.expansion` allows.
        ValueError: It contradicts itself.
    """
    view = memoryview(data)
    end = _footer_at(view)
    try:
        footer = _root(view[end:-10])
        list(_columns(footer.table(1)))
        size = used = 0
        for block in (*footer.structures(2, "<qi4xq"), *footer.structures(3, "<qi4xq")):
            used += block[1] + block[2]
            if used > end:
                raise ValueError("its batches lie over each other")
            size += _batch_size(view[:end], block, per_value)
            check_expansion(size, len(view))
    except (struct.error, IndexError) as error:
        raise ValueError("its metadata are cut off") from error
    return size


def _footer_at(view: memoryview) -> int:
    end = len(view) - 10 - int.from_bytes(view[-10:-6], "little")
    if end < 8 or bytes(view[-6:]) != b"ARROW1":
        raise ValueError("no Arrow IPC file, or cut off")
    return end


def first_message(data: Data) -> int:
    """Where in a file the batches begin, or would begin if it had any."""
    view = memoryview(data)
    end = _footer_at(view)
    footer = _root(view[end:-10])
    blocks = (*footer.structures(2, "<qi4xq"), *footer.structures(3, "<qi4xq"))
    return min((block[0] for block in blocks), default=end - _END_SIZE)


_END_SIZE: Final = 8
"""Of what says that no more batches come, in bytes."""


class Meter:
    """Tells what a file takes in memory while it is written, as `measure_ipc` does.

    Its batches have to lie one after the other, and may not be compressed.
    """

    def __init__(self, start: int, per_value: int = 0) -> None:
        self.size = 0
        """So far, in bytes."""
        self._per_value = per_value
        self._left = start
        """How many bytes come before the next message; -1 where none comes any more."""
        self._head = bytearray()

    def feed(self, view: memoryview) -> None:
        """Take the next part of the file."""
        while view and self._left >= 0:
            if self._left:
                passed = min(self._left, len(view))
                self._left -= passed
                view = view[passed:]
            else:
                view = view[self._read_head(view) :]

    def _read_head(self, view: memoryview) -> int:
        """Take of the head of a message what is here, and return how much that is."""
        head = self._head
        size = 8 if len(head) < 8 else 8 + int.from_bytes(head[4:8], "little")
        taken = view[: size - len(head)]
        head += taken
        if len(head) == size > 8:
            self._take_message()
        elif len(head) == size and not any(head[4:]):
            self._left = -1
        return len(taken)

    def _take_message(self) -> None:
        message, self._left = _message(memoryview(bytes(self._head)), len(self._head))
        self._head.clear()
        kind = message.scalar(1, "<B")
        if kind in (_DICTIONARY, _BATCH):
            batch = message.table(2) if kind == _BATCH else message.table(2).table(1)
            self.size += sum(length for length, _ in batch.structures(1, "<qq")) * self._per_value
            self.size += sum(size for _, size in batch.structures(2, "<qq"))


class Column(NamedTuple):
    """What a schema says of a column."""

    name: bytes
    is_dictionary: bool
    slots: int
    """The most places that a row has in it by itself, as a missing list of fixed size has."""
    slots_in_lists: int
    """The same for an item of a list of no fixed size."""
    widths: frozenset[int] = frozenset()
    """Of all parts whose values have one of their own, in bytes."""


def read_schema(message: bytes) -> list[Column]:
    """The columns of a schema, which is the message that Parquet files keep it as.

    Raises:
        ValueError: They are nested too deep, or it is no schema.
    """
    try:
        return list(_columns(_message(memoryview(message), len(message))[0].table(2)))
    except (struct.error, IndexError) as error:
        raise ValueError("its schema is cut off") from error


class _Table:
    """A table of a flatbuffer: https://flatbuffers.dev/internals/."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data = data
        self._at = at
        self._fields = at - _number("<i", data, at)
        self._size = _number("<H", data, self._fields)

    def scalar(self, field: int, form: str, default: int = 0) -> int:
        at = self._find(field)
        return _number(form, self.data, at) if at else default

    def table(self, field: int) -> "_Table":
        at = self._find(field)
        if not at:
            raise ValueError("its metadata lack a part")
        return _Table(self.data, at + _number("<I", self.data, at))

    def tables(self, field: int) -> Iterator["_Table"]:
        for at in self._items(field, 4):
            yield _Table(self.data, at + _number("<I", self.data, at))

    def structures(self, field: int, form: str) -> Iterator[tuple[int, ...]]:
        for at in self._items(field, struct.calcsize(form)):
            yield struct.unpack_from(form, self.data, at)

    def text(self, field: int) -> bytes:
        places = self._items(field, 1)
        return bytes(self.data[places.start : places.stop])

    def has(self, field: int) -> bool:
        return bool(self._find(field))

    def _items(self, field: int, width: int) -> range:
        """Where the items of a vector are."""
        at = self._find(field)
        if not at:
            return range(0)
        at += _number("<I", self.data, at)
        length = _number("<I", self.data, at)
        if at + 4 + length * width > len(self.data):
            raise ValueError("a list in its metadata is longer than they are")
        return range(at + 4, at + 4 + length * width, width)

    def _find(self, field: int) -> int:
        """Where a field is, or 0 if it is left out."""
        place = 4 + 2 * field
        if place + 2 > self._size:
            return 0
        offset = _number("<H", self.data, self._fields + place)
        return self._at + offset if offset else 0


def _number(form: str, data: memoryview, at: int) -> int:
    if at < 0:
        raise ValueError("its metadata point before their beginning")
    return struct.unpack_from(form, data, at)[0]


def _root(data: memoryview) -> _Table:
    return _Table(data, _number("<I", data, 0))


_CONTINUES: Final = 0xFFFFFFFF


def _message(data: memoryview, size: int) -> tuple[_Table, int]:
    """The message at the beginning of `data`, and the size of its body."""
    start = 8 if _number("<I", data, 0) == _CONTINUES else 4
    length = _number("<i", data, start - 4)
    if not 0 <= length <= size - start:
        raise ValueError("a message is longer than its place")
    message = _root(data[start : start + length])
    return message, message.scalar(3, "<q")


_DICTIONARY, _BATCH = 2, 3
"""What a message is."""


def _batch_size(data: memoryview, block: tuple[int, ...], per_value: int) -> int:
    """What a batch takes in memory, by its place, the size of its metadata and of its body."""
    start, metadata_size, body_size = block
    body_start = start + metadata_size
    if min(block) < 0 or body_start + body_size > len(data):
        raise ValueError("a batch is not in the file")
    message, size = _message(data[start:body_start], metadata_size)
    kind = message.scalar(1, "<B")
    if size != body_size or kind not in (_DICTIONARY, _BATCH):
        raise ValueError("a batch is not what the footer says")
    batch = message.table(2) if kind == _BATCH else message.table(2).table(1)
    expanded = 0
    for length, nulls in batch.structures(1, "<qq"):
        if not 0 <= nulls <= length:
            raise ValueError("a column has an impossible length")
        expanded += length * per_value
    body = data[body_start : body_start + body_size]
    is_compressed = batch.has(3)
    for start, size in batch.structures(2, "<qq"):
        if min(start, size) < 0 or start + size > body_size:
            raise ValueError("a buffer is not in its batch")
        expanded += _buffer_size(body[start : start + size], is_compressed)
    return expanded


def _buffer_size(buffer: memoryview, is_compressed: bool) -> int:
    """What a buffer takes; one that is compressed begins with it, or with -1 if it is not."""
    size = _number("<q", buffer, 0) if is_compressed and buffer else -1
    if size < -1:
        raise ValueError("a buffer has an impossible size")
    return len(buffer) if size == -1 else size


def _columns(schema: _Table) -> Iterator[Column]:
    """The columns, of which none is nested too deep, or described again and again."""
    left = len(schema.data) // _MIN_FIELD
    for field in schema.tables(1):
        slots = slots_in_lists = 1
        widths: set[int] = set()
        waiting = [(field, 1, False, 1)]
        while waiting:
            part, size, is_in_list, depth = waiting.pop()
            left -= 1
            if left < 0 or depth > MAX_NESTING:
                raise ValueError("its columns are nested too deep")
            kind = part.scalar(2, "<B")
            if kind == _FIXED_SIZE_LIST:
                size *= max(part.table(3).scalar(0, "<i"), 1)
            if kind == _FIXED_SIZE_BINARY:
                widths.add(part.table(3).scalar(0, "<i"))
            if is_in_list:
                slots_in_lists = max(slots_in_lists, size)
            else:
                slots = max(slots, size)
            is_in_list = is_in_list or kind not in (_STRUCT, _FIXED_SIZE_LIST)
            waiting += [(each, size, is_in_list, depth + 1) for each in part.tables(5)]
        yield Column(field.text(0), field.has(4), slots, slots_in_lists, frozenset(widths))


_MIN_FIELD: Final = 8
"""What the description of a column takes at least, in bytes."""

_STRUCT, _FIXED_SIZE_BINARY, _FIXED_SIZE_LIST = 13, 15, 16
"""Types that the schema says the size of."""
