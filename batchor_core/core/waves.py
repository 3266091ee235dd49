"""How many batches a job's rows become, and in how many waves they leave, if nobody else sends anything.

The decisions are those that a driver makes: rows are handed to :func:`~batchor_core.core.admission.admit` as they are read. When
the limit holds the rest back, everything in flight is taken for ended, and the next wave begins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from batchor_core.core.admission import Allowance, Granted, Standing, admit
from batchor_core.core.batching import BatchSize, Sized
from batchor_core.core.queue_limits import with_room_for


class Waves:
    """Counts batches and waves.

    Args:
        size: What one batch may hold.
        allowances: The limits on what is in flight.

    Attributes:
        batches: Batches so far.
        waves: Waves so far; 0 before the first batch.
    """

    def __init__(self, size: BatchSize, allowances: Sequence[Allowance]) -> None:
        self.batches = self.waves = 0
        self._size = size
        self._allowances = allowances
        self._waiting: list[Sized] = []
        self._unsent: set[int] = set()
        self._in_flight = 0
        self._begins = True

    def add(self, rows: Sequence[Sized], *, not_sent: Collection[int]) -> None:
        """Count the next rows, in item order.

        Args:
            rows: Rows that fit a batch.
            not_sent: Indexes of those that their batch leaves out when it is claimed, since they follow equal rows.
        """
        self._waiting.extend(rows)
        self._unsent.update(not_sent)
        # as many rows as a driver looks at: those that it leaves behind are looked at once more
        if len(self._waiting) >= 2 * self._size.max_requests:
            self._send(more_to_come=True)

    def finish(self) -> None:
        """There are no more rows."""
        self._send(more_to_come=False)

    def _send(self, *, more_to_come: bool) -> None:
        while self._waiting:
            standing = Standing(own=self._in_flight)
            granted = with_room_for(
                [Granted(allowance, standing) for allowance in self._allowances],
                max(row.submission_tokens for row in self._waiting),
            )
            admission = admit(self._waiting, self._size, granted, more_to_come=more_to_come)
            gone = {row.item_index for row in admission.oversized}
            for batch in admission.batches:
                gone.update(batch.item_indexes)
                self._count(batch.item_indexes)
            tokens = {
                row.item_index: row.submission_tokens for row in self._waiting if row.item_index in gone
            }
            self._in_flight += sum(count for index, count in tokens.items() if index not in self._unsent)
            self._waiting = [row for row in self._waiting if row.item_index not in gone]
            self._unsent -= gone
            if admission.wait is None:
                return
            if not self._in_flight and not gone:
                return  # no batch fits at all, which admission rules out
            self._in_flight = 0
            self._begins = True

    def _count(self, item_indexes: Sequence[int]) -> None:
        if self._unsent.issuperset(item_indexes):
            return
        self.batches += 1
        if self._begins:
            self.waves += 1
            self._begins = False
