"""Counting the rows of a planned job: they are read and rendered as a driver would, and not sent.

Memory is bounded but for digests of what was seen: of every row's id and request, 16 bytes each, which takes Python some 200 bytes
a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from batchor_core.core.admission import Granted, Standing, admit
from batchor_core.core.answer_length import DEFAULT_ANSWER_TOKENS
from batchor_core.core.custom_ids import CustomIds, most_chars
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.forecast import NewRows
from batchor_core.core.models import BatchItem, BatchJob, PromptParts
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.plan import RefusedRow
from batchor_core.core.pricing import Rates
from batchor_core.core.queue_limits import with_room_for
from batchor_core.core.request_lines import longest_line
from batchor_core.core.reuse import Move, Reuse
from batchor_core.core.types import JSONObject
from batchor_core.core.waves import Waves
from batchor_core.runtime.drive import JobInHand
from batchor_core.runtime.encoding import named
from batchor_core.runtime.engine import EngineSettings, RunProvider
from batchor_core.runtime.estimate import shortest_line
from batchor_core.runtime.ingest import Reader, first_checkpoint, models_of, requests_of, tokens_of
from batchor_core.runtime.pricing import ROW_OPTIONS
from batchor_core.runtime.rendering import Asked
from batchor_core.runtime.reuse import reuse_terms
from batchor_core.runtime.stored_job import persisted_config
from batchor_core.storage.planning_reads import PlanningReads
from batchor_core.storage.session import Candidate
from batchor_core.storage.state import StateStore

SHOWN_REFUSED = 10
NEW_RUN = "new"
"""What a run without an id is called in the names of caps."""


_ROW_MODELS = "that some rows name other models, which have prices of their own"


class PlannedJob(JobInHand):
    """A job that is planned and not started.

    Attributes:
        job: The job.
    """

    def __init__(
        self,
        store: StateStore,
        provider: RunProvider,
        settings: EngineSettings,
        job: BatchJob[Any, Any],
        run_id: str | None,
        extras: JSONObject,
        reuse: Reuse | None,
    ) -> None:
        self.run_id = run_id or ""
        self.config = persisted_config(job, extras=extras, reuse=reuse)
        self.job = job
        self._provider = provider
        self._store = store
        self._settings = replace(settings, content_addresses=True)

    @property
    def store(self) -> StateStore:
        return self._store

    @property
    def settings(self) -> EngineSettings:
        """The runner's, with content addresses, by which equal rows are found."""
        return self._settings

    @property
    def custom_ids(self) -> CustomIds:
        return CustomIds(self.run_id or NEW_RUN)

    @property
    def output(self) -> OutputSpec:
        return self.job.output_spec


