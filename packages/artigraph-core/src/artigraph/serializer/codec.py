"""The one exact codec: plain Python values as JSON that every database's JSON functions read.

The text is strict JSON ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)) in ASCII. None, bool,
int, float, str, list and dict stand for themselves. What JSON would change is an object with a
single key that starts with one `$`:

    {"$float": "nan"}               nan, inf, -inf
    {"$int": "1f…"}                 an int beyond 64 bits, in hexadecimal
    {"$text": "…"}                  a str with NUL or an unpaired surrogate: base64 of its UTF-8
    {"$tuple": […]} {"$set": […]} {"$frozenset": […]}
    {"$dict": [[key, value], …]}    a dict with a key that is not such a str
    {"$bytes": "…"} {"$bytearray": "…"}                 base64
    {"$datetime": ["2013-01-01T05:15:00", fold, zone]}  zone: null, a name, or [seconds, name]
    {"$time": ["05:15:00", fold, zone]} {"$date": "2013-01-01"}
    {"$timedelta": [days, seconds, microseconds]}
    {"$decimal": "1.10"} {"$fraction": ["1", "3"]} {"$complex": [0.0, 1.0]}
    {"$uuid": "…"} {"$path": ["PosixPath", "a/b"]}
    {"$enum": ["Color", "RED"]} {"$flag": ["Permission", 3]}

A key of the user's that starts with `$` gets one more. Only exact types are kept: a subclass would
come back as its base.
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from types import NoneType
from typing import Any, Final, TypeAlias, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from artigraph.errors import ArtigraphError, LimitError, UnsupportedValueError, shown
from artigraph.memory import AT_ONCE, give_way, let_go, pieces_of, text_of

Json: TypeAlias = Any
"""What `json` writes as it is: None, bool, int, float, str, and lists and dicts of these."""

Enums: TypeAlias = Collection[type[Enum]]
"""The enumerations that may occur: they are found again by their names among these."""

MAX_DEPTH = 200
"""Of lists, dicts and tags in each other. CPython 3.11 reads about 1,000 from an empty stack."""

_MANY_ITEMS: Final = 2**16
"""Of which CPython makes a set or dict in some milliseconds; no document has as many."""

_ITEMS_AT_ONCE: Final = 10_000
"""Items that are handed on before other threads have a turn."""

LETTERS: Final = 16
"""Of a text, or bytes: they weigh as much as one item."""

_TAG_DEPTH = 2
"""What a tagged scalar adds: an object, and in it at most one list."""


class Packer:
    """Makes what JSON can hold of values.

    Args:
        where: What messages call the value.
        enums: The enumerations that may occur in it.
        spend: Called with the weight of a list, a dict or the like, which is the number of its
            items, and with that of a long text, before they are packed; it may raise what ends it.
    """

    def __init__(
        self,
        where: str = "the value",
        enums: Enums = (),
        spend: Callable[[int], object] | None = None,
    ) -> None:
        self.where = where
        self.enums = enums
        self._spend = spend
        self.depth = 0
        """Of the last value packed, counting every list, dict and tag; at most two too many."""

    def pack(self, value: object, step: str = "") -> Json:
        """`value` as JSON.

        Args:
            value: What is packed.
            step: From `where` to the value, in messages.

        Raises:
            UnsupportedValueError: Some part of it can't be kept exactly; the error tells which.
            LimitError: It is nested deeper than `MAX_DEPTH`, or contains itself.
        """
        self.depth = 0
        try:
            scalar = _SCALARS.get(type(value))
            return self._pack(value, 0) if scalar is None else scalar(value)
        except (Refusal, TooDeep) as error:
            raise self.told(error, step) from None

    def told(self, error: "Refusal | TooDeep", step: str = "") -> ArtigraphError:
        """What a user is told in its place."""
        if isinstance(error, Refusal):
            where = self.where + step + "".join(reversed(error.path))
            return UnsupportedValueError(where, error.type_name, error.remedy)
        return LimitError(
            self.where + step,
            "it is nested deeper, or contains itself",
            f"{MAX_DEPTH} levels of lists and dicts",
            "Flatten it, or choose a serializer for the field.",
        )

    def _pack(self, value: object, level: int) -> Json:
        kind = type(value)
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return scalar(value)
        text = TEXTS.get(kind)
        if text is not None:
            weight = len(cast("Sized", value)) // LETTERS
            if weight and self._spend is not None:
                self._spend(weight)
            return text(value)
        container = _CONTAINERS.get(kind)
        if container is not None:
            if self._spend is not None:
                self._spend(len(cast("Collection[object]", value)))
            return container(self, value, self._descend(level))
        if isinstance(value, Enum):
            return self._pack_enum(value)
        raise Refusal(kind, _remedy(kind))

    def _descend(self, level: int) -> int:
        level += 1
        if level + _TAG_DEPTH > self.depth:
            self.depth = level + _TAG_DEPTH
            if self.depth > MAX_DEPTH:
                raise TooDeep
        return level

    def _pack_items(self, items: Collection[object], level: int, first: int = 0) -> list[Json]:
        packed: list[Json] = []
        try:
            for item in items:
                packed.append(self._pack(item, level))
        except Refusal as refusal:
            refusal.path.append(f"[{first + len(packed)}]")
            raise
        return packed

    def _pack_list(self, value: list[object], level: int) -> Json:
        return self._pack_items(value, level)

    def _pack_tuple(self, value: tuple[object, ...], level: int) -> Json:
        return {"$tuple": self._pack_items(value, self._descend(level))}

    def _pack_set(self, value: Collection[object], level: int) -> Json:
        items = self._pack_items(value, self._descend(level))
        # Sets have no order of their own: equal ones get equal text.
        return {f"${type(value).__name__}": sorted(items, key=dumps)}

    def _pack_dict(self, value: dict[object, object], level: int) -> Json:
        if not self._has_plain_keys(value):
            return {"$dict": self._pack_pairs(value.items(), self._descend(self._descend(level)))}
        return self._pack_entries(value, level)

    def _has_plain_keys(self, value: dict[object, object]) -> bool:
        """Whether a dict can be an object of JSON."""
        return all(type(key) is str and is_plain(key) for key in value)

    def _pack_entries(self, value: Mapping[object, object], level: int) -> dict[str, Json]:
        packed: dict[str, Json] = {}
        for key, item in value.items():
            assert isinstance(key, str)
            if len(key) >= LETTERS and self._spend is not None:
                self._spend(len(key) // LETTERS)
            try:
                packed[f"${key}" if key.startswith("$") else key] = self._pack(item, level)
            except Refusal as refusal:
                refusal.path.append(f"[{shown(key, 40)}]")
                raise
        return packed

    def _pack_pairs(
        self, entries: Iterable[tuple[object, object]], level: int, first: int = 0
    ) -> list[Json]:
        pairs: list[Json] = []
        try:
            for entry in entries:
                pairs.append([self._pack(part, level) for part in entry])
        except Refusal as refusal:
            refusal.path.append(f"[entry {first + len(pairs)}]")
            raise
        return pairs

    def _pack_enum(self, value: Enum) -> Json:
        kind = type(value)
        if kind not in self.enums:
            raise Refusal(
                kind,
                "An enumeration is found again through the type that its field declares:"
                f" declare it as {kind.__name__}, or save its .value.",
            )
        if isinstance(value, Flag):
            return {"$flag": [kind.__qualname__, _pack_int(value.value)]}
        return {"$enum": [kind.__qualname__, _pack_str(value.name)]}


def can_pack(kind: type[Any]) -> bool:
    """Whether values of exactly this type may be kept; a container only with what it holds."""
    return kind in PLAIN or issubclass(kind, Enum)


def dumps(packed: Json) -> str:
    """JSON text of what a `Packer` made."""
    return _encoder.encode(packed)


def loads(text: str, enums: Enums = ()) -> Any:
    """The value whose packed form `text` is.

    Raises:
        ValueError: The text is not what `dumps` writes.
    """
    try:
        value, end = decoder_of(text, enums).raw_decode(text)
    except REFUSALS as error:
        raise refusal_of(error) from error
    if end != len(text):
        raise ValueError("something follows the JSON")
    return value


REFUSALS: Final = (TypeError, LookupError, RecursionError, MemoryError)
"""What decoding raises, beside ValueError, for a text that `dumps` does not write."""


def refusal_of(error: BaseException) -> ValueError:
    """The ValueError that is raised in its place."""
    return ValueError(f"it raised {type(error).__name__}")


def decoder_of(text: str, enums: Enums) -> json.JSONDecoder:
    """What decodes a text, and what it holds."""
    if has_tags(text):
        return json.JSONDecoder(object_hook=Unpacker(enums), parse_constant=_refuse)
    return _decoder


def has_tags(text: str) -> bool:
    """Whether there may be a key in a JSON text that begins with `$`."""
    return '"$' in text or '"\\u0024' in text


class TooDeep(Exception):
    """Lists and dicts are nested deeper than `MAX_DEPTH`."""


class Refusal(Exception):
    """A part can't be kept; the path to it grows, backwards, while this rises."""

    def __init__(self, kind: type[object], remedy: str) -> None:
        self.type_name = f"a value of type {kind.__module__}.{kind.__qualname__}".replace(
            "builtins.", ""
        )
        self.remedy = remedy
        self.path: list[str] = []


