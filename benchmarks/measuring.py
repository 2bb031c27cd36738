"""What a workload is, and how it is measured.

A workload has two sides that do the same: `raw`, the least that the machine and the drivers take,
and `ours`. A round does both, one after the other, in new and empty places; the figure of a part is
the median, over all rounds, of the ratio of the two within a round. So it depends neither on how
fast the machine is nor on who else uses it for longer than a round.
"""

import asyncio
import ctypes
import gc
import math
import multiprocessing
import tempfile
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from concurrent.futures import ProcessPoolExecutor
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypeAlias

from benchmarks.peers.worker import Task
from benchmarks.places import Place

Side: TypeAlias = Callable[["Stage"], Coroutine[Any, Any, None] | None]


class Stage(Task):
    """Where one side works once.

    Args:
        size: How much there is to do.
        folder: A new one.
        place: What database or server it is.
        url: Of a new, empty database, where the place has them.
    """

    def __init__(self, size: int, folder: Path, place: Place, url: str | None) -> None:
        super().__init__(size, folder)
        self.place = place
        self.url = url
        self.prepared: Any = None
        """What the workload's `prepare` has returned."""
        self.mebibytes: dict[str, float] = {}
        """By part: what the process took at most, above what it had before and mapped since."""
        self.stops: dict[str, float] = {}
        """By part: the longest time in seconds in which the event loop did not turn."""

    @contextmanager
    def timed(self, part: str, *, value_bytes: int = 0) -> Generator[None]:
        """Time the block, and watch its memory, beyond that of the value that it brings."""
        before = _forget_peak() + value_bytes / 2**20
        mapped = _mebibytes("RssFile")
        with super().timed(part):
            yield
        # Pages of a file that is mapped are the system's, which has them already.
        mapped = max(_mebibytes("RssFile") - mapped, 0)
        self.mebibytes[part] = _mebibytes("VmHWM") - before - mapped

    @asynccontextmanager
    async def watched(self, part: str, *, value_bytes: int = 0) -> AsyncGenerator[None]:
        """Time the block, and watch the event loop, which wants to turn every millisecond."""
        self.stops[part] = 0.0

        async def turn() -> None:
            while True:
                before = perf_counter()
                await asyncio.sleep(0.001)
                self.stops[part] = max(self.stops[part], perf_counter() - before - 0.001)

        with self.timed(part, value_bytes=value_bytes):
            turning = asyncio.create_task(turn())
            try:
                yield
            finally:
                turning.cancel()

    def database(self) -> AbstractContextManager[None]:
        """Our library's current database, in the block."""
        return self.place.use(self.url or "", self.folder)


@dataclass(frozen=True)
class Workload:
    """What both sides do, and how much more than raw ours may take.

    Args:
        name: What the peers' workers call it too.
        title: What readers are told.
        raw: The least that it takes.
        ours: The same with Artigraph.
        at_most: For each part that both sides time, the ratio that is aimed at, or None.
        sizes: How much there is to do, from the smallest.
        unit: What there is that many of.
        floor: The least that it takes with our rows, where what is aimed at is out of reach.
        stops: For each part, how many milliseconds the event loop may stand still.
        memory: For each part, the mebibytes that ours may take beyond what the process had before,
            or None. Where this is given, each side of each round is a process of its own.
        prepare: Fills a database, once for each size; all rounds use it.
        slope: What the slope over the sizes may be, where it is aimed at.
        peers_size: How much peers do, beside both sides; 0 where none does anything alike.
        ahead: How many times as long artigraph 0.1.0 takes at least.
    """

    name: str
    title: str
    raw: Side
    ours: Side
    at_most: Mapping[str, float | None]
    sizes: Sequence[int]
    unit: str
    floor: Side | None = None
    stops: Mapping[str, float] = field(default_factory=dict[str, float])
    memory: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    prepare: Callable[[Stage], Coroutine[Any, Any, Any]] | None = None
    slope: float | None = None
    peers_size: int = 0
    ahead: float | None = None


class Spent(NamedTuple):
    """What one side took for one part."""

    seconds: float
    mebibytes: float
    stop: float = math.nan


Who: TypeAlias = str
"""`raw`, `ours`, `floor`, or the name of a peer."""

Round: TypeAlias = dict[tuple[Who, int, str], Spent]
"""By who, size and part."""


