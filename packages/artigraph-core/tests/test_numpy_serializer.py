import gc
import io
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from artigraph.errors import FieldTypeError
from artigraph.serializer.numpy import array_serializer, artigraph_serializers, scalar_serializer
from artigraph.testing.serializer import SerializerTests

NANS = np.array([0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001], "u8").view("f8")
PADDED = {"names": ["a", "b"], "formats": ["i1", "<i4"], "offsets": [0, 4], "itemsize": 12}
OVERLAPPING = {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}
UNORDERED = {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}

DTYPES: dict[str, Any] = {
    name: name
    for name in (
        *("?", "i1", "<i2", ">i2", "<u8", ">u8", "<f2", ">f2", "<f4", ">f8", "<c8", ">c16"),
        *("S3", "S0", "<U3", ">U3", "V5", "V0"),
        *("<M8", "<M8[D]", ">M8[ns]", "<M8[25s]", "<m8[7us]", ">m8[Y]", "<m8[as]"),
    )
} | {
    "structure": [("a", "<i4"), ("b", [("c", ">f8"), ("d", "<U3")]), ("e", "<i2", (2, 3))],
    "titles": [(("title", "a"), "<i4"), (((1, 2), "b"), "<i4")],
    "padding": PADDED,
    "no fields": [],
    "names that are not ASCII": [("é", "<i4"), ("日本", "<i4"), ("'\"\\\n ", "<i4")],
    "an unpaired surrogate": [("\ud800", "<i4")],
}

ARRAYS: dict[str, Any] = {
    "without dimensions": np.array(5),
    "64 dimensions": np.zeros((1,) * 64),
    "no rows": np.zeros((3, 0, 2)),
    "Fortran order": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "Fortran order of nothing": np.zeros((0, 3), order="F"),
    "a stride": np.arange(10)[::-2],
    "neither C nor Fortran order": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "strides of zero": np.broadcast_to(np.int8(1), (3, 4)),
    "read-only": np.frombuffer(b"abcd", "u1"),
    "signed zeros and NaNs with content": np.concatenate([NANS, [0.0, -0.0, np.inf, 5e-324]]),
    "text with NULs and surrogates": np.array(["a\0b", "c\0", "\ud800"]),
    "moments and none": np.array(["NaT", "2020", "-5000"], "M8[D]"),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "object": (np.array([{}]), "shape (1,): dtype object"),
    "object in a structure": (
        np.zeros(2, [("a", [("b", "O")])]),
        "field 'a', field 'b'",
    ),
    "StringDType": (np.array(["a"], np.dtypes.StringDType()), "dtype StringDType()"),
    "long double": (np.zeros(2, "g"), "(longdouble)"),
    "complex long double": (np.zeros(2, [("a", "G")]), "field 'a': dtype"),
    "longlong": (np.zeros(2, "q"), "dtype int64 (longlong)"),
    "longlong in a structure": (np.zeros(2, [("a", "q", 3)]), "field 'a': dtype int64 (longlong)"),
    "metadata": (np.zeros(2, np.dtype("i4", metadata={"unit": "m"})), "with metadata"),
    "metadata of a field": (
        np.zeros(2, [("a", np.dtype("i4", metadata={"unit": "m"}))]),
        "field 'a': dtype int32 (int32) with metadata",
    ),
    "overlapping fields": (np.zeros(2, np.dtype(OVERLAPPING)), "this structure"),
    "unordered fields": (np.zeros(2, np.dtype(UNORDERED)), "this structure"),
    "aligned fields": (np.zeros(2, np.dtype([("a", "i1"), ("b", "i4")], align=True)), "structure"),
    "aligned fields within": (
        np.zeros(2, [("c", np.dtype([("a", "i1"), ("b", "i4")], align=True))]),
        "structure",
    ),
    "records": (np.zeros(2, (np.record, [("a", "i4")])), "this structure"),
    "fields over a number": (np.zeros(2, (np.int32, [("a", "i2"), ("b", "i2")])), "structure"),
    "a field without a name": (
        np.zeros(2, {"names": ["", "b"], "formats": ["V4", "i4"]}),
        "this structure",
    ),
    "a masked array": (np.ma.array([1, 2], mask=[0, 1]), "numpy.ma.MaskedArray"),
    "a record array": (np.rec.array([(1,)], dtype=[("a", "i4")]), "numpy.rec.recarray"),
    "a scalar": (np.float64(1), "numpy.float64"),
    "a list": ([1, 2], "list"),
}

