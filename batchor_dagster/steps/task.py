"""One execution of a step that knows its job, and what was requested of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import dagster as dg

from batchor_core import BatchJob
from batchor_core.core.reuse import ReuseScope
from batchor_dagster.control import ACTION_TAG
from batchor_dagster.facts import BatchFacts
from batchor_dagster.resource import BatchorResource
from batchor_dagster.revisions import OnChange, Rerun

BuildJob: TypeAlias = Callable[[Any], BatchJob[Any, Any]]
"""The user's function: returns the job of the context's partition."""


@dataclass(frozen=True)
class Task:
    """One execution of a step that knows its job.

    Attributes:
        asset: The batch asset.
        context: Of the step.
        resource: Where runs are stored.
        build_job: Makes the job of one partition.
        rerun: What the run config requests.
        on_change: What to do if the job has changed.
        reuse: Whose answers runs may have, unless the job itself says so; None for what the resource says.
        tells_partitions_apart: Whether the user's function takes the context, and with it the partition.
    """

    asset: BatchFacts
    context: dg.AssetExecutionContext
    resource: BatchorResource
    build_job: BuildJob
    rerun: Rerun
    on_change: OnChange
    reuse: ReuseScope | None = None
    tells_partitions_apart: bool = True

    @property
    def action(self) -> str | None:
        """The action that an operator requested by a tag on this Dagster run."""
        return self.context.run.tags.get(ACTION_TAG)
