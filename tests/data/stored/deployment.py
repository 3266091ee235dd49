"""The Dagster code of the stored deployment. Frozen, like jobs.py: the model is named in its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from batchor_core import BatchJob, OpenAIProviderConfig
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import (
    BatchAsset,
    BatchorResource,
    batch_asset,
    build_batch_definitions,
    build_results_io_manager,
)
from tests.data.stored import jobs

ROWS = 3
WRITTEN = ["birds", "東京", "_all", "A/b", "a/B", ".hidden"]
"""Partitions whose result files were written."""
ENDED = "frogs"
"""One whose run had ended, and whose results nobody had asked for."""
SUBMITTED = "fish"
"""One whose batch was at the provider."""

PARTITIONS = dg.StaticPartitionsDefinition([*WRITTEN, ENDED, SUBMITTED])


def _batch_asset() -> BatchAsset:
    @batch_asset(
        name="reviews",
        key_prefix=["shop"],
        partitions_def=PARTITIONS,
        output=jobs.Review,
        io_manager_key="results",
    )
    def reviews(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return BatchJob(
            items=jobs.rows(context.partition_key, ROWS),
            build_prompt=jobs.question,
            provider_config=OpenAIProviderConfig(model="gpt-5-mini"),
        )

    return reviews


class Deployment:
    """Definitions on an instance, ticked as Dagster's daemon would.

    Attributes:
        resource: Where the runs are kept.
        instance: The Dagster instance.
    """

    def __init__(self, folder: Path, server: OpenAIServer, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.resource = BatchorResource(
            root=str(folder / "root"), base_url=server.base_url, poll_interval_sec=0.01
        )
        self.asset = _batch_asset()
        self._resources = {"batchor": self.resource, "results": build_results_io_manager()}
        self._defs = build_batch_definitions(assets=[self.asset], resources=self._resources)
        self._cursor: str | None = None

    def submit(self, partition: str) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [self.asset.assets[0]],
            partition_key=partition,
            instance=self.instance,
            resources=self._resources,
        )

    def tick(self) -> list[dg.RunRequest]:
        sensor = self._defs.resolve_sensor_def("batchor_sensor")
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursor,
            repository_def=self._defs.get_repository_def(),
            resources={"batchor": self.resource},
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self._cursor = result.cursor
        return list(result.run_requests or [])

    def launch(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        assert request.job_name is not None
        return self._defs.resolve_job_def(request.job_name).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            run_config=request.run_config,
            tags=dict(request.tags),
        )

    def loaded(self, partition: str) -> pa.Table:
        """A partition's results as a downstream asset gets them."""
        tables: list[pa.Table] = []

        @dg.asset(partitions_def=PARTITIONS, ins={"reviews": dg.AssetIn(key=self.asset.key)})
        def praise(reviews: pa.Table) -> None:
            tables.append(reviews)

        assert dg.materialize(
            [*self.asset.assets, praise],
            selection=[praise],
            partition_key=partition,
            instance=self.instance,
            resources=self._resources,
        ).success
        return tables[0]


@contextmanager
def deployed(folder: Path, server: OpenAIServer) -> Iterator[Deployment]:
    """The deployment of a folder, on a server."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Deployment(folder, server, instance)
