"""Rows for ``batchor run``: the source that reads them, and how a row becomes an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from batchor_core.cli.numbered_rows import NumberedRows, column_id, named_column, own_id_or_number
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.types import JSONObject
from batchor_core.sources import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.sources.locations import Location, files_of, has_suffix, is_web, location, shown
from batchor_core.sources.opening import readable


class RowFormat(StrEnum):
    """Formats of row files."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_SUFFIXES = {
    RowFormat.CSV: (".csv",),
    RowFormat.TSV: (".tsv", ".tab"),
    RowFormat.JSONL: (".jsonl", ".ndjson"),
    RowFormat.PARQUET: (".parquet", ".pq"),
}


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How rows are read.

    Attributes:
        id_column: Column of the ids; without it the column ``id``, or else the row's number.
        keep: Columns that are kept beside the item and come with its result.
        format: What the files are; by their names without it.
        delimiter: Of CSV.
        encoding: Of CSV and JSONL.
    """

    id_column: str | None = None
    keep: Sequence[str] = ()
    format: RowFormat | None = None
    delimiter: str | None = None
    encoding: str | None = None


def file_rows(path: str, options: RowOptions) -> CheckpointedItemSource[Any]:
    """The rows of a file, a folder, a pattern or a URL.

    Raises:
        InvalidInputError: What the files are can't be seen from their names.
    """
    kind = options.format or _format_of(path)
    text: dict[str, Any] = {} if options.encoding is None else {"encoding": options.encoding}
    if options.delimiter is not None and kind is not RowFormat.CSV:
        raise InvalidInputError(f"--delimiter is for CSV, and {path} is read as {kind.value}")
    if text and kind is RowFormat.PARQUET:
        raise InvalidInputError(f"--encoding is for CSV and JSONL, and {path} is read as Parquet")
    callbacks = _callbacks(options)
    match kind:
        case RowFormat.CSV:
            source: CheckpointedItemSource[Any] = CsvItemSource(
                path, **callbacks, **text, delimiter=options.delimiter
            )
        case RowFormat.TSV:
            source = CsvItemSource(path, **callbacks, **text, delimiter="\t")
        case RowFormat.JSONL:
            source = JsonlItemSource(path, **callbacks, **text)
        case RowFormat.PARQUET:
            source = ParquetItemSource(path, **callbacks)
        case _:
            assert_never(kind)
    return _identified(source, options)


def query_rows(query: str, url: str, options: RowOptions) -> CheckpointedItemSource[Any]:
    """The rows of a query, or of one in a file whose name ends with ``.sql``."""
    if query.lower().endswith(".sql"):
        query = text_of(query, what="the query")
    from batchor_core.sources import SqlItemSource  # SQLAlchemy takes a while to import

    return _identified(SqlItemSource(url, query, **_callbacks(options)), options)


def text_of(path: str, *, what: str) -> str:
    """The text of a small file that the command line names."""
    where = Path(path).expanduser()
    try:
        return where.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{what} in {where} is not UTF-8") from None
    except OSError as error:
        raise InvalidInputError(f"{what} can't be read from {where}: {error.strerror}") from None


def _identified(source: CheckpointedItemSource[Any], options: RowOptions) -> CheckpointedItemSource[Any]:
    return source if options.id_column is not None else NumberedRows(source)


def _callbacks(options: RowOptions) -> dict[str, Any]:
    column = options.id_column
    return {
        "item_id_from_row": own_id_or_number if column is None else partial(column_id, column=column),
        "payload_from_row": dict,
        "metadata_from_row": partial(_kept, columns=tuple(options.keep)) if options.keep else None,
    }


def _kept(row: Mapping[str, Any], *, columns: Sequence[str]) -> JSONObject:
    return {column: named_column(row, column, option="--keep") for column in columns}


def _format_of(path: str) -> RowFormat:
    for kind, suffixes in _SUFFIXES.items():
        if has_suffix(path.partition("?")[0], suffixes):
            return kind
    place = location(path)
    found = [] if is_web(place) else [kind for kind in RowFormat if _is_there(place, kind)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInputError(
            f"{shown(place)} holds files of several kinds ({', '.join(found)}): choose one with --format"
        )
    raise InvalidInputError(
        f"the format of {shown(place)} can't be derived from its name: name a file that ends with .csv, .tsv, .jsonl or .parquet, "
        "or give --format"
    )


def _is_there(place: Location, kind: RowFormat) -> bool:
    with readable(place):
        return bool(place.is_dir() and files_of(place, _SUFFIXES[kind]))
