"""The submission: starts, continues, retries or replaces a partition's run, as ``revisions`` decides."""

import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_never

import dagster as dg

from batchor_core import BatchJob, BatchRunner, Run, StateStore
from batchor_core.core.enums import RunControlState
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.control import add_run_id_tag, apply_all, mark_applied
from batchor_dagster.metadata import Metadata, describe, submission_metadata, unknown_outcome
from batchor_dagster.observations import in_flight
from batchor_dagster.revisions import (
    ASKED_BY_EXTRA,
    Decision,
    JobDigest,
    Move,
    Newest,
    Rerun,
    changes,
    decide,
    decide_changed,
    revision_of,
)
from batchor_dagster.steps.failures import clear_failures
from batchor_dagster.steps.links import links_of
from batchor_dagster.steps.operations import check_operations
from batchor_dagster.steps.partitions import OneAsset, OnePartition, each_partition, partition_keys
from batchor_dagster.steps.rereading import resumable
from batchor_dagster.steps.task import Task

RERUN_TAG = "batchor/rerun"
"""``failed`` or ``all``: the same as ``rerun`` in the run config, for bulk re-execution and backfills."""

RERUN_APPLIED_TAG = "batchor/rerun_applied"
"""The Dagster run for which failed rows have been tried again; a retry of it does not try them once more."""


def submit(task: Task) -> dg.Output[None]:
    """Start the run of each partition, or attach to the existing one."""
    check_operations(task.asset, task.context)
    with task.resource.runner() as runner, clear_failures():
        return each_partition(
            task.asset,
            task.context,
            lambda key: _submission_metadata(task, key, *begin(task, runner, key)),
            asset_key=task.asset.submission_key,
        )


def begin(task: Task, runner: BatchRunner, partition_key: str | None) -> tuple[Run, Decision | None]:
    """Do what is to be done with the partition's run, and return it."""
    if (
        not task.tells_partitions_apart
        and not task.action
        and len(partition_keys(task.asset, task.context)) > 1
    ):
        raise InvalidInputError(
            f"The function of {task.asset.key.to_user_string()} takes no context, so each partition of this range would "
            "send, and pay for, the same rows. Nothing was sent: give it a first parameter named context, or run the partitions one by one."
        )
    if task.action:
        run_id = task.asset.newest_run_id(runner, partition_key)
        _name_run(task, run_id)
        apply_all(task.context, runner, [run_id], task.action)
        mark_applied(task.context.instance, task.context.run.run_id, task.action)
        return runner.get_run(run_id), None
    run, decision = _start(task, runner, partition_key)
    task.context.log.info(f"batch run {run.run_id}: {decision.reason} ({describe(run.summary())})")
    return run, decision


def _start(task: Task, runner: BatchRunner, partition_key: str | None) -> tuple[Run, Decision]:
    decision = decide(_newest(task, runner, partition_key), _rerun(task))
    if decision.move.needs_the_job:
        with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
            job = with_reuse(task, runner.storage, build_job(task, partition_key, Path(folder)))
            digest = JobDigest.of(job) if decision.move is not Move.read_on else None
            if decision.move is Move.compare and digest is not None:
                decision = _compare(task, runner, partition_key, decision, job, digest)
            if decision.move in (Move.create, Move.read_on):
                return _read(task, runner, partition_key, decision, job, digest), decision
    run_id = task.asset.run_id(partition_key, decision.revision)
    _name_run(task, run_id)
    run = runner.get_run(run_id)
    match decision.move:
        case Move.attach:
            run.refresh()
        case Move.retry_failed:
            runner.retry_failed(run_id)
            task.context.instance.add_run_tags(
                task.context.run.run_id, {RERUN_APPLIED_TAG: task.context.run.run_id}
            )
            run.refresh()
        case Move.refuse:
            raise InvalidInputError(f"Batch run {run_id}: {decision.reason}.")
        case Move.keep | Move.create | Move.read_on | Move.compare:
            pass
        case _:
            assert_never(decision.move)
    return run, decision


def build_job(task: Task, partition_key: str | None, folder: Path) -> BatchJob[Any, Any]:
    context: Any = task.context
    if isinstance(task.context.assets_def.node_def, dg.GraphDefinition):
        context = OneAsset(task.context, task.asset.submission_key or task.asset.key)
    if partition_key is not None and len(task.context.partition_keys) > 1:
        context = OnePartition(context, partition_key)
    job = task.build_job(context)
    return replace(job, items=resumable(job.items, folder))


