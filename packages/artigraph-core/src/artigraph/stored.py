"""A value in a database, of which nothing was read but its row."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from artigraph.artifact import decoding, deserialize, request_for, serializer_of
from artigraph.definition import FieldSettings
from artigraph.engine import Database
from artigraph.errors import ArtifactLoadError, ColumnNotFoundError, DeserializeError
from artigraph.graph import Node, Row
from artigraph.local import fetch
from artigraph.spec import (
    LocalFile,
    MappingSerializer,
    ScanningSerializer,
    SelectingSerializer,
    Serializer,
)
from artigraph.transfer import read_data


@dataclass(frozen=True)
class StoredValue:
    """The value of a node, and what the fields above it declare."""

    database: Database
    node: Node
    where: str
    """What messages call it."""
    settings: FieldSettings
    enums: Collection[type[Enum]]

    @property
    def size(self) -> int:
        return self.node.size or 0

    @property
    def content(self) -> tuple[str, str]:
        return self.node.serializer or "", self.node.sha256 or ""

    @property
    def columns(self) -> Row:
        node = self.node
        return {
            "artifact_serializer": node.serializer,
            "artifact_distribution": node.distribution,
            "artifact_data": node.data,
            "artifact_blob_id": node.blob_id,
            "artifact_size": node.size,
            "artifact_sha256": node.sha256,
        }

    def is_in(self, database: object) -> bool:
        return self.database is database

    async def load(self) -> Any:
        node, where, settings = self.node, self.where, self.settings
        request = request_for(node, where, settings.storage, settings.serializer, self.enums)
        data = await read_data(request, self.database)
        return await asyncio.to_thread(
            deserialize, node, where, data, settings.serializer, self.enums
        )

    async def map(self) -> Any:
        serializer, file = await self._file()
        if not isinstance(serializer, MappingSerializer):
            raise self._refusal(serializer, "map it: await load()")
        return await self._decoded(serializer, serializer.map, file)

    async def select(self, columns: Sequence[str] | None, rows: slice | None) -> Any:
        serializer, file = await self._file()
        if not isinstance(serializer, SelectingSerializer):
            raise self._refusal(serializer, "read parts of it: await load()")
        try:
            return await self._decoded(serializer, serializer.select, file, columns, rows)
        except DeserializeError as error:
            if isinstance(error.__cause__, LookupError):
                raise ColumnNotFoundError(self.where, str(error.__cause__)) from error.__cause__
            raise

    async def scan(self) -> Any:
        serializer, file = await self._file()
        if not isinstance(serializer, ScanningSerializer):
            raise self._refusal(serializer, "scan it: await load()")
        return await self._decoded(serializer, serializer.scan, file)

    async def _file(self) -> tuple[Serializer[Any], LocalFile]:
        serializer = await asyncio.to_thread(
            serializer_of, self.node, self.where, self.settings.serializer, self.enums
        )
        return serializer, await fetch(self.node, self.where, self.settings.storage, self.database)

    async def _decoded(self, serializer: Serializer[Any], decode: Any, *arguments: Any) -> Any:
        def call() -> Any:
            with decoding(self.where, serializer):
                return decode(*arguments)

        return await asyncio.to_thread(call)

    def _refusal(self, serializer: Serializer[Any], way: str) -> ArtifactLoadError:
        return ArtifactLoadError(self.where, f"serializer {serializer.name!r} can't {way}.")
