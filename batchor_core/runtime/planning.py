"""Planning a job: what it would send and cost if it was started now. Nothing is sent, and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from batchor_core.core.caps import Cap, labels_of
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.forecast import NO_ANSWERS, AnswerTokens, answers_like, answers_within, forecast
from batchor_core.core.models import BatchJob
from batchor_core.core.outputs import VectorOutput
from batchor_core.core.plan import CapForecast, Plan, Range
from batchor_core.core.price_book import PriceBook, rates_at
from batchor_core.core.pricing import BatchRates, Unpriced
from batchor_core.core.reuse import Reuse
from batchor_core.core.spending import ASSET_EXTRA, key_text
from batchor_core.core.types import JSONObject
from batchor_core.core.validation import check_run_id
from batchor_core.runtime.engine import EngineSettings, RunProvider
from batchor_core.runtime.ingest import is_read_once
from batchor_core.runtime.outputs import check_provided
from batchor_core.runtime.plan_warnings import Findings, warnings_of
from batchor_core.runtime.planned_rows import NEW_RUN, PlannedJob, RowCount
from batchor_core.runtime.repair import check_repair
from batchor_core.runtime.reuse import check_reused, reuse_of
from batchor_core.runtime.starting import caps_of
from batchor_core.storage.planning_reads import JobLikeness, PlanningReads
from batchor_core.storage.state import StateStore


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
        if run_id is not None:
            check_run_id(run_id)
        if is_read_once(job.items):
            raise InvalidInputError(
                "a plan reads every row, and these items can be read only once; give a list or a source, which can be read again"
            )
        try:
            return self._plan(job, run_id, extras)
        finally:
            self._provider.close()

    def _plan(self, job: BatchJob[Any, Any], run_id: str | None, extras: JSONObject) -> Plan:
        limits = self._provider.get().limits
        check_provided(job, limits)
        check_repair(job, limits, self._store)
        scope = _scope(job, extras, self._reads)
        check_reused(self._store, scope.reuse)
        planned = PlannedJob(self._store, self._provider, self._settings, job, run_id, extras, scope.reuse)
        config = job.provider_config
        rates = rates_at(self._prices, config, self._store.now())
        count = RowCount(planned, self._reads, rates)
        count.read()
        new, longest = count.new, count.longest
        answer = self._answer(planned, longest)
        cost = new.cost(answer)
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
            caps=self._forecasts(planned, count, cost),
            warnings=(),
        )
        return replace(made, warnings=warnings_of(made, findings))

    def _answer(self, planned: PlannedJob, longest: int | None) -> AnswerTokens:
        """What answers are expected to have."""
        job = planned.job
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
        return answers_within(longest)

    def _forecasts(
        self, planned: PlannedJob, count: RowCount, cost: Range[Decimal] | Unpriced
    ) -> tuple[CapForecast, ...]:
        """Whether the run would stop at a cap."""
        job, run_id = planned.job, planned.run_id or NEW_RUN
        labels = labels_of(run_id, tags=job.batch_metadata, extras=planned.config.extras)
        caps = [*self._caps, *caps_of(job, run_id)]
        reservation = count.new.reservation(count.longest)
        return tuple(
            forecast(standing, count.new.rows, cost, largest=count.largest, reservation=reservation)
            for standing in self._reads.cap_standings(run_id, labels=labels, caps=caps)
        )

    def _about_run(self, run_id: str | None) -> list[str]:
        if run_id is None or not self._store.has_run(run_id=run_id):
            return []
        problem = (
            f"there is a run {run_id} already: starting the job continues it, and pays only for what is left of it. This plan is "
            "for a new run"
        )
        return [problem]


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
