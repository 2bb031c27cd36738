"""The door to `artigraph_polars`: serializers of polars data frames and series."""

from artigraph.errors import MissingExtraError

try:
    from artigraph_polars import (
        dataframe_ipc_serializer,
        dataframe_serializer,
        series_ipc_serializer,
        series_serializer,
    )
except ModuleNotFoundError as error:
    if error.name != "artigraph_polars":
        raise
    raise MissingExtraError("artigraph.serializer.polars", "artigraph-polars", "polars") from error

__all__ = [
    "dataframe_ipc_serializer",
    "dataframe_serializer",
    "series_ipc_serializer",
    "series_serializer",
]
