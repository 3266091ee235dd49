"""A tick of the Dagster sensor over many runs in which nothing happens."""

import os
import statistics
from time import perf_counter
from typing import Any

import dagster as dg

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_dagster import BatchorResource, batch_asset, build_batch_definitions
from benchmarks.clock import Lap, Stopwatch
from benchmarks.place import Place
from benchmarks.server import local_server

RUNS = 100


def tick(place: Place) -> dict[str, Lap]:
    """A tick of the Dagster sensor over 100 runs with a batch each that is still going, asked for over HTTP."""
    with local_server(place.home, batch_seconds=86_000) as (base_url, _):
        os.environ["OPENAI_API_KEY"] = "none"
        config = OpenAIProviderConfig(model="gpt-5-mini", base_url=base_url)

        @batch_asset(partitions_def=dg.StaticPartitionsDefinition([f"p{i}" for i in range(RUNS)]))
        def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            """Never called: the runs are there already."""
            raise NotImplementedError

        resource = BatchorResource(root=str(place.home / "batchor"), base_url=base_url)
        with resource.runner() as runner:
            for number in range(RUNS):
                items = [BatchItem(f"row-{row}", f"row {row}") for row in range(10)]
                runner.start(
                    BatchJob(
                        items=items, build_prompt=lambda item: str(item.payload), provider_config=config
                    ),
                    run_id=f"idle-{number}",
                )
        definitions = build_batch_definitions(assets=[facts], resources={"batchor": resource})
        sensor = definitions.resolve_sensor_def("batchor_sensor")
        walls = []
        watch = Stopwatch()
        with dg.DagsterInstance.ephemeral() as instance:
            for _ in range(3):
                with dg.build_sensor_context(
                    instance=instance,
                    repository_def=definitions.get_repository_def(),
                    resources={"batchor": resource},
                ) as context:
                    began = perf_counter()
                    sensor(context)
                    walls.append(perf_counter() - began)
        watch.lap("all")
        return {"tick": Lap(statistics.median(walls), watch.laps["all"].cpu / len(walls))}
