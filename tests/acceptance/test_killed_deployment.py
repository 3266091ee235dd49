"""Whatever is killed, each partition lands once and nothing is paid twice.

The real daemon, code server and workers on one Postgres store. Workers are launched by the run launcher and use the
multiprocess executor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from batchor_core.core.boundaries import Boundary
from batchor_core.testing.openai_server import HttpFault, OpenAIServer
from tests.acceptance.facts_project import DEATHS, ROWS, TOPICS
from tests.postgres_server import postgres_dsn, postgres_schema
from tests.support.dagster_processes import DagsterDeployment
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres, pytest.mark.slow]

FACTS = dg.AssetKey("facts")
DRIVES = dg.RunsFilter(job_name="batchor_drive")


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer(manual=True) as server:
        yield server


@pytest.fixture
def deaths(tmp_path: Path) -> Path:
    """A file in here is one death of one worker; its name says where."""
    folder = tmp_path / "deaths"
    folder.mkdir()
    return folder


@pytest.fixture
def deployment(tmp_path: Path, provider: OpenAIServer, deaths: Path) -> Iterator[DagsterDeployment]:
    with postgres_schema() as schema:
        environment = {
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": "local",
            "BATCHOR_ROOT": str(tmp_path / "batchor"),
            "BATCHOR_POSTGRES_DSN": postgres_dsn(),
            "BATCHOR_POSTGRES_SCHEMA": schema,
            DEATHS: str(deaths),
        }
        definitions = Path(__file__).with_name("facts_project.py")
        deployment = DagsterDeployment(tmp_path / "dagster_home", definitions, environment)
        try:
            yield deployment
        finally:
            deployment.stop()


def struck(provider: OpenAIServer) -> bool:
    """Whether a request is held up by a fault right now, or was."""
    return any(fault["struck"] for fault in provider.faults.as_json())


def check_landed_once(instance: dg.DagsterInstance, topic: str) -> None:
    wanted = dg.AssetRecordsFilter(asset_key=FACTS, asset_partitions=[topic])
    [record] = instance.fetch_materializations(wanted, limit=10).records
    metadata = record.asset_materialization.metadata if record.asset_materialization else {}
    assert metadata["dagster/partition_row_count"].value == ROWS
    assert metadata["batchor/failed"].value == 0


@pytest.mark.long
def test_killing_workers_code_server_and_daemon_costs_nothing(
    deployment: DagsterDeployment, provider: OpenAIServer
) -> None:
    # a worker dies while it creates its second batch, of which it will never learn what became
    provider.faults.add(HttpFault("cut", method="POST", path="/v1/batches", nth=2, after_work=True))
    doomed = deployment.materialize("facts_submission", "birds")
    try:
        until(lambda: struck(provider), "the second batch to be created", deployment.logs)
    finally:
        os.killpg(doomed.pid, signal.SIGKILL)
        doomed.wait()
    assert deployment.materialize("facts_submission", "fish").wait(timeout=90) == 0, deployment.logs()

    # code server, daemon and the workers that they launched die while batches are downloaded
    provider.advance(24 * 3600)
    provider.faults.clear()
    provider.faults.add(HttpFault("delay", path="/v1/files/*/content", nth=2, times=4, seconds=6))
    deployment.start("code", "daemon")
    until(lambda: struck(provider), "downloads to begin", deployment.logs)
    for part in ("code", "daemon"):
        deployment.kill(part)
    provider.faults.clear()

    deployment.start("code", "daemon")
    with deployment.instance() as instance:

        def landed() -> bool:
            provider.advance(60)  # what was sent anew takes its time
            return instance.get_materialized_partitions(FACTS) == set(TOPICS.get_partition_keys())

        until(landed, "all partitions to land", deployment.logs, seconds=150, every=1)
        for topic in TOPICS.get_partition_keys():
            check_landed_once(instance, topic)
        drives = instance.get_runs(DRIVES)
        assert len({run.tags["batchor/run_id"] for run in drives}) == len(TOPICS.get_partition_keys())
    assert not provider.books.bodies_executed_twice
    assert provider.books.rows_executed == ROWS * len(TOPICS.get_partition_keys())


@pytest.mark.long
def test_a_worker_that_dies_before_or_after_it_has_placed_the_results_file_is_replaced(
    deployment: DagsterDeployment, provider: OpenAIServer, deaths: Path
) -> None:
    # in the second case the file is there, and Dagster never heard of it
    for when in ("before", "after"):
        (deaths / f"{Boundary.WRITE_TABLE}:{when}").touch()
    assert deployment.materialize("facts_submission", "birds").wait(timeout=90) == 0, deployment.logs()
    provider.advance(24 * 3600)
    deployment.start("code", "daemon")
    with deployment.instance() as instance:

        def landed() -> bool:
            return instance.get_materialized_partitions(FACTS) == {"birds"}

        until(landed, "the partition to land", deployment.logs, seconds=150, every=1)
        assert list(deaths.iterdir()) == []
        check_landed_once(instance, "birds")
        tried = instance.get_runs(dg.RunsFilter(job_name="batchor_results__facts"))
        assert sum(run.status is dg.DagsterRunStatus.FAILURE for run in tried) == 2
    assert provider.books.rows_executed == ROWS
