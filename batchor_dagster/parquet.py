"""A run's terminal results as one Parquet file, written page by page.

Failed rows are in the same file, with ``error_class`` and ``error_message`` and without the model's fields. Rows come in
the order in which they became terminal. The file appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.enums import ItemStatus
from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.pricing import CostTally
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage
from batchor_core.storage.columns import plain_json
from batchor_core.storage.rows import failure_of
from batchor_core.storage.state import ResultRow
from batchor_dagster.columns import to_array
from batchor_dagster.outputs import AnswerColumns, answer_columns, as_output
from batchor_dagster.run_ids import safe_path_segment

PAGE_ROWS = 4_096
PAGE_BYTES = 16 * 1024 * 1024  # of vectors, which are in memory twice
ROW_GROUP_ROWS = 32_768  # eight pages; readers that skip by statistics want groups of some ten thousand rows
ROW_GROUP_BYTES = 64 * 1024 * 1024
PREVIEW_ROWS = 5

_COMPLETED = ItemStatus.COMPLETED.value

_ANSWERED = "batchor.answered"
_UNFITTING = "batchor.unfitting"

_LEADING = {"item_id": pa.string(), "status": pa.string(), "attempt_count": pa.int32()}
_TRAILING = {
    "output_text": pa.string(),
    "error_class": pa.string(),
    "error_message": pa.string(),
    **dict.fromkeys(TOKEN_KINDS, pa.int64()),
    "metadata": pa.string(),
}
OWN_COLUMNS = (*_LEADING, *_TRAILING)
"""Columns of every file; a model's field of the same name is prefixed with ``output_``."""


