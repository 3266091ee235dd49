"""A run's results as tables: their columns, files and frames, and the formats that partitions of them are kept in.

``batchor_core.Run`` has the methods (``to_parquet``, ``to_arrow``, ``to_polars``, ``to_pandas``). A :class:`ResultSink`
keeps many runs as the partitions of one table; an orchestrator, such as the Dagster integration, writes to any sink.
"""

from batchor_core.tables.delta_sink import DeltaSink
from batchor_core.tables.parquet_file import write_results_parquet
from batchor_core.tables.parquet_sink import ParquetSink
from batchor_core.tables.registry import register_sink, sink_of
from batchor_core.tables.report import ErrorCount, TableReport
from batchor_core.tables.sink import PartitionFacts, ResultSink, ResultTable

__all__ = [
    "DeltaSink",
    "ErrorCount",
    "ParquetSink",
    "PartitionFacts",
    "ResultSink",
    "ResultTable",
    "TableReport",
    "register_sink",
    "sink_of",
    "write_results_parquet",
]
