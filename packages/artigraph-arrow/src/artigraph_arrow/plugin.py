"""What the entry point `pyarrow` of the group `artigraph` names."""

from typing import Any

from artigraph.spec import Serializer
from artigraph_arrow.serializers import (
    feather_batch_serializer,
    feather_serializer,
    parquet_batch_serializer,
    parquet_serializer,
)


def artigraph_serializers() -> list[Serializer[Any]]:
    """For each type, the first is the one that is chosen by itself."""
    return [
        feather_serializer,
        parquet_serializer,
        feather_batch_serializer,
        parquet_batch_serializer,
    ]
