"""Checks that the code location has a sensor that fetches an asset's results."""

import dagster as dg

from batchor_dagster.facts import BatchFacts


def check_operations(asset: BatchFacts, context: dg.AssetExecutionContext) -> None:
    """Stop a submission if no sensor of this code location would fetch its results. Nothing has been sent yet.

    Dagster has no hook for this when definitions are loaded. Assets that are listed one by one, as by
    :func:`~batchor_dagster.build_batch_definitions`, are not checked: their sensor may be in another code location.

    Raises:
        Failure: The definitions have no sensor for this asset.
    """
    if not isinstance(context.assets_def.node_def, dg.GraphDefinition):
        return
    repository = code_location(context)
    if repository is not None and not repository.has_job(asset.results_job):
        raise dg.Failure(
            f"Nothing was sent: no sensor of this code location writes the results of {asset.key.to_user_string()}. Add what "
            "batch assets need besides themselves: dg.Definitions.merge(<your definitions>, build_batch_operations("
            f"assets=[{asset.key.path[-1]}], resources={{...}})), from batchor_dagster.",
            allow_retries=False,
        )


def code_location(context: dg.AssetExecutionContext) -> dg.RepositoryDefinition | None:
    """The definitions around a step; None outside a code location, as in a test that calls ``dg.materialize``."""
    try:
        return context.repository_def
    except Exception:  # Dagster has no name for this error
        return None
