"""The tests of serializers, tested: a serializer without a flaw passes, each flaw is found."""

import json
import pickle
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from inspect import getsource
from itertools import product
from os import getpid, urandom
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st

from artigraph.errors import UnsupportedValueError
from artigraph.spec import (
    Data,
    LocalFile,
    MappingSerializer,
    ScanningSerializer,
    SelectingSerializer,
    Serializer,
    StreamingSerializer,
)
from artigraph.testing import SerializerTests

Entries = deque[tuple[str, float]]
Provide = Callable[[type[Serializer[Any]]], None]

VALUES: Mapping[str, Entries] = {
    "nothing": deque(),
    "one entry": deque([("a", 1.0)]),
    "odd entries": deque([("é\0", float("inf")), ("\ud800", float("nan")), ("", 5e-324)]),
    "many entries": deque((str(number), number / 3) for number in range(300)),
}

FLOATS = st.floats() | st.just(-0.0)  # which it would otherwise seldom think of


class Deques(Serializer[Entries]):
    """A serializer without a flaw: a checksum, and the entries as JSON."""

    name = "collections.deque"
    types = (deque,)

    def serialize(self, value: Entries) -> Data:
        if type(value) is not deque or value.maxlen is not None:
            raise UnsupportedValueError("value", f"a bounded {type(value).__name__}", "Copy it.")
        return sealed(self.written(value))

    def deserialize(self, data: Data) -> Entries:
        return self.read(opened(data))

    def written(self, value: Entries) -> bytes:
        return json.dumps([[word, number.hex()] for word, number in value]).encode()

    def read(self, text: bytes) -> Entries:
        return deque((word, float.fromhex(number)) for word, number in json.loads(text))


def sealed(text: bytes) -> bytes:
    return zlib.crc32(text).to_bytes(4, "big") + text


def opened(data: Data) -> bytes:
    checksum, text = bytes(data[:4]), bytes(data[4:])
    if checksum != zlib.crc32(text).to_bytes(4, "big"):
        raise ValueError("the checksum is another")
    return text


class DequeTests(SerializerTests):
    serializer = Deques()
    values = VALUES
    refused: Mapping[str, Any] = {"a bound": (deque([("a", 1.0)], maxlen=1), "a bounded deque")}
    strategy = st.builds(deque, st.lists(st.tuples(st.text(), FLOATS), min_size=1, max_size=4))
    is_installed = False

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert type(loaded) is type(saved)
        assert repr(loaded) == repr(saved)  # tells a NaN from none, and 0.0 from -0.0


IMPORTS = """
from __future__ import annotations
import json, zlib
from collections import deque
from os import getpid
from artigraph.errors import UnsupportedValueError
from artigraph.spec import Data, Serializer
Entries = deque[tuple[str, float]]
"""


