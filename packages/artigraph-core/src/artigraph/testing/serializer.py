"""What every serializer promises, as tests."""

import copyreg
import pickle
import sys
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from artigraph.errors import ArtigraphError
from artigraph.plugins import takes
from artigraph.spec import Data, Serializer, check_serializer_name
from artigraph.testing.abilities import AbilityTests
from artigraph.testing.process import in_fresh_process

THREADS = 8
CUTS = 64
"""To how many lengths data is truncated, evenly spread; shorter data is to every one."""
DAMAGES = 10
"""How many bytes of the data are altered, one after the other, evenly spread."""


class SerializerTests(AbilityTests):
    """The tests of one serializer.

    A subclass names it, and values that it keeps; the more of them are odd, the better:

        class TestGeoJson(SerializerTests):
            serializer = geojson_serializer
            values = {"a point": Point(1, 2), "nothing": Collection([])}
            refused = {"a curve": (Curve(), "Curve can't be kept")}
            strategy = st.builds(Point, st.floats(), st.floats())

    Those of other abilities than the two methods are tested too, where it has them.
    """

    serializer: Serializer[Any]

    values: Mapping[str, Any]
    """What comes back equal, by a name for the report: empty ones and large ones too."""

    refused: Mapping[str, tuple[Any, str]] = {}
    """What can't be kept exactly, and words that the error says of it."""

    strategy: SearchStrategy[Any] | None = None
    """Values of the types, made by hypothesis: each comes back equal, or is refused; not all are
    refused. Of some it seldom thinks by itself: `st.floats() | st.just(-0.0)`."""

    is_installed: bool = True
    """False for a serializer that no installed distribution provides. Of one that is, a process
    that knows nothing but its name loads the values."""

    detects_truncation: bool = True
    """False where every beginning of the data is itself the data of some value, as of a text."""

    survives_damage: bool = True
    """False where its library may end the process on damaged data, for want of memory say. Digests
    keep such data away from it."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run the tests that take a value once for each."""
        given: dict[str, Mapping[str, Any]]
        given = {"value": self.values, "refusal": self.refused, "source": self.sources}
        for name in given.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(name, given[name].values(), ids=given[name])

    def test_there_are_values(self) -> None:
        """Without any, most of the tests would say nothing; and it takes values of their types."""
        assert self.values
        for name, value in self.values.items():
            assert not self.serializer.types or self._takes(value), name

    def test_a_value_comes_back(self, value: Any) -> None:
        """It is equal and of the same type, of whatever kind the data is that a storage gives."""
        data = bytes(self.serializer.serialize(value))

        for each in (data, bytearray(data), memoryview(data), memoryview(bytearray(data))):
            self.assert_same(self.serializer.deserialize(each), value)
            assert bytes(each) == data

    def test_a_value_is_left_as_it_was(self, value: Any) -> None:
        """Neither saving nor loading alters what was saved."""
        before = deepcopy(value)

        data = bytes(self.serializer.serialize(value))
        self.serializer.deserialize(data)

        self.assert_same(value, before)

    def test_what_was_made_before_is_left_as_it_was(self) -> None:
        """No data and no value shares memory with what is saved or loaded later."""
        data = {name: self.serializer.serialize(value) for name, value in self.values.items()}
        loaded = {name: self.serializer.deserialize(each) for name, each in data.items()}
        again = {name: self.serializer.deserialize(each) for name, each in data.items()}

        for name, value in self.values.items():
            self.assert_same(loaded[name], value)
            is_own = again[name] is not loaded[name]
            assert is_own or deepcopy(loaded[name]) is loaded[name], f"{name} may be altered"

    def test_the_same_value_gives_the_same_data(self, value: Any) -> None:
        """A save that is made again after an unknown outcome finds the data that it wrote."""
        data, again = self.serializer.serialize(value), self.serializer.serialize(value)

        assert isinstance(data, Data)
        if isinstance(data, memoryview):
            assert (data.format, data.contiguous) == ("B", True)
        assert bytes(data) == bytes(again) or not self.serializer.deterministic

    def test_generated_values_come_back(self) -> None:
        """Whatever hypothesis thinks of is equal and of the same type, or refused."""
        if self.strategy is None:
            pytest.skip("the tests have no strategy")
        kept = 0

        @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(self.strategy)
        def comes_back(value: Any) -> None:
            nonlocal kept
            before = deepcopy(value)
            try:
                data = bytes(self.serializer.serialize(value))
            except ArtigraphError:
                return
            loaded = self.serializer.deserialize(data)
            self.assert_same(loaded, value)
            self.assert_same(value, before)
            again = bytes(self.serializer.serialize(loaded))
            assert again == data or not self.serializer.deterministic
            kept += 1

        comes_back()
        assert kept, "all that the strategy makes was refused"

    def test_a_fresh_process_loads_the_values_by_name_alone(self) -> None:
        """It has imported neither the plugin nor the types; and what it saves is loaded here."""
        if not self.is_installed:
            pytest.skip("the serializer is declared to be no installed plugin's")
        data = {
            name: bytes(self.serializer.serialize(value)) for name, value in self.values.items()
        }

        told = in_fresh_process(
            _LOAD,
            self.serializer.name,
            data=pickle.dumps(data),
            environment={"PYTHONHASHSEED": "random"},  # whatever it is in this process
        )

        for name, (kind, again) in pickle.loads(told).items():
            assert kind == type(self.values[name]).__qualname__, name
            assert again == data[name] or not self.serializer.deterministic, name
            self.assert_same(self.serializer.deserialize(again), self.values[name])

    def test_what_is_refused_is_refused_by_name(self, refusal: tuple[Any, str]) -> None:
        """What would not come back equal is an error, before there is any data of it."""
        value, words = refusal

        with pytest.raises(ArtigraphError) as caught:
            self.serializer.serialize(value)

        assert words in str(caught.value)

    def test_truncated_data_is_an_error(self) -> None:
        """However little is missing, the data is not mistaken for that of another value."""
        if not self.detects_truncation:
            pytest.skip("the serializer declares that it can't tell")

        for name, value in self.values.items():
            data = bytes(self.serializer.serialize(value))
            size = len(data)
            for length in {*range(0, size, size // CUTS + 1), size - 1} - {-1}:
                assert self._load(data[:length]) is _REFUSED, f"{length} bytes of {name}"

    def test_damaged_data_never_becomes_another_type(self) -> None:
        """It is an ordinary error, or a value of the type: digests find what differs in it."""
        if not self.serializer.types or not self.survives_damage:
            pytest.skip("the serializer takes anything, or declares that it may not survive")

        for name, value in self.values.items():
            data = bytes(self.serializer.serialize(value))
            for number, position in enumerate(range(0, len(data), len(data) // DAMAGES + 1)):
                for flipped in (0xFF, 1 << number % 8):
                    damaged = bytearray(data)
                    damaged[position] ^= flipped
                    loaded = self._load(bytes(damaged))
                    assert loaded is _REFUSED or self._takes(loaded), name

    def test_pickled_data_runs_no_code(self) -> None:
        """Data never chooses what is executed, also not what is pickled in a form of its own."""
        if self.serializer.executes_code:
            pytest.skip("the serializer declares that it does, so nothing of it is loaded")
        pickles = [pickle.dumps(_Canary(), each) for each in range(pickle.HIGHEST_PROTOCOL + 1)]
        one_of_each: dict[type[Any], Any] = {type(each): each for each in self.values.values()}
        for kind, value in {_Canary: _Canary(), **one_of_each}.items():
            with suppress(Exception), _pickled_as_canaries(kind):
                pickles.append(bytes(self.serializer.serialize(value)))
        _Canary.sang = False

        for data in pickles:
            self._load(data)

        assert not _Canary.sang

    def test_many_threads_work_at_once(self) -> None:
        """Both methods are called from worker threads."""
        values = list(self.values.values()) * max(2, 64 // len(self.values))

        with _threads_that_switch_often(), ThreadPoolExecutor(THREADS) as threads:
            data = threads.map(self.serializer.serialize, values)
            loaded = list(threads.map(self.serializer.deserialize, data))

        for found, value in zip(loaded, values, strict=True):
            self.assert_same(found, value)

    def test_the_name_leads_to_the_serializer(self) -> None:
        """The key is where a value's type is from, so that one plugin is imported and no other."""
        check_serializer_name(self.serializer.name)

        key = self.serializer.name.partition(".")[0]
        modules = {kind.__module__.partition(".")[0] for kind in self.serializer.types}
        assert modules <= {key, "builtins"}

    def _takes(self, value: object) -> bool:
        return takes(self.serializer, type(value))

    def _load(self, data: bytes) -> Any:
        """The value of the data, or `_REFUSED`."""
        try:
            return self.serializer.deserialize(data)
        except Exception:
            return _REFUSED


_REFUSED = object()

# Only names and bytes go from one process to the other: values might not survive it.
_LOAD = """
import pickle, sys
data = pickle.load(sys.stdin.buffer)
from artigraph.serializer import get_serializer
serializer = get_serializer(sys.argv[1])
loaded = {name: serializer.deserialize(each) for name, each in data.items()}
told = {
    name: (type(value).__qualname__, bytes(serializer.serialize(value)))
    for name, value in loaded.items()
}
pickle.dump(told, sys.stdout.buffer)
"""


class _Canary:
    """Sings when it is unpickled."""

    sang = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _sing, ()


def _sing() -> None:
    _Canary.sang = True


@contextmanager
def _pickled_as_canaries(kind: type[Any]) -> Generator[None]:
    """What pickles values of a type meanwhile, writes canaries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(copyreg.dispatch_table, kind, _Canary.__reduce__)
        yield


@contextmanager
def _threads_that_switch_often() -> Generator[None]:
    """After almost every step, where it is usually after 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
