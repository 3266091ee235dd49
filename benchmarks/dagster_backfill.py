"""A backfill of many partitions on a real deployment: how long ticks take, how many Dagster runs there are, how long all of it.

    python -m benchmarks.dagster_backfill --partitions 100 --rows 50

The webserver, daemon and code server are real, Dagster's SQLite storage and batchor's lie in a temporary folder, and the local
server answers each batch after a second. What it measures is Dagster's overhead and the sensor's, not the engine's speed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import dagster as dg

from batchor_core.testing.openai_server import OpenAIServer
from benchmarks.dagster_project import partitions_of
from tests.support.dagster_processes import DagsterDeployment
from tests.support.waiting import until

_LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


def main() -> None:
    """Run the backfill and print the figures."""
    options = _options()
    keys = partitions_of(options.partitions)
    with (
        tempfile.TemporaryDirectory(prefix="batchor-backfill-") as name,
        OpenAIServer(batch_seconds=1) as server,
    ):
        folder = Path(name)
        environment = {
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "local",
            "BATCHOR_ROOT": str(folder / "batchor"),
            "BACKFILL_PARTITIONS": str(options.partitions),
            "BACKFILL_ROWS": str(options.rows),
            "BACKFILL_DRIVE": options.drive,
        }
        limit = {"concurrency": {"runs": {"max_concurrent_runs": options.concurrent_runs}}}
        project = Path(__file__).with_name("dagster_project.py")
        deployment = DagsterDeployment(folder / "dagster_home", project, environment, limit)
        try:
            deployment.start("code", "daemon", "webserver")
            with deployment.instance() as instance:
                began = time.monotonic()
                _launch(deployment.url, keys)
                submitted = _wait(instance, "answers_submission", keys, deployment, options.limit) - began
                landed = _wait(instance, "answers", keys, deployment, options.limit) - began
                _report(instance, server, submitted=submitted, landed=landed)
        finally:
            deployment.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partitions", type=int, default=100)
    parser.add_argument("--rows", type=int, default=50, help="rows of each partition")
    parser.add_argument("--concurrent-runs", type=int, default=4, help="Dagster runs at a time")
    parser.add_argument("--drive", choices=["tick", "job"], default="tick")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which it gives up")
    return parser.parse_args()


def _launch(url: str, keys: list[str]) -> None:
    params = {"assetSelection": [{"path": ["answers_submission"]}], "partitionNames": keys}
    body = json.dumps({"query": _LAUNCH, "variables": {"params": params}}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    result = (answer.get("data") or {}).get("launchPartitionBackfill") or answer
    if result.get("__typename") != "LaunchBackfillSuccess":
        raise SystemExit(f"the backfill was not launched: {result}")


def _wait(
    instance: dg.DagsterInstance, asset: str, keys: list[str], deployment: DagsterDeployment, limit: float
) -> float:
    def done() -> bool:
        return set(keys) <= instance.get_materialized_partitions(dg.AssetKey(asset))

    until(done, f"all partitions of {asset}", deployment.logs, seconds=limit, every=1)
    return time.monotonic()


def _report(instance: dg.DagsterInstance, server: OpenAIServer, *, submitted: float, landed: float) -> None:
    runs = Counter(f"{run.job_name} {run.status.value}" for run in instance.get_runs())
    seconds = sorted(_tick_seconds(instance))
    print(f"all submitted after {submitted:.0f} s, all landed after {landed:.0f} s")
    print(
        f"{len(seconds)} ticks: median {statistics.median(seconds):.2f} s, "
        f"95 % within {seconds[int(len(seconds) * 0.95)]:.2f} s, longest {seconds[-1]:.2f} s"
    )
    for name, count in sorted(runs.items()):
        print(f"{count} Dagster runs of {name}")
    books = server.books
    print(
        f"{len(books.batches)} batches, {books.rows_executed} rows executed, "
        f"{len(books.bodies_executed_twice)} of them twice, {len(books.requests)} requests to the provider"
    )


def _tick_seconds(instance: dg.DagsterInstance) -> list[float]:
    [sensor] = [state for state in instance.all_instigator_state() if state.name == "batchor_sensor"]
    ticks = instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id)
    return [tick.end_timestamp - tick.timestamp for tick in ticks if tick.end_timestamp is not None]


if __name__ == "__main__":
    main()
