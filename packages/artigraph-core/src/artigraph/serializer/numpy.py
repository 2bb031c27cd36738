"""Serializers of numpy arrays and scalars: the `.npy` format, without pickle.

Exact: any shape; every dtype that the format holds, which are bool, integers, floats of 16 to 64
bits, complex numbers of them, `S`, `U` and `V`, datetime64 and timedelta64 of any unit, and
structures of those; byte order and Fortran order. What is loaded is writable, and nobody else has
its memory. Other strides become C order, and the padding of structures becomes zeros.

Refused: subclasses, object, StringDType and user-defined dtypes; long double (its bytes are another
number on another platform) and `longlong` (it would come back as `int64`, another type); dtypes
with metadata; structures with overlapping, unordered or aligned fields; scalars of text that end in
NUL.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import math
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from artigraph.errors import FieldTypeError, MissingExtraError, UnsupportedValueError, shown
from artigraph.memory import new_memory
from artigraph.serializer.expansion import check_expansion
from artigraph.spec import Data, LocalFile, MappingSerializer, Serializer, StreamingSerializer

try:
    import numpy as np
    from numpy.lib import format as npy
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    raise MissingExtraError("artigraph.serializer.numpy", "numpy", "numpy") from error

Array: TypeAlias = np.ndarray[Any, Any]
Dtype: TypeAlias = np.dtype[Any]

PIECE = 1 << 20
"""Of an array that is not there as it is written, in bytes: what is made at once."""

MAX_HEADER = 1 << 20
"""Of a header, in bytes: CPython takes hundreds of times as much to read it."""


class ArraySerializer(StreamingSerializer[Array], MappingSerializer[Array]):
    """Arrays of any shape, as `.npy` data; one that is mapped is read-only, and lies in the file.

    A `numpy.memmap` is saved as the array that it is.
    """

    name = "numpy.array"
    types = (np.ndarray,)
    sources = (np.memmap,)
    wants_writable = True

    def serialize(self, value: Array) -> Data:
        if type(value) is not np.ndarray:
            takes = "a numpy.ndarray and no subclass (numpy.asarray() makes one)"
            raise FieldTypeError("value", self.name, takes, _type_name(value))
        return _encode(value, f"array of shape {value.shape}")

    def deserialize(self, data: Data) -> Array:
        return _decode(data)

    def estimate(self, value: Array) -> int:
        return value.nbytes

    def dump(self, value: Array, file: BinaryIO) -> None:
        value = value.view(np.ndarray)
        file.write(_exact_header(value, f"array of shape {value.shape}"))
        file.writelines(_pieces(value))

    def map(self, file: LocalFile) -> Array:
        header = _read_header(file.data)
        view = header.view(file.data)
        _check_size(header, view, file.data)
        return view


class ScalarSerializer(Serializer[np.generic]):
    """Scalars of numpy's own types, as `.npy` data of an array without dimensions."""

    name = "numpy.scalar"
    types = tuple(dict.fromkeys(kind for kind in np.sctypeDict.values() if kind is not np.object_))

    def serialize(self, value: np.generic) -> Data:
        if type(value) not in self.types:
            raise FieldTypeError("value", self.name, "a scalar of numpy's own", _type_name(value))
        array = np.asarray(value)
        if isinstance(value, str | bytes) and array[()] != value:
            remedy = "Arrays drop NUL at the end of text: convert it to str or bytes."
            raise UnsupportedValueError("scalar that ends in NUL", _type_name(value), remedy)
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


class _Header(NamedTuple):
    dtype: Dtype
    is_fortran: bool
    shape: tuple[int, ...]
    size: int
    """Where the header ends and the array begins."""

    def view(self, data: Data) -> Array:
        """The array that lies in `data` behind the header."""
        if not self.dtype.itemsize:
            # Any number of items without content fits in no data; text without has a place yet.
            check_expansion(math.prod(self.shape) * np.dtype("U1").itemsize, len(data))
        order = "F" if self.is_fortran else "C"
        view = np.ndarray(self.shape, self.dtype, buffer=data, offset=self.size, order=order)
        if view.shape != self.shape:
            raise ValueError("its shape is not that of an array")
        return view


def _encode(array: Array, where: str) -> memoryview:
    text = _exact_header(array, where)
    header = _read_header(memoryview(text))
    data = new_memory(header.size + array.nbytes)
    data[: header.size] = text
    header.view(data)[...] = array
    return data


def _decode(data: Data) -> Array:
    header = _read_header(memoryview(data))
    view = header.view(data)
    _check_size(header, view, data)
    return view if view.flags.writeable else view.copy(order="K")


def _check_size(header: _Header, view: Array, data: Data) -> None:
    if header.size + view.nbytes != len(data):
        raise ValueError(f"{len(data)} bytes, where {header.size + view.nbytes} are announced")


