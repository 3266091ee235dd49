"""Turning rows into items with the user's callbacks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, Generic, TypeAlias

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.models import BatchItem, PayloadT
from batchor_core.core.plain import is_missing
from batchor_core.core.plain import json_safe as json_safe
from batchor_core.core.types import JSONObject, JSONValue

LINEAGE_KEY = "batchor_lineage"

Row: TypeAlias = dict[str, Any]
ItemIdFromRow: TypeAlias = Callable[[Row], str]
MetadataFromRow: TypeAlias = Callable[[Row], JSONObject]

_HIVE_FOLDER = re.compile(r"[^=]+=.+")


class RowMapping(Generic[PayloadT]):
    """The user's callbacks, and the lineage that every item of one file, frame or query carries.

    ``metadata["batchor_lineage"]`` holds ``source_path``, ``row_index`` (0-based), whatever the format adds,
    ``primary_key`` where a column is named for it, and ``partition_id`` where one is given or the path has Hive folders
    (``.../country=de/day=2026-01-01/part.parquet``).

    Attributes:
        hint: Added to the error about a missing column, such as that the file seems to have another delimiter.
    """

    def __init__(
        self,
        path: PurePath | str,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT],
        metadata_from_row: MetadataFromRow | None,
        primary_key: str | None,
        partition_id: str | None,
    ) -> None:
        for name, function in (
            ("item_id_from_row", item_id_from_row),
            ("payload_from_row", payload_from_row),
            ("metadata_from_row", metadata_from_row),
        ):
            if not callable(function) and not (function is None and name == "metadata_from_row"):
                raise InvalidInputError(_function_problem(name, function))
        for name, text in (("primary_key", primary_key), ("partition_id", partition_id)):
            if text is not None and not isinstance(text, str):
                raise InvalidInputError(f"{name} must be a str or None, and is {text!r}")
        self.hint = ""
        self._path = str(path)
        self._item_id_from_row = item_id_from_row
        self._payload_from_row = payload_from_row
        self._metadata_from_row = metadata_from_row
        self._primary_key = primary_key
        self._lineage: JSONObject = {"source_path": self._path}
        partition = partition_id if partition_id is not None else hive_partition(PurePath(path))
        if partition is not None:
            self._lineage["partition_id"] = partition

    def item(self, row: Row, *, row_index: int, line: int, **lineage: JSONValue) -> BatchItem[PayloadT]:
        """The item of one row.

        Args:
            row: Column names to values.
            row_index: 0-based index in the file.
            line: 1-based line or row, for error messages.
            lineage: What the format adds.

        Raises:
            SourceRowError: A callback failed, or did not return an id or metadata.
        """
        step = "item_id_from_row"
        try:
            item_id = self._item_id_from_row(row)
            step = "payload_from_row"
            payload = self._payload_from_row(row)
            step = "metadata_from_row"
            metadata = {} if self._metadata_from_row is None else json_safe(self._metadata_from_row(row))
            step = "primary_key"
            key = {} if self._primary_key is None else {"primary_key": json_safe(row[self._primary_key])}
        except Exception as error:
            if type(error).__module__ != "builtins":  # the user may catch an error of their own by its type
                where = self.error(f"{step} raised this", line)
                error.add_note(
                    f"{where}; the items of earlier chunks are stored, so a corrected job resumes from there"
                )
                raise
            raise self._callback_error(step, error, row, line) from error
        if not isinstance(item_id, str) or not item_id:
            is_empty = is_missing(item_id) or len(str(item_id)) == 0
            advice = "every row needs an id" if is_empty else "return str(...) of it"
            raise self.error(f"item_id_from_row returned {item_id!r}, not a non-empty string; {advice}", line)
        if not isinstance(metadata, dict) or LINEAGE_KEY in metadata:
            problem = (
                f"uses the reserved key {LINEAGE_KEY!r}"
                if isinstance(metadata, dict)
                else f"is {metadata!r}, not a dict"
            )
            raise self.error(f"the result of metadata_from_row {problem}", line)
        metadata[LINEAGE_KEY] = {**self._lineage, "row_index": row_index, **lineage, **key}
        return BatchItem(item_id=item_id, payload=payload, metadata=metadata)

    def error(self, message: str, line: int | None = None, *, column: str | None = None) -> SourceRowError:
        """An error at a place of this file, frame or query."""
        return SourceRowError(message, path=self._path, line=line, column=column)

    def _callback_error(self, step: str, error: Exception, row: Row, line: int) -> SourceRowError:
        if isinstance(error, KeyError) and error.args and _is_missing_column(error.args[0], row):
            there = ", ".join(repr(name) for name in list(row)[:20])
            message = f"{step} reads a column that does not exist; the columns are {there}"
            close = difflib.get_close_matches(error.args[0], [str(name) for name in row], n=1)
            message += f". Did you mean {close[0]!r}?" if close else ""
            message += f". {self.hint}" if self.hint else ""
            return self.error(message, line, column=error.args[0])
        return self.error(f"{step} failed with {type(error).__name__}: {error}", line)


def _is_missing_column(name: object, row: Row) -> bool:
    return isinstance(name, str) and name not in row


def _function_problem(name: str, given: object) -> str:
    problem = f"{name} must be a function of a row, and is {given!r}"
    if isinstance(given, str):
        problem += f"; for a column of that name: lambda row: row[{given!r}]"
    return problem


def hive_partition(path: PurePath) -> str | None:
    """The ``key=value`` folders of a path, joined with slashes; None without any."""
    folders = [part for part in path.parts[:-1] if _HIVE_FOLDER.fullmatch(part)]
    return "/".join(folders) or None


def column_names(columns: Sequence[str] | None) -> list[str] | None:
    """The columns to read; None for all."""
    if columns is None:
        return None
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise InvalidInputError(f"columns must be a list of column names, and is {columns!r}")
    return list(columns)
