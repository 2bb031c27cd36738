"""What a user writes with Artigraph, and the types that it has to a checker."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, assert_type
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
from plugin import MemoryStorage, Point, point_serializer

import artigraph
from artigraph import (
    ArtifactMapping,
    ArtifactModel,
    ArtifactModelConfig,
    ArtifactSequence,
    Lazy,
    Run,
    RunManager,
    artifact_field,
    lazy_field,
    run_manager,
)
from artigraph.serializer import get_serializer, register_serializer
from artigraph.serializer.bytes import bytes_serializer
from artigraph.serializer.json import json_serializer
from artigraph.serializer.numpy import array_serializer, scalar_serializer
from artigraph.serializer.pandas import (
    dataframe_feather_serializer,
    dataframe_serializer,
    pandas_serializer,
    series_feather_serializer,
    series_serializer,
)
from artigraph.serializer.polars import dataframe_ipc_serializer, series_ipc_serializer
from artigraph.serializer.polars import dataframe_serializer as polars_dataframe_serializer
from artigraph.serializer.polars import series_serializer as polars_series_serializer
from artigraph.serializer.text import text_serializer
from artigraph.spec import Serializer, Storage
from artigraph.storage import get_storage, open_storage, register_storage
from artigraph.storage.aws import S3Storage
from artigraph.storage.file import FileSystem

bucket = S3Storage("my-bucket", "experiments", region_name="eu-central-1").register()
folder = register_storage(FileSystem("large"))

assert_type(bucket, S3Storage)
assert_type(folder, FileSystem)
assert_type(register_storage(MemoryStorage("memory:a")), MemoryStorage)
assert_type(open_storage("s3://my-bucket"), Storage)
assert_type(get_storage("s3://my-bucket"), Storage)
assert_type(get_serializer("acme.point"), Serializer[Any])
assert_type(register_serializer(point_serializer).deserialize(b""), Point)
assert_type(point_serializer.register().deserialize(b""), Point)


@dataclass
class Score(ArtifactModel, version=1):
    """A model of plain values."""

    model: str
    accuracy: float
    parameters: dict[str, object] = field(default_factory=dict[str, object])


@dataclass
class Frames(ArtifactModel, version=1):
    """A model with a field for each typed serializer behind a door."""

    parquet: pd.DataFrame = artifact_field(serializer=dataframe_serializer)
    readme: pd.DataFrame = artifact_field(storage=bucket, serializer=pandas_serializer)
    feather: pd.DataFrame | None = artifact_field(serializer=dataframe_feather_serializer)
    series: "pd.Series[float]" = artifact_field(serializer=series_serializer)
    names: "pd.Series[str]" = artifact_field(serializer=series_feather_serializer)
    polars: pl.DataFrame = artifact_field(serializer=polars_dataframe_serializer)
    polars_ipc: pl.DataFrame = artifact_field(serializer=dataframe_ipc_serializer)
    column: pl.Series = artifact_field(serializer=polars_series_serializer)
    column_ipc: pl.Series = artifact_field(serializer=series_ipc_serializer)
    weights: npt.NDArray[np.float64] = artifact_field(serializer=array_serializer)
    mean: np.generic = artifact_field(serializer=scalar_serializer)


@dataclass
class Options(
    ArtifactModel,
    version=2,
    name="acme.options",
    config=ArtifactModelConfig(
        default_field_storage=folder, default_field_serializer=dataframe_serializer
    ),
):
    """A model with every other use of `artifact_field`."""

    stored: bytes = artifact_field(storage=bucket)
    text: str = artifact_field(serializer=text_serializer, metadata={"unit": "none"})
    anything: dict[str, list[int]] = artifact_field(serializer=json_serializer)
    point: Point = artifact_field(serializer=point_serializer, compare=False, repr=False)
    derived: float = artifact_field(init=False, default=0)
    frame: pd.DataFrame | None = artifact_field(serializer=dataframe_serializer, default=None)
    image: bytes = artifact_field(serializer=bytes_serializer, default=b"")
    tags: tuple[str, ...] = artifact_field(serializer=json_serializer, default=())
    scores: ArtifactSequence[Score] = artifact_field(default_factory=ArtifactSequence)
    tables: ArtifactMapping[str, pd.DataFrame] = artifact_field(
        serializer=dataframe_serializer, default_factory=ArtifactMapping
    )
    _: KW_ONLY
    seed: int
    label: str = artifact_field(kw_only=True)

    @classmethod
    def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
        return {"label": "", **data}


@dataclass
class Experiment(ArtifactModel, version=1):
    """A model of models."""

    best: Score | None = None
    scores: ArtifactSequence[Score] = field(default_factory=ArtifactSequence)
    by_name: ArtifactMapping[str, Score] = field(default_factory=ArtifactMapping)
    frames: ArtifactMapping[str, pd.DataFrame] = field(default_factory=ArtifactMapping)


assert_type(artifact_field(serializer=point_serializer), Point)
assert_type(artifact_field(serializer=point_serializer, default=None), Point | None)
assert_type(artifact_field(default_factory=list[int]), list[int])
assert_type(artifact_field(storage=bucket), Any)


async def save_and_load() -> None:
    """What is saved has an id; what is loaded has the type of the class that loads it."""
    score = Score("forest", 0.93)
    experiment = Experiment(
        score, ArtifactSequence([score]), ArtifactMapping(forest=score), ArtifactMapping()
    )
    options = Options(
        b"", "", {"a": [1]}, Point(0, 1), pd.DataFrame(), b"", ("a",), seed=1, label="a"
    )
    Options(b"", "", {}, Point(0, 1), seed=1, label="a")

    assert_type(await score.save(), UUID)
    assert_type(await experiment.save("experiment", parent_id=await options.save()), UUID)
    loaded = assert_type(await Experiment.load("0199"), Experiment)
    assert_type(await Score.load(UUID(int=0)), Score)

    assert_type(loaded.best, Score | None)
    assert_type(loaded.scores[0], Score)
    assert_type(loaded.scores[1:], list[Score])
    assert_type(loaded.by_name["forest"].parameters, dict[str, object])
    assert_type([*loaded.by_name.items()], list[tuple[str, Score]])
    assert_type(loaded.frames["a"], pd.DataFrame)
    assert_type((await Options.load("0199")).frame, pd.DataFrame | None)
    assert_type((await Frames.load("0199")).polars, pl.DataFrame)


async def run() -> None:
    """A run hands out what was saved in it as anything: its labels have no types."""
    async with RunManager(Run(label="nightly", attributes={"seed": 1})) as manager:
        assert_type(manager, RunManager)
        assert_type(await manager.save_artifact("score", Score("forest", 0.93)), UUID)
        assert_type(await manager.save_artifacts({"rows": 1, "b": b""}), dict[str, UUID])
        assert_type(run_manager(), RunManager)
        assert_type(run_manager(allow_none=True), RunManager | None)
        score: Score = await manager.load_artifact("score")
        assert_type(await manager.load_artifacts(), dict[str, Any])
        assert_type(await manager.load_descendant_artifacts(), dict[UUID, dict[str, Any]])
        assert_type(await manager.load_descendant_runs(), list[Run])
    assert_type((await Run.load(manager.run.node_id)).label, str | None)

    artigraph.set_database("sqlite:///graph.db", storage=folder)
    with artigraph.use_database("sqlite:///other.db"):
        await score.save(label="elsewhere")
    await artigraph.close()


@dataclass
class LazyFields(ArtifactModel, version=1):
    """A lazy value has the type of what it holds."""

    array: Lazy[npt.NDArray[Any]]
    frame: Lazy[pl.DataFrame] = lazy_field(serializer=polars_dataframe_serializer)
    other: Lazy[pd.DataFrame] | None = lazy_field(serializer=dataframe_serializer, default=None)


async def load_later() -> None:
    """In memory, mapped, and in part."""
    fields = await LazyFields.load("0199")
    assert_type(await fields.frame.load(), pl.DataFrame)
    assert_type(await fields.frame.map(), pl.DataFrame)
    assert_type(await fields.frame.select(["a"], slice(5)), pl.DataFrame)
    assert_type(LazyFields(fields.array, Lazy(pl.DataFrame())).frame, Lazy[pl.DataFrame])


async def save_together() -> None:
    """Ids come in the order of the models."""
    assert_type(await artigraph.save_many([Score("a", 0.5), Score("b", 0.6)]), list[UUID])
    async with artigraph.gather_saves():
        assert_type(await Score("c", 0.7).save("c"), UUID)
    with artigraph.on_progress(lambda progress: assert_type(progress.done, int)):
        pass
