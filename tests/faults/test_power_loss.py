"""What is on the disk when a row says that it is there, as recorded calls of the system tell.

The calls are recorded by functions in the place of those of `os`, so that this runs everywhere; in
the last test strace records them, which sees the database's own, too.
"""

import os
import re
import shutil
import subprocess
import sys
from itertools import chain, groupby
from pathlib import Path

import pytest
from crashing import Nursery, Place, Told, python_path
from invariants import Store, expire_leases
from sqlalchemy import select

from artigraph.database import current_database
from artigraph.tables import blob_table, node_table

LOCATIONS = ["ab/" + "ab" * 16, "ab/" + "ab" * 15 + "cd"]

in_files = pytest.mark.parametrize("store", ["files"], indirect=True)

folders = pytest.mark.parametrize("folder", [1, 2, 3], ids=["directory", "tmp", "ab"])
"""In the order in which they are made."""


class Disk:
    """What would be left of a folder if the power went away now, at the worst."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unsynced = {folder: set[Path]()}
        """By folder, the names in it that may be lost."""
        self._gone: set[Path] = set()
        """What was removed, and may come back."""
        self._synced: set[Path] = set()
        """Files with all that was written to them."""

    def call(self, name: str, *paths: str) -> None:
        path = Path(paths[-1])
        if name == "mkdir" and path not in self._unsynced:
            self._unsynced[path] = set()
            self._enter(path)
        elif name == "create":
            self._enter(path)
        elif name == "link":
            self._enter(path)
            if Path(paths[0]) in self._synced:
                self._synced.add(path)
        elif name == "unlink":
            self._unsynced[path.parent].discard(path)
            self._gone.add(path)
        elif name == "fsync" and path in self._unsynced:
            self._unsynced[path] = set()
            self._gone = {each for each in self._gone if each.parent != path}
        elif name == "fsync":
            self._synced.add(path)

    def keeps(self, path: Path) -> bool:
        """Whether a file is there, whole and under its name."""
        above = [each for each in path.parents if self._folder in each.parents]
        may_be_lost = [each for each in (path, *above) if each in self._unsynced[each.parent]]
        return path in self._synced and not may_be_lost

    def forgets(self, path: Path) -> bool:
        """Whether a file that was removed stays away."""
        return path not in self._gone

    def _enter(self, path: Path) -> None:
        self._unsynced[path.parent].add(path)


@in_files
async def test_f13_data_and_names_are_on_the_disk_before_the_row(
    store: Store, nursery: Nursery, tmp_path: Path
) -> None:
    """F13: the file, its name and the names of all folders above; for several savers at once."""
    told = nursery.run(store.place, ["record"], *(["save_some", str(n), 3] for n in range(2)))
    nursery.run(store.place, ["record"], ["save_at_once", *"abcdef"], told=told)

    async with store.reopened():
        locations = await locations_by_label()
    disk = Disk(tmp_path)
    saved: list[str] = []
    for name, *about in told.calls:
        disk.call(name, *about)
        if name == "commit" and about[0] == "nodes":
            _, *labels = about
            saved += labels
            for location in chain.from_iterable(locations[label] for label in labels):
                assert disk.keeps(Path(store.place.directory, location))
    assert sorted(saved) == sorted(locations)
    assert len(saved) == 12
    await store.assert_sound(told)


@folders
def test_f13_a_folder_that_a_process_made_and_died_is_on_the_disk_too(
    nursery: Nursery, tmp_path: Path, folder: int
) -> None:
    """F13: another process finds it, and can't know that its name was never synced."""
    place = Place("sqlite://", str(tmp_path / "files"))
    told = nursery.run(place, ["record"], ["arm", "folder made", folder], ["keep", LOCATIONS[0]])
    assert told.calls[-1][0] == "mkdir"

    nursery.run(place, ["record"], ["keep", LOCATIONS[0]], told=told)

    assert_kept(told, tmp_path, place)


