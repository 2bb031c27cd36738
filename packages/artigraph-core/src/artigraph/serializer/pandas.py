"""The door to `artigraph_pandas`: serializers of pandas data frames and series."""

from artigraph.errors import MissingExtraError

try:
    import artigraph_pandas
    from artigraph_pandas import *  # noqa: F403
except ModuleNotFoundError as error:
    if error.name != "artigraph_pandas":
        raise
    raise MissingExtraError("artigraph.serializer.pandas", "artigraph-pandas", "pandas") from error

__all__: list[str] = []
__all__ += artigraph_pandas.__all__
