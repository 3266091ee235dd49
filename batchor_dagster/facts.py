"""What the steps, the sensor and the checks know of a batch asset: its keys, its sink, and the runs that belong to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import dagster as dg
from pydantic import BaseModel

from batchor_core import BatchRunner, StateStore
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.spending import ASSET_EXTRA, PARTITION_EXTRA
from batchor_core.core.types import JSONObject
from batchor_core.storage.state import RunListing
from batchor_core.tables import ParquetSink, ResultSink, ResultTable
from batchor_dagster.resource import BatchorResource
from batchor_dagster.revisions import REVISION_EXTRA, revision_of
from batchor_dagster.run_ids import batch_run_id

RESULTS_JOB_PREFIX = "batchor_results__"

SINK_METADATA = "batchor/sink"
"""Definition metadata of an asset whose results are not plain Parquet files: by it, readers open them."""


@dataclass(frozen=True)
class BatchFacts:
    """The facts of a batch asset; see :class:`~batchor_dagster.BatchAsset`.

    Attributes:
        key: Asset key of the results.
        submission_key: Asset key of the submission; None with ``wait=True``.
        partitions_def: Their partitions, if they have any.
        output: What the answers are: an output, or the model of a structured job.
        resource_key: Name of the :class:`BatchorResource`.
        control_job: Name of the control job that its links open; that of the resource if None.
        sink: Where results go, and in which format.
    """

    key: dg.AssetKey
    submission_key: dg.AssetKey | None
    partitions_def: dg.PartitionsDefinition[str] | None
    output: type[BaseModel] | OutputSpec | None
    resource_key: str
    control_job: str | None = None
    sink: ResultSink = field(default_factory=ParquetSink)

    @property
    def results_job(self) -> str:
        """Name of the job with which the sensor writes the results."""
        return RESULTS_JOB_PREFIX + self.key.to_python_identifier()

    def run_id(self, partition_key: str | None = None, revision: int = 1) -> str:
        """The batch run of a partition, in one of its revisions."""
        return batch_run_id(self.key.path, partition_key, revision=revision)

    def newest_revision(self, runs: BatchRunner | StateStore, partition_key: str | None = None) -> int:
        """The number of a partition's newest run; 0 if it has none."""
        revision = 0
        while runs.has_run(run_id=self.run_id(partition_key, revision + 1)):
            revision += 1
        return revision

    def newest_run_id(self, runner: BatchRunner, partition_key: str | None = None) -> str:
        """The newest batch run of a partition; the id of the first if it has none yet."""
        return self.run_id(partition_key, max(1, self.newest_revision(runner, partition_key)))

    def result_path(self, resource: BatchorResource, partition_key: str | None = None) -> str:
        """Where a partition's results are: the path or URL of its file, or of the table that holds it."""
        return self.result_table(resource).where(partition_key)

    def result_table(self, resource: BatchorResource) -> ResultTable:
        """The results of all partitions."""
        return self.sink.table(resource.results_base(), self.key.path)

    def extras(self, partition_key: str | None, revision: int) -> JSONObject:
        """Stored with a run, so that the sensor knows its asset and partition."""
        return {
            ASSET_EXTRA: list(self.key.path),
            PARTITION_EXTRA: partition_key,
            REVISION_EXTRA: revision,
        }


def partition_of(asset: BatchFacts, listing: RunListing) -> tuple[str | None] | None:
    """The partition key of a stored run, in a tuple; None if the run does not belong to this asset."""
    if listing.extras.get(ASSET_EXTRA) != list(asset.key.path):
        return None
    stored = listing.extras.get(PARTITION_EXTRA)
    partition_key = None if stored is None else str(stored)
    own = asset.run_id(partition_key, revision_of(listing.extras))
    return (partition_key,) if own == listing.run_id else None
