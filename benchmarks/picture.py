"""The picture beside docs/performance.md: how far each workload is from the least that it takes.

A line a workload, on a logarithmic scale: a dot for ours, a bar for what is aimed at, and smaller
dots for the peers.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.measuring import Figures
from benchmarks.page import Section

LEFT, WIDTH, LINE, MARGIN = 330, 560, 17, 16
LEAST, MOST = 0.01, 1000
COLOURS = ("#d97706", "#7c3aed", "#059669", "#db2777")
OURS, INK, FAINT = "#2563eb", "#334155", "#cbd5e1"


def write(file: Path, sections: Sequence[Section]) -> None:
    """Draw the figures of all sections."""
    names = _peers(sections)
    shapes = list(_key(names))
    y = 52.0
    for section in sections:
        y += LINE
        shapes.append(_text(MARGIN, y, section.title, weight="bold"))
        for figures in section.figures:
            for part in figures.workload.at_most:
                y += LINE
                shapes += _line(figures, part, y, names)
    shapes = [*_scale(y + LINE), *shapes]
    height = y + 2 * LINE + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 2 * MARGIN}"'
        f' height="{height:.0f}" font-family="system-ui, sans-serif" font-size="12">'
    )
    ground = '<rect width="100%" height="100%" fill="white"/>'
    file.write_text("\n".join([head, ground, *shapes, "</svg>\n"]))


def _line(figures: Figures, part: str, y: float, names: Sequence[str]) -> Iterator[str]:
    work = figures.workload
    size = work.sizes[-1]
    yield _text(LEFT - 8, y, f"{part} {work.title}, {size:,} {work.unit}", anchor="end")
    at_most = work.at_most[part]
    if at_most is not None:
        x, top = _x(at_most), y - 10
        yield f'<rect x="{x - 1.5:.1f}" y="{top:.1f}" width="3" height="12" fill="{INK}"/>'
    for name, colour in zip(names, COLOURS, strict=False):
        ratio = figures.ratio(name, work.peers_size, part)
        if ratio is not None:
            yield _dot(_x(ratio), y - 4, 3.5, colour, f"{name}: {ratio:.3g}x")
    ratio = figures.ratio("ours", size, part)
    assert ratio is not None
    yield _dot(_x(ratio), y - 4, 5, OURS, f"ours: {ratio:.2f}x")


def _key(names: Sequence[str]) -> Iterator[str]:
    x = float(MARGIN)
    for name, colour in (("Artigraph", OURS), *zip(names, COLOURS, strict=False)):
        yield _dot(x + 5, 20, 5, colour, name)
        yield _text(x + 14, 24, name)
        x += 30 + 7 * len(name)
    yield f'<rect x="{x}" y="14" width="3" height="12" fill="{INK}"/>'
    yield _text(x + 9, 24, "aimed at; less is better")


def _scale(bottom: float) -> Iterator[str]:
    for power in range(round(math.log10(LEAST)), round(math.log10(MOST)) + 1):
        x, colour = _x(10**power), INK if power == 0 else FAINT
        yield f'<path d="M{x:.1f} 44V{bottom:.1f}" stroke="{colour}" stroke-width="1"/>'
        shown = "raw" if power == 0 else f"{10**power:g}x"
        yield _text(x, bottom + 14, shown, anchor="middle")


def _x(ratio: float) -> float:
    inside = min(max(ratio, LEAST), MOST)
    return LEFT + WIDTH * math.log(inside / LEAST) / math.log(MOST / LEAST)


def _dot(x: float, y: float, radius: float, colour: str, title: str) -> str:
    shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}">'
    return f"{shape}<title>{escape(title)}</title></circle>"


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _peers(sections: Sequence[Section]) -> list[str]:
    """The peers that have any figure, in their order."""
    names = (name for section in sections for figures in section.figures for name in figures.peers)
    return list(dict.fromkeys(names))
