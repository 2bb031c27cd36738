"""What the entry point `pandas` of the group `artigraph` names."""

from typing import Any

from artigraph.spec import Serializer
from artigraph_pandas.serializers import (
    dataframe_feather_serializer,
    dataframe_serializer,
    series_feather_serializer,
    series_serializer,
)


def artigraph_serializers() -> list[Serializer[Any]]:
    """For each type, the first is the one that is chosen by itself."""
    return [
        dataframe_serializer,
        dataframe_feather_serializer,
        series_serializer,
        series_feather_serializer,
    ]
