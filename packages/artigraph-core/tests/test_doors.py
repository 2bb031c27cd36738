"""The doors of the core to the distributions beside it."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from artigraph.errors import MissingExtraError

DOORS = {
    "artigraph.serializer.pandas": ("artigraph_pandas", "pandas"),
    "artigraph.serializer.polars": ("artigraph_polars", "polars"),
    "artigraph.serializer.pyarrow": ("artigraph_arrow", "pyarrow"),
    "artigraph.storage.aws": ("artigraph_aws", "aws"),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_without_its_distribution_says_what_to_install(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is an ImportError that names the extra."""
    package, extra = DOORS[door]
    monkeypatch.delitem(sys.modules, door, raising=False)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError) as caught:
        import_module(door)

    assert str(caught.value) == (
        f"{door} needs {package.replace('_', '-')}, which is not installed."
        f' pip install "artigraph[{extra}]"'
    )


@pytest.mark.parametrize("door", DOORS)
def test_a_broken_distribution_is_not_called_missing(
    door: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Something else that it does not find is passed on as it is."""
    package, _ = DOORS[door]
    for name in [name for name in sys.modules if name == door or name.startswith(package)]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / f"{package}.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="no_such_module") as caught:
        import_module(door)

    assert not isinstance(caught.value, MissingExtraError)
