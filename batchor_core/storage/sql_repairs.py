"""Requests that ask again with the reason why an answer was bad, each for the next answered attempt of its item."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import and_, case, select

from batchor_core.storage.records import NextRequest
from batchor_core.storage.schema import item_contents, items, repairs
from batchor_core.storage.sql_engine import plain_rows
from batchor_core.storage.sql_ingestion import cut_lines
from batchor_core.storage.sql_runs import LockedRun

ITS_REPAIR = and_(
    items.c.repairs.is_not(None),  # most have none, and need not be looked for
    repairs.c.run_key == items.c.run_key,
    repairs.c.item_index == items.c.item_index,
)

_HAS_REPAIR = repairs.c.item_index.is_not(None)
NEXT_LINE = (
    case((_HAS_REPAIR, repairs.c.request_line), else_=item_contents.c.request_line),
    case((_HAS_REPAIR, repairs.c.parts_number), else_=item_contents.c.parts_number),
)
"""What an item asks in its next attempt, and the number of the parts that are left out of it."""

_COLUMNS = ("item_index", "request_line", "parts_number", "own_tokens", "own_bytes")
_CHANGED = ("submission_tokens", "request_bytes", "repairs")


def is_asked(run: LockedRun, item_index: int) -> bool:
    """Whether the item's newest request is one that asks again with the reason."""
    wanted = select(repairs.c.item_index).where(
        repairs.c.run_key == run.run_key, repairs.c.item_index == item_index
    )
    return run.connection.scalar(wanted) is not None


def write(run: LockedRun, asked: Mapping[int, NextRequest], answered: Mapping[int, bool]) -> None:
    """Keep what items ask next, and forget what was answered.

    Args:
        run: The run.
        asked: By index, items that are asked again with the reason. None of them is in flight any more.
        answered: By index, items that were asked like that before and got an answer; whether it was good.
    """
    if not asked and not answered:
        return
    wanted = (
        select(
            items.c.item_index,
            items.c.submission_tokens,
            items.c.request_bytes,
            items.c.repairs,
            repairs.c.own_tokens,
            repairs.c.own_bytes,
        )
        .outerjoin_from(items, repairs, ITS_REPAIR)
        .where(items.c.run_key == run.run_key, run.database.among(items.c.item_index, [*asked, *answered]))
        .order_by(items.c.item_index)
    )
    new: list[tuple[int, bytes, int, int]] = []
    changes: list[tuple[object, ...]] = []
    over: list[int] = []
    repaired = 0
    for index, tokens, size, count, own_tokens, own_bytes in list(plain_rows(run.connection, wanted)):
        has_one = own_tokens is not None
        own = (own_tokens, own_bytes) if has_one else (tokens, size)
        if has_one:
            over.append(index)
        if (following := asked.get(index)) is not None:
            new.append((index, following.line, *own))
            changes.append((index, following.submission_tokens, following.request_bytes, (count or 0) + 1))
        elif has_one:
            changes.append((index, *own, count))
            repaired += answered[index]
    here = and_(repairs.c.run_key == run.run_key, run.database.among(repairs.c.item_index, over))
    if over:
        run.connection.execute(repairs.delete().where(here))
    cut = cut_lines(run, [line for _, line, *_ in new])
    rows = [(index, *stored, *own) for (index, _, *own), stored in zip(new, cut, strict=True)]
    run.database.insert_many(run.connection, repairs, _COLUMNS, rows, same={"run_key": run.run_key})
    run.database.change_items(run.connection, run.run_key, _CHANGED, changes, same={})
    run.count_repairs(asked=len(new), completed=repaired)
