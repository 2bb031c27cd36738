"""Columns of Python objects: text where there is nothing but text, and else JSON, cell by cell."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from artigraph.errors import UnsupportedValueError
from artigraph.serializer.codec import Packer, dumps, loads
from artigraph_pandas._file import Description
from artigraph_pandas._memory import size_of_objects, spend

_MISSING: dict[str, Any] = {"None": None, "nan": np.nan, "NA": pd.NA, "NaT": pd.NaT}


def encode_cells(values: Any, where: str) -> tuple[pa.Array, Description]:
    """An Arrow array of text that holds a numpy array of objects, and its description.

    Raises:
        ArtigraphError: A cell would not come back exactly; the error names it.
    """
    missing = _missing_among_text(values)
    if missing is not None:
        try:
            array = pa.array(values, type=pa.large_string(), from_pandas=True)
            spend(size_of_objects(array, is_json=False))
            return array, {"missing": missing}
        except UnicodeEncodeError:  # unpaired surrogates, which JSON can escape
            pass
    try:
        cells = Packer(where).pack(list(values))
    except UnsupportedValueError as error:
        remedy = "Give the column a dtype of its own, as .convert_dtypes() does."
        raise UnsupportedValueError(error.where, error.type_name, remedy) from None
    array = pa.array([dumps(cell) for cell in cells], type=pa.large_string())
    spend(size_of_objects(array, is_json=True))
    return array, {}


def decode_cells(array: pa.Array, description: Description) -> Any:
    """What `encode_cells` made `array` and `description` of."""
    is_json = "missing" not in description
    spend(size_of_objects(array, is_json=is_json))
    if is_json:
        return np.fromiter(map(loads, array.to_pylist()), object, len(array))
    values = array.to_numpy(zero_copy_only=False).astype(object)
    values[array.is_null().to_numpy(zero_copy_only=False)] = _MISSING[description["missing"]]
    return values


def _missing_among_text(values: Any) -> str | None:
    """What stands for a missing string, if there is nothing but strings and one such thing."""
    kinds = set(map(type, values)) - {str}
    for name, missing in _MISSING.items():
        if kinds <= {type(missing)}:
            numbers = [value for value in values if type(value) is float]
            return name if np.isnan(numbers).all() else None
    return None