class Figures:
    """What the rounds of a workload have shown."""

    def __init__(self, workload: Workload, rounds: Sequence[Round]) -> None:
        self.workload = workload
        self._rounds = rounds

    @property
    def peers(self) -> list[Who]:
        """Who did it beside both sides."""
        everybody = dict.fromkeys(who for round_ in self._rounds for who, _, _ in round_)
        return [who for who in everybody if who not in ("raw", "ours", "floor")]

    def ratio(self, who: Who, size: int, part: str, to: Who = "raw") -> float | None:
        """The median of the ratios to another, or None where it was not done."""
        ratios = [
            round_[who, size, part].seconds / round_[to, size, part].seconds
            for round_ in self._rounds
            if (who, size, part) in round_
        ]
        return median(ratios) if ratios else None

    def seconds(self, who: Who, size: int, part: str) -> float:
        return median(round_[who, size, part].seconds for round_ in self._rounds)

    def mebibytes(self, who: Who, size: int, part: str) -> float:
        return median(round_[who, size, part].mebibytes for round_ in self._rounds)

    def stop(self, who: Who, size: int, part: str) -> float:
        """The longest time in milliseconds in which the event loop did not turn."""
        return median(round_[who, size, part].stop * 1000 for round_ in self._rounds)

    def slope(self, who: Who, part: str) -> float:
        """Of log time over log size: 1 where twice as much takes twice as long."""
        return median(self._slope(round_, who, part) for round_ in self._rounds)

    def _slope(self, round_: Round, who: Who, part: str) -> float:
        sizes = self.workload.sizes
        seconds = [round_[who, size, part].seconds for size in sizes]
        return linear_regression([*map(math.log, sizes)], [*map(math.log, seconds)]).slope


class Peer(Protocol):
    """Another library that does the same; see `benchmarks.environments`."""

    name: str

    def do(self, workload: str, size: int, folder: Path) -> Mapping[str, float]:
        """The seconds of each part; none where it has nothing alike."""
        ...


def measure(workload: Workload, place: Place, rounds: int, peers: Sequence[Peer] = ()) -> Figures:
    """Do all rounds of a workload in one place."""
    sizes = sorted({*workload.sizes, *([workload.peers_size] if peers else [])} - {0})
    found: list[Round] = [{} for _ in range(rounds)]
    with ExitStack() as stack:
        prepared = {size: stack.enter_context(_prepared(workload, place, size)) for size in sizes}
        for number, round_ in enumerate(found):
            for size in sizes:
                sides = [("raw", workload.raw), ("ours", workload.ours)]
                if workload.floor is not None:
                    sides.append(("floor", workload.floor))
                if number % 2:  # whoever comes second may find caches warm, or the disk busy
                    sides.reverse()
                for who, side in sides:
                    spent = _do(workload, side, place, size, prepared[size])
                    round_.update({(who, size, part): each for part, each in spent.items()})
                for peer in peers if size == workload.peers_size else ():
                    with tempfile.TemporaryDirectory() as folder:
                        seconds = peer.do(workload.name, size, Path(folder))
                    for part, each in seconds.items():
                        round_[peer.name, size, part] = Spent(each, math.nan)
    return Figures(workload, found)


@contextmanager
def _prepared(workload: Workload, place: Place, size: int) -> Generator[Stage | None]:
    """What all rounds share, where a workload has such."""
    if workload.prepare is None:
        yield None
        return
    with _stage(place, size) as stage:
        stage.prepared = asyncio.run(workload.prepare(stage))
        yield stage


@contextmanager
def _stage(place: Place, size: int) -> Generator[Stage]:
    with tempfile.TemporaryDirectory(prefix="artigraph-benchmark-") as folder:
        with place.database(Path(folder)) as url:
            yield Stage(size, Path(folder), place, url)


def _do(
    workload: Workload, side: Side, place: Place, size: int, prepared: Stage | None
) -> dict[str, Spent]:
    if prepared is not None:
        return _spent(side, prepared)
    with _stage(place, size) as stage:
        if not workload.memory:
            return _spent(side, stage)
        # A process whose memory nobody has used before.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as child:
            return child.submit(_spent, side, stage).result()


def _spent(side: Side, stage: Stage) -> dict[str, Spent]:
    stage.seconds, stage.mebibytes, stage.stops = {}, {}, {}
    gc.collect()
    work = side(stage)
    if work is not None:
        asyncio.run(work)
    return {
        part: Spent(seconds, stage.mebibytes[part], stage.stops.get(part, math.nan))
        for part, seconds in stage.seconds.items()
    }


def _forget_peak() -> float:
    """Give back what is free, and begin anew to watch what the process takes at most."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _mebibytes("VmRSS")


def _mebibytes(name: str) -> float:
    """A figure of this process's memory; NaN where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return math.nan