@pytest.fixture
def provide(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Provide:
    """Lets fresh processes find a serializer of this module, as that of an installed plugin."""

    def add(serializer: type[Serializer[Any]]) -> None:
        parts = dict.fromkeys((sealed, opened, Deques, serializer))
        hook = f"def artigraph_serializers(): return [{serializer.__name__}()]"
        source = "\n".join([IMPORTS, *map(getsource, parts), hook])
        info = install("acme-deques", {"collections": "acme_deques"}, acme_deques=source)
        monkeypatch.setenv("PYTHONPATH", str(info.parent))

    return add


class TestDeques(DequeTests):
    """The tests pass for a serializer that keeps its promises."""

    is_installed = True

    @pytest.fixture(autouse=True)
    def installed(self, provide: Provide) -> None:
        provide(Deques)


class MakesLists(Deques):
    def read(self, text: bytes) -> Any:
        return deque(map(list, super().read(text)))


class AltersTheValue(Deques):
    def written(self, value: Entries) -> bytes:
        text = super().written(value)
        value.append(("saved", 1.0))
        return text


class AltersTheData(Deques):
    def deserialize(self, data: Data) -> Entries:
        value = super().deserialize(data)
        if isinstance(data, bytearray):
            data.clear()
        return value


class GivesOneValueToAll(Deques):
    def __init__(self) -> None:
        self.loaded: dict[bytes, Entries] = {}

    def read(self, text: bytes) -> Entries:
        return self.loaded.setdefault(text, super().read(text))


class GivesOneBufferToAll(Deques):
    def __init__(self) -> None:
        self.buffer = bytearray()

    def serialize(self, value: Entries) -> Data:
        self.buffer[:] = super().serialize(value)
        return self.buffer


class Salted(Deques):
    """Not two data are equal."""

    def written(self, value: Entries) -> bytes:
        return urandom(8) + super().written(value)

    def read(self, text: bytes) -> Entries:
        return super().read(text[8:])


class SaltedAsDeclared(Salted):
    deterministic = False


class TestSaltedDeques(DequeTests):
    """They pass for one that says that its data differs."""

    serializer = SaltedAsDeclared()


class Counted(Deques):
    """What was loaded is saved as other data than what it was loaded from."""

    def written(self, value: Entries) -> bytes:
        return str(id(value)).zfill(20).encode() + super().written(value)

    def read(self, text: bytes) -> Entries:
        return super().read(text[20:])


class NamesNothing(Deques):
    def serialize(self, value: Entries) -> Data:
        if value.maxlen is not None:
            raise UnsupportedValueError("value", "it", "Try something else.")
        return super().serialize(value)


class RaisesWhatNobodyCatches(Deques):
    def serialize(self, value: Entries) -> Data:
        if value.maxlen is not None:
            raise RuntimeError("a bounded deque")
        return super().serialize(value)


class RefusesNothing(Deques):
    def serialize(self, value: Entries) -> Data:
        return sealed(self.written(value))


class RefusesWhatIsGenerated(Deques):
    def serialize(self, value: Entries) -> Data:
        if value and repr(value) not in map(repr, VALUES.values()):
            raise UnsupportedValueError("value", "what nobody expected", "Expect it.")
        return super().serialize(value)


class Lines(Deques):
    """Each entry is a line, and there are as many as there are."""

    def serialize(self, value: Entries) -> Data:
        return b"deque\n" + b"".join(
            super(Lines, self).serialize(deque([e])) + b"\n" for e in value
        )

    def deserialize(self, data: Data) -> Entries:
        start, *lines = bytes(data).split(b"\n")
        if start != b"deque" or not lines or lines[-1]:
            raise ValueError("a line without an end")
        return deque(entry for line in lines[:-1] for entry in super(Lines, self).deserialize(line))


class GivesNothingForDamage(Deques):
    def deserialize(self, data: Data) -> Any:
        try:
            return super().deserialize(data)
        except ValueError:
            return None


class GivesTextForDamage(Deques):
    def deserialize(self, data: Data) -> Any:
        try:
            return super().deserialize(data)
        except ValueError:
            return bytes(data).decode(errors="replace")


class OneBitFromAList(Deques):
    def serialize(self, value: Entries) -> Data:
        return b"\0" + super().serialize(value)

    def deserialize(self, data: Data) -> Any:
        kind = {0: deque, 1: list}[data[0]]
        return kind(super().deserialize(data[1:]))


class UnpicklesWhatIsNotItsOwn(Deques):
    def deserialize(self, data: Data) -> Entries:
        try:
            return super().deserialize(data)
        except ValueError:
            return pickle.loads(data)


class Pickles(Deques):
    """In a form of its own, which no pickle has."""

    def written(self, value: Entries) -> bytes:
        return pickle.dumps(value)

    def read(self, text: bytes) -> Entries:
        return pickle.loads(text)


class PicklesAsDeclared(Pickles):
    deterministic = False  # texts that are one object are written once
    executes_code = True


class TestPickledDeques(DequeTests):
    """They pass for one that says that it may execute code."""

    serializer = PicklesAsDeclared()


class SharesAPlaceBetweenThreads(Deques):
    def written(self, value: Entries) -> bytes:
        self.place = super().written(value)
        sleep(1e-3)  # as one does that waits for a file
        return self.place


class HasAnotherKey(Deques):
    name = "acme.deque"


class HasNoName(Deques):
    name = "collections deque"


class TakesAnotherType(Deques):
    types = (list,)


class LosesTheSignOfZero(Deques):
    """None of the fixed values is a negative zero."""

    def written(self, value: Entries) -> bytes:
        return super().written(deque((word, number or 0.0) for word, number in value))


class GivesText(Deques):
    def serialize(self, value: Entries) -> Any:
        return bytes(super().serialize(value)).decode("latin-1")


class GivesEverySecondByte(Deques):
    def serialize(self, value: Entries) -> Data:
        twice = bytes(byte for byte in super().serialize(value) for _ in range(2))
        return memoryview(twice)[::2]


class GivesFourBytesAsOne(Deques):
    def written(self, value: Entries) -> bytes:
        text = super().written(value)
        return text + b" " * (-len(text) % 4)

    def serialize(self, value: Entries) -> Data:
        return memoryview(super().serialize(value)).cast("I")


class ReadsOnlyBytes(Deques):
    def deserialize(self, data: Any) -> Entries:
        return super().deserialize(data.decode("latin-1").encode("latin-1"))


class RemembersWhatItSaved(Deques):
    saved: dict[bytes, bytes] = {}  # noqa: RUF012  # one for all of the process, which is the flaw

    def written(self, value: Entries) -> bytes:
        text = super().written(value)
        digest = sealed(text)[:4]
        self.saved[digest] = text
        return digest

    def read(self, text: bytes) -> Entries:
        return super().read(self.saved[text])


class WritesHashes(Deques):
    def written(self, value: Entries) -> bytes:
        return b"%20d" % hash(str(value)) + super().written(value)

    def read(self, text: bytes) -> Entries:
        return super().read(text[20:])


class LosesAllInAnotherProcess(Deques):
    deterministic = False

    def written(self, value: Entries) -> bytes:
        return b"%20d" % getpid() + super().written(value)

    def read(self, text: bytes) -> Entries:
        return super().read(text[20:]) if int(text[:20]) == getpid() else deque()


class Able(
    Deques,
    StreamingSerializer[Entries],
    MappingSerializer[Entries],
    SelectingSerializer[Entries],
    ScanningSerializer[Entries],
):
    """One with all abilities, and without a flaw: the columns are the words and the numbers."""

    sources = (Iterator,)

    def estimate(self, value: Entries) -> int | None:
        return len(value) * 30

    def dump(self, value: Entries | Iterator[tuple[str, float]], file: BinaryIO) -> None:
        if isinstance(value, Iterator):
            value = deque(value)
        self.check(value)
        checksum = 0
        for piece in self.pieces(value):
            checksum = zlib.crc32(piece, checksum)
        file.write(checksum.to_bytes(4, "big"))
        file.writelines(self.pieces(value))

    def check(self, value: Entries) -> None:
        if value.maxlen is not None:
            raise UnsupportedValueError("value", f"a bounded {type(value).__name__}", "Copy it.")

    def pieces(self, value: Entries) -> Iterator[bytes]:
        yield b"["
        for number, entry in enumerate(value):
            yield (b", " if number else b"") + super().written(deque([entry]))[1:-1]
        yield b"]"

    def map(self, file: LocalFile) -> Entries:
        return self.deserialize(file.data)

    def select(self, file: LocalFile, columns: Sequence[str] | None, rows: slice | None) -> Any:
        entries = list(self.map(file))[rows or slice(None)]
        places = [self.place(name) for name in columns or ("word", "number")]
        return deque(tuple(entry[place] for place in places) for entry in entries)

    def place(self, name: str) -> int:
        if name not in ("word", "number"):
            raise LookupError(f"there is no column {name!r}")
        return ("word", "number").index(name)

    def scan(self, file: LocalFile) -> Callable[[], Entries]:
        return lambda: self.deserialize(file.path.read_bytes())


TABLE = deque((str(number), number / 3) for number in range(7))


class AbleTests(DequeTests):
    serializer = Able()
    sources: Mapping[str, Any] = {
        "an iterator": (lambda: iter(VALUES["many entries"]), VALUES["many entries"])
    }
    large = staticmethod(lambda: deque([("x" * 2**20, 1.0)] * 64))
    extra_memory = 24 * 2**20
    table = TABLE
    names = ("word", "number")

    def alter(self, value: Any) -> None:
        value.clear()

    def part(self, table: Any, columns: Any, rows: slice) -> Any:
        places = [("word", "number").index(name) for name in columns]
        return deque(tuple(entry[place] for place in places) for entry in list(table)[rows])

    def collect(self, scanned: Any) -> Any:
        return scanned()


class TestAbleDeques(AbleTests):
    """They pass for one that keeps the promises of all abilities."""


class DumpsOneLess(Able):
    def pieces(self, value: Entries) -> Iterator[bytes]:
        return super().pieces(deque(list(value)[:-1]))


class DumpsWithSpaces(Able):
    """Other data each time."""

    number = 0

    def pieces(self, value: Entries) -> Iterator[bytes]:
        yield from super().pieces(value)
        yield b" " * self.number

    def dump(self, value: Any, file: BinaryIO) -> None:
        self.number += 1
        super().dump(value, file)


class WritesAnEnd(Able):
    def dump(self, value: Any, file: BinaryIO) -> None:
        try:
            super().dump(value, file)
        finally:
            file.write(b"")


class ExplainsTheError(Able):
    def dump(self, value: Any, file: BinaryIO) -> None:
        try:
            super().dump(value, file)
        except OSError as error:
            raise OSError(f"could not write: {error}") from error


class GoesOn(Able):
    def dump(self, value: Any, file: BinaryIO) -> None:
        with suppress(OSError):
            super().dump(value, file)


class DumpsWhatItRefuses(Able):
    def check(self, value: Entries) -> None:
        pass


class EstimatesHalves(Able):
    def estimate(self, value: Entries) -> Any:
        return len(value) / 2


class LosesTheFirstOfASource(Able):
    def dump(self, value: Any, file: BinaryIO) -> None:
        if isinstance(value, Iterator):
            next(value)
        super().dump(value, file)


class SerializesToDump(Able):
    def dump(self, value: Any, file: BinaryIO) -> None:
        file.write(self.serialize(deque(value) if isinstance(value, Iterator) else value))


class MapsOneLess(Able):
    def map(self, file: LocalFile) -> Entries:
        return deque(list(super().map(file))[:-1])


class MapsOneValueForAll(Able):
    def __init__(self) -> None:
        self.mapped: dict[bytes, Entries] = {}

    def map(self, file: LocalFile) -> Entries:
        return self.mapped.setdefault(bytes(file.data), super().map(file))


class MarksTheFile(Able):
    def map(self, file: LocalFile) -> Entries:
        mapped = super().map(file)
        with file.path.open("r+b") as opened_file:
            opened_file.write(b"seen")
        return mapped


class SelectsInItsOwnOrder(Able):
    def select(self, file: LocalFile, columns: Any, rows: slice | None) -> Any:
        return super().select(file, columns and sorted(columns, reverse=True), rows)


class SelectsAllRows(Able):
    def select(self, file: LocalFile, columns: Any, rows: slice | None) -> Any:
        return super().select(file, columns, None)


class SelectsWhatThereIs(Able):
    def select(self, file: LocalFile, columns: Any, rows: slice | None) -> Any:
        known = columns and [name for name in columns if name in ("word", "number")]
        return super().select(file, known, rows)


class NamesNoColumn(Able):
    def place(self, name: str) -> int:
        return {"word": [0], "number": [1]}.get(name, [])[0]


class ScansOneLess(Able):
    def scan(self, file: LocalFile) -> Callable[[], Entries]:
        return lambda: deque(list(super(ScansOneLess, self).scan(file)())[:-1])


MUTANTS: list[tuple[type[Deques], str]] = [
    (DumpsOneLess, "test_what_is_dumped_comes_back"),
    (DumpsWithSpaces, "test_what_is_dumped_comes_back"),
    (WritesAnEnd, "test_a_dump_ends_with_the_error_of_its_file"),
    (ExplainsTheError, "test_a_dump_ends_with_the_error_of_its_file"),
    (GoesOn, "test_a_dump_ends_with_the_error_of_its_file"),
    (DumpsWhatItRefuses, "test_what_is_refused_is_not_dumped"),
    (EstimatesHalves, "test_the_size_of_data_is_estimated"),
    (LosesTheFirstOfASource, "test_a_source_is_saved_as_what_it_yields"),
    (SerializesToDump, "test_a_large_value_is_never_there_twice"),
    (MapsOneLess, "test_a_mapped_value_is_the_value"),
    (MapsOneValueForAll, "test_a_mapped_value_is_read_only"),
    (MarksTheFile, "test_a_mapped_value_is_read_only"),
    (SelectsInItsOwnOrder, "test_columns_and_rows_are_selected"),
    (SelectsAllRows, "test_columns_and_rows_are_selected"),
    (SelectsWhatThereIs, "test_a_column_that_is_not_there_is_named"),
    (NamesNoColumn, "test_a_column_that_is_not_there_is_named"),
    (ScansOneLess, "test_a_scan_finds_the_table"),
    (TakesAnotherType, "test_there_are_values"),
    (MakesLists, "test_a_value_comes_back"),
    (AltersTheData, "test_a_value_comes_back"),
    (ReadsOnlyBytes, "test_a_value_comes_back"),
    (AltersTheValue, "test_a_value_is_left_as_it_was"),
    (GivesOneValueToAll, "test_what_was_made_before_is_left_as_it_was"),
    (GivesOneBufferToAll, "test_what_was_made_before_is_left_as_it_was"),
    (Salted, "test_the_same_value_gives_the_same_data"),
    (GivesText, "test_the_same_value_gives_the_same_data"),
    (GivesEverySecondByte, "test_the_same_value_gives_the_same_data"),
    (GivesFourBytesAsOne, "test_the_same_value_gives_the_same_data"),
    (LosesTheSignOfZero, "test_generated_values_come_back"),
    (AltersTheValue, "test_generated_values_come_back"),
    (Counted, "test_generated_values_come_back"),
    (RefusesWhatIsGenerated, "test_generated_values_come_back"),
    (NamesNothing, "test_what_is_refused_is_refused_by_name"),
    (RaisesWhatNobodyCatches, "test_what_is_refused_is_refused_by_name"),
    (RefusesNothing, "test_what_is_refused_is_refused_by_name"),
    (Lines, "test_truncated_data_is_an_error"),
    (GivesNothingForDamage, "test_truncated_data_is_an_error"),
    (GivesNothingForDamage, "test_damaged_data_never_becomes_another_type"),
    (GivesTextForDamage, "test_damaged_data_never_becomes_another_type"),
    (OneBitFromAList, "test_damaged_data_never_becomes_another_type"),
    (UnpicklesWhatIsNotItsOwn, "test_pickled_data_runs_no_code"),
    (Pickles, "test_pickled_data_runs_no_code"),
    (SharesAPlaceBetweenThreads, "test_many_threads_work_at_once"),
    (HasAnotherKey, "test_the_name_leads_to_the_serializer"),
    (HasNoName, "test_the_name_leads_to_the_serializer"),
]

ALL_TESTS = [name for name in dir(SerializerTests) if name.startswith("test_")]
IN_A_FRESH_PROCESS = "test_a_fresh_process_loads_the_values_by_name_alone"


def run(tests: SerializerTests, name: str) -> None:
    """One test of the kit, for every value that pytest would give it."""
    test: Callable[..., None] | None = getattr(tests, name)
    if test is None:  # of an ability that it has not
        return
    kinds: dict[str, Any] = {
        "value": tests.values.values(),
        "refusal": tests.refused.values(),
        "source": tests.sources.values(),
    }
    wanted = [kinds[each] for each in test.__annotations__ if each in kinds]
    for arguments in product(*wanted):
        test(*arguments)


@pytest.fixture
def not_shrunk() -> Iterator[None]:
    """That hypothesis finds something is enough: it does not look for the simplest of its kind."""
    profile = settings.get_current_profile_name()
    settings.register_profile("not shrunk", phases=[Phase.generate])
    settings.load_profile("not shrunk")
    yield
    settings.load_profile(profile)


def kit_for(serializer: Serializer[Any]) -> SerializerTests:
    tests = AbleTests() if isinstance(serializer, Able) else DequeTests()
    tests.serializer = serializer
    tests.values = deepcopy(VALUES)
    return tests


@pytest.mark.usefixtures("not_shrunk")
@pytest.mark.parametrize(
    ("mutant", "name"), MUTANTS, ids=lambda each: getattr(each, "__name__", each)
)
def test_each_flaw_fails_the_test_that_is_there_for_it(mutant: type[Deques], name: str) -> None:
    """Which of the values shows it is no matter."""
    with pytest.raises((Exception, pytest.fail.Exception)):
        run(kit_for(mutant()), name)


@pytest.mark.parametrize(
    ("mutant", "words"),
    [
        (RemembersWhatItSaved, "KeyError"),
        (WritesHashes, "deterministic"),
        (LosesAllInAnotherProcess, r"deque\(\[\]\)"),
    ],
)
def test_what_works_in_one_process_only_is_found(
    provide: Provide, mutant: type[Deques], words: str
) -> None:
    """All other tests pass."""
    provide(mutant)
    tests = kit_for(mutant())
    for name in set(ALL_TESTS) - {IN_A_FRESH_PROCESS}:
        run(tests, name)

    tests.is_installed = True

    with pytest.raises(AssertionError, match=words):
        run(tests, IN_A_FRESH_PROCESS)


def test_each_test_finds_something() -> None:
    """None of them is there for nothing."""
    assert {name for _, name in MUTANTS} | {IN_A_FRESH_PROCESS} == set(ALL_TESTS)
