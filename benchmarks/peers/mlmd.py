"""ml-metadata: artifacts with ten properties; a run is an execution with an event an artifact.

Its store is C++ and opens SQLite itself: the file is in WAL mode, synchronous stays FULL.
"""

import sqlite3

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from worker import Task, scalars, serve


class Store:
    def __init__(self, task: Task) -> None:
        file = f"{task.folder}/graph.db"
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = file
        config.sqlite.connection_mode = 3  # READWRITE_OPENCREATE
        self.store = metadata_store.MetadataStore(config)
        kinds = {"a": pb.INT, "b": pb.INT, "c": pb.INT, "d": pb.DOUBLE, "e": pb.DOUBLE}
        kinds |= {"f": pb.DOUBLE, "g": pb.STRING, "h": pb.STRING, "i": pb.STRING, "j": pb.BOOLEAN}
        kind = pb.ArtifactType(name="Scalars", properties=kinds)
        self.type_id = self.store.put_artifact_type(kind)
        self.run_type_id = self.store.put_execution_type(pb.ExecutionType(name="Run"))

    def artifacts(self, count: int) -> list[pb.Artifact]:
        return [self.artifact(scalars(number)) for number in range(count)]

    def artifact(self, values: dict[str, object]) -> pb.Artifact:
        artifact = pb.Artifact(type_id=self.type_id)
        kinds = {int: "int_value", float: "double_value", str: "string_value", bool: "bool_value"}
        for name, value in values.items():
            setattr(artifact.properties[name], kinds[type(value)], value)
        return artifact


def each(task: Task) -> None:
    store = Store(task)
    artifacts = store.artifacts(task.size)
    with task.timed("save"):
        ids = [store.store.put_artifacts([artifact])[0] for artifact in artifacts]
    with task.timed("load"):
        loaded = [store.store.get_artifacts_by_id([node_id])[0] for node_id in ids]
    assert loaded[-1].properties["a"].int_value == task.size - 1


def batch(task: Task) -> None:
    store = Store(task)
    artifacts = store.artifacts(task.size)
    with task.timed("save"):
        store.store.put_artifacts(artifacts)


def run(task: Task) -> None:
    store = Store(task)
    artifacts = store.artifacts(task.size)
    event = pb.Event(type=pb.Event.OUTPUT)
    with task.timed("save"):
        execution = pb.Execution(type_id=store.run_type_id)
        saved = [(artifact, event) for artifact in artifacts]
        run_id, _, _ = store.store.put_execution(execution, saved, [])
    with task.timed("load"):
        events = store.store.get_events_by_execution_ids([run_id])
        loaded = store.store.get_artifacts_by_id([event.artifact_id for event in events])
    assert len(loaded) == task.size


if __name__ == "__main__":
    serve({"each": each, "batch": batch, "run": run})
