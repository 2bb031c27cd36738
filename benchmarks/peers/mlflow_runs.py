"""MLflow: runs with ten parameters, through its client and its SQL store.

WAL and synchronous=NORMAL, as our own side.
"""

from typing import Any

from mlflow.entities import Param
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine, event
from worker import Task, scalars, serve


@event.listens_for(Engine, "connect")
def set_journal(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def each(task: Task) -> None:
    client = MlflowClient(f"sqlite:///{task.folder}/graph.db")
    client.create_run("0")
    runs = [
        [Param(name, str(value)) for name, value in scalars(number).items()]
        for number in range(task.size)
    ]
    ids = []
    with task.timed("save"):
        for parameters in runs:
            run_id = client.create_run("0").info.run_id
            client.log_batch(run_id, params=parameters)
            client.set_terminated(run_id)
            ids.append(run_id)
    with task.timed("load"):
        loaded = [client.get_run(run_id) for run_id in ids]
    assert loaded[-1].data.params["a"] == str(task.size - 1)


if __name__ == "__main__":
    serve({"each": each})