def _remedy(kind: type[object]) -> str:
    for base in kind.__mro__[1:]:
        if base in PLAIN:
            return f"It would come back as {base.__name__}: convert it, or choose a serializer."
    return (
        "Choose a serializer for the field; models, frames and arrays inside a container belong in"
        " an ArtifactSequence or ArtifactMapping."
    )


def is_plain(text: str) -> bool:
    """Whether every database's JSON functions take the text: no NUL, no unpaired surrogate."""
    if len(text) > AT_ONCE:
        return all(is_plain(piece) for piece in pieces_of(text))
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _itself(value: Json) -> Json:
    return value


def _pack_int(value: int) -> Json:
    return value if -(1 << 63) <= value < 1 << 63 else {"$int": f"{value:x}"}


def _pack_float(value: float) -> Json:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _pack_str(value: str) -> Json:
    if is_plain(value):
        return value
    return {"$text": _base64(value.encode("utf-8", "surrogatepass"))}


def _pack_datetime(value: datetime) -> Json:
    return {"$datetime": [_naive_text(value), value.fold, _pack_zone(value.tzinfo)]}


def _pack_time(value: time) -> Json:
    return {"$time": [_naive_text(value), value.fold, _pack_zone(value.tzinfo)]}


def _naive_text(value: datetime | time) -> str:
    return value.replace(tzinfo=None, fold=0).isoformat()


