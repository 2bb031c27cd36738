"""Serializers of Arrow tables and record batches for Artigraph, as Feather and as Parquet."""

from artigraph_arrow.serializers import (
    feather_batch_serializer,
    feather_serializer,
    parquet_batch_serializer,
    parquet_serializer,
)

__all__ = [
    "feather_batch_serializer",
    "feather_serializer",
    "parquet_batch_serializer",
    "parquet_serializer",
]
