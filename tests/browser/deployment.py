"""The shop behind the browser: what its records say, read as Dagster and batchor keep them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from batchor_core import BatchRunner, RunSummary, SQLiteStorage
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster.backfills import BACKFILL_TAG, HOLD_TAG
from batchor_dagster.control import RUN_ID_TAG, STATE_TAG
from tests.support.dagster_processes import DagsterDeployment
from tests.support.waiting import until


@dataclass(frozen=True)
class Shop:
    """A running deployment."""

    deployment: DagsterDeployment
    instance: dg.DagsterInstance
    provider: OpenAIServer
    root: Path

    @property
    def url(self) -> str:
        return self.deployment.url

    def summary(self, run_id: str) -> RunSummary | None:
        """Where a batch run stands; None where there is none yet."""
        path = self.root / "batchor.sqlite3"
        if not path.exists():
            return None
        store = SQLiteStorage(path=path)
        try:
            with BatchRunner(storage=store) as runner:
                return runner.get_run(run_id).summary() if runner.has_run(run_id) else None
        finally:
            store.close()

    def wait_for_state(self, run_id: str, state: str) -> None:
        """Until the operator's wish has arrived in the store."""

        def arrived() -> bool:
            summary = self.summary(run_id)
            return summary is not None and summary.control_state == state

        until(arrived, f"{run_id} to be {state}", self.explain)

    def wait_until_submitted(self, *partitions: str) -> None:
        """Until each partition's batch lies at the provider, and Dagster knows it."""

        def submitted() -> bool:
            return set(partitions) <= self.instance.get_materialized_partitions(
                dg.AssetKey("reviews_submission")
            )

        until(submitted, f"{partitions} to be submitted", self.explain)

    def wait_until_landed(self, *partitions: str) -> None:
        """Until the results of each partition are there, and checked."""

        def landed() -> bool:
            there = self.instance.get_materialized_partitions(dg.AssetKey("reviews"))
            writing = dg.RunsFilter(
                job_name="batchor_results__reviews", statuses=[dg.DagsterRunStatus.STARTED]
            )
            return set(partitions) <= there and not self.instance.get_runs_count(writing)

        until(landed, f"{partitions} to land", self.explain)

    def times_landed(self, partition: str) -> int:
        """How often the results of a partition were written."""
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey("reviews"), asset_partitions=[partition])
        return len(self.instance.fetch_materializations(wanted, limit=100).records)

    def submitting_run(self, run_id: str) -> dg.DagsterRun:
        """The newest Dagster run that an operator started for a batch run."""
        runs = self.instance.get_runs(dg.RunsFilter(tags={RUN_ID_TAG: run_id}))
        return next(
            run for run in runs if "dagster/sensor_name" not in run.tags and run.job_name != "batchor_control"
        )

    def backfill_status(self) -> str:
        """How the only backfill stands."""
        [backfill] = self.instance.get_backfills()
        return str(backfill.status.value)

    def backfilled(self) -> list[dg.DagsterRun]:
        """The runs of the backfill that submitted, once all of them have ended."""
        [backfill] = self.instance.get_backfills()
        runs = self.instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: backfill.backfill_id}))
        own = [run for run in runs if HOLD_TAG not in run.tags and "dagster/sensor_name" not in run.tags]
        return own if all(run.is_finished for run in own) else []

    def wait_for_shown_state(self, run_id: str, state: str) -> None:
        """Until the sensor has written a state on the Dagster run."""
        until(
            lambda: self.submitting_run(run_id).tags.get(STATE_TAG) == state,
            f"{run_id} to be shown as {state}",
            self.explain,
        )

    def explain(self) -> str:
        runs = [f"{run.job_name} {run.status.value} {dict(run.tags)}" for run in self.instance.get_runs()]
        return "\n".join([*runs, self.deployment.logs()])