SCALARS: dict[str, Any] = {
    "bool": np.bool_(True),
    "int8": np.int8(-1),
    "uint64": np.uint64(2**64 - 1),
    "float16": np.float16(1.5),
    "float32": np.float32(0.1),
    "negative zero": np.float64(-0.0),
    "NaN": NANS[1],
    "complex64": np.complex64(1j),
    "str": np.str_("é\0\ud800b"),
    "empty str": np.str_(""),
    "bytes": np.bytes_(b"\0x"),
    "datetime64": np.datetime64("2020-01-01T00:00:00", "25s"),
    "NaT": np.datetime64("NaT"),
    "timedelta64": np.timedelta64(3, "ms"),
    "timedelta64 without unit": np.timedelta64(3),
    "void": np.void(b"abc\0"),
    "structure": np.array((1, "a"), [("a", ">i4"), ("b", "U3")])[()],
}

REFUSED_SCALARS: dict[str, tuple[Any, str]] = {
    "longlong": (np.longlong(1), "scalar: dtype int64 (longlong)"),
    "long double": (np.longdouble(1), "(longdouble)"),
    "str that ends in NUL": (np.str_("a\0"), "numpy.str_"),
    "bytes that end in NUL": (np.bytes_(b"a\0"), "numpy.bytes_"),
    "objects": (np.array(([],), [("a", "O")])[()], "field 'a': dtype object"),
    "a number of Python": (1.5, "got builtins.float"),
    "a record": (np.rec.array([(1,)], dtype=[("a", "i4")])[0], "numpy.record"),
}


def zeros_and_ones(dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array that is not all zeros, of any dtype."""
    array = np.zeros(shape, dtype)
    size = array.dtype.itemsize * array.size
    if array.dtype.names is None and size:
        array = np.frombuffer(bytes(i % 2 for i in range(size)), array.dtype).reshape(array.shape)
    return array


def is_fortran(array: np.ndarray) -> bool:
    return array.flags.f_contiguous and not array.flags.c_contiguous


def assert_same_array(loaded: Any, saved: Any) -> None:
    """Equal in dtype, shape, order and every bit but those between the fields of structures."""
    assert type(loaded) is type(saved) is np.ndarray
    assert repr(loaded.dtype) == repr(saved.dtype)
    assert loaded.dtype.type is saved.dtype.type
    assert loaded.shape == saved.shape
    assert is_fortran(loaded) == is_fortran(saved)
    if saved.dtype.names is None:
        assert loaded.tobytes() == saved.tobytes()
    else:
        assert repr(loaded.tolist()) == repr(saved.tolist())


def all_dtypes() -> st.SearchStrategy[Any]:
    plain = st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(),
        npst.unsigned_integer_dtypes(),
        npst.floating_dtypes(sizes=(16, 32, 64)),
        npst.complex_number_dtypes(sizes=(64, 128)),
        npst.datetime64_dtypes(),
        npst.timedelta64_dtypes(),
        npst.byte_string_dtypes(),
        npst.unicode_string_dtypes(),
    )
    return plain | npst.nested_dtypes(plain)


arrays = npst.arrays(all_dtypes(), npst.array_shapes(min_dims=0, min_side=0))
scalars = npst.arrays(all_dtypes(), ()).map(lambda array: array[()])


def large_array() -> np.ndarray:
    """A quarter of a gigabyte, of which every second number is left out."""
    return np.arange(2**26, dtype="f8")[::2]


class TestArraySerializer(SerializerTests):
    """Arrays keep every bit, and what `.npy` does not say is refused."""

    serializer = array_serializer
    values = ARRAYS | {name: zeros_and_ones(dtype, (2, 3)) for name, dtype in DTYPES.items()}
    refused = REFUSED
    strategy = arrays | arrays.map(np.transpose)
    large = staticmethod(large_array)

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert_same_array(loaded, saved)

    def alter(self, value: Any) -> None:
        value[...] = value.flat[-1]


class TestScalarSerializer(SerializerTests):
    """Scalars come back as the type of scalar that they were."""

    serializer = scalar_serializer
    values = SCALARS
    refused = REFUSED_SCALARS
    strategy = scalars | st.text().map(np.str_) | st.binary().map(np.bytes_)

    def assert_same(self, loaded: Any, saved: Any) -> None:
        assert type(loaded) is type(saved)
        assert_same_array(np.asarray(loaded), np.asarray(saved))


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_a_loaded_array_can_be_written_to(array: np.ndarray) -> None:
    """It owns its memory, so it does not keep the data alive."""
    loaded = array_serializer.deserialize(bytes(array_serializer.serialize(array)))

    assert loaded.flags.writeable
    assert loaded.flags.owndata


@pytest.mark.parametrize("name", {**ARRAYS, **DTYPES})
def test_numpy_reads_what_is_written(name: str) -> None:
    """The data is a `.npy` file like any other."""
    array = TestArraySerializer.values[name]

    data = array_serializer.serialize(array)

    loaded = np.load(io.BytesIO(data), allow_pickle=False, max_header_size=len(data))
    assert_same_array(loaded, array)


def test_a_header_may_be_long() -> None:
    """One beyond 64 KiB takes a later version of the format."""
    array = np.zeros(2, [(f"field{i}", "<i4") for i in range(3000)])

    assert_same_array(array_serializer.deserialize(array_serializer.serialize(array)), array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read(version: tuple[int, int]) -> None:
    """In every version of the format."""
    file = io.BytesIO()
    np.lib.format.write_array(file, ARRAYS["Fortran order"], version, allow_pickle=False)

    loaded = array_serializer.deserialize(file.getvalue())

    assert_same_array(loaded, ARRAYS["Fortran order"])


def test_a_mapped_file_is_refused() -> None:
    """It would come back as an array in memory."""
    array = np.memmap("mapped", mode="w+", shape=(3,))

    with pytest.raises(FieldTypeError, match=r"numpy\.memmap"):
        array_serializer.serialize(array)


@pytest.fixture
def collected_often() -> Iterator[None]:
    """The garbage collector runs all the time, and lets other threads run before it goes on."""

    def give_way(*_: object) -> None:
        for _step in range(5):
            pass

    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(give_way)
    gc.set_threshold(10)
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)
    gc.callbacks.remove(give_way)


@pytest.mark.usefixtures("collected_often")
def test_many_threads_read_headers_at_once() -> None:
    """What one is in the middle of, the others don't disturb."""
    array = TestArraySerializer.values["structure"]
    data = bytes(array_serializer.serialize(array))

    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(array_serializer.deserialize, [data] * 200))

    for each in loaded:
        assert_same_array(each, array)


