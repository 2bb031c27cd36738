"""Parquet files, looked at before a library reads them: what they take in memory.

A file says how large its pages are twice: in the footer, which no reader holds against anything,
and in front of every page, which readers go by. Here the pages are walked, without any of them
being decompressed: https://parquet.apache.org/docs/file-format/.
"""

import struct
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from artigraph.serializer import ipc
from artigraph.serializer.expansion import check_expansion, is_allowed
from artigraph.spec import Data

Decompress: TypeAlias = Callable[[str, bytes, int], Data]
"""Makes so many bytes of the compressed, by the name of the codec, as in `zstd`."""


def measure_parquet(
    data: Data,
    *,
    per_value: int = 0,
    decompress: Decompress | None = None,
    columns: Collection[int] | None = None,
) -> int:
    """What a file takes in memory when it is read, in bytes, at most.

    Args:
        data: The file.
        per_value: What the reader may take for each value beside what the format does, in bytes.
        decompress: Given where the reader makes a copy of a text wherever a column has it. It is
            called for dictionaries of texts that might take too much by that.
        columns: The places of those that are read; None for all.

    Raises:
        LimitError: It is more than `artigraph.serializer.expansion` allows.
        ValueError: It contradicts itself, or is written as none of our writers does.
    """
    try:
        return _measure(memoryview(data), per_value, decompress, columns)
    except (KeyError, IndexError, struct.error) as error:
        raise ValueError("a structure in it is cut off, or lacks a part") from error


