"""The door to `artigraph_arrow`: serializers of Arrow tables and record batches."""

from artigraph.errors import MissingExtraError

try:
    from artigraph_arrow import (
        feather_batch_serializer,
        feather_serializer,
        parquet_batch_serializer,
        parquet_serializer,
    )
except ModuleNotFoundError as error:
    if error.name != "artigraph_arrow":
        raise
    raise MissingExtraError("artigraph.serializer.pyarrow", "artigraph-arrow", "pyarrow") from error

__all__ = [
    "feather_batch_serializer",
    "feather_serializer",
    "parquet_batch_serializer",
    "parquet_serializer",
]
