"""Loads all that a run has produced, knowing its id alone, and holds it against the source files.

```
cd examples/flights && python verify.py RUN_ID
```
"""

import asyncio
import sys
from time import perf_counter

import pandas as pd

import steps
from artigraph import Run, RunManager
from equality import compare
from models import Report
from show import print_columns


def main(run_id: str) -> int:
    """Print what is equal; return the exit code, 0 where everything is."""
    start = perf_counter()
    found = asyncio.run(load(run_id))
    expected = compute()
    count, different = check(found, expected)
    if different:
        print(f"{len(different)} of {count} values are DIFFERENT:", *different, sep="\n  ")
        return 1
    report = found["report/report"]
    assert isinstance(report, Report)
    print(summary(report))
    print(f"All equal: {count} values, loaded and computed in {perf_counter() - start:.1f} s.")
    return 0


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
        "features/delays": steps.find_features(cleaned.frame),
        "weather/observations": observations,
        "report/report": steps.write_report(airlines, flights.num_rows, cleaned.frame),
    }


def check(found: dict[str, object], expected: dict[str, object]) -> tuple[int, list[str]]:
    """Print a line for each thing; return how many values were compared, and where they differ."""
    count, different = 0, list[str]()
    print_columns("loaded", "type", "values")
    for name in expected | found:
        value = found.get(name)
        results = list(compare(value, expected.get(name), name))
        wrong = [where for where, is_same in results if not is_same]
        verdict = "DIFFERENT" if wrong else "equal"
        print_columns(name, type(value).__name__, str(len(results)), verdict)
        count += len(results)
        different += wrong
    return count, different


def summary(report: Report) -> str:
    """The report in a sentence."""
    totals, carriers = report.totals, [*report.carriers.values()]
    return (
        f"{report.title}: {totals.arrived:,} of {totals.planned:,} arrived,"
        f" {totals.on_time:.0%} on time\n(first {carriers[0].name} with {carriers[0].on_time:.0%},"
        f" last {carriers[-1].name} with {carriers[-1].on_time:.0%})."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else "usage: python verify.py RUN_ID")