def bound_parquet(
    footer: bytes, *, per_value: int = 0, longest: Sequence[int] | None = None
) -> int:
    """What `measure_parquet` finds at most of a file with this footer, in bytes.

    Args:
        footer: As one of our writers has written it.
        per_value: As for `measure_parquet`.
        longest: Given where that gets a `decompress`: of each column the length of its longest
            text, in bytes.
    """
    said = _Reader(footer).structure(_FILE)
    columns = _arrow_columns(said)
    leaves = list(_leaves(said[_SCHEMA]))
    size = 0
    for group in said[_GROUPS]:
        for leaf, each in zip(leaves, group[_COLUMNS], strict=True):
            chunk = each[_CHUNK]
            stored = _STORED.get(leaf.kind, leaf.length)
            pages = _Pages(chunk[_EXPANDED], chunk[_VALUES], chunk[_VALUES])
            pages = pages._replace(dictionary_values=pages.size // max(stored, 1))
            size += _size(pages, leaf, columns[leaf.top], group[_GROUP_ROWS], per_value)
            if longest and leaf.kind == _BYTE_ARRAY:
                size += pages.references * longest[leaf.top]
    return size


def _measure(
    view: memoryview,
    per_value: int,
    decompress: Decompress | None,
    wanted: Collection[int] | None,
) -> int:
    end = len(view) - 8 - int.from_bytes(view[-8:-4], "little")
    if end < 4 or bytes(view[-4:]) != b"PAR1":
        raise ValueError("no Parquet file, or cut off")
    footer = _Reader(bytes(view[end:-8])).structure(_FILE)
    columns = _arrow_columns(footer)
    leaves = list(_leaves(footer[_SCHEMA]))
    _check_widths(leaves, columns)
    rows = size = compressed = 0
    copied: list[tuple[_Chunk, _Pages]] = []
    for group in footer[_GROUPS]:
        rows += group[_GROUP_ROWS]
        chunks = [_chunk(each[_CHUNK], end) for each in group[_COLUMNS] if _is_here(each)]
        for leaf, chunk in zip(leaves, chunks, strict=True):
            compressed += chunk.end - chunk.start
            if compressed > end:
                raise ValueError("its columns lie over each other")
            if wanted is not None and leaf.top not in wanted:
                continue
            pages = _pages(view, chunk)
            _check_values(pages.values, leaf, chunk, group[_GROUP_ROWS])
            column = columns[leaf.top]
            size += _size(pages, leaf, column, group[_GROUP_ROWS], per_value)
            is_indexed = column.is_dictionary and not leaf.is_nested
            if leaf.kind == _BYTE_ARRAY and not is_indexed:
                copied.append((chunk, pages))
        check_expansion(size, len(view))
    if rows != footer[_ROWS] or rows < 0:
        raise ValueError("its row groups have another number of rows than it says")
    if decompress is not None:
        size += _copies(view, copied, decompress, size)
    return size


def _size(pages: "_Pages", leaf: "_Leaf", column: ipc.Column, rows: int, per_value: int) -> int:
    """What a column takes in a row group of so many rows, without copies of its texts."""
    places = pages.values * column.slots_in_lists + pages.dictionary_values
    if column.slots > 1:
        places += rows * column.slots
    return pages.size + places * (leaf.width + per_value)


def _arrow_columns(footer: Mapping[int, Any]) -> Sequence[ipc.Column]:
    """What the schema that Arrow adds to a file says of its columns."""
    names = list(_names(footer[_SCHEMA]))
    pairs = footer.get(_METADATA, ())
    schemas = [pair[_VALUE] for pair in pairs if pair[_KEY] == b"ARROW:schema"]
    if not schemas:
        return [ipc.Column(name, False, 1, 1) for name in names]
    columns = [each for schema in schemas for each in ipc.read_schema(_decoded(schema))]
    if [column.name for column in columns] != names:
        raise ValueError("it has two schemas, and they are not the same")
    return columns


def _names(elements: Sequence[Mapping[int, Any]]) -> Iterator[bytes]:
    """The names of the columns, without their parts."""
    at = 1
    for _ in range(elements[0].get(_CHILDREN, 0)):
        yield elements[at][_NAME]
        left = 1
        while left:
            left += elements[at].get(_CHILDREN, 0) - 1
            at += 1


def _decoded(schema: bytes) -> bytes:
    return b64decode(schema, validate=True)


def _check_widths(leaves: Sequence["_Leaf"], columns: Sequence[ipc.Column]) -> None:
    """Values may not become wider than they are in the file."""
    lengths: dict[int, set[int]] = {}
    for leaf in leaves:
        lengths.setdefault(leaf.top, set()).add(leaf.length)
    for top, column in enumerate(columns):
        if not column.widths <= lengths.get(top, set()):
            raise ValueError("it has two schemas, and they are not the same")


def _check_values(values: int, leaf: "_Leaf", chunk: "_Chunk", rows: int) -> None:
    """Hold the number of a column's values against all that is said of it."""
    if values != chunk.values:
        raise ValueError("its pages hold another number of values than it says")
    if not 0 <= rows <= values or (values > rows and not leaf.is_nested):
        raise ValueError("a column has another number of rows than it says")


class _Leaf(NamedTuple):
    """A column that has pages."""

    top: int
    """The place of the column that it is, or is a part of."""
    kind: int
    length: int
    """Of its values, if the schema tells, in bytes."""
    width: int
    """What a value takes, in bytes, at least, with what is kept for each list that it is in."""
    is_nested: bool


class _Chunk(NamedTuple):
    """Where the pages of a column in a row group are."""

    start: int
    end: int
    codec: int
    values: int


class _Pages(NamedTuple):
    """What the headers of a chunk's pages say."""

    size: int
    """Of all pages when they are not compressed, in bytes."""
    values: int
    references: int
    """The values that are kept as places in the dictionary."""
    dictionary_values: int = 0
    dictionary_start: int = 0
    dictionary_end: int = 0
    dictionary_size: int = 0
    """When it is not compressed."""


# The numbers of fields, and of their types in Thrift's compact protocol:
# https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
# https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
_Fields: TypeAlias = Mapping[int, Any]

_BOOLEANS, _BYTE, _I16, _I32, _I64, _DOUBLE = (1, 2), 3, 4, 5, 6, 7
_BINARY, _LIST, _SET, _STRUCTURE = 8, 9, 10, 12

_TYPE, _TYPE_LENGTH, _NAME, _CHILDREN, _CONVERTED, _LOGICAL = 1, 2, 4, 5, 6, 10
_SCHEMA, _ROWS, _GROUPS, _METADATA = 2, 3, 4, 5
_COLUMNS, _GROUP_ROWS = 1, 3
_FILE_PATH, _CHUNK = 1, 3
_CODEC, _VALUES, _EXPANDED, _COMPRESSED, _DATA_START, _DICTIONARY_START = 4, 5, 6, 7, 9, 11
_KEY, _VALUE = 1, 2

# All that came after the first dozen, but FLOAT16, are read as extension types, whose code runs.
_EXTENSIONS: _Fields = {number: {} for number in range(12, 64) if number != 15}
_CONVERTED_EXTENSIONS: Final = (19, 20)

_ELEMENT: _Fields = {
    _TYPE: _I32,
    _TYPE_LENGTH: _I32,
    _NAME: _BINARY,
    _CHILDREN: _I32,
    _CONVERTED: _I32,
    _LOGICAL: _EXTENSIONS,
}
_COLUMN: _Fields = {
    _FILE_PATH: _BINARY,
    _CHUNK: {
        _CODEC: _I32,
        _VALUES: _I64,
        _EXPANDED: _I64,
        _COMPRESSED: _I64,
        _DATA_START: _I64,
        _DICTIONARY_START: _I64,
    },
}
_FILE: _Fields = {
    _SCHEMA: [_ELEMENT],
    _ROWS: _I64,
    _GROUPS: [{_COLUMNS: [_COLUMN], _GROUP_ROWS: _I64}],
    _METADATA: [{_KEY: _BINARY, _VALUE: _BINARY}],
}

_PAGE_TYPE, _PAGE_SIZE, _PAGE_COMPRESSED, _PAGE_V1, _PAGE_DICTIONARY, _PAGE_V2 = 1, 2, 3, 5, 7, 8
_COUNT, _ENCODING, _ENCODING_V2 = 1, 2, 4
_PAGE: _Fields = {
    _PAGE_TYPE: _I32,
    _PAGE_SIZE: _I32,
    _PAGE_COMPRESSED: _I32,
    _PAGE_V1: {_COUNT: _I32, _ENCODING: _I32},
    _PAGE_DICTIONARY: {_COUNT: _I32, _ENCODING: _I32},
    _PAGE_V2: {_COUNT: _I32, _ENCODING_V2: _I32},
}

_BYTE_ARRAY, _FIXED = 6, 7
_IS_V1, _IS_DICTIONARY, _IS_V2 = 0, 2, 3
_PAGE_HEADS: Final = {
    _IS_V1: _PAGE_V1,
    _IS_DICTIONARY: _PAGE_DICTIONARY,
    _IS_V2: _PAGE_V2,
}
_WIDTHS: Final = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, _BYTE_ARRAY: 16}
"""Of the physical types, in bytes; of texts what it takes to say where one is."""

