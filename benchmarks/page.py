"""The part of docs/performance.md that the figures are in."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import machine, versions
from benchmarks.measuring import Figures

BEGIN, END = "<!-- written by make bench -->\n", "<!-- to here -->\n"
OLDER = "artigraph "
"""What the name of the older code base begins with."""


class Section(NamedTuple):
    """What one place has shown."""

    title: str
    figures: Sequence[Figures]
    why_not: str = ""
    """Why there are none, where there is no such server."""


class PeerFound(NamedTuple):
    """Another library: its name with its version, or why it is not here."""

    name: str
    why_not: str = ""


def write(page: Path, text: str) -> None:
    """Put `text` between the marks in a page.

    Raises:
        ValueError: It has no such marks.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} has no place for figures: it lacks {BEGIN!r} or {END!r}.")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def report(sections: Sequence[Section], peers: Sequence[PeerFound], rounds: int) -> str:
    """All tables."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    parts = [f"Measured on {today}, in {rounds} rounds, on {machine()}.\n{versions()}."]
    for section in sections:
        parts.append(f"### {section.title}")
        parts.append(ratios(section.figures) if section.figures else f"None: {section.why_not}.")
        if any(figures.workload.memory for figures in section.figures):
            parts.append(memory(section.figures))
        if any(figures.workload.stops for figures in section.figures):
            parts.append(stops(section.figures))
    parts += ["### Beside other libraries", beside(sections, peers)]
    parts += ["### How it grows", growth(sections)]
    return "\n\n".join(parts) + "\n"


def ratios(all_figures: Iterable[Figures]) -> str:
    """Ours against raw, and against what is aimed at."""
    rows = []
    for figures in all_figures:
        work = figures.workload
        for size in work.sizes:
            for part, at_most in work.at_most.items():
                ratio = figures.ratio("ours", size, part)
                assert ratio is not None
                raw, ours = (_time(figures.seconds(who, size, part)) for who in ("raw", "ours"))
                floor = figures.ratio("floor", size, part)
                least = "-" if floor is None else f"{floor:.2f}x"
                aim = _aim(ratio, at_most, "x")
                rows.append([*_what(figures, size, part), raw, ours, *aim, least])
    head = ["workload", "size", "", "raw", "ours", "ratio", "at most", "met", "floor"]
    return _table(head, rows, left=3)


def memory(all_figures: Iterable[Figures]) -> str:
    """What ours takes beyond the value that is saved."""
    aims = [(each, each.workload.memory, each.mebibytes) for each in all_figures]
    return _peaks("extra peak memory", " MiB", aims)


def stops(all_figures: Iterable[Figures]) -> str:
    """For how long the event loop does not turn."""
    aims = [(each, each.workload.stops, each.stop) for each in all_figures]
    return _peaks("longest stop of the event loop", " ms", aims)


def _peaks(
    title: str,
    unit: str,
    aims: Iterable[tuple[Figures, Mapping[str, float | None], Callable[[str, int, str], float]]],
) -> str:
    """What is measured beside times, by who, size and part, against what is aimed at."""
    rows = []
    for figures, at_most, measured in aims:
        for size in figures.workload.sizes:
            for part in at_most:
                raw, ours = (measured(who, size, part) for who in ("raw", "ours"))
                aim = _aim(ours, at_most[part], unit)
                rows.append([*_what(figures, size, part), _shown(raw, unit), *aim])
    return _table([title, "size", "", "raw", "ours", "at most", "met"], rows, left=3)


def beside(sections: Sequence[Section], peers: Sequence[PeerFound]) -> str:
    """Everything as a ratio to raw, and how many times as long as ours artigraph 0.1.0 takes."""
    found = [peer.name for peer in peers if not peer.why_not]
    rows = []
    for figures in (figures for section in sections for figures in section.figures):
        size = figures.workload.peers_size
        for part in figures.workload.at_most if figures.peers else ():
            ratios = (figures.ratio(who, size, part) for who in ("ours", *found))
            cells = [f"{ratio:.3g}x" if ratio else "-" for ratio in ratios]
            rows.append([*_what(figures, size, part), *cells, *_ahead(figures, size, part)])
    head = ["to raw", "size", "", "ours", *found, "0.1.0 to ours", "at least", "met"]
    missing = [f"{peer.name} is not here: {peer.why_not}." for peer in peers if peer.why_not]
    return "\n\n".join([_table(head, rows, left=3) if rows else "None was measured.", *missing])


def _ahead(figures: Figures, size: int, part: str) -> list[str]:
    aim = figures.workload.ahead
    for name in figures.peers:
        ratio = figures.ratio(name, size, part, to="ours") if name.startswith(OLDER) else None
        if ratio is not None and aim is not None:
            return [f"{ratio:.0f}x", f"{aim:g}x", _met(ratio >= aim)]
    return ["-", "-", "-"]


def growth(sections: Sequence[Section]) -> str:
    """Slopes of log time over log size."""
    rows = []
    for section in sections:
        for figures in section.figures:
            work = figures.workload
            if len(work.sizes) < 2:
                continue
            sizes = f"{work.sizes[0]:,} to {work.sizes[-1]:,} {work.unit}"
            for part in work.at_most:
                raw, ours = (figures.slope(who, part) for who in ("raw", "ours"))
                aim = _aim(ours, work.slope, "")
                rows.append([section.title, work.title, sizes, part, f"{raw:.2f}", *aim])
    head = ["where", "workload", "sizes", "", "raw", "ours", "at most", "met"]
    return _table(head, rows, left=4)


def _what(figures: Figures, size: int, part: str) -> list[str]:
    return [figures.workload.title, f"{size:,} {figures.workload.unit}", part]


def _aim(figure: float, at_most: float | None, unit: str) -> list[str]:
    shown = _shown(figure, unit)
    return (
        [shown, "-", "-"]
        if at_most is None
        else [shown, f"{at_most:g}{unit}", _met(figure <= at_most)]
    )


def _shown(figure: float, unit: str) -> str:
    if math.isnan(figure):  # a system that does not tell
        return "-"
    return f"{max(round(figure), 0)}{unit}" if unit == " MiB" else f"{figure:.2f}{unit}"


def _met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A table in Markdown, its first columns to the left and its others to the right."""
    rules = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rules, *rows))
