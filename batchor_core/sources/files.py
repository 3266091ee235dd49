"""CSV, JSONL and Parquet files as sources that can be resumed at any row.

Each item carries ``batchor_lineage`` in its metadata: see :class:`batchor_core.sources.rows.RowMapping`.
"""

from __future__ import annotations

import codecs
import csv
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.models import PayloadT
from batchor_core.core.types import JSONValue
from batchor_core.sources.base import (
    CheckpointedBatchItem,
    IndexedBatchItem,
    ResumableItemSource,
    RowPlaces,
    SourceIdentity,
    checkpoint_index,
)
from batchor_core.sources.csv_format import CsvFormat, csv_problem, delimiter_hint, header_problem
from batchor_core.sources.fingerprint import file_identity
from batchor_core.sources.json_rows import BadLineError, parsed_row
from batchor_core.sources.lines import MAX_LINE_BYTES, Lines, Place, has_safe_offsets
from batchor_core.sources.opening import local_path
from batchor_core.sources.parquet import ParquetItemSource
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, RowMapping

__all__ = ["CsvItemSource", "JsonlItemSource", "ParquetItemSource"]


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
        self.path = local_path(path)
        self.item_id_from_row = item_id_from_row
        self.payload_from_row = payload_from_row
        self.metadata_from_row = metadata_from_row
        self.encoding = encoding
        try:
            has_safe_offsets(encoding)
        except (LookupError, TypeError) as error:
            raise InvalidInputError(
                f"there is no encoding {encoding!r}; common ones are 'utf-8', 'utf-16', 'cp1252' and 'latin-1'"
            ) from error
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
        (:func:`~batchor_core.sources.fingerprint.content_fingerprint`) with the options that change its rows."""
        codec = codecs.lookup(self.encoding).name.removesuffix("-sig")
        options = {"encoding": codec} if codec != "utf-8" else {}
        return file_identity(self.kind, self.path, codec, options | self._options())

    def _options(self) -> dict[str, Any]:
        return {}

    def places(self, rows: Collection[int]) -> RowPlaces:
        """Where these 0-based rows are in the file; reads it up to the last of them."""
        found: dict[int, str] = {}
        count = 0
        for row_index, line in self._starts(self._lines(Place())):
            count = row_index + 1
            if row_index in rows:
                found[row_index] = f"{self.path}, line {line}"
        return RowPlaces(found, count)

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
    def _starts(self, lines: Lines[Any]) -> Iterator[tuple[int, int]]:
        """Row index and 1-based line of each row, without looking at what it holds."""

    @abstractmethod
    def _rows_of(self, lines: Lines[Any], first: int) -> Iterator[tuple[int, int, Row]]:
        """Row index, 1-based line and row, from row ``first`` on."""


class JsonlItemSource(_TextFileSource[PayloadT]):
    """Items from a file with one JSON object per line.

    No number is rounded: integers keep all their digits, and a number with a fraction that a float can't hold is a
    ``Decimal``. Lines end at ``\\n`` alone; ``\\r\\n``, a byte order mark and blank lines are fine. Memory does not grow with
    the file.

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

    def _starts(self, lines: Lines[bytes]) -> Iterator[tuple[int, int]]:
        filled = (lines.line for line in lines if line and not line.isspace())
        yield from enumerate(filled, lines.place.row)

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
            return parsed_row(line, number=number)
        except BadLineError as error:
            raise self._mapping.error(str(error), number) from error.__cause__


class CsvItemSource(_TextFileSource[PayloadT]):
    """Items from a CSV file whose first row names the columns; all values are strings.

    The options are those of Python's ``csv``; quoted values may hold line ends. Blank lines are passed over. A row with
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
        delimiter: Between two values. By default a comma, and a header of one column that holds another usual
            delimiter is refused.
        quotechar: Around values that hold delimiters or line ends.
        escapechar: Takes its meaning from the next character; none by default.
        doublequote: A quote within a quoted value is written twice.
        skipinitialspace: Spaces after a delimiter are passed over.
        quoting: ``csv.QUOTE_MINIMAL``, or ``csv.QUOTE_NONE`` where quotes are ordinary characters.
        strict: Refuse improper CSV; False guesses as Python's ``csv`` does by default.

    Raises:
        InvalidInputError: An option is not usable.
        SourceRowError: While reading; names the file, line and column. Rows before it have been given out.
    """

    kind = "csv"

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
        delimiter: str | None = None,
        quotechar: str | None = '"',
        escapechar: str | None = None,
        doublequote: bool = True,
        skipinitialspace: bool = False,
        quoting: int = csv.QUOTE_MINIMAL,
        strict: bool = True,
    ) -> None:
        super().__init__(
            path,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            encoding=encoding,
            primary_key=primary_key,
            partition_id=partition_id,
        )
        self._format = CsvFormat(
            delimiter=delimiter,
            quotechar=quotechar,
            escapechar=escapechar,
            doublequote=doublequote,
            skipinitialspace=skipinitialspace,
            quoting=quoting,
            strict=strict,
        )

    def _options(self) -> dict[str, Any]:
        return self._format.changed_options()

    def _lines(self, place: Place) -> Lines[str]:
        return Lines(self.path, self.encoding, place, kind=str)

    def _starts(self, lines: Lines[str]) -> Iterator[tuple[int, int]]:
        records = self._records(lines)
        next(records, None)
        yield from enumerate((line for line, _ in records), lines.place.row)

    def _rows_of(self, lines: Lines[str], first: int) -> Iterator[tuple[int, int, Row]]:
        records = self._records(lines)
        if lines.place.offset:
            _, header = next(self._records(self._lines(Place())), (0, []))
        else:
            _, header = next(records, (0, []))
        self._check_header(header)
        self._mapping.hint = hint = delimiter_hint(header, self._format.separator)
        row_index = lines.place.row
        for line, record in records:
            if row_index >= first:
                if len(record) != len(header):
                    raise self._width_error(header, record, line, hint)
                yield row_index, line, dict(zip(header, record, strict=True))
            row_index += 1

    def _records(self, lines: Lines[str]) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        reader = self._format.reader(lines)
        while True:
            line = lines.line + 1
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self._mapping.error(
                    csv_problem(error, self._format, self._first_line()), line
                ) from error
            if record:
                yield line, record

    def _first_line(self) -> str:
        return next(iter(self._lines(Place())), "")

    def _check_header(self, header: list[str]) -> None:
        if not header:
            raise self._mapping.error("has no header; the first row must name the columns", 1)
        problem = header_problem(header, self._format)
        if problem is not None:
            raise self._mapping.error(problem, 1)
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            named = ", ".join(map(repr, repeated))
            raise self._mapping.error(
                f"the header names columns more than once: {named}", 1, column=repeated[0]
            )

    def _width_error(self, header: list[str], record: list[str], line: int, hint: str) -> SourceRowError:
        message = f"the row has {len(record)} values, and the header names {len(header)} columns"
        if len(record) > len(header):
            message += f". A value that holds {self._format.separator!r} has to be quoted"
        missing = header[len(record)] if len(record) < len(header) else None
        return self._mapping.error(f"{message}. {hint}" if hint else message, line, column=missing)
