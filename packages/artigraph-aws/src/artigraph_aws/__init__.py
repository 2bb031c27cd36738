"""Storages for Artigraph on Amazon S3, and on servers that speak its protocol."""

from artigraph_aws.storage import S3Storage

__all__ = ["S3Storage"]
