"""Small values: models of ten scalars, one by one and many at once, alone and in each other.

The raw sides write a row for a model and one for each of its fields, into a table with the same
constraints; they build the rows of the models, and equal models of the rows. Connections, tables
and the first use of each side are not timed.
"""

import asyncio

from benchmarks.measuring import Stage
from benchmarks.models import Catalog, Chain, Scalars, catalog, some_chains, some_models, wide_model
from benchmarks.raw import RUN, Rows, built, raw_graph

from artigraph import Run, RunManager, save_many

TASKS = 32
"""How many save at once."""

CLASSES = {"Scalars": Scalars, "Chain": Chain}


async def raw_each(stage: Stage) -> None:
    """Save models with a commit each, load each by its id."""
    models, rows = some_models(stage.size), Rows()
    async with raw_graph(stage) as graph:
        ids: list[int] = []
        with stage.timed("save"):
            for model in models:
                new = rows.of(model, "model", None)
                await graph.insert(new)
                ids.append(new[0].id)
        with stage.timed("load"):
            loaded = [built(await graph.read(node_id), CLASSES) for node_id in ids]
    assert loaded == models


async def each(stage: Stage) -> None:
    """The same, with one call each."""
    models = some_models(stage.size)
    with stage.database():
        await models[0].save("first use")
        with stage.timed("save"):
            ids = [await model.save("model") for model in models]
        with stage.timed("load"):
            loaded = [await Scalars.load(node_id) for node_id in ids]
    assert loaded == models


async def each_at_once(stage: Stage) -> None:
    """The same, by `TASKS` tasks, each with one call at a time."""
    models = some_models(stage.size)
    waiting = iter(models)

    async def save() -> None:
        for model in waiting:
            await model.save("model")

    with stage.database():
        await models[0].save("first use")
        with stage.timed("save"):
            await asyncio.gather(*(save() for _ in range(TASKS)))


async def raw_batch(stage: Stage) -> None:
    """Save models that stand by themselves in one transaction."""
    models, rows = some_models(stage.size), Rows()
    async with raw_graph(stage) as graph:
        with stage.timed("save"):
            new = [row for model in models for row in rows.of(model, "model", None)]
            await graph.insert(new)


async def batch(stage: Stage) -> None:
    """The same, with one call."""
    models = some_models(stage.size)
    with stage.database():
        await models[0].save("first use")
        with stage.timed("save"):
            await save_many(models)


async def raw_run(stage: Stage) -> None:
    """Save models below one node in one transaction, load them all."""
    models, rows = some_models(stage.size), Rows()
    async with raw_graph(stage) as graph:
        with stage.timed("save"):
            below = [rows.of(model, f"{n:06}", RUN.id) for n, model in enumerate(models)]
            await graph.insert([RUN, *(row for some in below for row in some)])
        with stage.timed("load"):
            loaded = built(await graph.read(RUN.id), CLASSES)
    assert loaded == models


async def run(stage: Stage) -> None:
    """The same in a run."""
    labelled = {f"{n:06}": model for n, model in enumerate(some_models(stage.size))}
    with stage.database():
        async with RunManager(Run()) as manager:
            with stage.timed("save"):
                await manager.save_artifacts(labelled)
            with stage.timed("load"):
                loaded = await manager.load_artifacts()
    assert loaded == labelled


async def raw_deep(stage: Stage) -> None:
    """Save models that nest, with a commit for each tree; load each tree by its id."""
    chains, rows = some_chains(stage.size), Rows()
    async with raw_graph(stage) as graph:
        ids: list[int] = []
        with stage.timed("save"):
            for chain in chains:
                new = rows.of(chain, "chain", None)
                await graph.insert(new)
                ids.append(new[0].id)
        with stage.timed("load"):
            loaded = [built(await graph.read(node_id), CLASSES) for node_id in ids]
    assert loaded == chains


async def deep(stage: Stage) -> None:
    """The same, with one call each."""
    chains = some_chains(stage.size)
    with stage.database():
        await chains[0].save("first use")
        with stage.timed("save"):
            ids = [await chain.save("chain") for chain in chains]
        with stage.timed("load"):
            loaded = [await Chain.load(node_id) for node_id in ids]
    assert loaded == chains


async def raw_fields(stage: Stage) -> None:
    """Save one model of many fields, load it."""
    model = wide_model(stage.size)
    async with raw_graph(stage) as graph:
        with stage.timed("save"):
            rows = Rows().of(model, "model", None)
            await graph.insert(rows)
        with stage.timed("load"):
            loaded = built(await graph.read(1), {type(model).__name__: type(model)})
    assert loaded == model


async def fields(stage: Stage) -> None:
    """The same."""
    model = wide_model(stage.size)
    with stage.database():
        await Scalars.load(await some_models(1)[0].save("first use"))
        with stage.timed("save"):
            node_id = await model.save("model")
        with stage.timed("load"):
            loaded = await type(model).load(node_id)
    assert loaded == model


async def raw_mapping(stage: Stage) -> None:
    """Save a mapping of models in one transaction, load it."""
    models = catalog(stage.size).models
    async with raw_graph(stage) as graph:
        with stage.timed("save"):
            await graph.insert(Rows().of(models, "models", None))
        with stage.timed("load"):
            loaded = built(await graph.read(1), CLASSES)
    assert loaded == list(models.values())


async def mapping(stage: Stage) -> None:
    """The same, as the field of a model."""
    whole = catalog(stage.size)
    with stage.database():
        await Scalars.load(await some_models(1)[0].save("first use"))
        with stage.timed("save"):
            node_id = await whole.save("catalog")
        with stage.timed("load"):
            loaded = await Catalog.load(node_id)
    assert loaded == whole