_STORED: Final = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, _BYTE_ARRAY: 4}
"""Of the physical types, what a value takes at least in a dictionary, in bytes."""

_KINDS: Final = (*_WIDTHS, _FIXED)

_LIST_WIDTH: Final = 12
"""What a list, or a struct, that a value is in adds to it: its place, and two levels."""

_CODECS: Final = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}

_DICTIONARY_ENCODINGS: Final = frozenset({2, 8})
_ENCODINGS: Final = frozenset({0, 3, 5, 6, 9}) | _DICTIONARY_ENCODINGS
"""All but those that nobody writes any more, and DELTA_BYTE_ARRAY: there a text is told by what it
has in common with the one before, so that any number of long ones takes no room."""


class _Reader:
    """Reads structures of Thrift, and of those only what is wanted.

    It is stricter than the readers of the libraries, so that none reads something else: a field
    that is wanted has its type, and is there once.
    """

    def __init__(self, data: bytes | memoryview, at: int = 0) -> None:
        self._data = data
        self.at = at

    def structure(self, wanted: _Fields) -> dict[int, Any]:
        """The wanted fields of the structure that begins here, by their numbers.

        Raises:
            ValueError: It is none, or a field is of another type.
            IndexError: It is cut off.
        """
        found: dict[int, Any] = {}
        number = 0
        while kind := (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._integer()
            expected = wanted.get(number)
            if expected is None:
                self._skip(kind, 0)
            elif number in found:
                raise ValueError("a field is there twice")
            else:
                found[number] = self._value(kind, expected)
        return found

    def _value(self, kind: int, expected: Any) -> Any:
        is_list, is_structure = type(expected) is list, type(expected) is dict
        if kind != (_LIST if is_list else _STRUCTURE if is_structure else expected):
            raise ValueError("a field is of another type than it should be")
        if is_structure:
            return self.structure(expected)
        if is_list:
            kind, length = self._list()
            return [self._value(kind, expected[0]) for _ in range(length)]
        if kind == _BINARY:
            length = self._varint()
            self._advance(length)
            return bytes(self._data[self.at - length : self.at])
        number = self._integer()
        limit = 1 << (31 if kind == _I32 else 63)
        if not -limit <= number < limit:
            raise ValueError("a number is too large for its field")
        return number

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (_I32, _I64, _I16):
            self._varint()
        elif kind == _BINARY:
            self._advance(self._varint())
        elif kind in (_LIST, _SET):
            kind, length = self._list()
            for _ in range(length):
                self._skip(_BYTE if kind in _BOOLEANS else kind, depth + 1)
        elif kind == _STRUCTURE:
            if depth > ipc.MAX_NESTING:
                raise ValueError("its structures are nested too deep")
            while (head := self._byte()) & 15:
                if not head >> 4:
                    self._varint()
                self._skip(head & 15, depth + 1)
        elif kind in (_BYTE, _DOUBLE):
            self._advance(1 if kind == _BYTE else 8)
        elif kind not in _BOOLEANS:
            raise ValueError("a field is of a type that Parquet does not use")

    def _list(self) -> tuple[int, int]:
        head = self._byte()
        length = head >> 4
        if length == 15:
            length = self._varint()
        return head & 15, length

    def _integer(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def _varint(self) -> int:
        data, at = self._data, self.at
        byte = data[at]
        number, shift = byte & 127, 7
        while byte > 127:
            at += 1
            byte = data[at]
            number |= (byte & 127) << shift
            shift += 7
            if shift > 70:
                raise ValueError("a number has too many digits")
        self.at = at + 1
        return number

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte

    def _advance(self, length: int) -> None:
        self.at += length
        if self.at > len(self._data):
            raise IndexError("beyond the end")


def _leaves(elements: Sequence[Mapping[int, Any]]) -> Iterator[_Leaf]:
    """The columns of a schema, which is a tree told from its root down."""
    left = [elements[0].get(_CHILDREN, 0)]
    top = -1
    for element in elements[1:]:
        while left and not left[-1]:
            left.pop()
        if not left or len(left) > ipc.MAX_NESTING:
            raise ValueError("its columns are nested too deep, or in nothing")
        if element.get(_CHILDREN, 0) < 0 or element.get(_TYPE, 0) not in _KINDS:
            raise ValueError("its schema is none of Parquet's")
        if element.get(_LOGICAL) or element.get(_CONVERTED) in _CONVERTED_EXTENSIONS:
            raise ValueError("a column is of an extension type, whose code would run")
        depth = len(left) - 1
        top += not depth
        left[-1] -= 1
        if element.get(_CHILDREN, 0):
            left.append(element[_CHILDREN])
        else:
            kind = element[_TYPE]
            length = element[_TYPE_LENGTH] if kind == _FIXED else 0
            if length < 0:
                raise ValueError("its values have an impossible length")
            width = _WIDTHS.get(kind, length) + _LIST_WIDTH * depth
            yield _Leaf(top, kind, length, width, depth > 0)


def _is_here(column: Mapping[int, Any]) -> bool:
    if column.get(_FILE_PATH):
        raise ValueError("a column is in another file")
    return True


def _chunk(said: Mapping[int, Any], end: int) -> _Chunk:
    if not said[_VALUES] and not said[_COMPRESSED]:
        return _Chunk(end, end, 0, 0)
    start = said.get(_DICTIONARY_START, said[_DATA_START])
    stop = start + said[_COMPRESSED]
    # Where there are no values, what is there of them is said to begin at 0.
    data_start = said[_DATA_START] if said[_VALUES] else start
    if not 4 <= start <= data_start <= stop <= end:
        raise ValueError("a column is not in the file")
    return _Chunk(start, stop, said[_CODEC], said[_VALUES])


def _pages(view: memoryview, chunk: _Chunk) -> _Pages:
    """What the headers of all pages of a column say, one after the other."""
    size = values = references = 0
    dictionary = ()
    at = chunk.start
    while at < chunk.end:
        reader = _Reader(view[: chunk.end], at)
        page = reader.structure(_PAGE)
        kind, stored, expanded = page[_PAGE_TYPE], page[_PAGE_COMPRESSED], page[_PAGE_SIZE]
        said = page[_PAGE_HEADS[kind]]
        end = reader.at + stored
        if min(stored, expanded, said[_COUNT]) < 0 or end > chunk.end:
            raise ValueError("a page is not in its column")
        if kind == _IS_DICTIONARY:
            if at > chunk.start:
                raise ValueError("a dictionary is not before the pages of its column")
            dictionary = (said[_COUNT], reader.at, end, expanded)
        else:
            encoding = said[_ENCODING if kind == _IS_V1 else _ENCODING_V2]
            if encoding not in _ENCODINGS:
                raise ValueError("a page is in an encoding that none of our writers uses")
            values += said[_COUNT]
            references += said[_COUNT] if encoding in _DICTIONARY_ENCODINGS else 0
        size += expanded
        at = end
    return _Pages(size, values, references, *dictionary)


def _copies(
    view: memoryview,
    chunks: Sequence[tuple[_Chunk, _Pages]],
    decompress: Decompress,
    size: int,
) -> int:
    """What the texts take that are named by their places in the dictionaries, at most.

    No more dictionaries are decompressed than it takes to say that it is little enough.
    """
    copies = sum(pages.references * pages.dictionary_size for _, pages in chunks)
    for chunk, pages in sorted(chunks, key=_copies_at_most, reverse=True):
        if is_allowed(size + copies, len(view)):
            break
        check_expansion(size + pages.dictionary_size, len(view))
        stored: Data = bytes(view[pages.dictionary_start : pages.dictionary_end])
        if chunk.codec and pages.dictionary_size:
            stored = decompress(_CODECS[chunk.codec], stored, pages.dictionary_size)
        copies -= pages.references * (pages.dictionary_size - _longest(stored))
    check_expansion(size + copies, len(view))
    return copies


def _copies_at_most(chunk: tuple[_Chunk, _Pages]) -> int:
    return chunk[1].references * chunk[1].dictionary_size


def _longest(texts: Data) -> int:
    """The length of the longest of some texts, each of which has its length before it."""
    longest = at = 0
    while at < len(texts):
        (length,) = _LENGTH.unpack_from(texts, at)
        if length > longest:
            longest = length
        at += 4 + length
    return longest


_LENGTH = struct.Struct("<I")
