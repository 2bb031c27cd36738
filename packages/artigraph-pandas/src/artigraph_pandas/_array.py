"""One column, except categories: an Arrow array, and a description of the dtype."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from artigraph.errors import ArtigraphError, UnsupportedValueError
from artigraph_pandas._cells import decode_cells, encode_cells
from artigraph_pandas._extension import EXTENSION_KINDS, Kind, find_kind, to_numpy
from artigraph_pandas._file import Description


def encode(values: Any, where: str) -> tuple[pa.Array, Description]:
    """The Arrow array that holds `values`, and what else it takes to get them back.

    Args:
        values: A numpy array or a pandas extension array.
        where: What messages call them.

    Raises:
        ArtigraphError: They would not come back exactly, in value or dtype.
    """
    kind = _kind_of(values.dtype)
    if kind is None:
        raise _unsupported(where, values.dtype)
    try:
        array, details = _KINDS[kind].encode(values, where)
        array.validate(full=True)
        if pa.types.is_timestamp(array.type) and array.type.unit == "s":
            array.cast(pa.timestamp("ms"))  # Parquet has no seconds; what is too far away fails
    except ArtigraphError:
        raise
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise _unsupported(where, values.dtype) from None  # the cause quotes values
    description = {"kind": kind, **details}
    if not _is_same_dtype(decode(array[:0], description).dtype, values.dtype):
        raise _unsupported(where, values.dtype)
    return array, description


def decode(array: pa.Array, description: Description) -> Any:
    """What `encode` made `array` and `description` of."""
    return _KINDS[description["kind"]].decode(array, description)


def values_of(data: Any) -> Any:
    """The values of a series or an index, without a copy."""
    return data.to_numpy() if isinstance(data.dtype, np.dtype) else data.array


def _kind_of(dtype: Any) -> str | None:
    if not isinstance(dtype, np.dtype):
        return "interval" if type(dtype) is pd.IntervalDtype else find_kind(dtype)
    if dtype.char in "gG":  # long double: another number on another platform
        return None
    if dtype.kind in "biufcS" and dtype.itemsize:
        return "numpy" if dtype.kind in "biuf" and dtype.isnative else "raw"
    return {"M": "numpy", "m": "numpy", "O": "object"}.get(dtype.kind)


def _is_same_dtype(dtype: Any, other: Any) -> bool:
    if type(dtype) is not type(other) or dtype != other:
        return False
    # numpy has dtypes that are equal and not the same: longlong, and those with metadata.
    is_numpy = isinstance(dtype, np.dtype)
    return not is_numpy or (dtype.type is other.type and dtype.metadata == other.metadata)


def _unsupported(where: str, dtype: object) -> UnsupportedValueError:
    # longlong calls itself int64, and is another type.
    name = f"{dtype} ({dtype.type.__name__})" if isinstance(dtype, np.dtype) else str(dtype)
    remedy = "Convert it with .astype() to a common dtype of numpy, pandas or Arrow."
    return UnsupportedValueError(where, f"dtype {name}", remedy)


def _encode_numpy(values: Any, where: str) -> tuple[pa.Array, Description]:
    return pa.array(values, from_pandas=False), {}


def _decode_numpy(array: pa.Array, description: Description) -> Any:
    return to_numpy(array)


def _encode_raw(values: Any, where: str) -> tuple[pa.Array, Description]:
    buffers = [None, pa.py_buffer(values.tobytes())]
    array = pa.Array.from_buffers(pa.binary(values.itemsize), len(values), buffers)
    return array, {"dtype": values.dtype.str}


def _decode_raw(array: pa.Array, description: Description) -> Any:
    values = np.frombuffer(array.buffers()[1] or b"", description["dtype"])
    return values[array.offset : array.offset + len(array)].copy()


def _encode_interval(values: Any, where: str) -> tuple[pa.Array, Description]:
    left, left_details = encode(values_of(values.left), where)
    right, right_details = encode(values_of(values.right), where)
    array = pa.StructArray.from_arrays([left, right], names=["left", "right"])
    return array, {"closed": values.closed, "left": left_details, "right": right_details}


def _decode_interval(array: pa.Array, description: Description) -> Any:
    left, right = array.flatten()
    return pd.arrays.IntervalArray.from_arrays(
        pd.Index(decode(left, description["left"])),
        pd.Index(decode(right, description["right"])),
        closed=description["closed"],
    )


_KINDS = {
    **EXTENSION_KINDS,
    "numpy": Kind(_encode_numpy, _decode_numpy),
    "raw": Kind(_encode_raw, _decode_raw),
    "interval": Kind(_encode_interval, _decode_interval),
    "object": Kind(encode_cells, decode_cells),
}
