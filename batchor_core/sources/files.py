"""CSV, JSONL and Parquet files as sources that can be resumed at any row.

Each item carries ``batchor_lineage`` in its metadata: see :class:`batchor_core.sources.rows.RowMapping`.
"""

from __future__ import annotations

import csv
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import orjson

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.models import PayloadT
from batchor_core.core.types import JSONValue
from batchor_core.sources.base import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    IndexedBatchItem,
    ResumableItemSource,
    SourceIdentity,
    checkpoint_index,
)
from batchor_core.sources.fingerprint import content_fingerprint
from batchor_core.sources.lines import MAX_LINE_BYTES, Lines, Place, has_safe_offsets
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, RowMapping

_LONG_NUMBER = re.compile(rb"[0-9]{20}")

PARQUET_BATCH_ROWS = 1_000
PARQUET_BUFFER = 1024 * 1024


class _TextFileSource(ResumableItemSource[PayloadT]):
    """What CSV and JSONL have in common: rows made of lines, and checkpoints with a byte offset to seek to.

    A checkpoint is ``{"row", "offset", "line"}``; a plain row index is taken too, and then the rows before it are read
    over. Encodings without safe offsets, such as UTF-16, have plain indexes only.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        path: str | Path,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT],
        metadata_from_row: MetadataFromRow | None = None,
        encoding: str = "utf-8",
        primary_key: str | None = None,
        partition_id: str | None = None,
    ) -> None:
        self.path = _absolute(path)
        self.item_id_from_row = item_id_from_row
        self.payload_from_row = payload_from_row
        self.metadata_from_row = metadata_from_row
        self.encoding = encoding
        try:
            has_safe_offsets(encoding)
        except LookupError as error:
            raise InvalidInputError(f"there is no encoding {encoding!r}") from error
        self._mapping = RowMapping(
            self.path,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
        )

    def source_identity(self) -> SourceIdentity:
        """The kind, the absolute path, and a fingerprint of the content
        (:func:`~batchor_core.sources.fingerprint.content_fingerprint`)."""
        return _identity(self.kind, self.path)

    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[PayloadT]]:
        """Items from this 0-based row on; the rows before it are read over."""
        for row_index, line, row in self._rows(Place(), checkpoint_index(item_index)):
            yield IndexedBatchItem(row_index, self._mapping.item(row, row_index=row_index, line=line))

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from the checkpoint on, seeking where it carries an offset."""
        place = Place.of(checkpoint)
        first = place.row if isinstance(checkpoint, dict) else checkpoint_index(checkpoint)
        lines = self._lines(place)
        for row_index, line, row in self._rows_of(lines, first):
            item = self._mapping.item(row, row_index=row_index, line=line)
            yield CheckpointedBatchItem(lines.checkpoint(row_index + 1), item)

    def _rows(self, place: Place, first: int) -> Iterator[tuple[int, int, Row]]:
        return self._rows_of(self._lines(place), first)

    @abstractmethod
    def _lines(self, place: Place) -> Lines[Any]:
        """The file's lines from a place on."""

    @abstractmethod
    def _rows_of(self, lines: Lines[Any], first: int) -> Iterator[tuple[int, int, Row]]:
        """Row index, 1-based line and row, from row ``first`` on."""


class JsonlItemSource(_TextFileSource[PayloadT]):
    """Items from a file with one JSON object per line.

    Lines end at ``\\n`` alone; ``\\r\\n``, a byte order mark and blank lines are fine. Memory does not grow with the file.

    Args:
        path: The file; ``~`` is expanded.
        item_id_from_row: Returns a non-empty string, unique within the run.
        payload_from_row: Returns the item's payload, for ``build_prompt``.
        metadata_from_row: Returns a dict that is kept beside the item; made JSON as ``rows.json_safe`` says.
        encoding: The file's encoding.
        primary_key: Key whose value is recorded in the lineage.
        partition_id: Recorded in the lineage; by default the Hive folders (``day=2026-01-01``) of the path.

    Raises:
        SourceRowError: While reading; names the file, line and column. Rows before it have been given out.
    """

    kind = "jsonl"

    def _lines(self, place: Place) -> Lines[bytes]:
        return Lines(self.path, self.encoding, place, kind=bytes)

    def _rows_of(self, lines: Lines[bytes], first: int) -> Iterator[tuple[int, int, Row]]:
        row_index = lines.place.row
        for line in lines:
            if not line or line.isspace():  # empty: a byte order mark alone
                continue
            if row_index >= first:
                yield row_index, lines.line, self._parsed(line, lines.line)
            row_index += 1

    def _parsed(self, line: bytes, number: int) -> Row:
        try:
            row = orjson.loads(line)
            if _LONG_NUMBER.search(line):
                row = json.loads(
                    line
                )  # orjson rounds integers beyond 64 bits, which would change ids unnoticed
        except orjson.JSONDecodeError as error:
            raise self._mapping.error(_json_problem(line, error), number) from error
        if not isinstance(row, dict):
            raise self._mapping.error(f"holds a JSON {_json_kind(row)}, and must hold an object", number)
        return row


