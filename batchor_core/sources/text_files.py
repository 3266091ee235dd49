"""Reading one CSV or JSONL file from any row on."""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from typing import Any, ClassVar

from batchor_core.core.exceptions import SourceRowError
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
from batchor_core.sources.lines import MAX_LINE_BYTES, Lines, Place, codec_of
from batchor_core.sources.locations import Location, shown
from batchor_core.sources.rows import Row, RowMapping


class _TextFile(ResumableItemSource[PayloadT]):
    """What CSV and JSONL have in common: rows made of lines, and checkpoints with a byte offset to go to.

    A checkpoint is ``{"row", "offset", "line"}``; a plain row index is taken too, and then the rows before it are read
    over. Encodings without safe offsets, such as UTF-16, have plain indexes only. Offsets in a compressed file are those of what
    is in it, and all before them is decompressed again.
    """

    kind: ClassVar[str]

    def __init__(self, path: Location, mapping: RowMapping[PayloadT], *, encoding: str) -> None:
        self.path = path
        self.encoding = encoding
        self._codec = codec_of(encoding)
        self._mapping = mapping

    def source_identity(self) -> SourceIdentity:
        """The kind, the path, and a fingerprint of the content with the options that change its rows."""
        options = {"encoding": self._codec} if self._codec != "utf-8" else {}
        return file_identity(self.kind, self.path, self._codec, options | self._options())

    def _options(self) -> dict[str, Any]:
        return {}

    def places(self, rows: Collection[int]) -> RowPlaces:
        """Where these 0-based rows are in the file; reads it up to the last of them."""
        found: dict[int, str] = {}
        count = 0
        for row_index, line in self._starts(self._lines(Place())):
            count = row_index + 1
            if row_index in rows:
                found[row_index] = f"{shown(self.path)}, line {line}"
        return RowPlaces(found, count)

    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[PayloadT]]:
        """Items from this 0-based row on; the rows before it are read and skipped."""
        for row_index, line, row in self._rows_of(self._lines(Place()), checkpoint_index(item_index)):
            yield IndexedBatchItem(row_index, self._mapping.item(row, row_index=row_index, line=line))

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from the checkpoint on, at its offset where it carries one."""
        place = Place.of(checkpoint)
        first = place.row if isinstance(checkpoint, dict) else checkpoint_index(checkpoint)
        lines = self._lines(place)
        for row_index, line, row in self._rows_of(lines, first):
            item = self._mapping.item(row, row_index=row_index, line=line)
            yield CheckpointedBatchItem(lines.checkpoint(row_index + 1), item)

    @abstractmethod
    def _lines(self, place: Place) -> Lines[Any]:
        """The file's lines from a place on."""

    @abstractmethod
    def _starts(self, lines: Lines[Any]) -> Iterator[tuple[int, int]]:
        """Row index and 1-based line of each row, without looking at what it holds."""

    @abstractmethod
    def _rows_of(self, lines: Lines[Any], first: int) -> Iterator[tuple[int, int, Row]]:
        """Row index, 1-based line and row, from row ``first`` on."""


class JsonlFile(_TextFile[PayloadT]):
    """A file with one JSON object per line."""

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


class CsvFile(_TextFile[PayloadT]):
    """A CSV file whose first row names the columns."""

    kind = "csv"

    def __init__(
        self, path: Location, mapping: RowMapping[PayloadT], *, encoding: str, csv_format: CsvFormat
    ) -> None:
        super().__init__(path, mapping, encoding=encoding)
        self._format = csv_format

    def _options(self) -> dict[str, Any]:
        return self._format.changed_options()

    def _lines(self, place: Place) -> Lines[str]:
        return Lines(self.path, self.encoding, place, kind=str)

    def _starts(self, lines: Lines[str]) -> Iterator[tuple[int, int]]:
        with closing(self._records(lines)) as records:
            next(records, None)
            yield from enumerate((line for line, _ in records), lines.place.row)

    def _rows_of(self, lines: Lines[str], first: int) -> Iterator[tuple[int, int, Row]]:
        with closing(self._records(lines)) as records:
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

    def _records(self, lines: Lines[str]) -> Generator[tuple[int, list[str]]]:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        # closed here: an error's traceback would keep the reader, and with it the file, until somebody collects garbage
        with closing(iter(lines)) as read:
            reader = self._format.reader(read)
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
