"""Whether the code location has what a batch asset needs besides itself: a sensor that brings its results."""

import dagster as dg

from batchor_dagster.facts import BatchFacts


def check_operations(asset: BatchFacts, context: dg.AssetExecutionContext) -> None:
    """Stop a submission whose results nobody in this code location would fetch. Nothing has been sent so far.

    Dagster has no hook for this when definitions are loaded. Assets that are listed one by one, as
    :func:`~batchor_dagster.build_batch_definitions` does it, are let through: their sensor may be in another code location.

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