@folders
def test_f13_a_folder_that_another_thread_makes_is_on_the_disk_too(
    nursery: Nursery, tmp_path: Path, folder: int
) -> None:
    """F13: that one may take its time to sync the name."""
    place = Place("sqlite://", str(tmp_path / "files"))
    told = nursery.run(place, ["record"], ["keep_beside", "folder made", folder, *LOCATIONS])

    assert_kept(told, tmp_path, place)


def assert_kept(told: Told, folder: Path, place: Place) -> None:
    """Whatever was kept was on the disk when the call returned."""
    disk = Disk(folder)
    kept: list[str] = []
    for name, *about in told.calls:
        disk.call(name, *about)
        if name == "kept":
            kept += about
            assert disk.keeps(Path(place.directory, about[0]))
    assert kept


@in_files
async def test_f13_what_is_removed_stays_away_when_its_row_is_gone(
    store: Store, nursery: Nursery, tmp_path: Path
) -> None:
    """F13: no row would know of a file that came back, finished or not."""
    disk = Disk(tmp_path)
    told = nursery.run(
        store.place, ["record"], ["save", "a"], ["arm", "file linked"], ["save", "b"]
    )
    for name, *about in told.calls:
        disk.call(name, *about)
    for _ in range(2):
        async with store.reopened():
            await expire_leases()
        collecting = nursery.run(store.place, ["record"], ["delete", "a"], ["collect"])

        removed: set[Path] = set()
        for name, *about in collecting.calls:
            disk.call(name, *about)
            if name == "unlink":
                removed.add(Path(about[0]))
            if name == "commit" and about[0] == "forgotten":
                assert [path for path in removed if not disk.forgets(path)] == []
        assert ["commit", "forgotten"] in collecting.calls
    assert store.objects() == set()


TRACED = """
import asyncio, os, sys
from crashing import Place, album

async def main():
    with Place("sqlite:///graph.db", "files").opened():
        await album("one").save("one")
        os.mkdir("mark")
        await album("film").save("film")
        os.rmdir("mark")

asyncio.run(main())
"""

CALLS = {
    "the log is written": r"pwrite64.*graph.db-wal>",
    "the log is synced": r"f(data)?sync.*graph.db-wal>",
    "data is written": r"write.*/files/tmp/",
    "data is synced": r"fsync.*/files/tmp/",
    "data gets its name": r"\blink(at)?\(.*/files/tmp/",
    "the name is synced": r"fsync.*/files/..>",
}


def test_f13_the_order_of_a_save_as_the_kernel_sees_it(tmp_path: Path) -> None:
    """F13: both commits are on the disk, too, the second after the data and before the return."""
    if shutil.which("strace") is None or subprocess.run(["strace", "-o", "log", "true"]).returncode:
        pytest.skip(
            "strace, which would record the calls of the kernel, is not here or not allowed"
        )

    traced = ["strace", "-f", "-y", "-s", "0", "-o", "log", sys.executable, "-c", TRACED]
    subprocess.run(traced, env={**os.environ, "PYTHONPATH": python_path()}, check=True)

    _, saving, _ = (tmp_path / "log").read_text().split('"mark"')
    seen = [
        name
        for line in saving.splitlines()
        for name, pattern in CALLS.items()
        if re.search(pattern, line)
    ]
    commit, data = [*CALLS][:2], [*CALLS][2:]
    assert [name for name, _ in groupby(seen)] == [*commit, *data, *commit]


async def locations_by_label() -> dict[str, list[str]]:
    """Where the data of everything that is saved is."""
    root = node_table.alias("root")
    query = (
        select(root.c.artifact_label, blob_table.c.blob_location)
        .join(node_table, node_table.c.artifact_tree_id == root.c.node_id)
        .join(blob_table, node_table.c.artifact_blob_id == blob_table.c.blob_id)
    )
    found: dict[str, list[str]] = {}
    for label, location in await current_database().read(lambda each: each.execute(query).all()):
        found.setdefault(label, []).append(location)
    return found
