"""A consumer of pyarrow, which has no types: what it hands out is unknown to a strict checker."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from dataclasses import dataclass
from typing import assert_type

import pyarrow as pa  # type: ignore[import-untyped]

from artigraph import ArtifactModel, artifact_field
from artigraph.serializer.pyarrow import (
    feather_batch_serializer,
    feather_serializer,
    parquet_batch_serializer,
    parquet_serializer,
)


@dataclass
class Tables(ArtifactModel, version=1):
    """A model with a field for each serializer behind the door."""

    feather: pa.Table = artifact_field(serializer=feather_serializer)
    parquet: pa.Table = artifact_field(serializer=parquet_serializer)
    feather_batch: pa.RecordBatch = artifact_field(serializer=feather_batch_serializer)
    parquet_batch: pa.RecordBatch = artifact_field(serializer=parquet_batch_serializer)


async def load() -> None:
    """The model has its type, although its values have none."""
    assert_type(await Tables.load("0199"), Tables)
    assert_type(parquet_serializer.name, str)