class CsvItemSource(_TextFileSource[PayloadT]):
    """Items from a CSV file whose first row names the columns; all values are strings.

    Commas separate, double quotes quote, and quoted values may hold line ends. Blank lines are passed over. A row with
    more or fewer values than the header is an error. Memory does not grow with the file. Python's limit on the length of
    a CSV field, which is one for the whole process, is raised to 64 MiB.

    Args:
        path: The file; ``~`` is expanded.
        item_id_from_row: Returns a non-empty string, unique within the run.
        payload_from_row: Returns the item's payload, for ``build_prompt``.
        metadata_from_row: Returns a dict that is kept beside the item; made JSON as ``rows.json_safe`` says.
        encoding: The file's encoding; a UTF-8 byte order mark is passed over.
        primary_key: Column whose value is recorded in the lineage.
        partition_id: Recorded in the lineage; by default the Hive folders (``day=2026-01-01``) of the path.

    Raises:
        SourceRowError: While reading; names the file, line and column. Rows before it have been given out.
    """

    kind = "csv"

    def _lines(self, place: Place) -> Lines[str]:
        return Lines(self.path, self.encoding, place, kind=str)

    def _rows_of(self, lines: Lines[str], first: int) -> Iterator[tuple[int, int, Row]]:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        records = self._records(lines)
        if lines.place.offset:
            _, header = next(self._records(self._lines(Place())), (0, []))
        else:
            _, header = next(records, (0, []))
        self._check_header(header)
        row_index = lines.place.row
        for line, record in records:
            if row_index >= first:
                if len(record) != len(header):
                    raise self._width_error(header, record, line)
                yield row_index, line, dict(zip(header, record, strict=True))
            row_index += 1

    def _records(self, lines: Lines[str]) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(lines, strict=True)
        while True:
            line = lines.line + 1
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self._mapping.error(f"is not CSV: {error}", line) from error
            if record:
                yield line, record

    def _check_header(self, header: list[str]) -> None:
        if not header:
            raise self._mapping.error("has no header; the first row must name the columns", 1)
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            named = ", ".join(map(repr, repeated))
            raise self._mapping.error(
                f"the header names columns more than once: {named}", 1, column=repeated[0]
            )

    def _width_error(self, header: list[str], record: list[str], line: int) -> SourceRowError:
        message = f"the row has {len(record)} values, and the header names {len(header)} columns"
        missing = header[len(record)] if len(record) < len(header) else None
        return self._mapping.error(message, line, column=missing)