class RowPages(Protocol):
    """What a run offers for streaming; ``batchor_core.Run`` does."""

    def iter_row_pages(self, *, page_size: int = ...) -> Iterator[list[ResultRow]]:
        """Terminal rows in the order of their sequence."""


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often an error class occurs.

    Attributes:
        rows: So many rows.
        item_id: One of them.
        message: What its error says.
    """

    rows: int
    item_id: str
    message: str


@dataclass(frozen=True, slots=True)
class ParquetReport:
    """What was written.

    Attributes:
        uri: Where the file is: a path, or the URL that was given.
        row_count: Rows in it.
        failed_count: Rows without an answer.
        unfitting_count: Answers that the model does not take; they are in ``output_text`` alone.
        errors: Error classes of the failed rows, the most frequent first.
        usage: Tokens of the last answer of every row.
        schema: The file's Arrow schema; descriptions of a model's fields are in the fields' metadata.
        preview: The first few rows.
        last_sequence: The terminal sequence of the last row, 0 when there is none. It grows when rows are tried again.
    """

    uri: str
    row_count: int
    failed_count: int
    errors: dict[str, ErrorCount]
    usage: TokenUsage
    schema: pa.Schema
    preview: list[dict[str, Any]] = field(default_factory=list)
    last_sequence: int = 0
    unfitting_count: int = 0


@dataclass(frozen=True, slots=True)
class Footer:
    """What a result file says of itself without being read.

    Attributes:
        schema: Its Arrow schema.
        answered: Rows with an answer.
        unfitting: Answers that the model did not take.
    """

    schema: pa.Schema
    answered: int
    unfitting: int


def partition_path(base: str, asset_key: Sequence[str], partition_key: str | None = None) -> str:
    """``<base>/<asset key path>/<partition>.parquet``, or ``<base>/<asset key path>.parquet`` without partitions.

    ``base`` is a folder or any URL that fsspec knows. Key parts that are no plain file names are spelled safely.
    """
    segments = [safe_path_segment(part) for part in asset_key]
    if partition_key is not None:
        segments.append(safe_path_segment(partition_key))
    return "/".join([base.rstrip("/") or "/", *segments]) + ".parquet"


def write_results_parquet(
    run: RowPages,
    path: str | os.PathLike[str],
    output: type[BaseModel] | OutputSpec | None = None,
    *,
    costs: CostTally | None = None,
) -> ParquetReport:
    """Write every terminal result of a run to ``path``, a local path or an fsspec URL. Replaces what was there.

    Memory is bounded by the row group: 32,768 rows, or fewer where they are large. A file for an object store is made in the
    temporary folder and then uploaded as a whole.

    Args:
        run: A ``batchor_core.Run``; it need not be finished.
        path: The file to write. Folders are created.
        output: The run's output, or the model of a structured run: see ``outputs`` for the columns. Without it there is
            ``output_text`` alone. What a model does not take is in ``output_text`` alone too.
        costs: Gets the tokens of every row.

    Raises:
        OSError: The file can't be written; what was there before is untouched.
    """
    answers = answer_columns(as_output(output), taken=OWN_COLUMNS)
    schema = arrow_schema(answers.fields)
    tally = _Tally()
    with (
        collecting_less(),
        _whole_file(os.fspath(path)) as local,
        pq.ParquetWriter(local, schema, compression="zstd") as writer,
    ):
        group: list[pa.RecordBatch] = []
        rows = size = 0
        for page in run.iter_row_pages(page_size=_page_rows(answers)):
            batch, unfitting = _record_batch(page, schema, answers)
            tally.add(page, batch, unfitting)
            if costs is not None:
                _add_costs(costs, page)
            group.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group, schema), row_group_size=rows)
                group, rows, size = [], 0, 0
        if group:
            writer.write_table(pa.Table.from_batches(group, schema), row_group_size=rows)
        report = tally.report(os.fspath(path), schema)
        answered = report.row_count - report.failed_count
        writer.add_key_value_metadata({_ANSWERED: str(answered), _UNFITTING: str(report.unfitting_count)})
    return report


def _page_rows(answers: AnswerColumns) -> int:
    return max(1, min(PAGE_ROWS, PAGE_BYTES // answers.row_bytes)) if answers.row_bytes else PAGE_ROWS


def read_footer(path: str) -> Footer | None:
    """What a result file says of itself; None if there is none."""
    filesystem, target = fsspec.core.url_to_fs(path)
    try:
        with filesystem.open(target, "rb") as file, pq.ParquetFile(file) as parquet:
            metadata = parquet.metadata.metadata or {}
            answered = int(metadata.get(_ANSWERED.encode(), parquet.metadata.num_rows))
            return Footer(parquet.schema_arrow, answered, int(metadata.get(_UNFITTING.encode(), 0)))
    except FileNotFoundError:
        return None


def result_schema(output: type[BaseModel] | OutputSpec | None) -> pa.Schema:
    """The schema of the result files of a job with this output."""
    return arrow_schema(answer_columns(as_output(output), taken=OWN_COLUMNS).fields)


def arrow_schema(fields: Sequence[pa.Field]) -> pa.Schema:
    """The schema of a result file: our columns around those of the answers."""
    return pa.schema([*_LEADING.items(), *fields, *_TRAILING.items()])


def _record_batch(
    page: Sequence[ResultRow], schema: pa.Schema, answers: AnswerColumns
) -> tuple[pa.RecordBatch, int]:
    """A page as Arrow, and how many of its answers are not what the output says."""
    typed, unfitting = answers.arrays(page)
    own = _own_values(page)
    texts = answers.texts(page)
    if texts is not None:
        own["output_text"] = texts
    leading, trailing = (
        [to_array(own[name], arrow) for name, arrow in columns.items()] for columns in (_LEADING, _TRAILING)
    )
    return pa.RecordBatch.from_arrays([*leading, *typed, *trailing], schema=schema), unfitting


def _own_values(page: Sequence[ResultRow]) -> dict[str, Sequence[Any]]:
    """The values of our own columns. The page is turned over as a whole, which is far faster than field by field."""
    of: dict[str, Sequence[Any]] = dict.fromkeys(ResultRow._fields, ())
    if page:
        of.update(zip(ResultRow._fields, zip(*page, strict=True), strict=True))
    values = {name: of[name] for name in (*_LEADING, *_TRAILING) if name in of}
    values["error_class"] = values["error_message"] = of["error"]
    if of["error"].count(None) < len(page):
        failures = [failure_of(row) for row in page]
        values["error_class"] = [failure and failure.error_class for failure in failures]
        values["error_message"] = [failure and failure.message for failure in failures]
    values["metadata"] = list(map(plain_json, of["metadata"]))
    return values


def _add_costs(costs: CostTally, page: Sequence[ResultRow]) -> None:
    stated = [row for row in page if row.input_tokens is not None]
    costs.add({kind: [getattr(row, kind) or 0 for row in stated] for kind in TOKEN_KINDS})
    if len(stated) < len(page):
        answers = sum(row.input_tokens is None and row.status == _COMPLETED for row in page)
        costs.add_unstated(rows=len(page) - len(stated), answers=answers)


class _Tally:
    """Sums over the pages, so that nothing has to be read twice."""

    def __init__(self) -> None:
        self._rows = 0
        self._failed = 0
        self._unfitting = 0
        self._last = 0
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, str]] = {}
        self._usage = [0] * len(TOKEN_KINDS)
        self._preview: list[dict[str, Any]] = []

    def add(self, page: Sequence[ResultRow], batch: pa.RecordBatch, unfitting: int) -> None:
        self._rows += len(page)
        self._unfitting += unfitting
        for row in [row for row in page if row.status != _COMPLETED]:
            failure = failure_of(row)
            error_class = failure.error_class if failure else "unknown"
            self._failed += 1
            self._errors[error_class] += 1
            self._examples.setdefault(error_class, (row.item_id, failure.message if failure else ""))
        for position, name in enumerate(TOKEN_KINDS):
            self._usage[position] += pc.sum(batch.column(name)).as_py() or 0
        if page:
            self._last = page[-1].sequence or self._last
        wanted = PREVIEW_ROWS - len(self._preview)
        if wanted > 0:
            self._preview += _previewed(batch.slice(0, wanted))

    def report(self, uri: str, schema: pa.Schema) -> ParquetReport:
        return ParquetReport(
            uri=uri,
            row_count=self._rows,
            failed_count=self._failed,
            errors={
                name: ErrorCount(rows, *self._examples[name]) for name, rows in self._errors.most_common()
            },
            usage=TokenUsage(*self._usage),
            schema=schema,
            preview=self._preview,
            last_sequence=self._last,
            unfitting_count=self._unfitting,
        )


def _previewed(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    for place, column in enumerate(batch.schema):
        if pa.types.is_fixed_size_list(column.type):  # thousands of numbers tell nobody anything
            words = f"{column.type.value_type}[{column.type.list_size}]"
            shown = [words if value.is_valid else None for value in batch.column(place)]
            batch = batch.set_column(place, column.name, pa.array(shown, pa.string()))
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ArithmeticError, ValueError):
        names = batch.schema.names
        rows = [{name: _shown(batch.column(name)[row]) for name in names} for row in range(batch.num_rows)]
    return rows


def _shown(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ArithmeticError, ValueError) as error:  # such as a date that is beyond the year 9999 in UTC
        return f"({error})"


@contextlib.contextmanager
def _whole_file(path: str) -> Iterator[Path]:
    """A local path to write to; what is written there appears under ``path`` when the block ends well, else not at all."""
    try:
        with _written_whole(path) as local:
            yield local
    except OSError as error:  # a full disk does not say which file it is about
        error.add_note(f"while writing {path}; what was there before is untouched")
        raise


@contextlib.contextmanager
def _written_whole(path: str) -> Iterator[Path]:
    filesystem, target = fsspec.core.url_to_fs(path)
    protocols = {filesystem.protocol} if isinstance(filesystem.protocol, str) else set(filesystem.protocol)
    if "file" in protocols:
        with _renamed(Path(target)) as temporary:
            yield temporary
        return
    # An upload in parts is a whole object or none, but fsspec's own files complete it even when the writer has raised.
    with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
        local = Path(folder, "results.parquet")
        yield local
        filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        with at(Boundary.WRITE_TABLE):
            filesystem.put_file(str(local), target)


@contextlib.contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    # hidden and without the suffix, so that a reader's *.parquet never finds it
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        with at(Boundary.WRITE_TABLE):
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
