"""A run's results as one file: Parquet, CSV or JSON lines, by the file's name."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from batchor_core.cli.profiles import near
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.plain import json_safe
from batchor_core.runtime.run import Run

if TYPE_CHECKING:
    import pyarrow as pa  # takes a while to import


class ResultFormat(StrEnum):
    """Formats of a result file."""

    PARQUET = ".parquet"
    CSV = ".csv"
    JSONL = ".jsonl"


class ResultOrder(StrEnum):
    """The order of the rows."""

    INPUT = "input"
    ENDED = "ended"


def format_of(path: str) -> ResultFormat:
    """The format, by a file's extension.

    Raises:
        InvalidInputError: It asks for none.
    """
    suffix = Path(path).suffix.lower()
    try:
        return ResultFormat(".jsonl" if suffix == ".ndjson" else suffix)
    except ValueError:
        hint = near(suffix, list(ResultFormat)).partition("; there")[0] if suffix else ""
        raise InvalidInputError(
            f"the result file must end with .parquet, .csv or .jsonl, not {path!r}{hint}"
        ) from None


def write_results(
    run: Run,
    path: str,
    *,
    output: OutputSpec,
    order: ResultOrder = ResultOrder.INPUT,
) -> int:
    """Write the results that the run has so far, and return how many. The file is replaced completely or not at all.

    Args:
        run: The run.
        path: A local path, or a URL that fsspec knows.
        output: What the answers are.
        order: Of the rows.
    """
    match format_of(path):
        case ResultFormat.PARQUET:
            report = run.to_parquet(path, order=order.value, output=output, allow_unfinished=True)
            return report.row_count
        case ResultFormat.CSV:
            return _write_csv(run, path, output, order)
        case ResultFormat.JSONL:
            return _write_lines(run, path, order)
        case unknown:
            assert_never(unknown)


def _write_csv(run: Run, path: str, output: OutputSpec, order: ResultOrder) -> int:
    """The columns of the Parquet file; vectors, lists and objects are JSON, and missing values are empty."""
    from batchor_core.tables.places import whole_file
    from batchor_core.tables.stream import ResultStream

    stream = ResultStream(run, output, order=order.value)
    count = 0
    with (
        collecting_less(),
        whole_file(path) as local,
        local.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(stream.schema.names)
        for batch in stream:
            columns: Sequence[list[Any]] = [_cells(column) for column in batch.columns]
            writer.writerows(zip(*columns, strict=True))
            count += batch.num_rows
    return count


def _cells(column: pa.Array) -> list[Any]:
    import pyarrow as pa

    values = column.to_pylist()
    if not pa.types.is_fixed_size_list(column.type):
        return list(map(_cell, values))
    # as pgvector and DuckDB read vectors; nine digits are what it takes to get the same float32 back
    digits = ".9g" if pa.types.is_float32(column.type.value_type) else ""
    return [
        "" if value is None else f"[{','.join([format(one, digits) for one in value])}]" for value in values
    ]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(json_safe(value), ensure_ascii=False)
    return value if isinstance(value, str | int | float) else json_safe(value)


def _write_lines(run: Run, path: str, order: ResultOrder) -> int:
    """The lines of an exported ``results.jsonl``, without the raw responses."""
    from batchor_core.tables.places import place_of, whole_file

    place = place_of(path)
    # on this machine the export itself replaces the file
    with nullcontext(place.path) if place.files is None else whole_file(path) as local:
        exported = run.export_terminal_results(local, append=False, order=order.value, raw_responses=False)
    return exported.exported_count
