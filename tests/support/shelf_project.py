"""A Dagster project whose provider is not OpenAI's; its provider comes from a package, or from the resource."""

import os
from typing import Any

import dagster as dg

from batchor_core import BatchItem, BatchJob
from batchor_dagster import BatchorResource, Provider, batch_asset, build_batch_definitions
from tests.support.shelf_provider import ShelfConfig, ShelfProvider

HOME = os.environ["SHELF_HOME"]
KEY = {"api_key": dg.EnvVar("SHELF_KEY")}


@batch_asset(partitions_def=dg.StaticPartitionsDefinition(["birds", "fish"]), kinds={"shelf", "parquet"})
def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
    return BatchJob(
        items=[BatchItem(f"{context.partition_key}-{index}", f"fact {index}") for index in range(3)],
        build_prompt=lambda item: item.payload,
        provider_config=ShelfConfig(f"{HOME}/shelf"),
    )


def provider() -> Provider:
    if os.environ["SHELF_FROM"] == "package":
        return Provider(settings=KEY)
    # no subclass of BatchProvider, as documented ones may be
    return Provider(ShelfProvider, ShelfConfig.from_payload, settings=KEY)  # type: ignore[arg-type]


RESOURCE = BatchorResource(root=f"{HOME}/batchor", providers={"shelf": provider()})

defs = build_batch_definitions(
    assets=[facts],
    drive="job" if os.environ.get("SHELF_DRIVE") == "job" else "tick",
    resources={"batchor": RESOURCE},
)


def tick_until_done() -> None:
    """The daemon's part, in a process of its own: ticks the sensor and runs what it asks for."""
    with dg.DagsterInstance.get() as instance:
        cursor = None
        for _ in range(20):
            with dg.build_sensor_context(
                instance=instance,
                cursor=cursor,
                repository_def=defs.get_repository_def(),
                resources={"batchor": RESOURCE},
            ) as context:
                result: Any = defs.resolve_sensor_def("batchor_sensor")(context)
            cursor = result.cursor
            print(result.skip_reason)
            for request in result.run_requests:
                print("launches", request.job_name)
                done = defs.resolve_job_def(request.job_name).execute_in_process(
                    instance=instance,
                    partition_key=request.partition_key,
                    run_config=request.run_config,
                    tags=request.tags,
                    asset_selection=request.asset_selection,
                )
                assert done.success
                if request.job_name.startswith("batchor_results"):
                    return
    raise AssertionError("no results after 20 ticks")


if __name__ == "__main__":
    tick_until_done()
