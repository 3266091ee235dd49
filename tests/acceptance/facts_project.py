"""A code location whose heavy work goes through the run launcher: workers of their own, one Postgres store.

Its processes kill themselves once at each boundary that a file in ``DEATHS`` is named after, as ``<name>:<when>``.
"""

import os
import signal
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from batchor_core import BatchItem, BatchJob, ChunkPolicy, OpenAIProviderConfig
from batchor_core.core import boundaries
from batchor_core.core.boundaries import Boundary, When
from batchor_dagster import BatchorResource, batch_asset, build_batch_definitions

DEATHS = "BATCHOR_TEST_DEATHS"


def die_once(name: Boundary, when: When) -> None:
    """Remove the file that asks for it, and die."""
    asked = Path(os.environ[DEATHS], f"{name}:{when}")
    if asked.exists():
        asked.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


if DEATHS in os.environ:
    boundaries.install(die_once)

ROWS = 24
TOPICS = dg.StaticPartitionsDefinition(["birds", "fish"])


class Fact(BaseModel):
    """What is asked for."""

    statement: str
    surprising: bool


@batch_asset(partitions_def=TOPICS, output=Fact)
def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
    """Facts about a topic, in three batches."""
    topic = context.partition_key
    return BatchJob(
        items=[BatchItem(f"{topic}-{number}", f"fact {number} about {topic}") for number in range(ROWS)],
        build_prompt=lambda item: str(item.payload),
        provider_config=OpenAIProviderConfig(model="gpt-5-nano"),
        chunk_policy=ChunkPolicy(max_requests=ROWS // 3),
    )


defs = build_batch_definitions(
    assets=[facts],
    drive="job",
    minimum_interval_seconds=1,
    worker_patience_seconds=8,
    executor=dg.multiprocess_executor,
    resources={
        "batchor": BatchorResource(
            storage="postgres",
            postgres_schema=dg.EnvVar("BATCHOR_POSTGRES_SCHEMA"),
            root=dg.EnvVar("BATCHOR_ROOT"),
        )
    },
)
