"""What a checker has to find: an error on every line that ends with `# error`, and on no other."""

import json
from dataclasses import KW_ONLY, dataclass

import pandas as pd
import wrong_plugin
from plugin import MemoryStorage, Point, point_serializer

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
    save_many,
)
from artigraph.serializer.pandas import dataframe_serializer
from artigraph.serializer.pandas import no_serializer as no_serializer  # error
from artigraph.spec import Data, Serializer, SerializerPlugin, Storage, StoragePlugin
from artigraph.storage import register_storage
from artigraph.storage.aws import S3Storage
from artigraph.storage.file import FileSystem


@dataclass
class Score(ArtifactModel, version=1):
    """What the rest takes for something else."""

    model: str
    accuracy: float


@dataclass
class Fields(ArtifactModel, version=1):
    """A field is what its serializer takes, its default is or its factory makes."""

    _: KW_ONLY
    number: int = artifact_field(serializer=dataframe_serializer)  # error
    point: pd.DataFrame = artifact_field(serializer=point_serializer)  # error
    frame: pd.DataFrame = artifact_field(serializer=dataframe_serializer, default=None)  # error
    frames: dict[str, pd.DataFrame] = artifact_field(serializer=dataframe_serializer)  # error
    count: int = artifact_field(default="1")  # error
    names: list[str] = artifact_field(default_factory=dict)  # error
    no_instance: bytes = artifact_field(storage=FileSystem)  # error
    no_serializer: str = artifact_field(serializer=str)  # error
    no_option: str = artifact_field(encoding="utf-8")  # error
    two_defaults: int = artifact_field(default=1, default_factory=int)  # error


@dataclass
class Order(ArtifactModel, version=1):
    """A field without a default can't follow one that has one."""

    first: int = artifact_field(default=1)
    second: int = artifact_field()  # error


@dataclass
class Version(ArtifactModel, version="1"):  # error
    """A version is a number."""

    number: int


@dataclass
class Config(ArtifactModel, version=1, config=ArtifactModelConfig(FileSystem)):  # error
    """A storage is an instance."""

    number: int


@dataclass
class Arguments(ArtifactModel, version=1):
    """What `__init__` takes: `point` and, by its name, `label`; `later` it does not."""

    point: Point = artifact_field(serializer=point_serializer)
    later: int = artifact_field(init=False, default=1)
    label: str = artifact_field(kw_only=True)


Score(1, 0.9)  # error
Score("forest")  # error
Score("forest", 0.9, {})  # error
Score("forest", accuracy=None)  # error
Arguments(label="a")  # error
Arguments(Point(0, 1))  # error
Arguments(Point(0, 1), "a")  # error
Arguments(Point(0, 1), later=2, label="a")  # error
Arguments((0, 1), label="a")  # error

scores: ArtifactSequence[Score] = ArtifactSequence([1])  # error
by_name: ArtifactMapping[str, Score] = ArtifactMapping(first=1)  # error


async def save_and_load(score: Score) -> Point:
    """An id and a model are what they are, and `await` is needed."""
    score.save()  # error
    await score.save(label=1)  # error
    await score.save(parent_id="0199")  # error
    score.model = await score.save()  # error
    score.accuracy = (await Score.load("0199")).precision  # error
    await Score.load(1)  # error
    return await Score.load("0199")  # error


async def run(manager: RunManager) -> None:
    """A manager is made of a run, and there may be none."""
    RunManager("nightly")  # error
    Run(label=1)  # error
    await manager.save_artifact(Score("forest", 0.9), "score")  # error
    run_manager(allow_none=True).run.label = "a"  # error
    manager.run.label = await manager.save_artifact("score", 1)  # error
    manager.run.node_id = manager.run  # error


@dataclass
class LazyFields(ArtifactModel, version=1):
    """A lazy field holds its value in `Lazy`, and gives it to who awaits it."""

    text: Lazy[str]
    point: Lazy[Point] = lazy_field(serializer=point_serializer)
    frame: Lazy[Point] = lazy_field(serializer=dataframe_serializer)  # error


async def load_later(fields: LazyFields) -> str:
    """Only what a model is can be saved with others."""
    LazyFields("text")  # error
    LazyFields(Lazy(5))  # error
    await save_many([5])  # error
    await save_many([fields], labels=[1])  # error
    return fields.text.load()  # error


bucket: S3Storage = FileSystem("large").register()  # error
memory: MemoryStorage = register_storage(FileSystem("large"))  # error
register_storage("s3://my-bucket")  # error
S3Storage("my-bucket", region="eu-central-1")  # error


class Half(Serializer[Point]):
    """A serializer that lacks a method."""

    name = "acme.half"

    def serialize(self, value: Point) -> Data:
        return b""


class Mixed(Serializer[Point]):
    """A serializer of something else than it says."""

    name = "acme.mixed"

    def serialize(self, value: str) -> Data:  # error
        return value.encode()

    def deserialize(self, data: Data) -> str:  # error
        return str(data)


class Blocking(Storage):
    """A storage that has not all methods, and one that is not async."""

    name = "memory:blocking"

    def read(self, location: str) -> bytes:  # error
        return b""


Half()  # error
Blocking()  # error
point_serializer.serialize("0, 1")  # error

serializers: SerializerPlugin = wrong_plugin  # error
storages: StoragePlugin = wrong_plugin  # error
no_serializers: SerializerPlugin = json  # error
no_storages: StoragePlugin = json  # error
