"""How long batches took, from their creation until the engine saw that they had ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from batchor_core.core.words import duration

_EDGES = (0, 15, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400)
"""Where the bins of the histogram begin, in seconds."""


@dataclass(frozen=True, slots=True)
class BatchTime:
    """One batch.

    Attributes:
        batch_id: The provider's id.
        status: Where it stands.
        rows: Rows that it was created with.
        created_at: Seconds since 1970.
        ended_at: The same; None while it runs, and where the store does not keep it.
        url: Its page in the provider's console, where there is one.
    """

    batch_id: str
    status: str
    rows: int
    created_at: float
    ended_at: float | None = None
    url: str | None = None

    @property
    def seconds(self) -> float | None:
        """Its turnaround; None where its end is not known."""
        return None if self.ended_at is None else max(0.0, self.ended_at - self.created_at)


@dataclass(frozen=True, slots=True)
class Bin:
    """Batches of about the same turnaround.

    Attributes:
        label: From when to when, such as ``5 min to 15 min``.
        batches: How many.
        rows: Their rows.
    """

    label: str
    batches: int
    rows: int


def turnaround(batches: Sequence[BatchTime], share: float) -> float | None:
    """Seconds within which this share of the rows was back: 0.5 for half of them. None if no batch has ended."""
    ended = sorted((batch.seconds, batch.rows) for batch in batches if batch.seconds is not None)
    wanted = share * sum(rows for _, rows in ended)
    for seconds, rows in ended:
        wanted -= rows
        if wanted <= 0:
            return seconds
    return ended[-1][0] if ended else None


def histogram(batches: Sequence[BatchTime]) -> list[Bin]:
    """The batches that have ended by turnaround, from the first bin that holds any to the last."""
    ended = [(batch.seconds, batch.rows) for batch in batches if batch.seconds is not None]
    bins = []
    for low, high in pairwise((*_EDGES, float("inf"))):
        rows = [rows for seconds, rows in ended if low <= seconds < high]
        bins.append(Bin(_label(low, high), len(rows), sum(rows)))
    filled = [place for place, each in enumerate(bins) if each.batches]
    return bins[filled[0] : filled[-1] + 1] if filled else []


def _label(low: float, high: float) -> str:
    if low == 0:
        return f"under {duration(high)}"
    return f"{duration(low)} or more" if high == float("inf") else f"{duration(low)} to {duration(high)}"
