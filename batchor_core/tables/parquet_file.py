"""Results as one Parquet file, written row group by row group. It appears under its name only when it is complete."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.outputs import OutputSpec
from batchor_core.tables.input_order import gathered
from batchor_core.tables.places import place_of, whole_file
from batchor_core.tables.report import TableReport
from batchor_core.tables.sink import PartitionFacts
from batchor_core.tables.stream import ResultStream, RowPages

ROW_GROUP_ROWS = 32_768  # eight pages; readers that skip by statistics want groups of some ten thousand rows
ROW_GROUP_BYTES = 32 * 1024 * 1024  # compressing a group takes about twice as much memory besides

_ANSWERED = "batchor.answered"
_UNFITTING = "batchor.unfitting"


def write_results_parquet(
    run: RowPages,
    path: str | os.PathLike[str],
    output: type[BaseModel] | OutputSpec | None = None,
) -> TableReport:
    """Write every terminal result of a run to ``path``, a local path or an fsspec URL. Replaces what was there.

    Rows are in the order in which they became terminal; ``run.to_parquet()`` uses the order of the input. Memory is
    bounded by the row group: 32,768 rows, or fewer if they are large. A file for an object store is written to the
    temporary folder and then uploaded as a whole.

    Args:
        run: A ``batchor_core.Run``; it need not be finished.
        path: The file to write. Folders are created.
        output: The run's output, or the model of a structured run: see ``answer_columns`` for the columns. Without it
            the only column of the answer is ``output_text``, which also has the answers that a model does not accept.

    Raises:
        OSError: The file can't be written; an earlier file is unchanged.
    """
    return write_parquet(ResultStream(run, output), path)


def write_parquet(results: ResultStream, path: str | os.PathLike[str]) -> TableReport:
    """The same of any stream of results."""
    where = os.fspath(path)
    with collecting_less(), whole_file(where) as local:
        with pq.ParquetWriter(
            local, results.schema, compression="zstd", **_encoding(results.schema)
        ) as writer:
            for group in gathered(results, size_bytes=ROW_GROUP_BYTES, rows=ROW_GROUP_ROWS):
                writer.write_table(group, row_group_size=group.num_rows)
            report = results.report(where, size_bytes=0)
            answered = report.row_count - report.failed_count
            writer.add_key_value_metadata({_ANSWERED: str(answered), _UNFITTING: str(report.unfitting_count)})
        return results.report(where, size_bytes=local.stat().st_size)


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Vectors without a dictionary and without their smallest and largest element: to look for them takes half of the time."""
    others = [field.name for field in schema if not pa.types.is_fixed_size_list(field.type)]
    return {} if len(others) == len(schema) else {"use_dictionary": others, "write_statistics": others}


def parquet_facts(path: str) -> PartitionFacts | None:
    """The facts of a result file, from its footer; None if there is no file."""
    try:
        with place_of(path).open() as file, pq.ParquetFile(file) as parquet:
            metadata, told = parquet.metadata, parquet.metadata.metadata or {}
            return PartitionFacts(
                schema=parquet.schema_arrow,
                rows=metadata.num_rows,
                answered=int(told.get(_ANSWERED.encode(), metadata.num_rows)),
                unfitting=int(told.get(_UNFITTING.encode(), 0)),
                size_bytes=file.seek(0, os.SEEK_END),
            )
    except FileNotFoundError:
        return None


def integer_ranges(path: str) -> dict[str, tuple[int, int]]:
    """The smallest and the largest value of each leaf column of integers, from the footer of a file."""
    with place_of(path).open() as file, pq.ParquetFile(file) as parquet:
        metadata = parquet.metadata
        ranges: dict[str, tuple[int, int]] = {}
        for group in range(metadata.num_row_groups):
            for index in range(metadata.num_columns):
                column = metadata.row_group(group).column(index)
                statistics = column.statistics
                if statistics is None or not statistics.has_min_max or not isinstance(statistics.min, int):
                    continue
                low, high = ranges.get(column.path_in_schema, (statistics.min, statistics.max))
                ranges[column.path_in_schema] = min(low, statistics.min), max(high, statistics.max)
    return ranges
