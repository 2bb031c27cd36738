"""The peers: what each installs, and its worker, a process that does workloads with it.

Each has an environment of its own, made by uv and removed at the end.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from uv import find_uv_bin

WORKERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class PeerLibrary:
    """A library that does the same.

    Args:
        name: Of its distribution.
        requirements: What is installed.
        worker: The module in `peers/` that serves with it.
    """

    name: str
    requirements: tuple[str, ...]
    worker: str


PEERS = (
    PeerLibrary("artigraph", ("artigraph==0.1.0", "aiosqlite", "greenlet"), "artigraph_0_1"),
    PeerLibrary("ml-metadata", ("ml-metadata",), "mlmd"),
    PeerLibrary("lamindb", ("lamindb",), "lamin"),
    PeerLibrary("mlflow", ("mlflow",), "mlflow_runs"),
)


class NotInstalledError(Exception):
    """The environment of a peer can't be made; the text is uv's reason."""


class Worker:
    """A running worker of a peer."""

    def __init__(self, name: str, python: Path, script: Path, home: Path) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, script],
            env={**_environment(), "HOME": str(home), "LAMIN_SETTINGS_DIR": str(home)},
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "said.txt").open("wb"),
            text=True,
        )
        self._said = home / "said.txt"

    def do(self, workload: str, size: int, folder: Path) -> Mapping[str, float]:
        request = {"workload": workload, "size": size, "folder": str(folder)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} has failed: {self._said.read_text()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        """End it: it has nothing more to read."""
        self._process.communicate()


@contextmanager
def running(peer: PeerLibrary) -> Generator[Worker]:
    """The worker of a peer, in a new environment.

    Raises:
        NotInstalledError: There is no such environment for this Python.
    """
    with TemporaryDirectory(prefix=f"artigraph-{peer.name}-") as folder:
        environment, home = Path(folder, "environment"), Path(folder, "home")
        home.mkdir()
        python = environment / "bin/python"
        _uv("venv", "--python", sys.executable, environment)
        _uv("pip", "install", "--python", python, *peer.requirements)
        name = f"{peer.name} {_version(python, peer.name)}"
        worker = Worker(name, python, WORKERS / f"{peer.worker}.py", home)
        try:
            yield worker
        finally:
            worker.close()


def _environment() -> dict[str, str]:
    """This process's, without what leads a Python to the modules of another."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _version(python: Path, name: str) -> str:
    asked = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.check_output([python, "-c", asked], text=True, env=_environment()).strip()


def _uv(*arguments: str | Path) -> None:
    done = subprocess.run(
        [find_uv_bin(), "--quiet", *arguments], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise NotInstalledError(_reason(done.stderr))


def _reason(said: str) -> str:
    """What uv says, in one line, without addresses."""
    text = re.sub(r"[\w+]+://\S+", "the index", said)
    words = re.sub(r"[^\w .,;:()'=<>+-]", " ", text).split()
    return textwrap.shorten(" ".join(words).removeprefix("error: "), 300, placeholder=" ...")