def _pack_zone(zone: tzinfo | None) -> Json:
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:  # pyright: ignore[reportUnnecessaryComparison]  # None for a zone made of a file
        return zone.key
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        has_own_name = name != timezone(offset).tzname(None)
        seconds = [offset.days, offset.seconds, offset.microseconds]
        return [seconds, _pack_str(name) if has_own_name else None]
    raise Refusal(type(zone), "Zones are kept if they are a zoneinfo.ZoneInfo or a timezone.")


def _pack_complex(value: complex) -> Json:
    return {"$complex": [_pack_float(value.real), _pack_float(value.imag)]}


def _pack_path(value: Path) -> Json:
    return {"$path": [type(value).__name__, _pack_str(str(value))]}


def _base64(data: bytes | bytearray) -> str:
    return b64encode(data).decode("ascii")


_SCALARS: dict[type[object], Callable[[Any], Json]] = {
    NoneType: _itself,
    bool: _itself,
    int: _pack_int,
    float: _pack_float,
    complex: _pack_complex,
    datetime: _pack_datetime,
    time: _pack_time,
    date: lambda value: {"$date": value.isoformat()},
    timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    Decimal: lambda value: {"$decimal": str(value)},
    Fraction: lambda value: {"$fraction": [f"{value.numerator:x}", f"{value.denominator:x}"]},
    UUID: lambda value: {"$uuid": str(value)},
    PosixPath: _pack_path,
    WindowsPath: _pack_path,
    PurePosixPath: _pack_path,
    PureWindowsPath: _pack_path,
}

TEXTS: dict[type[object], Callable[[Any], Json]] = {
    str: _pack_str,
    bytes: lambda value: {"$bytes": _base64(value)},
    bytearray: lambda value: {"$bytearray": _base64(value)},
}
"""Types whose values may be of any length."""

_CONTAINERS: dict[type[object], Callable[[Packer, Any, int], Json]] = {
    list: Packer._pack_list,  # pyright: ignore[reportPrivateUsage]  # its own table
    tuple: Packer._pack_tuple,  # pyright: ignore[reportPrivateUsage]
    set: Packer._pack_set,  # pyright: ignore[reportPrivateUsage]
    frozenset: Packer._pack_set,  # pyright: ignore[reportPrivateUsage]
    dict: Packer._pack_dict,  # pyright: ignore[reportPrivateUsage]
}


PLAIN = frozenset({*_SCALARS, *TEXTS, *_CONTAINERS})
"""The types that are kept without a look at what a field declares."""


class _UndeclaredEnum(ValueError):
    """A member of an enumeration that the field does not declare."""


