"""How fast Artigraph is, beside the least that it takes and beside other libraries.

    python -m benchmarks [--full] [--rounds 5] [--models 1000] ... [--only run]

It prints what it measures as it goes on, and writes all of it into docs/performance.md. With
`--only` it measures the workloads whose place and name match, as in `--only 'SQLite.*run'`, and
writes nothing unless a `--page` is given. Every size is an argument.
"""

import argparse
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

from benchmarks import page, picture
from benchmarks.environments import PEERS, NotInstalledError, Worker, running
from benchmarks.measuring import Figures, Workload, measure
from benchmarks.places import ROOT, NoServerError
from benchmarks.workloads import Group, Sizes, groups

PAGE = ROOT / "docs/performance.md"

SMALL = Sizes(
    models=1000, many=10_000, most=10_000, nodes=100_000, megabytes=(113,),
    watched_megabytes=1000, s3_megabytes=256, peer_models=100,
)  # fmt: skip
FULL = Sizes(
    models=1000, many=10_000, most=100_000, nodes=1_000_000, megabytes=(113, 1127),
    watched_megabytes=1000, s3_megabytes=256, peer_models=300,
)  # fmt: skip


def main() -> None:
    """Measure, and write."""
    arguments = _arguments()
    rounds, only = arguments.rounds, arguments.only
    found: list[page.PeerFound] = []
    sections: list[page.Section] = []
    with ExitStack() as stack:
        peers = _peers(stack, found) if arguments.peers else []
        for group in groups(_sizes(arguments)):
            chosen = [
                work for work in group.workloads if re.search(only, f"{group.title} {work.name}")
            ]
            if chosen:
                sections.append(_section(group, chosen, rounds, peers if group.has_peers else []))
    text = page.report(sections, found, rounds)
    file = arguments.page or (None if only else PAGE)
    if file is None:
        print(text)
    else:
        page.write(file, text)
        picture.write(file.with_suffix(".svg"), sections)
        print(f"Written into {file.name}.")


def _section(
    group: Group, workloads: Sequence[Workload], rounds: int, peers: Sequence[Worker]
) -> page.Section:
    print(f"\n{group.title}", flush=True)
    figures: list[Figures] = []
    try:
        with group.place() as place:
            for workload in workloads:
                figures.append(measure(workload, place, rounds, peers))
                print(page.ratios(figures[-1:]).split("\n", 2)[2], flush=True)
    except NoServerError as error:
        print(error)
        return page.Section(group.title, [], str(error))
    return page.Section(group.title, figures)


def _peers(stack: ExitStack, found: list[page.PeerFound]) -> list[Worker]:
    """The workers of all peers that can be installed; `found` tells of the others too."""
    workers: list[Worker] = []
    for library in PEERS:
        print(f"Installing {' '.join(library.requirements)}", flush=True)
        try:
            workers.append(stack.enter_context(running(library)))
        except NotInstalledError as error:
            print(error)
            found.append(page.PeerFound(library.name, str(error)))
        else:
            found.append(page.PeerFound(workers[-1].name))
    return workers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="larger sizes, which take an hour")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    for size in fields(Sizes):
        many = "+" if size.name == "megabytes" else None
        parser.add_argument(f"--{size.name.replace('_', '-')}", type=int, nargs=many)
    return parser.parse_args()


def _sizes(arguments: argparse.Namespace) -> Sizes:
    given = {size.name: getattr(arguments, size.name) for size in fields(Sizes)}
    changed = {name: value for name, value in given.items() if value is not None}
    return replace(FULL if arguments.full else SMALL, **changed)


if __name__ == "__main__":
    main()
