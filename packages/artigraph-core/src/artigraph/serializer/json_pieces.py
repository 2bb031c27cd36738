"""Exact JSON of any size, written and read in pieces.

CPython encodes and decodes a JSON text in one step, during which no other thread runs. Here each
step takes a millisecond or so: what weighs little is still encoded and decoded by `json`, many
values at once, and only what weighs more is opened, and gone through.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from heapq import merge
from io import BytesIO
from itertools import islice
from json import JSONDecodeError
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

from artigraph.errors import shown
from artigraph.memory import give_way, joined, let_go, pieces_of
from artigraph.serializer.codec import (
    REFUSALS,
    Enums,
    Json,
    Packer,
    Refusal,
    TooDeep,
    Unpacker,
    decoder_of,
    dumps,
    has_tags,
    is_plain,
    refusal_of,
)
from artigraph.spec import Data

T = TypeVar("T")

_WEIGHT: Final = 2_000
"""Of what is encoded at once: as many items, or some ten thousand letters."""

_WINDOW: Final = 2**14
"""Letters of a JSON text that are decoded at once, at least."""

_LONG_WINDOW: Final = 2**17
"""The same of a string, which takes less time."""


class _TooMuch(Exception):
    """What is packed weighs more than is encoded at once."""


class Writer(Packer):
    """Writes the same JSON of a value as `dumps` gives of what a `Packer` makes.

    Args:
        write: Takes the text, in ASCII.
        enums: The enumerations that may occur in the value.
    """

    def __init__(self, write: Callable[[bytes], object], enums: Enums = ()) -> None:
        super().__init__(enums=enums, spend=self._weigh)
        self._write = write
        self._left = 0
        """Weight that may be added to what is packed."""

    def write(self, value: object) -> None:
        """Write a value.

        Raises:
            ArtigraphError: As `pack` raises it; what was written until then is of no use.
        """
        self.depth = 0
        try:
            self._put_value(_Part(value, 0, ""))
        except (Refusal, TooDeep) as error:
            raise self.told(error) from None

    def _weigh(self, number: int) -> None:
        self._left -= number
        if self._left < 0:
            raise _TooMuch

    def _put(self, text: str) -> None:
        self._write(text.encode("ascii"))

    def _put_value(self, value: "_Part") -> None:
        # A stack of its own: Python's ends before `MAX_DEPTH` of what is opened.
        steps, stack = [value.step], [self._parts(value)]
        try:
            while stack:
                part = next(stack[-1], None)
                if part is None:
                    stack.pop()
                    steps.pop()
                else:
                    steps.append(part.step)
                    stack.append(self._parts(part))
        except Refusal as refusal:
            refusal.path += reversed(steps)
            raise

    def _parts(self, whole: "_Part") -> Iterator["_Part"]:
        """Write a value but for its heavy parts: at each yield, one is to be written."""
        self._left = _WEIGHT
        try:
            packed = self._pack(whole.value, whole.level)
        except _TooMuch:
            yield from self._parts_of_heavy(whole.value, whole.level)
        else:
            self._put(dumps(packed))

    def _parts_of_heavy(self, value: object, level: int) -> Iterator["_Part"]:
        if isinstance(value, str):
            self._put_text(value)
            return
        if isinstance(value, bytes | bytearray):
            self._put_base64(type(value).__name__, pieces_of(value))
            return
        level = self._descend(level)
        if isinstance(value, list):
            yield from self._items("[", cast("list[object]", value), "]", level)
        elif isinstance(value, tuple):
            items = cast("tuple[object, ...]", value)
            yield from self._items('{"$tuple":[', items, "]}", self._descend(level))
        elif not isinstance(value, dict):
            some = cast("set[object] | frozenset[object]", value)
            yield from self._set(some, self._descend(level))
        elif self._has_plain_keys(cast("dict[object, object]", value)):
            yield from self._entries(cast("dict[str, object]", value), level)
        else:
            pairs = cast("dict[object, object]", value)
            yield from self._pairs(pairs, self._descend(self._descend(level)))

    def _items(
        self, start: str, items: Iterable[object], end: str, level: int
    ) -> Iterator["_Part"]:
        def pack(some: list[object], first: int) -> Json:
            return self._pack_items(some, level, first)

        def parts(item: object, number: int) -> Iterator[_Part]:
            yield _Part(item, level, f"[{number}]")

        return self._many(start, items, end, pack, parts)

    def _entries(self, value: dict[str, object], level: int) -> Iterator["_Part"]:
        def pack(some: list[tuple[str, object]], _first: int) -> Json:
            return self._pack_entries(dict(some), level)

        def parts(entry: tuple[str, object], _number: int) -> Iterator[_Part]:
            key, item = entry
            self._put_text(f"${key}" if key.startswith("$") else key)
            self._put(":")
            yield _Part(item, level, f"[{shown(key, 40)}]")

        return self._many("{", value.items(), "}", pack, parts)

    def _pairs(self, value: dict[object, object], level: int) -> Iterator["_Part"]:
        def pack(some: list[tuple[object, object]], first: int) -> Json:
            return self._pack_pairs(some, level, first)

        def parts(entry: tuple[object, object], number: int) -> Iterator[_Part]:
            for before, part in zip("[,", entry, strict=True):
                self._put(before)
                yield _Part(part, level, f"[entry {number}]")
            self._put("]")

        return self._many('{"$dict":[', value.items(), "]}", pack, parts)

    def _many(
        self,
        start: str,
        items: Iterable[T],
        end: str,
        pack: Callable[[list[T], int], Json],
        parts: Callable[[T, int], Iterator["_Part"]],
    ) -> Iterator["_Part"]:
        """Write many items, as many at once as weigh little enough.

        Args:
            start: What comes before them.
            items: The items.
            end: What comes after them.
            pack: Makes a list or an object of some, of which it is told how many came before.
            parts: Writes a heavy one, but for its parts; it is the item of this number.
        """
        self._put(start)
        left = iter(items)
        number, at_once, separator = 0, _WEIGHT, ""
        some: list[T] = []
        while True:
            some += islice(left, max(0, at_once - len(some)))
            if not some:
                break
            tried = some[:at_once]
            self._left = _WEIGHT
            try:
                packed = pack(tried, number)
            except _TooMuch:
                if len(tried) > 1:
                    at_once = len(tried) // 2
                    continue
                self._put(separator)
                yield from parts(tried[0], number)
            else:
                self._put(separator + dumps(packed)[1:-1])
                if self._left > _WEIGHT // 2:
                    at_once = min(2 * at_once, _WEIGHT)
            give_way()
            separator = ","
            number += len(tried)
            del some[: len(tried)]
        self._put(end)

    def _set(self, value: set[object] | frozenset[object], level: int) -> Iterator["_Part"]:
        # In the order of their texts, as a `Packer` does it; sorting is one step too.
        runs: list[list[bytes]] = [[]]
        write = self._write
        for number, item in enumerate(value):
            file = BytesIO()
            self._write = file.write
            yield _Part(item, level, f"[{number}]")
            runs[-1].append(file.getvalue())
            if len(runs[-1]) == _WEIGHT:
                runs[-1].sort()
                runs.append([])
                give_way()
        runs[-1].sort()
        self._write = write
        self._put(f'{{"${type(value).__name__}":[')
        separator = ""
        for text in _gathered(merge(*runs)):
            self._put(separator)
            for piece in pieces_of(text):
                self._write(piece)
            give_way()
            separator = ","
        self._put("]}")

    def _put_text(self, text: str) -> None:
        if is_plain(text):
            self._put('"')
            for piece in pieces_of(text):
                self._put(dumps(piece)[1:-1])
            self._put('"')
        else:
            pieces = (piece.encode("utf-8", "surrogatepass") for piece in pieces_of(text))
            self._put_base64("text", pieces)

    def _put_base64(self, tag: str, pieces: Iterable[Data]) -> None:
        self._put(f'{{"${tag}":"')
        left = b""
        for piece in pieces:
            data = left + piece
            end = len(data) // 3 * 3
            self._write(b64encode(data[:end]))
            left = data[end:]
        self._write(b64encode(left))
        self._put('"}')


def _gathered(texts: Iterable[bytes]) -> Iterator[bytes]:
    """The texts, as many at once as are not much together, with commas between them."""
    some: list[bytes] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size > _WINDOW:
            yield b",".join(some)
            some.clear()
            size = 0
    if some:
        yield b",".join(some)


class _Part(NamedTuple):
    """A value within another."""

    value: object
    level: int
    """Lists, dicts and tags that it is in."""
    step: str
    """From the other to it, in messages."""


_HALF = r"[dD][89abAB][0-9a-fA-F]{2}"
"""The first of the two escapes in which JSON writes some letters."""

_LETTERS = re.compile(rf'(?:[^"\\]++|\\u(?!{_HALF}\Z)[0-9a-fA-F]{{4}}|\\[^u])*+')
"""As much of a string as is whole, up to its end."""

_LONGEST_ESCAPE: Final = 12

_PIECES_LET_GO: Final = 8
"""Of a string, at once."""

_HEAVY: Final = object()
"""In the place of a value that does not end in the window."""

_NUMBER_END: Final = 2
"""How much of a number, as in `1e-`, may be there and not be read as the number's."""

