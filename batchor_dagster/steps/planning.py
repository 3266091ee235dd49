"""Plans: what a new run of each partition would send and cost. Nothing is sent, and nothing is materialized."""

import tempfile
from pathlib import Path

import dagster as dg

from batchor_core import StateStore
from batchor_core.core.plan import Plan
from batchor_core.core.words import counted
from batchor_dagster.metadata import describe
from batchor_dagster.observations import observed_key
from batchor_dagster.plan_metadata import plan_metadata
from batchor_dagster.steps.failures import clear_failures
from batchor_dagster.steps.partitions import partition_keys
from batchor_dagster.steps.submission import build_job, with_reuse
from batchor_dagster.steps.task import Task

_DESCRIPTION = "A plan. Nothing was sent, and nothing is materialized: launch without plan to send it."


def show_plans(task: Task) -> None:
    """Log a plan of each partition, as an observation of the asset that starts its runs."""
    with clear_failures():
        for key in partition_keys(task.asset, task.context):
            made, note = _plan(task, key)
            task.context.log_event(
                dg.AssetObservation(
                    observed_key(task.asset),
                    partition=key,
                    description=_DESCRIPTION,
                    metadata=plan_metadata(made, note),
                )
            )
            where = "" if key is None else f" of {key}"
            task.context.log.info(
                f"plan{where}: {counted(made.rows_new, 'new row')}, {made.cost_text}. Nothing was sent."
            )


def _plan(task: Task, partition_key: str | None) -> tuple[Plan, str | None]:
    with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
        job = build_job(task, partition_key, Path(folder))
        with task.resource.planning(job.provider_config) as (store, planning):
            job = with_reuse(task, store, job)
            revision = task.asset.newest_revision(store, partition_key)
            extras = task.asset.extras(partition_key, revision + 1)
            run_id = task.asset.run_id(partition_key, revision + 1)
            return planning.plan(job, run_id=run_id, extras=extras), _about(
                task, store, partition_key, revision
            )


def _about(task: Task, store: StateStore, partition_key: str | None, revision: int) -> str | None:
    """What to know of the run that the partition has already."""
    if not revision:
        return None
    run_id = task.asset.run_id(partition_key, revision)
    state = describe(store.get_run_summary(run_id=run_id))
    return (
        f"the partition has the batch run {run_id} ({state}), which is continued or kept unless the job has changed; this plan is "
        "for a new revision"
    )