def _pieces(array: Array) -> Iterator[memoryview]:
    """The bytes of an array in the order of the format; copies of a bounded size, if any."""
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        array = array.T
    items = array.reshape(-1) if array.flags.c_contiguous else array.flat
    if array.flags.c_contiguous and array.dtype.names is None:
        step = max(1, array.size)
    else:
        step = max(1, PIECE // max(1, array.dtype.itemsize))
    for start in range(0, array.size, step):
        piece = items[start : start + step]
        if array.dtype.names is not None:
            # The padding of structures becomes zeros, as in `_encode`.
            copy = np.zeros(len(piece), array.dtype)
            copy[...] = piece
            piece = copy
        if piece.nbytes:
            yield piece.view(np.uint8).data


def _exact_header(array: Array, where: str) -> bytes:
    """The header of `array`, once it is certain that it says the dtype exactly."""
    for path, part in _parts(array.dtype, where):
        if part.char in "OTgG" or part.metadata or part.isbuiltin == 2:
            raise _unsupported(path, part)
    try:
        text = _write_header(array)
        found = _read_header(memoryview(text)).dtype
    except (ValueError, SyntaxError) as error:  # fields that overlap, names that are not UTF-8
        raise _unsupported(where, array.dtype) from error
    pairs = zip(_parts(array.dtype, where), _parts(found, where), strict=False)
    for (path, part), (_, found_part) in pairs:
        if not _is_same(part, found_part):
            raise _unsupported(path, part)
    return text


def _parts(dtype: Dtype, path: str) -> Iterator[tuple[str, Dtype]]:
    """`dtype` and every dtype within it, with the fields that lead to it."""
    yield path, dtype
    if dtype.subdtype:
        yield from _parts(dtype.subdtype[0], path)
    for name in dtype.names or ():
        yield from _parts(dtype[name], f"{path}, field {shown(name)}")


def _is_same(dtype: Dtype, other: Dtype) -> bool:
    return (
        dtype == other
        and dtype.type is other.type
        and dtype.isalignedstruct == other.isalignedstruct
    )


def _write_header(array: Array) -> bytes:
    fields = {
        "descr": npy.dtype_to_descr(array.dtype),
        "fortran_order": array.flags.f_contiguous and not array.flags.c_contiguous,
        "shape": array.shape,
    }
    text = repr(fields).encode()
    # Version 1 is what every reader of the format knows; only version 3 is in UTF-8.
    version, size = (1, 2) if text.isascii() and len(text) < 65_000 else (3, 4)
    start = npy.MAGIC_PREFIX + bytes((version, 0))
    padding = -(len(start) + size + len(text) + 1) % npy.ARRAY_ALIGN
    text += b" " * padding + b"\n"
    return start + len(text).to_bytes(size, "little") + text


# CPython before 3.11.8 has one count of the depth for all threads that parse, and raises
# SystemError when it is wrong: https://github.com/python/cpython/issues/106905
_parsing = threading.Lock()


def _read_header(data: memoryview) -> _Header:
    # Not with numpy's own readers: they copy what follows, and none for version 3 is public.
    start = bytes(data[:8])
    if start[:6] != npy.MAGIC_PREFIX or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("not .npy data of version 1, 2 or 3")
    text_at = 10 if start[6] == 1 else 12
    size = text_at + int.from_bytes(data[8:text_at], "little")
    if size > MAX_HEADER:
        raise ValueError(f"its header has {size:,} bytes, and {MAX_HEADER:,} are the limit")
    text = bytes(data[text_at:size]).decode("utf-8" if start[6] == 3 else "latin-1")
    with _parsing:
        fields = ast.literal_eval(text)
    dtype = npy.descr_to_dtype(fields["descr"])
    if dtype.hasobject:
        raise ValueError("object arrays are pickled, so they are not loaded")
    return _Header(dtype, fields["fortran_order"], fields["shape"], size)


_REMEDIES = {
    "O": "Give it a dtype of fixed size, or save a list.",
    "T": "Convert it with .astype(str).",
    "g": "Convert it with .astype('float64').",
    "G": "Convert it with .astype('complex128').",
    "V": "Convert it to a plain structure, as numpy.lib.recfunctions.repack_fields() does.",
}


def _unsupported(where: str, dtype: Dtype) -> UnsupportedValueError:
    # By its type too, since longlong calls itself int64.
    name = f"dtype {dtype} ({dtype.type.__name__})" if dtype.names is None else "this structure"
    if dtype.metadata:
        name += " with metadata"
    remedy = _REMEDIES.get(dtype.char, "Convert it to a plain dtype with .astype().")
    return UnsupportedValueError(where, name, remedy)


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
