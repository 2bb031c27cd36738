"""What tests of discovery share: distributions that exist only for one test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a distribution as an installer would, and returns the folder of its metadata."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def add(name: str, entry_points: dict[str, str], *, requires: str = "", **modules: str) -> Path:
        for module, source in modules.items():
            (site / f"{module}.py").write_text(dedent(source))
        info = site / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        metadata = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.5"]
        metadata += [f"Requires-Dist: {requires}"] if requires else []
        (info / "METADATA").write_text("\n".join([*metadata, ""]))
        lines = [f"{key} = {module}" for key, module in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[artigraph]", *lines]))
        return info

    yield add
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", None) and str(site) in str(
            sys.modules[module].__file__
        ):
            del sys.modules[module]
