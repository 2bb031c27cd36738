"""What every serializer promises, as tests."""

import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest

from artigraph.errors import ArtigraphError
from artigraph.spec import Data, Serializer, check_serializer_name

THREADS = 4
DAMAGES = 10
"""How many bytes of the data are altered, one after the other, evenly spread."""


class SerializerTests:
    """The tests of one serializer.

    A subclass names it, and values that it keeps; the more of them are odd, the better:

        class TestGeoJson(SerializerTests):
            serializer = geojson_serializer
            values = {"a point": Point(1, 2), "nothing": Collection([])}
            refused = {"a curve": (Curve(), "Curve can't be kept")}
    """

    serializer: Serializer[Any]

    values: Mapping[str, Any]
    """What comes back equal, by a name for the report."""

    refused: Mapping[str, tuple[Any, str]] = {}
    """What can't be kept exactly, and words that the error says of it."""

    detects_truncation: bool = True
    """False where every beginning of the data is itself the data of some value, as of a text."""

    survives_damage: bool = True
    """False where its library may end the process on damaged data, for want of memory say. Digests
    keep such data away from it."""

    def assert_same(self, loaded: Any, saved: Any) -> None:
        """Fail unless two values are equal and of one type, in all that a user can see of them."""
        assert type(loaded) is type(saved)
        assert loaded == saved

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run the tests that take a value once for each."""
        if "value" in metafunc.fixturenames:
            metafunc.parametrize("value", self.values.values(), ids=self.values)
        if "refusal" in metafunc.fixturenames:
            metafunc.parametrize("refusal", self.refused.values(), ids=self.refused)

    def test_a_value_comes_back(self, value: Any) -> None:
        """It is equal and of the same type, of whatever kind the data is that a storage gives."""
        data = bytes(self.serializer.serialize(value))

        for kind in (bytes, bytearray, memoryview):
            self.assert_same(self.serializer.deserialize(kind(data)), value)

    def test_a_value_is_left_as_it_was(self, value: Any) -> None:
        """Neither saving nor loading alters what was saved."""
        before = deepcopy(value)

        data = bytes(self.serializer.serialize(value))
        self.serializer.deserialize(data)

        self.assert_same(value, before)

    def test_the_same_value_gives_the_same_data(self, value: Any) -> None:
        """A save that is made again after an unknown outcome finds the data that it wrote."""
        data, again = self.serializer.serialize(value), self.serializer.serialize(value)

        assert isinstance(data, Data)
        if isinstance(data, memoryview):
            assert (data.format, data.contiguous) == ("B", True)
        assert bytes(data) == bytes(again)

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
            for length in {0, 1, len(data) // 2, len(data) - 1}:
                assert self._load(data[:length]) is None, f"{length} bytes of {name}"

    def test_damaged_data_never_becomes_another_type(self) -> None:
        """It is an ordinary error, or a value of the type: digests find what differs in it."""
        if not self.serializer.types or not self.survives_damage:
            pytest.skip("the serializer takes anything, or declares that it may not survive")

        for name, value in self.values.items():
            data = bytearray(self.serializer.serialize(value))
            for position in range(0, len(data), len(data) // DAMAGES + 1):
                data[position] ^= 0xFF
                loaded = self._load(bytes(data))
                assert loaded is None or type(loaded) in self.serializer.types, name
                data[position] ^= 0xFF

    def test_pickled_data_runs_no_code(self) -> None:
        """Data never chooses what is executed."""
        if self.serializer.executes_code:
            pytest.skip("the serializer declares that it does, so nothing of it is loaded")
        _Canary.sang = False

        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            self._load(pickle.dumps(_Canary(), protocol))

        assert not _Canary.sang

    def test_many_threads_work_at_once(self) -> None:
        """Both methods are called from worker threads."""
        values = list(self.values.values()) * 2

        with ThreadPoolExecutor(THREADS) as threads:
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

    def _load(self, data: bytes) -> Any:
        """The value of the data, or None if it is refused."""
        try:
            return self.serializer.deserialize(data)
        except Exception:
            return None


class _Canary:
    """Sings when it is unpickled."""

    sang = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _sing, ()


def _sing() -> None:
    _Canary.sang = True
