"""What the answers of a batch cost, while they are collected."""

from __future__ import annotations

from collections.abc import Sequence

from batchor_core.core.pricing import BatchRates, Price, Rates, Unpriced, price_at
from batchor_core.core.usage import TokenUsage
from batchor_core.runtime.drive import Drive
from batchor_core.storage.records import ActiveBatchRecord

ROW_OPTIONS = "what options of single rows add to the price"
_UNSTATED = "answers without token counts"
_IMPOSSIBLE = "answers whose token counts can't be right"


class BatchPricing:
    """Prices answers of a batch at the rates of the day that it was created on, and notes what the amounts leave out.

    The rates are looked up for the first answer.
    """

    def __init__(self, drive: Drive, batch: ActiveBatchRecord) -> None:
        self._drive = drive
        self._batch = batch
        self._rates: Rates | None = None
        self._notes: list[str] = []
        self._price: Price | None = None

    def of_answers(self, usages: Sequence[TokenUsage | None]) -> Sequence[int | None]:
        """Picodollars for each of some answers; None where there is no telling."""
        stated = [usage for usage in usages if usage is not None]
        if len(stated) < len(usages):
            self._note(_UNSTATED)
        amounts = self._amounts(stated)
        if len(stated) == len(usages):
            return amounts
        left = iter(amounts)
        return [None if usage is None else next(left) for usage in usages]

    def of_failure(self, usage: TokenUsage | None) -> int | None:
        """The same for a bad answer, which may not have been billed: one without token counts was not."""
        return None if usage is None else self._amounts([usage])[0]

    def notes(self) -> list[str]:
        """What the amounts leave out so far."""
        match self._rates:
            case None:
                return self._notes
            case Unpriced(reason):
                return [reason, *self._notes]
            case BatchRates() as rates:
                has_options = self._drive.store.has_row_options(run_id=self._drive.run_id)
                return [*self._notes, *rates.unseen, *([ROW_OPTIONS] if has_options else [])]

    def _amounts(self, usages: Sequence[TokenUsage]) -> Sequence[int | None]:
        if self._rates is None and usages:
            config, created_at = self._drive.provider_config(self._batch.model), self._batch.created_at
            self._rates = self._drive.engine.rates(config, at=created_at)
            self._price = price_at(self._rates) if isinstance(self._rates, BatchRates) else None
        if self._price is None:
            return [None] * len(usages)
        amounts = self._price(usages)
        if None in amounts:
            self._note(_IMPOSSIBLE)
        return amounts

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)
