"""Data that a fuzzer makes for the decoders, guided by the code that it reaches.

    python tests/fuzzer.py keep 600

gives ten minutes to all serializers, and keeps what it found as the corpus in tests/faults. The
tests start the same program with other words, in a process of its own:

    python tests/fuzzer.py replay FOLDER NAME...    the corpus once more
    python tests/fuzzer.py fuzz FOLDER NAME 60      what atheris makes of it in 60 seconds

What a process has done is in FOLDER/told.json, what has ended it in FOLDER/crash-*.
"""

import faulthandler
import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "faults/corpus"
"""For each serializer the data that is worth to be tried again, in a zip file."""

KEPT = 48 * 1024
"""Bytes of a serializer's corpus, at most, before they are compressed."""

LONGEST = 5
"""Seconds after which a decoder hangs."""

MEMORY_OF_INPUT, MEMORY_OF_ALL = 10, 64 << 20
"""What a decoder may take: ten times what it is given, and 64 MiB."""

OURS = (
    *("artigraph", "artigraph_arrow", "artigraph_aws", "artigraph_pandas", "artigraph_polars"),
    *("json", "numpy.lib._format_impl"),
)
"""What is instrumented. Libraries in C++ and Rust can't be."""

ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parent),
    "PYTHONDONTWRITEBYTECODE": "1",
    "RUST_BACKTRACE": "0",
    "POLARS_MAX_THREADS": "1",
    # Memory that was given back is given back to the system, so that it can be measured.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0",
}