class ParquetItemSource(CheckpointedItemSource[PayloadT]):
    """Items from a Parquet file, read a thousand rows at a time, whatever the size of its row groups.

    The callbacks get Python values: ``datetime``, ``Decimal``, ``bytes``, lists, dicts; nanoseconds are cut to the
    microseconds that ``datetime`` holds. Metadata is converted as ``rows.json_safe`` says. A checkpoint is ``[row group,
    row within it]``; the lineage names both too.

    Args:
        path: The file; ``~`` is expanded.
        item_id_from_row: Returns a non-empty string, unique within the run.
        payload_from_row: Returns the item's payload, for ``build_prompt``.
        metadata_from_row: Returns a dict that is kept beside the item.
        columns: Columns to read, all by default; ``a.b`` is a field of a struct.
        primary_key: Column whose value is recorded in the lineage.
        partition_id: Recorded in the lineage; by default the Hive folders (``day=2026-01-01``) of the path.

    Raises:
        SourceRowError: While reading; names the file, the 1-based row and the column.
    """

    kind: ClassVar[str] = "parquet"

    def __init__(
        self,
        path: str | Path,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT],
        metadata_from_row: MetadataFromRow | None = None,
        columns: Sequence[str] | None = None,
        primary_key: str | None = None,
        partition_id: str | None = None,
    ) -> None:
        self.path = _absolute(path)
        self.item_id_from_row = item_id_from_row
        self.payload_from_row = payload_from_row
        self.metadata_from_row = metadata_from_row
        self.columns = None if columns is None else list(columns)
        self._mapping = RowMapping(
            self.path,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
        )

    def source_identity(self) -> SourceIdentity:
        """The kind, the absolute path, and a fingerprint of the content
        (:func:`~batchor_core.sources.fingerprint.content_fingerprint`)."""
        return _identity(self.kind, self.path)

    def initial_checkpoint(self) -> JSONValue:
        """Row 0 of row group 0."""
        return [0, 0]

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from a row on; earlier row groups are not read."""
        import pyarrow as pa  # takes 0.2 s to import, and only this source needs it
        import pyarrow.parquet as pq

        first_group, first_row = self._parse(checkpoint)
        try:
            # measured on a row group of 240 MB: streamed like this it takes 5 MB, and with the defaults all of it
            with pq.ParquetFile(self.path, buffer_size=PARQUET_BUFFER, pre_buffer=False) as file:
                self._check_columns(file)
                for index, group, row, values in self._rows_from(file, first_group, first_row):
                    item = self._mapping.item(
                        values, row_index=index, line=index + 1, row_group=group, row_in_group=row
                    )
                    yield CheckpointedBatchItem([group, row + 1], item)
        except (pa.ArrowException, OSError) as error:
            raise self._mapping.error(f"can't be read as Parquet: {error}") from error

    def _parse(self, checkpoint: JSONValue) -> tuple[int, int]:
        if not isinstance(checkpoint, list | tuple) or len(checkpoint) != 2:
            raise InvalidInputError(
                f"{checkpoint!r} is no checkpoint of a ParquetItemSource: [row group, row] is expected"
            )
        return checkpoint_index(checkpoint[0]), checkpoint_index(checkpoint[1])

    def _rows_from(self, file: Any, first_group: int, first_row: int) -> Iterator[tuple[int, int, int, Row]]:
        rows_before = 0
        for group in range(file.metadata.num_row_groups):
            if group >= first_group:
                skip = first_row if group == first_group else 0
                for row, values in enumerate(self._group(file, group, skip), skip):
                    yield rows_before + row, group, row, values
            rows_before += file.metadata.row_group(group).num_rows

    def _group(self, file: Any, group: int, skip: int) -> Iterator[Row]:
        for batch in file.iter_batches(
            batch_size=PARQUET_BATCH_ROWS, row_groups=[group], columns=self.columns
        ):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            try:
                rows = _microseconds(batch.slice(skip)).to_pylist()
            except ValueError as error:  # such as nanoseconds within a struct
                raise self._mapping.error(
                    f"row group {group} has values without a Python form: {error}"
                ) from error
            yield from rows
            skip = 0

    def _check_columns(self, file: Any) -> None:
        names = file.schema_arrow.names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise self._mapping.error("the schema has two columns of this name", column=repeated[0])
        for column in self.columns or ():
            if column not in names and column.split(".")[0] not in names:
                there = ", ".join(map(repr, names[:20]))
                raise self._mapping.error(
                    f"there is no such column to read; there are {there}", column=column
                )


def _microseconds(batch: Any) -> Any:
    # to_pylist refuses nanoseconds unless pandas happens to be installed, and gives its types then
    import pyarrow as pa

    coarser: dict[str, Callable[[Any], Any]] = {
        "timestamp[ns": lambda kind: pa.timestamp("us", tz=kind.tz),
        "duration[ns": lambda kind: pa.duration("us"),
        "time64[ns": lambda kind: pa.time64("us"),
    }
    for index, field in enumerate(batch.schema):
        make = coarser.get(str(field.type).partition(",")[0].rstrip("]"))
        if make is not None:
            values = batch.column(index).cast(make(field.type), safe=False)
            batch = batch.set_column(index, field.name, values)
    return batch


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _identity(kind: str, path: Path) -> SourceIdentity:
    try:
        return SourceIdentity(
            source_kind=kind, source_ref=str(path), source_fingerprint=content_fingerprint(path)
        )
    except OSError as error:
        raise SourceRowError(f"can't be read: {error.strerror or error}", path=str(path)) from error


def _json_problem(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as undecodable:
        return f"is not utf-8: byte 0x{line[undecodable.start]:02x} at position {undecodable.start + 1}"
    return f"is not JSON: {error.msg} at position {error.colno}"


def _json_kind(value: object) -> str:
    names = {list: "list", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
