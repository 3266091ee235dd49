"""Where an operator goes from a step's metadata: the control job's launchpad, and the other Dagster runs of the batch run."""

import dagster as dg

from batchor_core import Run
from batchor_dagster.asset import BatchAsset
from batchor_dagster.control import control_job_name, control_links
from batchor_dagster.metadata import Links, runs_url
from batchor_dagster.resource import BatchorResource


def links_of(
    context: dg.AssetExecutionContext, resource: BatchorResource, asset: BatchAsset, run: Run
) -> Links:
    """The links of one batch run."""
    url = resource.webserver_url
    return Links(
        controls=control_links(
            run.run_id,
            location=_code_location(context),
            webserver_url=url,
            job_name=asset.control_job or control_job_name(asset.resource_key),
        ),
        runs=runs_url(run.run_id, webserver_url=url),
    )


def _code_location(context: dg.AssetExecutionContext) -> str | None:
    """Where the control job lies: Dagster tags every run with ``<repository>@<location>``."""
    repository = context.run.tags.get(".dagster/repository", "")
    name, _, location = repository.partition("@")
    return location if name == "__repository__" and location else None
