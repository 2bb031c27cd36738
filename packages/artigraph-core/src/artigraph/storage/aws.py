"""The door to `artigraph_aws`: storages on S3."""

from artigraph.errors import MissingExtraError

try:
    from artigraph_aws import S3Storage
except ModuleNotFoundError as error:
    if error.name != "artigraph_aws":
        raise
    raise MissingExtraError("artigraph.storage.aws", "artigraph-aws", "aws") from error

__all__ = ["S3Storage"]
