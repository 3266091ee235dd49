"""Batch assets from YAML: ``dg scaffold defs batchor_dagster.BatchComponent <name>``."""

from batchor_dagster.components.batch import Batch
from batchor_dagster.components.component import BatchComponent

__all__ = ["Batch", "BatchComponent"]
