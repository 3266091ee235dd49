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
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.engine import Engine
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


_ROWS_AT_ONCE = 500


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
        room = min((each.left for each in standings if each.cap.measure is CapMeasure.USD), default=None)
        self.reservation = Reservation(0, 0) if room is None else self._reserved(candidates, room)
        if self.reservation is None:
            return Sent(0)
        return admit_under_caps(tokens, standings, self.reservation)

    def _reserved(self, candidates: Sequence[Candidate], room: int) -> Reservation | None:
        config = self._drive.provider_config(candidates[0].model if candidates else None)
        rates = self._drive.engine.rates(config, at=0.0)
        if isinstance(rates, Unpriced):
            self._pause(f"a cap in dollars holds for this run, and {rates.reason}")
            return None
        largest = max((candidate.submission_tokens for candidate in candidates), default=0)
        longest = config.longest_answer()
        if self._drive.store.has_row_options(run_id=self._drive.run_id):
            a_token = reservation_at(rates, largest=largest, answer_tokens=1).answer
            longest = self._longest_of_rows(candidates, room // max(1, a_token))
        return reservation_at(rates, largest=largest, answer_tokens=longest)

    def _longest_of_rows(self, candidates: Sequence[Candidate], room: int) -> int:
        """The longest answer of the first rows, as their requests say: of as many as have room for so many tokens, or more."""
        config, longest = self._drive.config.provider_config, 0
        for start in range(0, len(candidates), _ROWS_AT_ONCE):
            page = candidates[start : start + _ROWS_AT_ONCE]
            for row in stored_rows(self._drive, sorted(candidate.item_index for candidate in page)):
                if row.request_line is not None:
                    longest = max(longest, _longest_answer(config, row.request_line))
            if longest * (start + len(page)) > room:
                break
        return longest

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
