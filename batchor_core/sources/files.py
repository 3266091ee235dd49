"""CSV, JSONL and Parquet files as sources that can be resumed at any row.

Each item carries ``batchor_lineage`` in its metadata: see :class:`batchor_core.sources.rows.RowMapping`.
"""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.models import PayloadT
from batchor_core.core.types import JSONValue
from batchor_core.sources.base import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    IndexedBatchItem,
    ResumableItemSource,
    RowPlaces,
    SourceIdentity,
    checkpoint_index,
)
from batchor_core.sources.composite import CompositeItemSource
from batchor_core.sources.csv_format import CsvFormat
from batchor_core.sources.locations import Location, files_of, has_suffix, is_pattern, location, shown
from batchor_core.sources.opening import readable
from batchor_core.sources.parquet import ParquetFile
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, RowMapping, column_names
from batchor_core.sources.text_files import CsvFile, JsonlFile


class FileItemSource(CheckpointedItemSource[PayloadT]):
    """Items from a file, or from several that are read one after the other.

    ``path`` is one of

    - a file, ``~`` is expanded;
    - a folder: its files whose names end with one of ``suffixes``, compressed or not, also in subfolders; names that
      begin with a dot or an underscore are skipped;
    - a pattern such as ``data/2026-*.csv`` or ``data/**/part-*.csv``: all matching files except hidden ones;
    - a URL of one of these, such as ``s3://bucket/data/*.csv``, ``gs://``, ``az://``; of ``https://`` a file only.

    Several files are read in the order of their paths. Their checkpoint and identity are those of a
    :class:`CompositeItemSource`: a file that is added, removed or changed makes it another source. Text files may be
    compressed (gzip, Zstandard, bzip2, LZ4), whatever their names; to resume in the middle of one, it is decompressed
    from the beginning.

    Args:
        path: The file or files.
        item_id_from_row: Returns a non-empty string, unique within the run.
        payload_from_row: Returns the item's payload, for ``build_prompt``.
        metadata_from_row: Returns a dict that is kept beside the item; converted to JSON by ``rows.json_safe``.
        primary_key: Column, or key, whose value is recorded in the lineage.
        partition_id: Recorded in the lineage; by default the Hive folders (``day=2026-01-01``) of the path.
        storage_options: For a URL: what fsspec's file system takes, such as ``key``, ``secret``; never stored or shown.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        path: str | Path,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT],
        metadata_from_row: MetadataFromRow | None = None,
        primary_key: str | None = None,
        partition_id: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = location(path, storage_options)
        self.item_id_from_row = item_id_from_row
        self.payload_from_row = payload_from_row
        self.metadata_from_row = metadata_from_row
        self._primary_key = primary_key
        self._partition_id = partition_id
        self._one_file = self._reader(self.path)  # says what is wrong with the arguments

    @abstractmethod
    def _reader(self, path: Location) -> CheckpointedItemSource[PayloadT]:
        """The reader of one file."""

    def _mapping(self, path: Location) -> RowMapping[PayloadT]:
        return RowMapping(
            shown(path),
            item_id_from_row=self.item_id_from_row,
            payload_from_row=self.payload_from_row,
            metadata_from_row=self.metadata_from_row,
            primary_key=self._primary_key,
            partition_id=self._partition_id,
        )

    @cached_property
    def _read(self) -> CheckpointedItemSource[PayloadT]:
        """The files to read, looked up on first access."""
        with readable(self.path):
            files = files_of(self.path, self.suffixes)
        if files is None:
            return self._one_file
        if not files:
            raise SourceRowError(f"can't be read: {self._no_files()}", path=shown(self.path))
        return CompositeItemSource([self._reader(file) for file in files])

    def _no_files(self) -> str:
        if is_pattern(self.path) and not self.path.is_dir():
            return "no file matches this pattern"
        there = ", ".join(islice((one.name for one in self.path.iterdir()), 3))
        holds = f"it holds {there} ..." if there else "it is empty"
        return (
            f"no file in this folder has a name that ends with {' or '.join(self.suffixes)} ({holds}). A pattern such as "
            f"{shown(self.path)}/* takes all of them"
        )

    def source_identity(self) -> SourceIdentity:
        """The kind, the path, and a fingerprint of the content
        (:func:`~batchor_core.sources.fingerprint.content_fingerprint`) with the options that change its rows."""
        return self._read.source_identity()

    def initial_checkpoint(self) -> JSONValue:
        """Before the first row."""
        return self._read.initial_checkpoint()

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from a row on."""
        return self._read.iter_from_checkpoint(checkpoint)

    def places(self, rows: Collection[int]) -> RowPlaces | None:
        """Where these 0-based rows are; text files are read up to the last of them."""
        return self._read.places(rows)


