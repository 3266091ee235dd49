"""The links in a step's metadata: to the control job's launchpad, the other Dagster runs of the batch run, and the provider's console."""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from batchor_core import RunSummary
from batchor_core.core.markdown import plain
from batchor_core.core.turnaround import BatchTime
from batchor_core.runtime.report import batch_times
from batchor_dagster.control import control_job_name, control_links, offered
from batchor_dagster.facts import BatchFacts
from batchor_dagster.metadata import Links, runs_url
from batchor_dagster.resource import BatchorResource

_LINKED_BATCHES = 10


def links_of(
    context: dg.AssetExecutionContext, resource: BatchorResource, asset: BatchFacts, summary: RunSummary
) -> Links:
    """The links of one batch run, with the controls that make sense in its state."""
    links = links_to(asset, summary, webserver_url=resource.webserver_url, location=_code_location(context))
    store = resource.get_runner().storage
    config = resource.with_server(store.get_run_config(run_id=summary.run_id).provider_config)
    return replace(links, batches=batch_links(batch_times(store, summary.run_id, config)))


def batch_links(batches: Sequence[BatchTime]) -> str:
    """The newest batches in the provider's console, as Markdown; empty if the provider has none."""
    pages = [f"[{plain(batch.batch_id)}]({batch.url})" for batch in reversed(batches) if batch.url]
    more = f", and {len(pages) - _LINKED_BATCHES:,} more" if len(pages) > _LINKED_BATCHES else ""
    return ", ".join(pages[:_LINKED_BATCHES]) + more


def links_to(
    asset: BatchFacts, summary: RunSummary, *, webserver_url: str, location: str | None = None
) -> Links:
    """The same where no step runs. Without a location, the page looks for the control job in all of them."""
    return Links(
        controls=control_links(
            summary.run_id,
            location=location,
            webserver_url=webserver_url,
            job_name=asset.control_job or control_job_name(asset.resource_key),
            actions=offered(summary),
        ),
        runs=runs_url(summary.run_id, webserver_url=webserver_url),
    )


def _code_location(context: dg.AssetExecutionContext) -> str | None:
    """Where the control job lies: Dagster tags every run with ``<repository>@<location>``."""
    repository = context.run.tags.get(".dagster/repository", "")
    name, _, location = repository.partition("@")
    return location if name == "__repository__" and location else None
