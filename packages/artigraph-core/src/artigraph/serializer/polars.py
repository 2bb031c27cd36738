"""The door to `artigraph_polars`: serializers of polars data frames and series."""

from artigraph.errors import MissingExtraError

try:
    import artigraph_polars
    from artigraph_polars import *  # noqa: F403
except ModuleNotFoundError as error:
    if error.name != "artigraph_polars":
        raise
    raise MissingExtraError("artigraph.serializer.polars", "artigraph-polars", "polars") from error

__all__: list[str] = []
__all__ += artigraph_polars.__all__