def start(task: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run this program for a task, and return what it told.

    Raises:
        AssertionError: It ended early; the text has the cause, and where the data is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / "errors"
    with errors.open("wb") as file:
        ended = subprocess.run(
            [sys.executable, __file__, task, str(folder), *arguments],
            env={**os.environ, **ENVIRONMENT},
            stdout=file,
            stderr=file,
            cwd=folder,
            timeout=300,
        )
    told = errors.read_text(errors="replace")[-3_000:]
    called = " ".join([task, *arguments])
    assert ended.returncode == 0, f"{called}: it ended with {ended.returncode}\n{told}"
    result: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return result


def corpus_of(name: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(CORPUS / f"{name}.zip") as file:
        for each in file.namelist():
            yield each, file.read(each)


# What follows runs in a process of its own.


class Watch:
    """Gives data to a decoder, and looks at what that takes."""

    def __init__(self, name: str, folder: Path) -> None:
        from decoding import valid_data

        from artigraph.serializer import get_serializer

        self.serializer = get_serializer(name)
        self.seeds = valid_data(self.serializer)
        self.told = {"inputs": 0, "refused": 0, "memory": 0, "beyond": 0, "milliseconds": 0}
        self.kinds: dict[str, bytes] = {}
        """The shortest data of each kind of outcome."""
        self._folder = folder
        self._resetting = os.open("/proc/self/clear_refs", os.O_WRONLY)
        for seed in self.seeds:  # what libraries import on first use, they import now
            self._load(seed)

    def decode(self, data: bytes) -> None:
        """Any exception but the one that is meant for it goes on, and ends the process."""
        os.write(self._resetting, b"5")  # the peak begins anew
        before = memory("VmRSS")
        began = time.perf_counter()
        kind = self._load(data)
        milliseconds = round((time.perf_counter() - began) * 1e3)
        taken = memory("VmHWM") - before
        told = self.told
        told["inputs"] += 1
        told["refused"] += kind != "read"
        told["memory"] = max(told["memory"], taken - MEMORY_OF_INPUT * len(data))
        told["milliseconds"] = max(told["milliseconds"], milliseconds)
        if taken > MEMORY_OF_INPUT * len(data) + MEMORY_OF_ALL:
            told["beyond"] += 1
            name = f"beyond-{taken >> 20}-MiB-{hashlib.sha256(data).hexdigest()[:12]}"
            (self._folder / name).write_bytes(data)
        if len(data) < len(self.kinds.get(kind, data + b".")):
            self.kinds[kind] = data

    def tell(self) -> None:
        (self._folder / "told.json").write_text(json.dumps(self.told))
        with zipfile.ZipFile(self._folder / "kinds.zip", "w") as file:
            for kind, data in self.kinds.items():
                file.writestr(kind, data)

    def _load(self, data: bytes) -> str:
        from decoding import Refused, load, look_at

        try:
            with no_code():
                value = load(self.serializer, data)
        except Refused as refused:
            return kind_of(refused.__cause__)
        try:
            if len(value) < 1_000:  # what a value takes when it is used is another matter
                look_at(value)
        except Exception:
            return "read"
        return "read"


def kind_of(error: BaseException | None) -> str:
    """Where it was raised, and the beginning of the text if it is that of a library."""
    assert error is not None
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    module = frame.f_globals["__name__"]
    kind = f"{type(error).__name__} {module} {line}"
    if module.startswith(OURS):
        return kind
    return f"{kind} {' '.join(re.findall('[A-Za-z]+', str(error))[:6])}"


def memory(kind: str) -> int:
    """What this process has now, or has had at most, in bytes."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


_is_decoding = False

FORBIDDEN = (
    *("os.", "subprocess.", "socket.", "shutil.", "pickle.", "ctypes.", "ftplib.", "urllib."),
    *("tempfile.", "webbrowser.", "code.", "sys.setprofile", "sys.settrace"),
)
"""What no data has anybody do."""

ALLOWED = ("os.listdir", "os.scandir", "code.__new__")
"""What an import of something that is installed does."""


@contextmanager
def no_code() -> Iterator[None]:
    """Nothing is executed in the block, and nothing opened, that is not installed."""
    global _is_decoding
    _is_decoding = True
    try:
        yield
    finally:
        _is_decoding = False


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _is_decoding:
        return
    if event == "open":
        path, _, flags = arguments
        is_known = str(path).startswith((sys.prefix, sys.base_prefix, "/usr/", "/proc/"))
        is_forbidden = not is_known or bool(flags & (os.O_WRONLY | os.O_RDWR))
    elif event == "exec":
        file = str(getattr(arguments[0], "co_filename", ""))
        is_forbidden = not file.startswith((sys.prefix, sys.base_prefix, "<frozen"))
    else:
        is_forbidden = event.startswith(FORBIDDEN) and event not in ALLOWED
    if is_forbidden:
        print("code was run:", event, arguments, file=sys.stderr, flush=True)
        os.abort()


def limit() -> None:
    from decoding import MEMORY

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.addaudithook(audit)


def replay(folder: Path, *names: str) -> None:
    limit()
    watches = [Watch(name, folder) for name in names]
    for name, watch in zip(names, watches, strict=True):
        for each, data in corpus_of(name):
            print(name, each, flush=True)
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            watch.decode(data)
    faulthandler.cancel_dump_traceback_later()
    told = {each: sum(watch.told[each] for watch in watches) for each in watches[0].told}
    (folder / "told.json").write_text(json.dumps(told))


def fuzz(folder: Path, name: str, seconds: str) -> None:
    import atheris

    with atheris.instrument_imports(include=list(OURS)):
        limit()
        watch = Watch(name, folder)
    from decoding import altered

    seeds, found = folder / "seeds", folder / "found"
    found.mkdir(exist_ok=True)
    write_all(seeds, [*watch.seeds, *(data for _, data in corpus_of_if_any(name))])
    deadline = time.monotonic() + float(seconds)

    def decode(data: bytes) -> None:
        if time.monotonic() > deadline:
            watch.tell()
            os._exit(0)
        watch.decode(data)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        numbers = random.Random(seed)
        if data and numbers.random() < 0.5:
            try:
                return altered([data], numbers)[:longest]
            except (ValueError, IndexError, TypeError, StopIteration, RecursionError):
                pass  # no Parquet file any more
        return atheris.Mutate(data, longest)

    longest = 2 * max(map(len, watch.seeds))
    atheris.Setup(
        [
            sys.argv[0],
            *("-print_final_stats=0", f"-max_len={longest}", f"-timeout={LONGEST}"),
            *("-rss_limit_mb=0", f"-artifact_prefix={folder}/", str(found), str(seeds)),
        ],
        decode,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def corpus_of_if_any(name: str) -> list[tuple[str, bytes]]:
    return list(corpus_of(name)) if (CORPUS / f"{name}.zip").exists() else []


def write_all(folder: Path, data: list[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for number, each in enumerate(data):
        (folder / str(number)).write_bytes(each)


def keep(seconds: str) -> None:
    from decoding import NAMES

    CORPUS.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            told = start("fuzz", Path(folder), name, str(float(seconds) / len(NAMES)))
            print(name, told, flush=True)
            with zipfile.ZipFile(Path(folder) / "kinds.zip") as kinds:
                keep_kinds(name, {each: kinds.read(each) for each in kinds.namelist()})


def keep_kinds(name: str, kinds: dict[str, bytes]) -> None:
    """The shortest of each kind, as far as there is room."""
    size = 0
    with zipfile.ZipFile(CORPUS / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for data in sorted(kinds.values(), key=lambda data: (len(data), data)):
            size += len(data)
            if size <= KEPT:
                entry = zipfile.ZipInfo(hashlib.sha256(data).hexdigest()[:12])
                file.writestr(entry, data, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "keep":
        keep(*arguments)
    else:
        {"replay": replay, "fuzz": fuzz}[task](Path(arguments[0]), *arguments[1:])
