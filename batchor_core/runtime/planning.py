"""Planning a job: its rows are read and rendered as a driver would, and counted instead of sent.

Memory is bounded but for digests of what was seen: of every row's id and request, 16 bytes each, which takes Python some 200 bytes
a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

from batchor_core.core.admission import Granted, Standing, admit
from batchor_core.core.caps import Cap, labels_of
from batchor_core.core.custom_ids import CustomIds, most_chars
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.forecast import (
    NO_ANSWERS,
    AnswerTokens,
    NewRows,
    answers_like,
    answers_within,
    forecast,
)
from batchor_core.core.models import BatchItem, BatchJob, PromptParts
from batchor_core.core.outputs import VectorOutput
from batchor_core.core.plan import Plan, RefusedRow
from batchor_core.core.price_book import PriceBook, rates_at
from batchor_core.core.pricing import BatchRates, Unpriced
from batchor_core.core.request_lines import longest_line
from batchor_core.core.reuse import Move, Reuse
from batchor_core.core.spending import ASSET_EXTRA, key_text
from batchor_core.core.types import JSONObject
from batchor_core.core.waves import Waves
from batchor_core.runtime.encoding import named
from batchor_core.runtime.engine import CHUNK, EngineSettings, JobInHand, RunProvider
from batchor_core.runtime.estimate import shortest_line
from batchor_core.runtime.ingest import ask, is_read_once, requests_of, tokens_of
from batchor_core.runtime.outputs import check_provided
from batchor_core.runtime.plan_warnings import Findings, warnings_of
from batchor_core.runtime.pricing import ROW_OPTIONS
from batchor_core.runtime.reuse import check_reused, reuse_of, reuse_terms
from batchor_core.runtime.starting import caps_of
from batchor_core.runtime.stored_job import persisted_config
from batchor_core.storage.planning_reads import JobLikeness, PlanningReads
from batchor_core.storage.session import Candidate
from batchor_core.storage.state import StateStore

SHOWN_REFUSED = 10
NEW_RUN = "new"
"""What a run without an id is called in the names of caps."""


class Planning:
    """What a plan is made with.

    Args:
        store: Whose answers, caps and history count; it is read only.
        provider: The job's provider.
        prices: What tokens cost.
        settings: Of the engine.
        notes: Warnings to begin with.
        caps: Caps that the store may not have yet.
    """

    def __init__(
        self,
        store: StateStore,
        provider: RunProvider,
        prices: PriceBook,
        settings: EngineSettings,
        *,
        notes: Sequence[str] = (),
        caps: Sequence[Cap] = (),
    ) -> None:
        self._store = store
        self._reads = store.planning_reads()
        self._provider = provider
        self._prices = prices
        self._settings = settings
        self._notes = notes
        self._caps = caps

    def plan(self, job: BatchJob[Any, Any], *, run_id: str | None, extras: JSONObject) -> Plan:
        """What ``BatchRunner.plan`` documents."""
        if is_read_once(job.items):
            raise InvalidInputError(
                "a plan reads every row, and these items can be read only once; give a list or a source, which can be read again"
            )
        try:
            return self._plan(job, run_id, extras)
        finally:
            self._provider.close()

    def _plan(self, job: BatchJob[Any, Any], run_id: str | None, extras: JSONObject) -> Plan:
        check_provided(job, self._provider.get().limits)
        scope = _scope(job, extras, self._reads)
        check_reused(self._store, scope.reuse)
        planned = PlannedJob(self._store, self._provider, self._settings, job, run_id, extras, scope.reuse)
        config = job.provider_config
        rates = rates_at(self._prices, config, self._store.now())
        answer = self._answer(planned, job)
        count = _Count(planned, self._reads, NewRows(rates, **_around(planned)))
        for chunk in _chunks(job):
            count.add(chunk)
        count.waves.finish()
        new, longest = count.new, config.longest_answer()
        cost = new.cost(answer)
        labels = labels_of(run_id or NEW_RUN, tags=job.batch_metadata, extras=extras)
        standings = self._reads.cap_standings(
            run_id or NEW_RUN, labels=labels, caps=[*self._caps, *caps_of(job, run_id or NEW_RUN)]
        )
        reservation = new.reservation(longest)
        caps = tuple(
            forecast(each, new.rows, cost, largest=count.largest, reservation=reservation)
            for each in standings
        )
        unseen = rates.unseen if isinstance(rates, BatchRates) else ()
        findings = Findings(
            notes=(*self._notes, *scope.notes, *self._about_run(run_id)),
            reuses=scope.reuse is not None,
            answer=answer,
            has_bound=longest is not None,
            shared_tokens=count.shared_tokens(),
            writes_cost_more=new.writes_cost_more(answer),
            caches=new.caches(),
        )
        made = Plan(
            rows=count.rows,
            rows_new=new.rows,
            rows_reused=count.reused,
            rows_following=count.following,
            rows_duplicate=count.duplicate,
            rows_refused=count.refused,
            refused=tuple(count.examples),
            input_tokens=new.input_tokens(),
            output_tokens=new.output_tokens(answer),
            output_basis=answer.basis,
            cost=cost,
            not_included=() if isinstance(cost, Unpriced) else (*unseen, *count.options),
            batches=count.waves.batches,
            waves=count.waves.waves,
            queue_limit=min((one.limit for one in planned.allowances()), default=None),
            caps=caps,
            warnings=(),
        )
        return replace(made, warnings=warnings_of(made, findings))

    def _answer(self, planned: PlannedJob, job: BatchJob[Any, Any]) -> AnswerTokens:
        """What answers are expected to have."""
        if isinstance(job.output_spec, VectorOutput):
            return NO_ANSWERS
        config = job.provider_config
        like = JobLikeness(
            provider=str(config.provider_kind),
            model=str(getattr(config, "model", "")),
            asset=key_text(planned.config.extras.get(ASSET_EXTRA)),
            output=job.output_spec.to_payload(),
            schema=planned.config.output_schema,
        )
        history = self._reads.history(like)
        if history.usages:
            return answers_like(history.usages, history.basis)
        return answers_within(config.longest_answer())

    def _about_run(self, run_id: str | None) -> list[str]:
        if run_id is None or not self._store.has_run(run_id=run_id):
            return []
        problem = (
            f"there is a run {run_id} already: starting the job continues it, and pays only for what is left of it. This plan is "
            "for a new run"
        )
        return [problem]


class PlannedJob(JobInHand):
    """A job that is planned and not started."""

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
        self._provider = provider
        self._store = store
        self._settings = replace(settings, content_addresses=True)
        self._output = job.output_spec

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
    def output(self) -> Any:
        return self._output


class _Scope(NamedTuple):
    reuse: Reuse | None
    notes: Sequence[str] = ()


def _scope(job: BatchJob[Any, Any], extras: JSONObject, reads: PlanningReads) -> _Scope:
    """Whose answers may be reused. Without a key, the account is the newest one that has shared answers in this scope."""
    reuse = reuse_of(job, extras)
    if reuse is None or job.provider_config.account_fingerprint() is not None or reads.has_scope(reuse.key):
        return _Scope(reuse)
    for account in reads.accounts():
        known = reuse_of(job, extras, account=account)
        if known is not None and reads.has_scope(known.key):
            note = "there is no API key, which tells the account: the account of the newest batches in this scope is assumed"
            return _Scope(known, [note])
    return _Scope(reuse)


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


class _Chunk(NamedTuple):
    first_index: int
    items: list[BatchItem[Any]]
    job: BatchJob[Any, Any]


def _chunks(job: BatchJob[Any, Any]) -> Iterator[_Chunk]:
    items, index = iter(job.items), 0
    while chunk := list(islice(items, CHUNK)):
        yield _Chunk(index, chunk, job)
        index += len(chunk)


class _Count:
    """What becomes of the rows."""

    def __init__(self, planned: PlannedJob, reads: PlanningReads, new: NewRows) -> None:
        self.new = new
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

    def add(self, chunk: _Chunk) -> None:
        """Count the next rows."""
        planned = self._planned
        asked = ask(chunk.items, chunk.first_index, chunk.job.build_prompt)
        self._check_ids(chunk.items)
        lines, stored, addresses = requests_of(planned, asked)
        tokens = tokens_of(planned, lines, stored)
        counted = tokens
        if not self._is_counted:  # as limits count, which is quicker; as providers bill, for the price
            chars_per_token = planned.config.chunk_policy.chars_per_token
            counted = planned.api.estimate_tokens(lines, chars_per_token=chars_per_token)
        self.rows += len(stored)
        moves = self._moves(addresses)
        candidates = [
            Candidate(index, tokens[n], longest_line(stored[n], most_chars(chunk.items[n].item_id, index)))
            for n, index in enumerate(range(chunk.first_index, asked.end))
            if moves.get(addresses[n] or b"") is not Move.TAKE
        ]
        self.reused += len(stored) - len(candidates)
        too_large = {
            row.item_index: row.message for row in admit(candidates, self._size, self._granted).oversized
        }
        left, new = set[int](), list[int]()
        for candidate in candidates:
            n = candidate.item_index - chunk.first_index
            if (reason := too_large.get(candidate.item_index)) is not None:
                self._refuse(chunk.items[n], reason)
            elif self._is_left_out(addresses[n], moves):
                left.add(candidate.item_index)
            else:
                new.append(counted[n])
                self.largest = max(self.largest, candidate.submission_tokens)
                self._note_texts(asked.prompts[n])
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
            self.options = [ROW_OPTIONS]
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
