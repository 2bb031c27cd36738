"""Serializers of numpy arrays and scalars: the `.npy` format, without pickle.

Exact: any shape, every dtype that the format holds (bool, integers, floats of 16, 32 and 64 bits and
their complex twins, `S`, `U`, `V`, datetime64 and timedelta64 of any unit, structures of those, titles
too), byte order and Fortran order. What is loaded is writable and owns its memory; strides other
than C and Fortran order become C order, and the padding of structures becomes zeros.

Refused: subclasses, object, StringDType and user-defined dtypes, long double (its bytes are another
number on another platform), `longlong` (it would come back as `int64`, another type), dtypes with
metadata, structures with overlapping, unordered or aligned fields, and of the scalars strings that
end in NUL.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
from collections.abc import Iterator
from typing import Any

from artigraph.errors import FieldTypeError, MissingExtraError, UnsupportedValueError, shown
from artigraph.spec import Data, Serializer

try:
    import numpy as np
    from numpy.lib import format as npy
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    raise MissingExtraError("artigraph.serializer.numpy", "numpy", "numpy") from error

_REMEDIES = {
    "O": "Give it a dtype of fixed size, or save a list.",
    "T": "Convert it with .astype(str).",
    "g": "Convert it with .astype('float64').",
    "G": "Convert it with .astype('complex128').",
}
_OTHER_REMEDY = "Convert it to a plain dtype; numpy.lib.recfunctions.repack_fields packs structures."


class ArraySerializer(Serializer[np.ndarray[Any, Any]]):
    """Arrays of any shape, as `.npy` data."""

    name = "numpy.array"
    types = (np.ndarray,)

    def serialize(self, value: np.ndarray[Any, Any]) -> Data:
        if type(value) is not np.ndarray:
            raise _wrong_type(self.name, "numpy.ndarray and no subclass (see numpy.asarray)", value)
        return _encode(value, f"array of shape {value.shape}")

    def deserialize(self, data: Data) -> np.ndarray[Any, Any]:
        return _decode(data)


class ScalarSerializer(Serializer[np.generic]):
    """Scalars of numpy's own types, as `.npy` data of an array without dimensions."""

    name = "numpy.scalar"
    types = tuple(dict.fromkeys(kind for kind in np.sctypeDict.values() if kind is not np.object_))

    def serialize(self, value: np.generic) -> Data:
        if type(value) not in self.types:
            raise _wrong_type(self.name, "a numpy scalar", value)
        array = np.asarray(value)
        if isinstance(value, str | bytes) and array[()] != value:
            remedy = "Arrays drop NULs at the end: convert it to str or bytes."
            raise UnsupportedValueError("scalar that ends in NUL", array.dtype.name, remedy)
        return _encode(array, "scalar")

    def deserialize(self, data: Data) -> np.generic:
        value = _decode(data)[()]
        if not isinstance(value, np.generic):
            raise ValueError(f"not the data of a scalar: its shape is {value.shape}")
        return value


array_serializer = ArraySerializer()
scalar_serializer = ScalarSerializer()


def artigraph_serializers() -> list[Serializer[Any]]:
    return [array_serializer, scalar_serializer]


def _encode(array: np.ndarray[Any, Any], where: str) -> bytearray:
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    header = _exact_header(array, is_fortran, where)
    data = bytearray(len(header) + array.nbytes)
    data[: len(header)] = header
    _view(data, array.dtype, array.shape, is_fortran, len(header))[...] = array
    return data


def _decode(data: Data) -> np.ndarray[Any, Any]:
    dtype, is_fortran, shape, offset = _read_header(memoryview(data))
    view = _view(data, dtype, shape, is_fortran, offset)
    if offset + view.nbytes != len(data):
        raise ValueError(f"{len(data)} bytes where an array of {offset + view.nbytes} is announced")
    return view.copy(order="K")


def _view(
    data: Data, dtype: np.dtype[Any], shape: tuple[int, ...], is_fortran: bool, offset: int
) -> np.ndarray[Any, Any]:
    order = "F" if is_fortran else "C"
    return np.ndarray(shape, dtype, buffer=data, offset=offset, order=order)


def _exact_header(array: np.ndarray[Any, Any], is_fortran: bool, where: str) -> bytes:
    """The header of the data of `array`, once it is certain that it says the dtype exactly."""
    for path, part in _parts(array.dtype, where):
        if part.char in _REMEDIES or part.metadata or part.isbuiltin == 2:
            raise _unsupported(path, part)
    try:
        header = _header(array, is_fortran)
        found = _read_header(memoryview(header))[0]
    except ValueError as error:  # fields that overlap, names that are not UTF-8
        raise _unsupported(where, array.dtype) from error
    pairs = zip(_parts(array.dtype, where), _parts(found, where), strict=False)
    for (path, part), (_, found_part) in pairs:
        if not _is_same(part, found_part):
            raise _unsupported(path, part)
    return header


def _parts(dtype: np.dtype[Any], path: str) -> Iterator[tuple[str, np.dtype[Any]]]:
    """`dtype` and every dtype within it, with the fields that lead to it."""
    yield path, dtype
    if dtype.subdtype:
        yield from _parts(dtype.subdtype[0], path)
    for name in dtype.names or ():
        yield from _parts(dtype[name], f"{path}, field {shown(name)}")


def _is_same(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    return (
        dtype == other
        and dtype.type is other.type
        and dtype.isalignedstruct == other.isalignedstruct
    )


def _header(array: np.ndarray[Any, Any], is_fortran: bool) -> bytes:
    fields = {
        "descr": npy.dtype_to_descr(array.dtype),
        "fortran_order": is_fortran,
        "shape": array.shape,
    }
    text = repr(fields).encode()
    # Version 1 is what every reader of the format knows; only version 3 is UTF-8.
    version, size = (1, 2) if text.isascii() and len(text) < 65_000 else (3, 4)
    start = npy.MAGIC_PREFIX + bytes((version, 0))
    padding = -(len(start) + size + len(text) + 1) % npy.ARRAY_ALIGN
    text += b" " * padding + b"\n"
    return start + len(text).to_bytes(size, "little") + text


def _read_header(data: memoryview) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """What the header says (dtype, whether in Fortran order, shape), and where it ends.

    numpy's own readers copy what follows, and have none for version 3 in public.
    """
    start = bytes(data[:8])
    if start[:6] != npy.MAGIC_PREFIX or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("not .npy data of version 1, 2 or 3")
    size = 2 if start[6] == 1 else 4
    offset = 8 + size + int.from_bytes(data[8 : 8 + size], "little")
    text = bytes(data[8 + size : offset]).decode("utf-8" if start[6] == 3 else "latin-1")
    match ast.literal_eval(text):
        case {"descr": descr, "fortran_order": bool(is_fortran), "shape": tuple(shape)}:
            dtype = npy.descr_to_dtype(descr)
        case _:
            raise ValueError("not the header of .npy data")
    if dtype.hasobject:
        raise ValueError("object arrays are not loaded: they are pickled")
    return dtype, is_fortran, shape, offset


def _unsupported(where: str, dtype: np.dtype[Any]) -> UnsupportedValueError:
    remedy = _REMEDIES.get(dtype.char, _OTHER_REMEDY)
    return UnsupportedValueError(where, f"dtype {dtype}", remedy)


def _wrong_type(serializer: str, expected: str, value: object) -> FieldTypeError:
    got = f"{type(value).__module__}.{type(value).__qualname__}"
    return FieldTypeError("value", serializer, expected, got)