_SPACE = re.compile(r"[ \t\n\r]*")


_Opened: TypeAlias = Generator[None, Any, Any]
"""Reads a list or dict: at each yield it waits for a heavy value in it, and returns its own."""


class Reader:
    """Reads the value whose JSON some data is, as `loads` does of its text.

    Args:
        data: In ASCII; no text of all of it is made.
        enums: The enumerations that may occur in the value.
    """

    def __init__(self, data: Data, enums: Enums = ()) -> None:
        self._data = memoryview(data)
        self._enums = enums
        self._unpack = Unpacker(enums)
        self._taken = 0
        """Bytes of the data that are in the window, or were."""
        self._window = ""
        self._at = 0
        """The place in the window of what is read next."""
        self._may_try_many = True
        """Whether it was not yet tried to decode the rest of the window at once."""
        self._decode: Callable[[str, int], tuple[Any, int]]
        self._fill(_WINDOW)

    def read(self) -> Any:
        """The value.

        Raises:
            ValueError: The data is not what a `Writer` writes.
        """
        try:
            value = self._whole()
        except REFUSALS as error:
            raise refusal_of(error) from error
        if self._at < len(self._window) or not self._is_last:
            raise ValueError("something follows the JSON")
        return value

    @property
    def _is_last(self) -> bool:
        """Whether the window reaches to the end of the data."""
        return self._taken == len(self._data)

    def _fill(self, length: int) -> bool:
        """See to it that so many letters are in the window; whether it was changed for that."""
        if self._is_last or len(self._window) - self._at >= length:
            return False
        end = self._taken + length + _WINDOW
        self._window = self._window[self._at :] + str(self._data[self._taken : end], "ascii")
        give_way()
        self._taken = min(end, len(self._data))
        self._at = 0
        self._may_try_many = True
        self._decode = decoder_of(self._window, self._enums).raw_decode
        return True

    def _whole(self) -> Any:
        # A stack of its own: Python's ends before `MAX_DEPTH` of what is opened.
        value = self._value()
        stack: list[_Opened] = []
        while stack or value is _HEAVY:
            if value is _HEAVY:
                stack.append(self._list() if self._window[self._at] == "[" else self._dict())
                value = None
            try:
                stack[-1].send(value)
                value = _HEAVY
            except StopIteration as ended:
                stack.pop()
                value = ended.value
        return value

    def _value(self) -> Any:
        """What is read next, or `_HEAVY` for a list or dict that does not end in the window."""
        self._fill(1)
        while True:
            try:
                value, end = self._decode(self._window, self._at)
            except JSONDecodeError:
                if self._is_last:
                    raise
            else:
                if self._is_last or end < len(self._window) - _NUMBER_END:
                    self._at = end
                    return value
            if not self._fill(_WINDOW):
                break
        first = self._window[self._at]
        if first == '"':
            return self._text()
        if first in "[{":
            return _HEAVY
        raise ValueError("a number or a word has no end")

    def _list(self) -> "_Opened":
        items: list[Any] = []
        take_many = partial(self._take_many, items.extend, "[", "]")
        for _ in self._parts("]", take_many):
            value = self._value()
            if value is _HEAVY:
                value = yield
            items.append(value)
        return items

    def _dict(self) -> "_Opened":
        entries: dict[str, Any] = {}
        is_tagged = False
        take_many = partial(self._take_many, entries.update, "{", "}")
        for _ in self._parts("}", take_many):
            if self._window[self._at : self._at + 1] != '"':
                raise ValueError("a key is no string")
            key: str = self._value()
            if self._next() != ":":
                raise ValueError("a key has no value")
            self._skip_space()
            value = self._value()
            if value is _HEAVY:
                value = yield
            entries[key] = value
            is_tagged = is_tagged or key.startswith("$")
        return self._unpack(entries) if is_tagged else entries

    def _parts(self, end: str, take_many: Callable[[], bool]) -> Iterator[None]:
        """Go through the parts of a list or dict: at each yield, one is to be read."""
        self._at += 1
        self._skip_space()
        if self._window[self._at : self._at + 1] == end:
            self._at += 1
            return
        while True:
            if not take_many():
                yield
            following = self._next()
            if following == end:
                return
            if following != ",":
                raise ValueError("a list or an object has no end")
            self._skip_space()

    def _take_many(self, take: Callable[[Any], object], start: str, end: str) -> bool:
        """Try to decode most of the window at once; whether that was done."""
        if not self._may_try_many:
            return False
        self._may_try_many = False
        # What is between its beginning and a comma is a list or an object if that is one of its
        # own commas, and else is none: a string or something in it would have no end.
        comma = self._last_comma(start)
        part = self._window[self._at : comma]
        if not part or (start == "{" and has_tags(part)):
            return False
        text = start + part + end
        try:
            many, length = self._decode(text, 0)
        except JSONDecodeError:
            return False
        if not many or length < len(text):
            return False
        take(many)
        self._at = comma
        return True

    def _last_comma(self, start: str) -> int:
        first = self._window[self._at : self._at + 1]
        before, after = {"[": ("]", "["), "{": ("}", "{"), '"': ('"', '"')}.get(first, ("", ""))
        if start == "{":
            before = ""
        found = self._window.rfind(f"{before},{after}", self._at)
        return found + len(before) if found >= 0 else self._at

    def _text(self) -> str:
        """Read a string that does not end in the window."""
        self._at += 1
        pieces: list[str] = []
        while True:
            self._fill(_LONG_WINDOW)
            match = _LETTERS.match(self._window, self._at)
            assert match is not None
            end = match.end()
            has_ended = self._window[end : end + 1] == '"'
            if end == self._at and not has_ended:
                if not self._fill(_LONG_WINDOW + _LONGEST_ESCAPE):
                    raise ValueError("a string has no end")
                continue
            piece, _ = self._decode(f'"{self._window[self._at : end]}"', 0)
            pieces.append(piece)
            self._at = end
            if has_ended:
                self._at += 1
                text = joined(pieces)
                let_go(pieces, _PIECES_LET_GO)
                return text

    def _next(self) -> str:
        self._skip_space()
        letter = self._window[self._at : self._at + 1]
        self._at += 1
        return letter

    def _skip_space(self) -> None:
        while True:
            match = _SPACE.match(self._window, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._window) or not self._fill(1):
                return
