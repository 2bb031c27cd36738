"""Serializers of polars data frames and series for Artigraph, as Parquet and as Arrow IPC."""

from artigraph_polars.serializers import (
    dataframe_ipc_serializer,
    dataframe_serializer,
    series_ipc_serializer,
    series_serializer,
)

__all__ = [
    "dataframe_ipc_serializer",
    "dataframe_serializer",
    "series_ipc_serializer",
    "series_serializer",
]
