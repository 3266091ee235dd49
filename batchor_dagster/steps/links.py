"""Where an operator goes from a step's metadata: the control job's launchpad, and the other Dagster runs of the batch run."""

import dagster as dg

from batchor_core import RunSummary
from batchor_dagster.control import control_job_name, control_links, offered
from batchor_dagster.facts import BatchFacts
from batchor_dagster.metadata import Links, runs_url
from batchor_dagster.resource import BatchorResource


def links_of(
    context: dg.AssetExecutionContext, resource: BatchorResource, asset: BatchFacts, summary: RunSummary
) -> Links:
    """The links of one batch run, with the controls that make sense in its state."""
    return links_to(asset, summary, webserver_url=resource.webserver_url, location=_code_location(context))


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
