"""The door to `artigraph_arrow`: serializers of Arrow tables and record batches."""

from artigraph.errors import MissingExtraError

try:
    import artigraph_arrow
    from artigraph_arrow import *  # noqa: F403
except ModuleNotFoundError as error:
    if error.name != "artigraph_arrow":
        raise
    raise MissingExtraError("artigraph.serializer.pyarrow", "artigraph-arrow", "pyarrow") from error

__all__: list[str] = []
__all__ += artigraph_arrow.__all__
