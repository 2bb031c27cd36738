"""Loads all that a run has produced, knowing its id alone, and holds it against the source files.

    cd examples/flights && python verify.py RUN_ID
"""

import asyncio
import sys
from time import perf_counter

import pandas as pd
import steps
from equality import compare
from models import Report

from artigraph import Run, RunManager


async def load(run_id: str) -> dict[str, object]:
    """Everything that is stored below a run: its artifacts, and how the runs have ended."""
    manager = RunManager(await Run.load(run_id))
    runs = await manager.load_descendant_runs()
    artifacts = await manager.load_descendant_artifacts()
    found: dict[str, object] = {"status of all runs": {run.label: run.status for run in runs}}
    for run in runs:
        if run.error_type:
            found[f"error of {run.label}"] = (run.error_type, run.error_message)
        for label, value in artifacts[run.node_id].items():
            found[f"{run.label}/{label}"] = value
    return found


def compute() -> dict[str, object]:
    """The same from the source files, without a look at what is stored."""
    sources = {name: steps.read_source(file) for name, file in steps.SOURCES.items()}
    flights, weather, airlines = (source.table for source in sources.values())
    cleaned = steps.clean(flights)
    observations = steps.observe(weather)
    statuses = dict.fromkeys(["ingest", "clean", "features", "weather", "report"], "succeeded")
    expected: dict[str, object] = {"status of all runs": statuses}
    try:
        steps.join_weather(cleaned.frame, observations)
    except pd.errors.MergeError as error:
        statuses["weather"] = "failed"
        expected["error of weather"] = ("pandas.errors.MergeError", str(error))
    return expected | {
        **{f"ingest/{name}": source for name, source in sources.items()},
        "clean/flights": cleaned,
        "weather/observations": observations,
        "features/delays": steps.find_features(cleaned.frame),
        "report/report": steps.write_report(airlines, flights.num_rows, cleaned.frame),
    }


def find_differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Where something differs, is missing, or should not be there; prints a line for each thing."""
    different: list[str] = []
    for path in expected | found:
        values = list(compare(found.get(path), expected.get(path), path))
        wrong = [where for where, is_same in values if not is_same]
        kind = type(found.get(path)).__name__
        verdict = f"DIFFERENT in {len(wrong)}" if wrong else "equal"
        print(f"  {path:<30}{kind:<39}{len(values):>2} values  {verdict}")
        different += wrong
    return different


def summary(report: Report) -> str:
    """The report in a sentence."""
    totals, carriers = report.totals, [*report.carriers.values()]
    return (
        f"{report.title}: {totals.arrived:,} of {totals.planned:,} arrived,"
        f" {totals.on_time:.0%} on time\n(best {carriers[0].name} with {carriers[0].on_time:.0%},"
        f" last {carriers[-1].name} with {carriers[-1].on_time:.0%})."
    )


def main(run_id: str) -> int:
    """Print what is equal; return the exit code, 0 where everything is."""
    start = perf_counter()
    found = asyncio.run(load(run_id))
    seconds = perf_counter() - start
    different = find_differences(found, compute())
    if different:
        print("Different:", *different, sep="\n  ")
        return 1
    print(f"All equal. Loading took {seconds:.1f} s.")
    print(summary(found["report/report"]))  # type: ignore[arg-type]  # as it was computed
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
