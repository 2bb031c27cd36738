"""artigraph 0.1.0: models of its own kind, `write_one`, `write_many` and `read_one`.

A run is a node, to which its `Linker` links models. WAL and synchronous=NORMAL, as our own side.
"""

import dataclasses
from functools import cache
from typing import Any

from sqlalchemy import Engine, event
from worker import DEPTH, Task, field_names, scalars, serve

import artigraph


@artigraph.dataclass
class Scalars(artigraph.GraphModel, version=1):
    a: int
    b: int
    c: int
    d: float
    e: float
    f: float
    g: str
    h: str
    i: str
    j: bool


@artigraph.dataclass
class Chain(Scalars, version=1):
    next: Any = None


@cache
def wide(count: int, kind: Any = int) -> Any:
    names = field_names(count)
    made = type("Wide", (), {"__annotations__": dict.fromkeys(names, kind)})
    kept = type(
        f"Wide{count}{kind.__name__}",
        (artigraph.GraphModel,),
        {"__annotations__": made.__annotations__, "__module__": __name__},
        version=1,
    )
    return artigraph.dataclass(kept)


@event.listens_for(Engine, "connect")
def set_journal(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def database(task: Task) -> Any:
    url = f"sqlite+aiosqlite:///{task.folder}/graph.db"
    return artigraph.current_engine(url, create_tables=True)


async def read(model: Any) -> Any:
    return await artigraph.read_one.a(type(model), artigraph.NodeFilter(id=model.graph_id))


async def each(task: Task) -> None:
    models = [Scalars(**scalars(number)) for number in range(task.size)]
    with database(task) as engine:
        await artigraph.write_one.a(Scalars(**scalars(0)))
        with task.timed("save"):
            for model in models:
                await artigraph.write_one.a(model)
        with task.timed("load"):
            loaded = [await read(model) for model in models]
        await engine.dispose()
    assert loaded == models


async def batch(task: Task) -> None:
    models = [Scalars(**scalars(number)) for number in range(task.size)]
    with database(task) as engine:
        await artigraph.write_one.a(Scalars(**scalars(0)))
        with task.timed("save"):
            await artigraph.write_many.a(models)
        await engine.dispose()


async def run(task: Task) -> None:
    models = [Scalars(**scalars(number)) for number in range(task.size)]
    with database(task) as engine:
        await artigraph.write_one.a(Scalars(**scalars(0)))
        node = artigraph.Node()
        with task.timed("save"):
            async with artigraph.Linker(node) as linker:
                for number, model in enumerate(models):
                    linker.link(model, str(number))
        with task.timed("load"):
            below = artigraph.NodeFilter(child_of=node.graph_id)
            loaded = await artigraph.read.a(artigraph.GraphModel, below)
        await engine.dispose()
    assert len(loaded) == task.size


async def deep(task: Task) -> None:
    chains = []
    for first in range(task.size):
        chain = None
        for number in range(DEPTH):
            chain = Chain(**scalars(first + number), next=chain)
        chains.append(chain)
    with database(task) as engine:
        await artigraph.write_one.a(Scalars(**scalars(0)))
        with task.timed("save"):
            for chain in chains:
                await artigraph.write_one.a(chain)
        with task.timed("load"):
            loaded = [await read(chain) for chain in chains]
        await engine.dispose()
    assert dataclasses.asdict(loaded[0])["next"]["a"] == DEPTH - 2


async def fields(task: Task) -> None:
    await _whole(task, wide(task.size)(*range(task.size)))


async def mapping(task: Task) -> None:
    # It has no mappings of models: the nearest is a model that has them as its fields.
    models = (Scalars(**scalars(number)) for number in range(task.size))
    await _whole(task, wide(task.size, Any)(*models))


async def _whole(task: Task, model: Any) -> None:
    with database(task) as engine:
        await artigraph.write_one.a(Scalars(**scalars(0)))
        with task.timed("save"):
            await artigraph.write_one.a(model)
        with task.timed("load"):
            loaded = await read(model)
        await engine.dispose()
    assert loaded == model


if __name__ == "__main__":
    serve(
        {
            "each": each,
            "batch": batch,
            "run": run,
            "deep": deep,
            "fields": fields,
            "mapping": mapping,
        }
    )
