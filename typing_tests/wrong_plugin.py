"""The module of a plugin whose hooks are right by themselves, and not what Artigraph calls."""


def artigraph_serializers() -> list[str]:
    return ["acme.point"]


def artigraph_open_storage() -> None:
    return None
