"""Serializers of pandas data frames and series for Artigraph, as Parquet and as Feather."""

from artigraph_pandas.serializers import (
    dataframe_feather_serializer,
    dataframe_serializer,
    pandas_serializer,
    series_feather_serializer,
    series_serializer,
)

__all__ = [
    "dataframe_feather_serializer",
    "dataframe_serializer",
    "pandas_serializer",
    "series_feather_serializer",
    "series_serializer",
]
