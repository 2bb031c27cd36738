"""Which columns of a table were asked for."""

from collections.abc import Sequence

from artigraph.errors import shown


def find_columns(names: Sequence[object], wanted: Sequence[str] | None) -> list[int]:
    """The places of the wanted columns, in their order; without any that is all of them.

    Raises:
        LookupError: There is no column of a name, or more than one; the error names it.
    """
    if wanted is None:
        return list(range(len(names)))
    places: dict[object, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return [_only(places.get(name, []), name, names) for name in wanted]


def _only(places: list[int], name: str, names: Sequence[object]) -> int:
    if len(places) == 1:
        return places[0]
    if places:
        raise LookupError(f"{len(places)} columns are called {shown(name)}, so none was taken.")
    shortened = ", ".join(map(shown, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    raise LookupError(f"there is no column {shown(name)}; there are {shortened or 'none'}.")


_SHOWN = 20