class Unpacker:
    """Called by `json` for each object, the innermost first."""

    def __init__(self, enums: Enums) -> None:
        self._enums = enums

    def __call__(self, packed: dict[str, Any]) -> Any:
        if not any(key.startswith("$") for key in packed):
            return packed
        if len(packed) == 1:
            ((key, value),) = packed.items()
            if not key.startswith("$$"):
                return self._untag(key, value)
        return {_own_key(key): value for key, value in packed.items()}

    def _untag(self, tag: str, value: Any) -> Any:
        unpack = self._member if tag in ("$enum", "$flag") else _TAGS.get(tag)
        if unpack is None:
            raise ValueError(f"{shown(tag)} is no tag of this version's")
        try:
            return unpack(value)
        except (_UndeclaredEnum, MemoryError):
            raise
        except Exception:
            # Without the cause, which may quote the value.
            raise ValueError(f"{tag} holds something else") from None

    def _member(self, packed: tuple[str, str | int]) -> Enum:
        name, member = packed
        for enum in self._enums:
            if enum.__qualname__ == name:
                return enum[member] if isinstance(member, str) else enum(member)
        raise _UndeclaredEnum(f"no enumeration {shown(name)} is declared by the field")


def _own_key(key: str) -> str:
    if not key.startswith("$"):
        return key
    if not key.startswith("$$"):
        raise ValueError(f"tag {shown(key)} stands beside other keys")
    return key[1:]


def _unpack_datetime(packed: tuple[str, int, Json]) -> datetime:
    text, fold, zone = packed
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=_unpack_zone(zone))


def _unpack_time(packed: tuple[str, int, Json]) -> time:
    text, fold, zone = packed
    return time.fromisoformat(text).replace(fold=fold, tzinfo=_unpack_zone(zone))


def _unpack_zone(packed: Json) -> tzinfo | None:
    if packed is None:
        return None
    if isinstance(packed, str):
        return ZoneInfo(packed)
    (days, seconds, microseconds), name = packed
    offset = timedelta(days, seconds, microseconds)
    return timezone(offset) if name is None else timezone(offset, name)


_PATHS: Mapping[str, Callable[[str], PurePosixPath | PureWindowsPath]] = {
    kind.__name__: kind for kind in (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)
}

_TAGS: dict[str, Callable[[Any], Any]] = {
    "$int": lambda packed: int(packed, 16),
    "$float": float,
    "$text": lambda packed: text_of(_unbase64(packed)),
    "$tuple": lambda packed: tuple(_one_by_one(packed)),
    "$set": lambda packed: set(_one_by_one(packed)),
    "$frozenset": lambda packed: frozenset(_one_by_one(packed)),
    "$dict": lambda packed: dict(_one_by_one(packed)),
    "$bytes": lambda packed: _unbase64(packed),
    "$bytearray": lambda packed: _unbase64_writable(packed),
    "$complex": lambda packed: complex(*packed),
    "$datetime": _unpack_datetime,
    "$time": _unpack_time,
    "$date": date.fromisoformat,
    "$timedelta": lambda packed: timedelta(*packed),
    "$decimal": Decimal,
    "$fraction": lambda packed: Fraction(*(int(part, 16) for part in packed)),
    "$uuid": UUID,
    "$path": lambda packed: _PATHS[packed[0]](packed[1]),
}


def _one_by_one(packed: Json) -> Iterable[Json]:
    return packed if len(packed) <= _MANY_ITEMS else _pausing(packed)


def _pausing(items: Iterable[Json]) -> Iterator[Json]:
    """The items, which are let go in the end; other threads have their turns between them."""
    for number, item in enumerate(items):
        if not number % _ITEMS_AT_ONCE:
            give_way()
        yield item
    if isinstance(items, list):
        let_go(items, _ITEMS_AT_ONCE)


def _unbase64(text: str) -> bytes:
    return b"".join(_unbase64_pieces(text))


def _unbase64_writable(text: str) -> bytearray:
    data = bytearray()
    for piece in _unbase64_pieces(text):
        data += piece
    return data


def _unbase64_pieces(text: str) -> Iterator[bytes]:
    left = len(text)
    for piece in pieces_of(text):
        data = b64decode(piece, validate=True)
        left -= len(piece)
        if left and len(data) != AT_ONCE // 4 * 3:
            raise ValueError("it ends before its end")
        yield data


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


SIMPLE: Final[Mapping[type[object], Callable[[Any], Json]]] = {
    **{kind: _SCALARS[kind] for kind in (NoneType, bool, int, float)},
    str: _pack_str,
}
"""What packs the values of types that are always kept, on a way that is shorter than a `Packer`."""

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_decoder = json.JSONDecoder(parse_constant=_refuse)