class RowCount:
    """What becomes of the rows of a job.

    Args:
        planned: The job.
        reads: What is read of the store.
        rates: What tokens cost.

    Attributes:
        new: The rows that would be sent, by what they cost.
        waves: The batches that they become.
        rows, reused, following, duplicate, refused: See :class:`~batchor_core.Plan`.
        largest: Tokens of the largest new row, as limits count.
        examples: The first of the refused rows.
        options: What single rows may add to the price.
        longest: The longest answer that the requests of new rows allow; None if nothing limits one of them.
    """

    def __init__(self, planned: PlannedJob, reads: PlanningReads, rates: Rates) -> None:
        self.new = NewRows(rates, **_around(planned))
        self.rows = self.reused = self.following = self.duplicate = self.refused = self.largest = 0
        self.examples: list[RefusedRow] = []
        self.options: list[str] = []
        self._planned = planned
        self._reads = reads
        self._size = planned.batch_size()
        self._is_counted = planned.budget() is not None
        self._granted = [Granted(allowance, Standing()) for allowance in planned.allowances()]
        self.waves = Waves(self._size, planned.allowances())
        self._ids = set[bytes]()
        self._addresses = set[bytes]()
        self._shared: str | None = None
        self._config = planned.job.provider_config
        self._of_config = self._config.longest_answer()
        self._bounds = set[int | None]()

    @property
    def longest(self) -> int | None:
        if not self._bounds:
            return self._of_config
        known = [bound for bound in self._bounds if bound is not None]
        if len(known) < len(self._bounds):
            return None if max(known, default=0) <= DEFAULT_ANSWER_TOKENS else max(known)
        return max(known)

    def read(self) -> None:
        """Count all rows."""
        job = self._planned.job
        reader = Reader(iter(job.items), job.build_prompt, first_checkpoint(job.items))
        while not reader.is_over:
            self._add(reader.chunk().asked)
            reader.kept()
        self.waves.finish()

    def _add(self, asked: Asked) -> None:
        planned, first, items = self._planned, self.rows, asked.items
        self._check_ids(items)
        made = requests_of(planned, asked)
        lines, stored, addresses = made.lines, made.stored, made.addresses
        tokens, models = tokens_of(planned, made), models_of(planned, asked)
        counted = tokens
        if not self._is_counted:  # as limits count, which is quicker; as providers bill, for the price
            chars_per_token = planned.config.chunk_policy.chars_per_token
            counted = planned.api.estimate_tokens(lines, chars_per_token=chars_per_token)
        self.rows += len(stored)
        moves = self._moves(addresses)
        candidates = [
            Candidate(
                index, tokens[n], longest_line(stored[n], most_chars(items[n].item_id, index)), models[n]
            )
            for n, index in enumerate(range(first, asked.end))
            if moves.get(addresses[n] or b"") is not Move.TAKE
        ]
        self.reused += len(stored) - len(candidates)
        granted = with_room_for(self._granted, max((row.submission_tokens for row in candidates), default=0))
        too_large = {row.item_index: row.message for row in admit(candidates, self._size, granted).oversized}
        left, new = set[int](), list[int]()
        for candidate in candidates:
            n = candidate.item_index - first
            if (reason := too_large.get(candidate.item_index)) is not None:
                self._refuse(items[n], reason)
            elif self._is_left_out(addresses[n], moves):
                left.add(candidate.item_index)
            else:
                new.append(counted[n])
                self.largest = max(self.largest, candidate.submission_tokens)
                self._note_texts(asked.prompts[n])
                options = asked.prompts[n].options
                self._bounds.add(self._config.longest_answer_to(lines[n]) if options else self._of_config)
        self.new.add(new)
        self.waves.add([row for row in candidates if row.item_index not in too_large], not_sent=left)

    def _is_left_out(self, address: bytes | None, moves: dict[bytes, Move]) -> bool:
        """Whether a row need not be sent, since an equal one is or was."""
        if address is None:
            return False
        if moves.get(address, Move.LEAD) is not Move.LEAD:
            self.following += 1
            return True
        digest = address[:16]
        if digest not in self._addresses:
            self._addresses.add(digest)
            return False
        self.duplicate += 1
        return self._planned.config.reuse is not None

    def _moves(self, addresses: Sequence[bytes | None]) -> dict[bytes, Move]:
        reuse, terms = self._planned.config.reuse, reuse_terms(self._planned)
        asked = {address for address in addresses if address is not None}
        if reuse is None or terms is None or not asked:
            return {}
        return self._reads.moves(reuse.key, asked, terms)

    def _check_ids(self, items: Sequence[BatchItem[Any]]) -> None:
        for item in items:
            digest = blake2b(item.item_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if digest in self._ids:
                raise InvalidInputError(
                    f"{named(item)}: an earlier row has this item_id too, and ids must be unique within a run"
                )
            self._ids.add(digest)

    def _refuse(self, item: BatchItem[Any], reason: str) -> None:
        self.refused += 1
        if len(self.examples) < SHOWN_REFUSED:
            self.examples.append(RefusedRow(item.item_id, reason))

    def _note_texts(self, prompt: PromptParts) -> None:
        if prompt.options:
            notes = [ROW_OPTIONS] if prompt.model is None else [ROW_OPTIONS, _ROW_MODELS]
            self.options += [note for note in notes if note not in self.options]
        text = "" if prompt.messages else f"{prompt.system_prompt or ''}{prompt.prompt}"
        if self._shared is None:
            self._shared = text
        elif not text.startswith(self._shared):
            self._shared = _common_beginning(self._shared, text)

    def shared_tokens(self) -> int:
        """About how many tokens of text all new rows have in common at their beginning."""
        if self.new.rows < 2:
            return 0
        return len(self._shared or "") // self._planned.config.chunk_policy.chars_per_token


def _around(planned: PlannedJob) -> dict[str, int]:
    """What every request has besides its texts."""
    api, chars_per_token = planned.api, planned.config.chunk_policy.chars_per_token
    line = shortest_line(api, planned.wanted)
    (tokens,) = api.estimate_tokens([line], chars_per_token=chars_per_token)
    unbilled = api.unbilled_tokens(line, chars_per_token=chars_per_token)
    return {"around": max(0, tokens - 1), "unbilled": unbilled}


def _common_beginning(one: str, other: str) -> str:
    return one[
        : next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other))
    ]
