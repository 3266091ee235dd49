"""Names of states in the text of a statement, for partial indexes."""

from __future__ import annotations

from sqlalchemy import literal_column
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core.enums import ItemStatus, SubmissionState


def state_literals(names: tuple[ItemStatus, ...] | tuple[SubmissionState, ...]) -> list[ColumnElement[str]]:
    """Names as SQL literals. SQLite uses a partial index only if the query repeats its condition word for word."""
    return [literal_column(f"'{name.value}'") for name in names]
