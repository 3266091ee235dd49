"""Durable LLM batch runs as Dagster assets: one click submits, a sensor drives, Parquet appears."""

from batchor_core import RowItemSource
from batchor_core.tables import TableReport as ParquetReport
from batchor_core.tables import write_results_parquet
from batchor_core.tables.partition_files import partition_path
from batchor_core.tables.safe_names import safe_path_segment
from batchor_dagster.asset import BatchAsset
from batchor_dagster.asset_decorator import BatchConfig, OnTermination, batch_asset
from batchor_dagster.components import BatchComponent
from batchor_dagster.control import (
    ControlAction,
    ControlOutcome,
    apply_control,
    build_control_job,
    control_links,
    launchpad_url,
)
from batchor_dagster.definitions import build_batch_definitions, build_batch_operations
from batchor_dagster.io import build_results_io_manager
from batchor_dagster.providers import Provider
from batchor_dagster.resource import BatchorResource, LiteralKeyWarning
from batchor_dagster.revisions import OnChange, Rerun
from batchor_dagster.run_ids import batch_run_id
from batchor_dagster.sensor import build_batch_sensor, build_drive_job
from batchor_dagster.translator import BatchPart, BatchTranslator, BatchTranslatorData

__all__ = [
    "BatchAsset",
    "BatchComponent",
    "BatchConfig",
    "BatchPart",
    "BatchTranslator",
    "BatchTranslatorData",
    "BatchorResource",
    "ControlAction",
    "ControlOutcome",
    "LiteralKeyWarning",
    "OnChange",
    "OnTermination",
    "ParquetReport",
    "Provider",
    "Rerun",
    "RowItemSource",
    "apply_control",
    "batch_asset",
    "batch_run_id",
    "build_batch_definitions",
    "build_batch_operations",
    "build_batch_sensor",
    "build_control_job",
    "build_drive_job",
    "build_results_io_manager",
    "control_links",
    "launchpad_url",
    "partition_path",
    "safe_path_segment",
    "write_results_parquet",
]
