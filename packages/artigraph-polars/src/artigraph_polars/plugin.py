"""What the entry point `polars` of the group `artigraph` names."""

from typing import Any

from artigraph.spec import Serializer
from artigraph_polars.serializers import (
    dataframe_ipc_serializer,
    dataframe_serializer,
    series_ipc_serializer,
    series_serializer,
)


def artigraph_serializers() -> list[Serializer[Any]]:
    """For each type, the first is the one that is chosen by itself."""
    return [
        dataframe_serializer,
        dataframe_ipc_serializer,
        series_serializer,
        series_ipc_serializer,
    ]
