"""What the pipeline stores: dataclasses, each saved and loaded with everything in it."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from artigraph import ArtifactMapping, ArtifactModel, ArtifactSequence, artifact_field
from artigraph.serializer.pyarrow import feather_serializer


@dataclass
class Source(ArtifactModel, version=1):
    """A file as it was found, and the table in it."""

    file: str
    sha256: str
    table: pa.Table = artifact_field(serializer=feather_serializer)


@dataclass
class Rule(ArtifactModel, version=1):
    """Why some flights were left out, and how many."""

    reason: str
    removed: int


@dataclass
class CleanFlights(ArtifactModel, version=1):
    """The flights that arrived, and the rules that left out the others."""

    rules: ArtifactSequence[Rule]
    frame: pd.DataFrame


@dataclass
class Features(ArtifactModel, version=1):
    """When flights leave late."""

    daily: pl.DataFrame
    """One row for each day and airport."""
    delay_by_hour: np.ndarray
    """Mean delay in minutes, shape (7, 24): weekday, hour; NaN where nothing is scheduled."""


@dataclass(frozen=True)
class Totals(ArtifactModel, version=1):
    """The whole year."""

    planned: int
    arrived: int
    on_time: float
    mean_delay: timedelta
    worst_delay: timedelta
    busiest_day: date


@dataclass(frozen=True)
class Carrier(ArtifactModel, version=1):
    """An airline, and which share of its flights was less than 15 minutes late."""

    name: str
    flights: int
    on_time: float


@dataclass(frozen=True)
class Route(ArtifactModel, version=1):
    """A connection, and how late its flights leave on average."""

    origin: str
    destination: str
    flights: int
    mean_delay: timedelta


@dataclass
class Report(ArtifactModel, version=1):
    """What people read: one nested model, models by name, and models in order."""

    title: str
    totals: Totals
    carriers: ArtifactMapping[str, Carrier]
    """By code, the most punctual first."""
    latest_routes: ArtifactSequence[Route]