class _TextFileSource(FileItemSource[PayloadT], ResumableItemSource[PayloadT]):
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
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.encoding = encoding
        super().__init__(
            path,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
            storage_options=storage_options,
        )

    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[PayloadT]]:
        """Items from this 0-based row on; the rows before it are read and skipped."""
        if isinstance(self._read, ResumableItemSource):
            yield from self._read.iter_from(item_index)
        else:
            for index, item in enumerate(islice(self, checkpoint_index(item_index), None), item_index):
                yield IndexedBatchItem(index, item)


class JsonlItemSource(_TextFileSource[PayloadT]):
    """Items from a file with one JSON object per line.

    No number is rounded: integers keep all their digits, and a number with a fraction that a float can't hold is a
    ``Decimal``. Lines end at ``\\n`` alone; ``\\r\\n``, a byte order mark and blank lines are fine. Memory does not grow with
    the file.

    Arguments besides those of :class:`FileItemSource`:
        encoding: The file's encoding.

    Raises:
        SourceRowError: While reading; names the file, line and column. Rows before it have been returned.
    """

    suffixes = (".jsonl", ".ndjson")

    def _reader(self, path: Location) -> CheckpointedItemSource[PayloadT]:
        return JsonlFile(path, self._mapping(path), encoding=self.encoding)


class CsvItemSource(_TextFileSource[PayloadT]):
    """Items from a CSV file whose first row names the columns; all values are strings.

    The options are those of Python's ``csv``; quoted values may contain line ends. Blank lines are skipped. A row with
    more or fewer values than the header is an error. Memory does not grow with the file. Python's limit on the length
    of a CSV field, which applies to the whole process, is raised to 64 MiB.

    Arguments besides those of :class:`FileItemSource`:
        encoding: The file's encoding; a UTF-8 byte order mark is passed over.
        delimiter: Between two values. By default a comma, and a header of one column that holds another usual
            delimiter is refused.
        quotechar: Around values that hold delimiters or line ends.
        escapechar: Takes its meaning from the next character; none by default.
        doublequote: A quote within a quoted value is written twice.
        skipinitialspace: Spaces after a delimiter are skipped.
        quoting: ``csv.QUOTE_MINIMAL``, or ``csv.QUOTE_NONE`` if quotes are ordinary characters.
        strict: Refuse improper CSV; False guesses as Python's ``csv`` does by default.

    Raises:
        InvalidInputError: An option is not usable.
        SourceRowError: While reading; names the file, line and column. Rows before it have been returned.
    """

    suffixes = (".csv",)

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
        storage_options: Mapping[str, Any] | None = None,
        delimiter: str | None = None,
        quotechar: str | None = '"',
        escapechar: str | None = None,
        doublequote: bool = True,
        skipinitialspace: bool = False,
        quoting: int = csv.QUOTE_MINIMAL,
        strict: bool = True,
    ) -> None:
        self._format = CsvFormat(
            delimiter=delimiter,
            quotechar=quotechar,
            escapechar=escapechar,
            doublequote=doublequote,
            skipinitialspace=skipinitialspace,
            quoting=quoting,
            strict=strict,
        )
        super().__init__(
            path,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            encoding=encoding,
            primary_key=primary_key,
            partition_id=partition_id,
            storage_options=storage_options,
        )

    def _reader(self, path: Location) -> CheckpointedItemSource[PayloadT]:
        return CsvFile(path, self._mapping(path), encoding=self.encoding, csv_format=self._format)


class ParquetItemSource(FileItemSource[PayloadT]):
    """Items from a Parquet file, read a thousand rows at a time, whatever the size of its row groups.

    The callbacks get Python values: ``datetime``, ``Decimal``, ``bytes``, lists, dicts; nanoseconds are cut to the
    microseconds that ``datetime`` holds. A float that is NaN or infinite is None, as null is. Metadata is converted as
    ``rows.json_safe`` says. A checkpoint is ``[row group, row within it]``; the lineage names both too.

    Arguments besides those of :class:`FileItemSource`:
        columns: Columns to read, all by default; ``a.b`` is a field of a struct.

    Raises:
        SourceRowError: While reading; names the file, the 1-based row and the column.
    """

    suffixes = (".parquet",)

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
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.columns = column_names(columns)
        super().__init__(
            path,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
            storage_options=storage_options,
        )

    def _reader(self, path: Location) -> CheckpointedItemSource[PayloadT]:
        return ParquetFile(path, self._mapping(path), columns=self.columns)


FILE_SOURCES: tuple[type[FileItemSource[Any]], ...] = (CsvItemSource, JsonlItemSource, ParquetItemSource)
"""Sources by the suffixes of their files: a new format is one class here."""


def source_of(path: str | Path, **options: Any) -> FileItemSource[Any]:
    """The source for a file, by its suffix.

    Raises:
        InvalidInputError: No source has this suffix.
    """
    name = str(path)
    for kind in FILE_SOURCES:
        if has_suffix(name, kind.suffixes):
            return kind(path, **options)
    known = ", ".join(suffix for kind in FILE_SOURCES for suffix in kind.suffixes)
    raise InvalidInputError(f"source: {Path(name).name} is none of {known}")
