"""Labels and categories: an index as Arrow arrays of its length and a description of the rest."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from artigraph.errors import UnsupportedValueError
from artigraph_pandas import _array
from artigraph_pandas._array import values_of
from artigraph_pandas._file import Description, describe, description_of, read_ipc, write_part

_FLAT: tuple[type[Any], ...] = (
    *(pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex),
    *(pd.IntervalIndex, pd.CategoricalIndex),
)


def encode_values(values: Any, where: str) -> tuple[pa.Array, Description]:
    """The Arrow array that holds `values`, categories included, and their description.

    Raises:
        ArtigraphError: They would not come back exactly, in value or dtype.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories = pack_index(values.categories, f"{where}, categories")
        array = pa.array(values.codes)
        return array, {"categories": categories, "is_ordered": bool(values.ordered)}
    return _array.encode(values, where)


def decode_values(array: pa.Array, description: Description) -> Any:
    """What `encode_values` made `array` and `description` of."""
    if "categories" not in description:
        return _array.decode(array, description)
    categories = unpack_index(description["categories"])
    codes = array.to_numpy(zero_copy_only=False)
    dtype = pd.CategoricalDtype(categories, description["is_ordered"])
    return pd.Categorical.from_codes(codes, dtype=dtype)


def encode_index(index: "pd.Index[Any]", where: str) -> tuple[list[pa.Array], Description]:
    """The Arrow arrays that hold the labels, as long as the index, and its description.

    Raises:
        ArtigraphError: It would not come back exactly, in labels, names or type.
    """
    if type(index) is pd.RangeIndex:
        return [], {"range": [index.start, index.stop, index.step], "name": index.name}
    if type(index) is pd.MultiIndex:
        return _encode_levels(index, where)
    if type(index) not in _FLAT:
        remedy = "Convert it to an index of pandas' own."
        raise UnsupportedValueError(where, type(index).__name__, remedy)
    array, values = encode_values(values_of(index), where)
    return [array], {"values": values, "name": index.name, "freq": _frequency(index, where)}


def decode_index(arrays: Iterator[pa.Array], description: Description) -> "pd.Index[Any]":
    """What `encode_index` made of it; takes its arrays, and no more, off `arrays`."""
    if "range" in description:
        return pd.RangeIndex(*description["range"], name=description["name"])
    if "levels" in description:
        levels: list[Any] = [unpack_index(level) for level in description["levels"]]
        codes = [next(arrays).to_numpy(zero_copy_only=False) for _ in levels]
        return pd.MultiIndex(levels, codes, description["sortorder"], description["names"])
    values = decode_values(next(arrays), description["values"])
    index: Any = pd.Index(
        values, dtype=values.dtype, name=description["name"], copy=False, tupleize_cols=False
    )
    if description["freq"] is not None:
        index.freq = description["freq"]
    return index


def pack_index(index: "pd.Index[Any]", where: str) -> str:
    """An index whose length is not that of the table, as text that goes into a description."""
    arrays, description = encode_index(index, where)
    table = describe(pa.Table.from_arrays(arrays, names=["" for _ in arrays]), description, where)
    return b64encode(write_part(table)).decode("ascii")


def unpack_index(packed: str) -> "pd.Index[Any]":
    """What `pack_index` made `packed` of."""
    table = read_ipc(b64decode(packed))
    arrays = (column.combine_chunks() for column in table.columns)
    return decode_index(arrays, description_of(table))


def _encode_levels(index: Any, where: str) -> tuple[list[pa.Array], Description]:
    levels = [pack_index(level, f"{where}, level {i}") for i, level in enumerate(index.levels)]
    codes = [pa.array(np.asarray(code)) for code in index.codes]
    names = list(index.names)
    return codes, {"levels": levels, "names": names, "sortorder": index.sortorder}


def _frequency(index: Any, where: str) -> str | None:
    """The frequency that is set back when the index is rebuilt; of periods it is in the dtype."""
    if isinstance(index, pd.PeriodIndex) or getattr(index, "freq", None) is None:
        return None
    try:
        rebuilt = type(index)(index.to_numpy(), freq=index.freqstr)
        if rebuilt.freq == index.freq:
            return index.freqstr
    except ValueError:
        pass
    remedy = "It has no text that says all of it: set index.freq = None."
    raise UnsupportedValueError(where, f"frequency {index.freqstr}", remedy)
