"""Writes a finished run's results, which replace those of the partition."""

import dagster as dg

from batchor_core import BatchRunner, Run
from batchor_core.core.exceptions import ModelResolutionError, RunNotFoundError
from batchor_core.core.outputs import ModelOutput, OutputSpec
from batchor_core.core.prompt_cache import cache_warning
from batchor_core.core.structured import resolve_model
from batchor_core.core.tools import ToolOutput
from batchor_core.runtime.outputs import declared_output, stored_output
from batchor_core.runtime.report import batch_times
from batchor_core.storage.state import PersistedRunConfig
from batchor_dagster.answers_digest import ANSWERS_DIGEST, Digesting
from batchor_dagster.backfills import BACKFILL_TAG, hold
from batchor_dagster.control import add_run_id_tag
from batchor_dagster.dagster_runs import latest_materialization
from batchor_dagster.facts import BatchFacts
from batchor_dagster.metadata import Metadata, describe, progress_metadata, result_metadata
from batchor_dagster.observations import show_state
from batchor_dagster.resource import BatchorResource
from batchor_dagster.revisions import revision_of
from batchor_dagster.steps.failures import clear_failures
from batchor_dagster.steps.links import links_of
from batchor_dagster.steps.operations import code_location
from batchor_dagster.steps.partitions import each_partition, partition_keys


def write_results(
    asset: BatchFacts, context: dg.AssetExecutionContext, resource: BatchorResource
) -> dg.Output[None] | None:
    """Write the results of each partition's newest run, which must be finished.

    None if this Dagster run has submitted a run that is not finished: the sensor writes its results later.
    """
    with resource.runner() as runner, clear_failures():
        if _come_later(asset, context, runner):
            return None

        def finish(key: str | None) -> Metadata:
            run = _finished_run(asset, context, runner, key)
            metadata = write(asset, context, resource, run, key)
            show_state(asset, context, run, key)  # there may be no sensor to do it
            return metadata

        return each_partition(asset, context, finish)


def _come_later(asset: BatchFacts, context: dg.AssetExecutionContext, runner: BatchRunner) -> bool:
    """Whether this Dagster run has submitted a batch run that is not finished; logs what happens next."""
    come_later = False
    for key in partition_keys(asset, context):
        run_id = asset.newest_run_id(runner, key)
        if not _is_submitted_here(asset, context, key) or (run := runner.get_run(run_id)).is_finished:
            continue
        come_later = True
        following = (
            f"the sensor looks after it, and materializes {asset.key.to_user_string()} when it has ended"
        )
        if code_location(context) is None:
            following += ". In a test, batchor_dagster.testing.materialize_batch does all of it"
        context.log.info(
            f"batch run {run_id} is submitted ({describe(run.summary())}). Next: {following}. This Dagster run is done."
        )
    if come_later and (backfill_id := context.run.tags.get(BACKFILL_TAG)):
        hold(context.instance, backfill_id, asset.key)
    return come_later


def _is_submitted_here(asset: BatchFacts, context: dg.AssetExecutionContext, key: str | None) -> bool:
    if asset.submission_key is None:
        return False
    submitted = latest_materialization(context.instance, asset.submission_key, key)
    return submitted is not None and submitted.run_id == context.run.run_id


def write(
    asset: BatchFacts,
    context: dg.AssetExecutionContext,
    resource: BatchorResource,
    run: Run,
    partition_key: str | None,
) -> Metadata:
    """Replace the partition's results with those of a run."""
    table = asset.result_table(resource)
    config = run.config
    output = asset.output or _stored_output(config)
    provider_config = resource.with_server(config.provider_config)
    pages = Digesting(run)
    report = table.write(pages, partition_key, output)
    context.log.info(f"wrote {report.row_count} rows, {report.failed_count} of them failed, to {report.uri}")
    summary = run.summary()
    metadata = result_metadata(
        report,
        summary=summary,
        batches=batch_times(resource.get_runner().storage, run.run_id, provider_config),
        config=provider_config,
        revision=revision_of(config.extras),
        links=links_of(context, resource, asset, summary),
        cache=cache_warning(summary.usage, run.rates),
    )
    return {**metadata, ANSWERS_DIGEST: dg.MetadataValue.text(pages.digest)}


def _finished_run(
    asset: BatchFacts, context: dg.AssetExecutionContext, runner: BatchRunner, partition_key: str | None
) -> Run:
    run_id = asset.newest_run_id(runner, partition_key)
    try:
        run = runner.get_run(run_id)
    except RunNotFoundError:
        raise dg.Failure(
            f"There is no batch run {run_id} yet. Materialize {(asset.submission_key or asset.key).to_user_string()} first.",
            allow_retries=False,
        ) from None
    if not run.is_finished:
        raise dg.Failure(
            f"Batch run {run_id} is not finished ({describe(run.summary())}). Nothing was changed. "
            "The sensor materializes this asset when it is.",
            metadata=dict(progress_metadata(run.summary())),
            allow_retries=False,
        )
    add_run_id_tag(context.instance, context.run.run_id, run_id)
    return run


def _stored_output(config: PersistedRunConfig) -> OutputSpec:
    """The run's output; of a model that has changed since, the model as it is now."""
    declared = declared_output(config)
    if isinstance(declared, ToolOutput):
        try:
            return stored_output(config)
        except ModelResolutionError:
            return declared
    if config.structured_output_module is None or config.structured_output_qualname is None:
        return declared
    try:
        return ModelOutput(resolve_model(config.structured_output_module, config.structured_output_qualname))
    except ModelResolutionError:
        return declared  # the answers are in output_text all the same
