"""The requirements of the meta-distribution.

A released `artigraph` pins the distributions that were tested together. In a checkout these
are not on any index, so `pip install -e '.[pandas]'` is given their folders instead.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

EXTRAS = {
    "aws": ["artigraph-aws"],
    "numpy": ["artigraph-core[numpy]"],
    "pandas": ["artigraph-pandas"],
    "polars": ["artigraph-polars"],
    "pyarrow": ["artigraph-arrow"],
}
# The drivers of database servers: whoever wants `all` data libraries has one database.
DRIVERS = {
    "mysql": ["artigraph-core[mysql]"],
    "postgresql": ["artigraph-core[postgresql]"],
}


class RequirementsHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        def pinned(requirements: list[str]) -> list[str]:
            return [self.pin(requirement, metadata["version"]) for requirement in requirements]

        everything = sorted(name for names in EXTRAS.values() for name in names)
        metadata["dependencies"] = pinned(["artigraph-core"])
        metadata["optional-dependencies"] = {
            extra: pinned(names)
            for extra, names in sorted({"all": everything, **EXTRAS, **DRIVERS}.items())
        }

    def pin(self, requirement: str, version: str) -> str:
        folder = Path(self.root, "packages", requirement.partition("[")[0])
        if folder.is_dir() and not os.environ.get("ARTIGRAPH_RELEASE"):
            return f"{requirement} @ {folder.as_uri()}"
        return f"{requirement}=={version}"
