"""The door to `artigraph_pandas`: serializers of pandas data frames and series."""

from artigraph.errors import MissingExtraError

try:
    from artigraph_pandas import (
        dataframe_feather_serializer,
        dataframe_serializer,
        pandas_serializer,
        series_feather_serializer,
        series_serializer,
    )
except ModuleNotFoundError as error:
    if error.name != "artigraph_pandas":
        raise
    raise MissingExtraError("artigraph.serializer.pandas", "artigraph-pandas", "pandas") from error

__all__ = [
    "dataframe_feather_serializer",
    "dataframe_serializer",
    "pandas_serializer",
    "series_feather_serializer",
    "series_serializer",
]
