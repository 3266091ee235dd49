"""Staying under caps: what may be sent, what is reserved for it, and pausing where nothing may."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from batchor_core.core.answer_length import DEFAULT_ANSWER_TOKENS
from batchor_core.core.caps import (
    Cap,
    CapMeasure,
    CapStanding,
    Reservation,
    Sent,
    active_caps,
    admit_under_caps,
    labels_of,
    reservation_at,
)
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.core.pricing import Unpriced
from batchor_core.core.request_lines import PLACEHOLDERS, named_line
from batchor_core.core.types import BatchRequestLine
from batchor_core.runtime.engine import Drive, Engine
from batchor_core.runtime.reuse import without_equal
from batchor_core.runtime.stored_rows import stored_rows
from batchor_core.storage.records import PersistedRunConfig
from batchor_core.storage.session import Candidate


def check_caps(engine: Engine, run_id: str, config: PersistedRunConfig, caps: Sequence[Cap] = ()) -> None:
    """Keep the caps that a job is started with; none of them if there is a cap in dollars, and no price is known.

    Raises:
        InvalidInputError: There is such a cap.
        NotImplementedError: The store can't keep caps.
    """
    labels = labels_of(run_id, tags=config.batch_metadata, extras=config.extras)
    known = [*engine.store.list_caps(), *caps]
    dollars = [cap for cap in active_caps(known, labels) if cap.measure is CapMeasure.USD]
    rates = engine.rates(config.provider_config, at=0.0) if dollars else None
    if isinstance(rates, Unpriced):
        raise InvalidInputError(
            f"run {run_id} can't be kept under the cap of {dollars[0]}: {rates.reason}. Give its prices with "
            "BatchRunner(prices=...) or --prices, or a cap in rows"
        )
    engine.store.keep_caps(caps)


class Caps:
    """The caps of a run, while it sends.

    Attributes:
        reservation: What the rows that may be sent reserve; None without any cap.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self.reservation: Reservation | None = None

    def admitted(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The first of the waiting rows, which have one model, as far as every cap has room for them.

        If there is room for none, the run waits for its own batches and for what others have reserved, and pauses if that
        can't help.
        """
        self.reservation = None
        standings = self._drive.session.caps()
        if not standings:
            return candidates
        sent = self._sent(candidates, standings)
        if not sent.rows and len(rest := without_equal(self._drive, candidates)) < len(candidates):
            candidates = rest  # what need not be sent needs no room
            sent = self._sent(candidates, standings)
        if sent.short is not None and not sent.rows and not sent.may_fit_later:
            self._pause(sent.reason())
        return candidates[: sent.rows]

    def _sent(self, candidates: Sequence[Candidate], standings: Sequence[CapStanding]) -> Sent:
        tokens = [candidate.submission_tokens for candidate in candidates]
        needs_price = any(standing.cap.measure is CapMeasure.USD for standing in standings)
        model = candidates[0].model if candidates else None
        self.reservation = self._reserved(max(tokens, default=0), model) if needs_price else Reservation(0, 0)
        if self.reservation is None:
            return Sent(0)
        sent = admit_under_caps(tokens, standings, self.reservation)
        if not needs_price or not sent.rows:
            return sent
        longest = self._longest_of_rows(candidates[: sent.rows])
        self.reservation = self._reserved(max(tokens), model, longest)
        if self.reservation is None:
            return Sent(0)
        return admit_under_caps(tokens[: sent.rows], standings, self.reservation)

    def _longest_of_rows(self, candidates: Sequence[Candidate]) -> int:
        """The longest answer that options of single rows allow; 0 where no row has any."""
        drive = self._drive
        if not drive.store.has_row_options(run_id=drive.run_id):
            return 0
        indexes = sorted(candidate.item_index for candidate in candidates)
        return max(
            (
                _longest_answer(drive.config.provider_config, row.request_line)
                for row in stored_rows(drive, indexes)
                if row.request_line is not None
            ),
            default=0,
        )

    def _reserved(self, largest: int, model: str | None, of_rows: int = 0) -> Reservation | None:
        config = self._drive.provider_config(model)
        rates = self._drive.engine.rates(config, at=0.0)
        if isinstance(rates, Unpriced):
            self._pause(f"a cap in dollars holds for this run, and {rates.reason}")
            return None
        longest = config.longest_answer()
        longest = max(DEFAULT_ANSWER_TOKENS if longest is None else longest, of_rows)
        return reservation_at(rates, largest=largest, answer_tokens=longest)

    def _pause(self, reason: str) -> None:
        """Pause once the run has nothing left to wait for: a paused run collects no results."""
        drive = self._drive
        if (
            not drive.store.get_active_batches(run_id=drive.run_id)
            and not drive.session.open_submissions()
            and not drive.store.get_run_summary(run_id=drive.run_id).following_items
        ):
            drive.pause(reason)


def _longest_answer(config: ProviderConfig, request_line: bytes) -> int:
    line: BatchRequestLine = orjson.loads(named_line(request_line, PLACEHOLDERS[0], is_first=False))
    longest = config.longest_answer_to(line)
    return DEFAULT_ANSWER_TOKENS if longest is None else longest
