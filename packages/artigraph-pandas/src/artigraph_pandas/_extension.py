"""Columns of pandas' own extension dtypes, except intervals and categories.

Each kind of dtype is a pair of functions, found by the name of the kind.
"""

from collections.abc import Callable
from datetime import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from artigraph.errors import UnsupportedValueError
from artigraph.serializer.codec import Packer
from artigraph_pandas._file import Description
from artigraph_pandas._memory import is_mapped, size_of_objects, spend


class Kind(NamedTuple):
    """How the values of a kind of dtype become an Arrow array and a description, and back."""

    encode: Callable[[Any, str], tuple[pa.Array, Description]]
    decode: Callable[[pa.Array, Description], Any]


def find_kind(dtype: Any) -> str | None:
    """The key in `EXTENSION_KINDS` of an extension dtype, or None if there is none."""
    if isinstance(dtype, pd.ArrowDtype) and not _is_plain(dtype.pyarrow_dtype):
        return None
    return _KIND_NAMES.get(type(dtype))


def to_numpy(array: pa.Array) -> Any:
    """A numpy array of its own, with NaT where there is null; or one that lies in a mapped file."""
    if is_mapped() and not array.null_count and not pa.types.is_boolean(array.type):
        return array.to_numpy(zero_copy_only=True)
    return array.to_numpy(zero_copy_only=False, writable=True)


def _encode_zoned(values: Any, where: str) -> tuple[pa.Array, Description]:
    zone = time(tzinfo=values.dtype.tz)  # the JSON serializer knows zones as a part of times
    Packer(where).pack(zone)
    moments = pa.array(pd.DatetimeIndex(values).tz_convert(None).to_numpy())
    return moments.view(pa.timestamp(values.dtype.unit, "UTC")), {"zone": zone}


def _decode_zoned(array: pa.Array, description: Description) -> Any:
    moments = pd.DatetimeIndex(to_numpy(array.view(pa.timestamp(array.type.unit))))
    return moments.tz_localize("UTC").tz_convert(description["zone"].tzinfo).array


def _encode_nullable(values: Any, where: str) -> tuple[pa.Array, Description]:
    return pa.array(values), {"dtype": str(values.dtype)}


def _decode_nullable(array: pa.Array, description: Description) -> Any:
    # Not with the dtype's __from_arrow__: it makes NA of NaN.
    missing = array.is_null().to_numpy(zero_copy_only=False).copy()
    filled = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    dtype: Any = _NULLABLE[description["dtype"]]
    return dtype.construct_array_type()(to_numpy(filled), missing)


def _encode_text(values: Any, where: str) -> tuple[pa.Array, Description]:
    storage, missing = values.dtype.storage, values.dtype.na_value
    if storage == "python":
        # The only storage whose cells may be of subclasses of str.
        others = set(map(type, values.to_numpy(dtype=object))) - {str, type(missing)}
        if others:
            name = f"{others.pop().__name__} in a column of str"
            raise UnsupportedValueError(where, name, "Convert it to str.")
    array = pa.array(values, type=pa.large_string())
    if storage == "python":
        spend(size_of_objects(array, is_json=False))
    return array, {"storage": storage, "is_nan": missing is not pd.NA}


def _decode_text(array: pa.Array, description: Description) -> Any:
    if description["storage"] == "python":
        spend(size_of_objects(array, is_json=False))
    missing = np.nan if description["is_nan"] else pd.NA
    dtype: Any = pd.StringDtype(description["storage"], na_value=missing)
    return dtype.__from_arrow__(array)


def _encode_period(values: Any, where: str) -> tuple[pa.Array, Description]:
    return pa.array(values.asi8), {"dtype": str(values.dtype)}


def _decode_period(array: pa.Array, description: Description) -> Any:
    return pd.arrays.PeriodArray(to_numpy(array), dtype=pd.PeriodDtype(description["dtype"]))


def _encode_arrow(values: Any, where: str) -> tuple[pa.Array, Description]:
    return values.__arrow_array__().combine_chunks(), {}


def _decode_arrow(array: pa.Array, description: Description) -> Any:
    dtype: Any = pd.ArrowDtype(array.type)
    return dtype.__from_arrow__(array)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether Parquet is sure to keep all values of an Arrow type."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return bool(fields) and all(field.nullable and _is_plain(field.type) for field in fields)
    return any(is_of(kind) for is_of in _PLAIN)


_PLAIN: tuple[Callable[[pa.DataType], bool], ...] = (
    *(pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary),
    *(pa.types.is_date32, pa.types.is_time64, pa.types.is_duration),
    lambda kind: pa.types.is_timestamp(kind) and kind.unit != "s",  # Parquet has no seconds
    lambda kind: pa.types.is_decimal(kind) and kind.scale >= 0,
)

EXTENSION_KINDS = {
    "zoned": Kind(_encode_zoned, _decode_zoned),
    "nullable": Kind(_encode_nullable, _decode_nullable),
    "text": Kind(_encode_text, _decode_text),
    "period": Kind(_encode_period, _decode_period),
    "arrow": Kind(_encode_arrow, _decode_arrow),
}

_NULLABLE: dict[str, Any] = {
    str(dtype): dtype
    for dtype in (
        *(pd.Int8Dtype(), pd.Int16Dtype(), pd.Int32Dtype(), pd.Int64Dtype()),
        *(pd.UInt8Dtype(), pd.UInt16Dtype(), pd.UInt32Dtype(), pd.UInt64Dtype()),
        *(pd.Float32Dtype(), pd.Float64Dtype(), pd.BooleanDtype()),
    )
}
"""By the names that pandas gives them; it would look among all that are registered."""

_KIND_NAMES: dict[type[Any], str] = {
    **{type(dtype): "nullable" for dtype in _NULLABLE.values()},
    pd.DatetimeTZDtype: "zoned",
    pd.StringDtype: "text",
    pd.PeriodDtype: "period",
    pd.ArrowDtype: "arrow",
}
