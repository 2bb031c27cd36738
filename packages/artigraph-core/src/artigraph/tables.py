"""The tables, and the column types that hold the same on every database.

Rows hold bytes, texts and locations, never values: this module needs no plugin and no model.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import BINARY, DATETIME, LONGBLOB, LONGTEXT, VARBINARY
from sqlalchemy.dialects.postgresql import UUID as POSTGRESQL_UUID
from sqlalchemy.dialects.postgresql import VARCHAR as POSTGRESQL_VARCHAR
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

SCHEMA_VERSION = "0001"
"""Of these tables; the name of the revision that makes them."""

MAX_LABEL_LENGTH = 255
"""In characters. UTF-8 needs at most four bytes for each."""


class Processor(Protocol):
    """Makes what a driver takes of a value, or a value of what a driver gives."""

    def __call__(self, value: Any) -> Any: ...


class Identifier(TypeDecorator[UUID]):
    """A UUID: native on PostgreSQL, 16 bytes elsewhere, in the order of the bytes everywhere."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(POSTGRESQL_UUID(as_uuid=True))
        if dialect.name == "sqlite":
            return dialect.type_descriptor(LargeBinary(16))
        return dialect.type_descriptor(BINARY(16))

    # The processors are given whole, since TypeDecorator's own wrapping costs more than the work.
    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return None if dialect.name == "postgresql" else _identifier_to_bytes

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return None if dialect.name == "postgresql" else _identifier_from_bytes


class Moment(TypeDecorator[datetime]):
    """A time with a zone, kept in UTC to the microsecond: as text on SQLite, natively elsewhere."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(DATETIME(fsp=6))

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        if dialect.name == "postgresql":
            return None
        return _moment_to_text if dialect.name == "sqlite" else _moment_to_naive

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return _moment_from_text if dialect.name == "sqlite" else _moment_from_driver


class Label(TypeDecorator[str]):
    """A string that is compared byte by byte, whatever the collation of the database is."""

    impl = String(MAX_LABEL_LENGTH)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(POSTGRESQL_VARCHAR(MAX_LABEL_LENGTH, collation="C"))
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        # No collation of the MySQL family tells 'a' from 'a ' on all its versions.
        return dialect.type_descriptor(VARBINARY(4 * MAX_LABEL_LENGTH))

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return None if dialect.name in ("postgresql", "sqlite") else _text_to_bytes

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return None if dialect.name in ("postgresql", "sqlite") else _text_from_bytes


LongText = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
LongBytes = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
Name = String(255)
Digest = String(64)
"""A SHA-256 in hexadecimal."""

metadata = MetaData()

_mysql: Any = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}

blob_table = Table(
    "artigraph_blob",
    metadata,
    Column("blob_id", Identifier, primary_key=True),
    Column("blob_storage", Text, nullable=False),
    Column("blob_location", String(64), nullable=False, unique=True),
    Column("blob_size", BigInteger, nullable=False),
    Column("blob_sha256", Digest, nullable=False),
    Column("blob_state", String(16), nullable=False),
    Column("blob_lease_until", Moment),
    Column("blob_created_at", Moment, nullable=False),
    # Equal content.
    Index("artigraph_blob_sha256", "blob_sha256"),
    # What is to be collected.
    Index("artigraph_blob_state", "blob_state", "blob_id"),
    **_mysql,
)
"""Every object that was ever written to a storage, or was about to be: what makes deleting safe."""

node_table = Table(
    "artigraph_node",
    metadata,
    Column("node_id", Identifier, primary_key=True),
    Column("node_type", String(16), nullable=False),
    Column("node_parent_id", Identifier, ForeignKey("artigraph_node.node_id")),
    Column("node_created_at", Moment, nullable=False),
    Column("node_updated_at", Moment, nullable=False),
    Column("run_label", Label),
    Column("run_status", String(16)),
    Column("run_started_at", Moment),
    Column("run_finished_at", Moment),
    Column("run_owner", Text),
    Column("run_error_type", Text),
    Column("run_error_message", LongText),
    Column("run_attributes", LongText),
    Column("artifact_label", Label),
    Column("artifact_position", Integer),
    Column("artifact_serializer", Name),
    Column("artifact_distribution", Name),
    Column("artifact_data", LongBytes),
    Column("artifact_blob_id", Identifier, ForeignKey("artigraph_blob.blob_id")),
    Column("artifact_size", BigInteger),
    Column("artifact_sha256", Digest),
    Column("artifact_tree_id", Identifier),
    Column("artifact_tree_digest", Digest),
    Column("model_name", Name),
    Column("model_module", Text),
    Column("model_version", BigInteger),
    Column("model_fields", LongText),
    # A label is unique below its parent; also: the children of a node.
    Index("artigraph_node_label", "node_parent_id", "artifact_label", unique=True),
    # All rows of one saved tree, parents before children.
    Index("artigraph_node_tree", "artifact_tree_id", "node_id"),
    **_mysql,
)
"""Runs and artifacts: one table, told apart by `node_type` (see `graph.NodeType`)."""

Index(
    # Which node names a blob.
    "artigraph_node_blob",
    node_table.c.artifact_blob_id,
    postgresql_where=node_table.c.artifact_blob_id.is_not(None),
    sqlite_where=node_table.c.artifact_blob_id.is_not(None),
)

link_table = Table(
    "artigraph_link",
    metadata,
    Column("link_source_id", Identifier, ForeignKey("artigraph_node.node_id"), primary_key=True),
    Column("link_target_id", Identifier, ForeignKey("artigraph_node.node_id"), primary_key=True),
    Column("link_role", String(32), primary_key=True),
    Column("link_created_at", Moment, nullable=False),
    # Who used a node.
    Index("artigraph_link_target", "link_target_id"),
    **_mysql,
)
"""Lineage: which node used or produced which."""

version_table = Table(
    "artigraph_alembic_version",
    metadata,
    Column("version_num", String(32), primary_key=True),
    **_mysql,
)
"""The schema's version, in the form in which alembic keeps its own."""


def _identifier_to_bytes(value: UUID | None) -> bytes | None:
    return None if value is None else value.bytes


@lru_cache(maxsize=4096)  # most ids that are read were just read: of a parent, or of a root
def _identifier_from_bytes(value: bytes | None) -> UUID | None:
    return None if value is None else UUID(bytes=value)


@lru_cache(maxsize=64)  # all rows of a save have the same
def _moment_to_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _moment_from_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)


def _moment_to_naive(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC).replace(tzinfo=None)


def _moment_from_driver(value: datetime | None) -> datetime | None:
    """PostgreSQL's driver gives a zone, those of the MySQL family the bare time in UTC."""
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _text_to_bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _text_from_bytes(value: bytes | None) -> str | None:
    return None if value is None else bytes(value).decode()
