"""The door to `artigraph_aws`: storages on S3."""

from artigraph.errors import MissingExtraError

try:
    import artigraph_aws
    from artigraph_aws import *  # noqa: F403
except ModuleNotFoundError as error:
    if error.name != "artigraph_aws":
        raise
    raise MissingExtraError("artigraph.storage.aws", "artigraph-aws", "aws") from error

__all__: list[str] = []
__all__ += artigraph_aws.__all__