def with_reuse(task: Task, store: StateStore, job: BatchJob[Any, Any]) -> BatchJob[Any, Any]:
    """The job with what the asset, or else the resource, says of reuse, where the job itself says nothing."""
    if job.reuse == "off":
        scope = task.reuse or task.resource.reuse_scope() or ("asset" if store.supports_reuse else "off")
        job = replace(job, reuse=scope)
    if job.reuse != "off" and _rerun(task) is Rerun.all:
        # every row is asked again: no answer is that young, and the new ones take the place of the old ones
        job = replace(job, max_age=timedelta.resolution)
    return job


def _read(
    task: Task,
    runner: BatchRunner,
    partition_key: str | None,
    decision: Decision,
    job: BatchJob[Any, Any],
    digest: JobDigest | None,
) -> Run:
    """Start a revision, or go on reading the rows of one; returns when all of them are in the store."""
    run_id = task.asset.run_id(partition_key, decision.revision)
    # before the start, so that an operator finds the run while its items are being read
    _name_run(task, run_id)
    extras = task.asset.extras(partition_key, decision.revision)
    extras |= {ASKED_BY_EXTRA: task.context.run.run_id, **(digest.to_extras() if digest else {})}
    run = runner.start(job, run_id=run_id, extras=extras)
    # another driver, such as a tick of the sensor, may have held the run just now, and it has not got the rows
    while not run.is_finished and run.control_state is RunControlState.RUNNING:
        if run.summary().ingestion_complete:
            break
        time.sleep(task.resource.poll_interval_sec)
        run.refresh()
    return run


def _compare(
    task: Task,
    runner: BatchRunner,
    partition_key: str | None,
    decision: Decision,
    job: BatchJob[Any, Any],
    digest: JobDigest,
) -> Decision:
    run_id = task.asset.run_id(partition_key, decision.revision)
    found = changes(run_id, runner.get_run(run_id).config, job, digest)
    return decide_changed(decision.revision, found, task.on_change)


def _newest(task: Task, runner: BatchRunner, partition_key: str | None) -> Newest | None:
    revision = task.asset.newest_revision(runner, partition_key)
    if revision == 0:
        return None
    run = runner.get_run(task.asset.run_id(partition_key, revision))
    asked_by = [run.config.extras.get(ASKED_BY_EXTRA), task.context.run.tags.get(RERUN_APPLIED_TAG)]
    current = task.context.instance.get_run_by_id(task.context.run.run_id)
    if current is not None:  # a step that is retried has tags that the run did not start with
        asked_by.append(current.tags.get(RERUN_APPLIED_TAG))
    return Newest.of(
        run.summary(), revision, is_asked_for=any(_is_retry_of(task.context, asker) for asker in asked_by)
    )


def _is_retry_of(context: dg.AssetExecutionContext, asker: object) -> bool:
    """Whether this Dagster run is that one, or a retry of it, which is so in the same family while that one has not succeeded."""
    if not isinstance(asker, str):
        return False
    if asker == context.run.run_id:
        return True
    record = context.instance.get_run_by_id(asker)
    if record is None or record.status is dg.DagsterRunStatus.SUCCESS:
        return False
    family = record.root_run_id or record.run_id
    return bool(family == (context.run.root_run_id or context.run.run_id))


def _rerun(task: Task) -> Rerun:
    tag = task.context.run.tags.get(RERUN_TAG)
    if tag is None:
        return task.rerun
    try:
        return Rerun(tag.strip().lower())
    except ValueError:
        raise InvalidInputError(f"{RERUN_TAG}={tag!r} is none of {', '.join(Rerun)}") from None


def _name_run(task: Task, run_id: str) -> None:
    add_run_id_tag(task.context.instance, task.context.run.run_id, run_id)


def _submission_metadata(
    task: Task, partition_key: str | None, run: Run, decision: Decision | None
) -> Metadata:
    summary, config = run.summary(), run.config
    if warning := unknown_outcome(summary):
        task.context.log.warning(f"batch run {run.run_id}: {warning}")
    links = links_of(task.context, task.resource, task.asset, summary)
    if (awaited := in_flight(task.asset, partition_key, summary, links)) is not None:
        task.context.log_event(awaited)
    return submission_metadata(
        summary,
        task.resource.with_server(config.provider_config),
        estimate=task.resource.get_runner().estimate(run.run_id),
        rates=run.rates,
        revision=revision_of(config.extras),
        links=links,
        reason=decision.reason if decision is not None else "",
    )