def test_what_lies_between_fields_is_not_saved() -> None:
    """Memory that no field shows may hold anything, also secrets."""
    array = np.frombuffer(b"\xff" * 24, np.dtype(PADDED))

    data = array_serializer.serialize(array)

    assert data[-24:] == (b"\xff" + b"\0" * 3 + b"\xff" * 4 + b"\0" * 4) * 2


def test_bytes_after_the_array_are_an_error() -> None:
    """Data that says more than the header announces is not what was saved."""
    data = bytes(array_serializer.serialize(np.arange(3)))

    with pytest.raises(ValueError, match="announced"):
        array_serializer.deserialize(data + b"\0")


def test_objects_are_not_loaded() -> None:
    """An array of objects holds pickles, whatever its header says of the rest."""
    file = io.BytesIO()
    np.save(file, np.array([{}]), allow_pickle=True)
    structure = file.getvalue().replace(b"'|O'", b"[('a', '|O')]")

    for data in (file.getvalue(), structure):
        with pytest.raises(ValueError, match="pickled"):
            array_serializer.deserialize(data)


def test_an_array_is_no_scalar() -> None:
    """The scalar serializer never gives an array."""
    data = array_serializer.serialize(np.arange(3))

    with pytest.raises(ValueError, match=r"shape is \(3,\)"):
        scalar_serializer.deserialize(data)


def test_an_enormous_shape_is_an_error() -> None:
    """A header that announces terabytes allocates nothing."""
    data = bytes(array_serializer.serialize(np.zeros(1, "u1")))
    huge = data.replace(b"(1,)}" + b" " * 12, b"(9999999999999,)}")

    assert huge != data
    with pytest.raises((ValueError, TypeError)):
        array_serializer.deserialize(huge)


def test_the_plugin_provides_both() -> None:
    """The entry point of numpy leads to arrays and scalars."""
    assert artigraph_serializers() == [array_serializer, scalar_serializer]


def test_without_numpy_the_error_names_the_extra() -> None:
    """It is an ImportError, so that optional use can be guarded by one."""
    code = """
import sys
sys.modules["numpy"] = None
try:
    import artigraph.serializer.numpy
except ImportError as error:
    print(type(error).__name__, error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith("MissingExtraError")
    assert 'pip install "artigraph[numpy]"' in result.stdout
