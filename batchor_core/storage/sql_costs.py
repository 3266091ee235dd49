"""What answers have cost: added up while they are settled, in the same transaction, on the rows of their batch and run."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam

from batchor_core.core.types import JSONValue
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage, counts
from batchor_core.storage.columns import decode_optional_json, encode_json
from batchor_core.storage.records import CompletedItemRecord, ItemFailureRecord
from batchor_core.storage.schema import batches, runs
from batchor_core.storage.sql_engine import AnyRow

_AMOUNTS = ("cost", "unpriced_answers")
CHARGED = {**{name: name for name in _AMOUNTS}, **{kind: f"billed_{kind}" for kind in TOKEN_KINDS}}
"""Columns of a batch, by what they sum up."""

_CHARGE = (
    batches.update()
    .where(batches.c.intent_key == bindparam("key"))
    .values({column: batches.c[column] + bindparam(f"more_{name}") for name, column in CHARGED.items()})
)


class Bill:
    """What some answers of one batch have cost, and the tokens that they state.

    Attributes:
        good: Good answers.
        bad: Bad ones.
    """

    __slots__ = ("bad", "good")

    def __init__(self) -> None:
        self.good: list[CompletedItemRecord] = []
        self.bad: list[ItemFailureRecord] = []

    def sums(self) -> dict[str, int]:
        """By what they sum up: the kinds of tokens, ``cost`` in picodollars, ``unpriced_answers``."""
        # a failure that states no tokens was not billed, so that it needs no price
        billed: list[CompletedItemRecord | ItemFailureRecord] = [
            *self.good,
            *(answer for answer in self.bad if answer.usage is not None or answer.cost is not None),
        ]
        costs = [answer.cost for answer in billed if answer.cost is not None]
        # all of a kind at once: adding up answer by answer would take as long as writing them
        usages = [answer.usage for answer in billed if answer.usage is not None]
        tokens = [sum(column) for column in zip(*map(counts, usages), strict=True)] or [0] * len(TOKEN_KINDS)
        return {
            **dict(zip(TOKEN_KINDS, tokens, strict=True)),
            "cost": sum(costs),
            "unpriced_answers": len(billed) - len(costs),
        }


def charge(connection: Connection, intent_key: int | None, sums: dict[str, int]) -> None:
    """Add to what a batch has cost."""
    connection.execute(_CHARGE, {"key": intent_key, **{f"more_{name}": sums[name] for name in CHARGED}})


def with_attempt(before: int | None, cost: int | None) -> int | None:
    """Picodollars for an item after one more attempt; None while no price is known for any of them."""
    if before is None or cost is None:
        return before if cost is None else cost
    return before + cost


def billed_in(batch: AnyRow) -> TokenUsage:
    """The tokens that the answers of a batch state."""
    return TokenUsage(*[getattr(batch, f"billed_{kind}") for kind in TOKEN_KINDS])


def notes_from(row: AnyRow) -> tuple[str, ...]:
    """What a run's cost leaves out, in words."""
    return tuple(decode_optional_json(row.cost_notes) or ())


def keep_notes(connection: Connection, run: AnyRow, notes: Sequence[str]) -> None:
    """Keep what the cost of a run leaves out, besides what is kept of earlier batches."""
    known = notes_from(run)
    if not set(notes) <= set(known):
        kept: list[JSONValue] = list(dict.fromkeys((*known, *notes)))
        connection.execute(
            runs.update().where(runs.c.run_key == run.run_key).values(cost_notes=encode_json(kept))
        )
