"""Models that rows name themselves: of the rows, and of the batches that were made of such rows.

Most runs have none, so that they are in tables of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from batchor_core.storage.columns import decode_text, encode_text
from batchor_core.storage.records import MaterializedItem
from batchor_core.storage.schema import batch_models, row_models
from batchor_core.storage.session import Candidate
from batchor_core.storage.sql_runs import LockedRun

_rows, _batches = row_models.c, batch_models.c
_BETWEEN = select(_rows.item_index, _rows.model).where(
    _rows.run_key == bindparam("key"), _rows.item_index.between(bindparam("first"), bindparam("last"))
)


def insert(run: LockedRun, items: Sequence[MaterializedItem]) -> None:
    """Keep the models of new rows, where they name any."""
    if values := [
        {"run_key": run.run_key, "item_index": item.item_index, "model": encode_text(item.model)}
        for item in items
        if item.model is not None
    ]:
        run.connection.execute(row_models.insert(), values)


def with_models(connection: Connection, run_key: int, candidates: list[Candidate]) -> list[Candidate]:
    """The same items with the models that they name; the same list where they name none."""
    if not candidates:
        return candidates
    named = _models(connection, run_key, candidates[0].item_index, candidates[-1].item_index)
    if not named:
        return candidates
    return [one._replace(model=named.get(one.item_index)) for one in candidates]


def note_batch(run: LockedRun, intent_key: int, index: int) -> None:
    """Keep the model of a submission, if the item at ``index``, which is in it, names one."""
    if model := _models(run.connection, run.run_key, index, index).get(index):
        values = {"intent_key": intent_key, "run_key": run.run_key, "model": encode_text(model)}
        run.connection.execute(batch_models.insert(), values)


def _models(connection: Connection, run_key: int, first: int, last: int) -> dict[int, str]:
    found = connection.execute(_BETWEEN, {"key": run_key, "first": first, "last": last})
    return {index: decode_text(model) for index, model in found}
