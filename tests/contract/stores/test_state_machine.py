"""Random lives of a run, on two stores at once: whatever is done, both show the same, and nothing is lost or doubled."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batchor_core.core.admission import Wait
from batchor_core.core.caps import Cap, Reservation
from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.core.exceptions import BatchorError
from batchor_core.core.lifecycle import TERMINAL
from batchor_core.core.pricing import Cost, dollars_of
from batchor_core.storage.records import NextRequest
from batchor_core.storage.state import (
    BatchArtifactPointer,
    BatchEnd,
    DriverIdentity,
    DriverSession,
    PersistedItemRecord,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
    RetryBackoffState,
    StateStore,
)
from tests.contract.stores import kit
from tests.contract.stores.kit import ALICE, BOB, MAX, Clock, custom_id_for, make_backend

_run_numbers = count()

OWNERS = st.sampled_from([ALICE, BOB])
LOCALS = st.sampled_from([f"b{number}" for number in range(6)])
BATCHES = st.sampled_from(["p0", "p1", "p2", "p3"])
STATUSES = st.sampled_from(["validating", "in_progress", "completed", "expired", "something new"])
COSTS = st.none() | st.integers(0, 10**15)
NEXT_REQUESTS = st.sampled_from(
    [None, *(NextRequest(b',"body":{"try":"%d"}' % most, 20 + most, 30, most) for most in range(1, 3))]
)
INDEXES = st.lists(st.integers(0, 11), max_size=6, unique=True).map(sorted)


class Lives(RuleBasedStateMachine):
    """One run, changed in the same way on every store."""

    def __init__(self, stores: Sequence[StateStore], clock: Clock) -> None:
        super().__init__()
        self.stores = stores
        self.clock = clock
        self.run_id = f"life-{next(_run_numbers)}"
        self.sessions: dict[str, list[DriverSession]] = {}
        self.custom_ids: set[str] = {"stranger"}
        self.numbers = count()
        self.reopened = self.capped = False
        self.completed: dict[str, PersistedItemRecord] = {}

    # --- doing the same everywhere -----------------------------------------------------------------------------------

    def on_stores(self, call: Callable[[StateStore], Any]) -> Any:
        return self._same([_result(partial(call, store)) for store in self.stores])

    def on_sessions(self, owner: str, call: Callable[[DriverSession], Any]) -> Any:
        return self._same([_result(partial(call, session)) for session in self.sessions[owner]])

    def _same(self, results: list[Any]) -> Any:
        assert all(result == results[0] for result in results), results
        return results[0]

    def draw_custom_ids(self, data: st.DataObject) -> list[str]:
        return data.draw(st.lists(st.sampled_from(sorted(self.custom_ids)), max_size=6))

    def draw_session(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.sessions)))

    # --- items -------------------------------------------------------------------------------------------------------

    @initialize(amount=st.integers(0, 8), driven=st.booleans(), capped=st.sampled_from([False, False, True]))
    def create(self, amount: int, driven: bool, capped: bool) -> None:
        self.capped = capped
        config, items = kit.config(budget_key=self.run_id), kit.items(*range(amount))
        self.on_stores(lambda s: s.create_run(run_id=self.run_id, config=config, items=items))
        if driven:
            self.take_the_run(ALICE, holder_is_dead=False)

    @rule(indexes=INDEXES, twin=st.booleans(), changed=st.booleans())
    def append(self, indexes: list[int], twin: bool, changed: bool) -> None:
        items = kit.items(*indexes)
        if changed and items:  # refused where the index is there, as good as any where it is not
            items[0] = items[0]._replace(prompt="another prompt")
        if twin:  # an id that is there, or will be, under another index
            items.append(kit.item(20, item_id="item-3"))
        self.on_stores(lambda s: s.append_items(run_id=self.run_id, items=items))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), indexes=INDEXES, complete=st.booleans())
    def append_with_checkpoint(self, data: st.DataObject, indexes: list[int], complete: bool) -> None:
        self.on_sessions(
            self.draw_session(data),
            lambda s: s.append(
                kit.items(*indexes),
                next_item_index=7,
                checkpoint_payload={"at": 7},
                ingestion_complete=complete,
            ),
        )

    # --- by hand -----------------------------------------------------------------------------------------------------

    @rule(limit=st.none() | st.integers(0, 4), attempts=st.integers(1, MAX))
    def claim_by_hand(self, limit: int | None, attempts: int) -> None:
        self.on_stores(
            lambda s: s.claim_items_for_submission(run_id=self.run_id, max_attempts=attempts, limit=limit)
        )

    @rule(indexes=INDEXES)
    def release_by_hand(self, indexes: list[int]) -> None:
        self.on_stores(lambda s: s.release_items_to_pending(run_id=self.run_id, item_ids=_ids(indexes)))

    @rule()
    def requeue_by_hand(self) -> None:
        self.on_stores(lambda s: s.requeue_local_items(run_id=self.run_id))

    @rule(indexes=INDEXES, local=LOCALS, batch=BATCHES, status=STATUSES, generation=st.integers(0, 2))
    def register_by_hand(
        self, indexes: list[int], local: str, batch: str, status: str, generation: int
    ) -> None:
        names = [custom_id_for(self.run_id, f"item-{index}", index, generation) for index in indexes]
        self.custom_ids |= set(names)
        self.on_stores(
            lambda s: s.register_batch(
                run_id=self.run_id,
                local_batch_id=f"hand-{local}",
                provider_batch_id=batch,
                status=status,
                custom_ids=names,
            )
        )

    @rule(indexes=INDEXES, batch=BATCHES, tokens=st.integers(0, 20))
    def submit_by_hand(self, indexes: list[int], batch: str, tokens: int) -> None:
        submissions = [PreparedSubmission(f"item-{index}", f"x{index}-{batch}", tokens) for index in indexes]
        self.custom_ids |= {submission.custom_id for submission in submissions}
        self.on_stores(
            lambda s: s.mark_items_submitted(
                run_id=self.run_id, provider_batch_id=batch, submissions=submissions
            )
        )

    @rule(indexes=INDEXES, retryable=st.booleans(), counted=st.booleans())
    def fail_queued(self, indexes: list[int], retryable: bool, counted: bool) -> None:
        error = kit.failure(retryable=retryable)
        failures = [QueuedItemFailureRecord(item_id, error, counted) for item_id in _ids(indexes)]
        self.on_stores(
            lambda s: s.mark_queued_items_failed(run_id=self.run_id, failures=failures, max_attempts=MAX)
        )

    @rule(data=st.data())
    def complete_by_hand(self, data: st.DataObject) -> None:
        records = [
            kit.good(name, usage=kit.usage(3), cost=data.draw(COSTS)) for name in self.draw_custom_ids(data)
        ]
        self.on_stores(lambda s: s.mark_items_completed(run_id=self.run_id, completions=records))

    @rule(data=st.data(), retryable=st.booleans(), counted=st.booleans())
    def fail_by_hand(self, data: st.DataObject, retryable: bool, counted: bool) -> None:
        bad = partial(kit.bad, retryable=retryable, count_attempt=counted, output_text="no")
        records = [
            bad(name, usage=kit.usage(2), cost=data.draw(COSTS)) for name in self.draw_custom_ids(data)
        ]
        self.on_stores(lambda s: s.mark_items_failed(run_id=self.run_id, failures=records, max_attempts=MAX))

    @rule(batch=BATCHES)
    def reset(self, batch: str) -> None:
        lost = kit.failure("batch_terminal_expired")
        self.on_stores(
            lambda s: s.reset_batch_items_to_pending(run_id=self.run_id, provider_batch_id=batch, error=lost)
        )

    @rule(batch=BATCHES, status=STATUSES, output=st.none() | st.just("out"))
    def poll_by_hand(self, batch: str, status: str, output: str | None) -> None:
        self.on_stores(
            lambda s: s.update_batch_status(
                run_id=self.run_id, provider_batch_id=batch, status=status, output_file_id=output
            )
        )

    # --- drivers -----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(owner=OWNERS, holder_is_dead=st.booleans())
    def open_session(self, owner: DriverIdentity, holder_is_dead: bool) -> None:
        self.take_the_run(owner, holder_is_dead=holder_is_dead)

    def take_the_run(self, owner: DriverIdentity, *, holder_is_dead: bool) -> None:
        opened = [
            store.open_session(
                run_id=self.run_id, owner=owner, ttl_sec=60, owner_is_dead=lambda other: holder_is_dead
            )
            for store in self.stores
        ]
        self._same([session is None for session in opened])
        if opened[0] is not None:
            self.sessions[owner.session] = [session for session in opened if session is not None]

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), end=st.sampled_from(["close", "renew"]))
    def close_or_renew(self, data: st.DataObject, end: str) -> None:
        owner = self.draw_session(data)
        self.on_sessions(owner, lambda s: s.close() if end == "close" else s.renew(ttl_sec=60))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), local=LOCALS, tight=st.booleans())
    def claim(self, data: st.DataObject, local: str, tight: bool) -> None:
        self.claim_some(data, self.draw_session(data), local, limit=40 if tight else 1_000)

    def claim_some(self, data: st.DataObject, owner: str, local: str, *, limit: int) -> None:
        found = self.on_sessions(owner, lambda s: s.candidates(max_attempts=MAX, limit=8))
        indexes = [one.item_index for one in found[: data.draw(st.integers(1, 8))]]
        if data.draw(st.integers(0, 9)) == 9:
            indexes.append(0)  # perhaps not claimable
        reservation = None
        if self.capped:
            reservation = data.draw(st.sampled_from([None, *[Reservation(token=3, answer=100)] * 3]))
        self.on_sessions(
            owner,
            lambda s: s.claim(
                local_batch_id=local,
                artifact_key=f"{local}.jsonl",
                item_indexes=indexes,
                max_attempts=MAX,
                allowances=[kit.tokens(self.run_id, limit)],
                reservation=reservation,
            ),
        )
        drafts = self.on_sessions(owner, lambda s: list(s.drafts(local_batch_id=local)))
        if isinstance(drafts, list):
            self.custom_ids |= {draft.custom_id for draft in drafts}

    @precondition(lambda self: self.capped)
    @rule(limit=st.integers(0, 12), rows=st.booleans(), day=st.booleans(), by_operator=st.booleans())
    def cap(self, limit: int, rows: bool, day: bool, by_operator: bool) -> None:
        most: dict[str, Any] = {"rows": limit} if rows else {"usd": dollars_of(130 * limit)}
        cap = Cap(**most, scope=f"run:{self.run_id}", per="day" if day else None)
        self.on_stores(lambda s: s.keep_caps([cap], by_operator=by_operator))

    @precondition(lambda self: self.capped)
    @rule(rows=st.booleans(), day=st.booleans())
    def remove_cap(self, rows: bool, day: bool) -> None:
        scope: dict[str, Any] = {"scope": f"run:{self.run_id}", "per": "day" if day else None}
        cap = Cap(rows=0, **scope) if rows else Cap(usd=0, **scope)
        self.on_stores(lambda s: s.remove_cap(cap))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), need=st.integers(0, 50), since=st.none() | st.integers(0, 2_000_000_000))
    def queue_for_budget(self, data: st.DataObject, need: int, since: int | None) -> None:
        owner, allowance = self.draw_session(data), kit.tokens(self.run_id, 100)
        self.on_sessions(owner, lambda s: s.keep_place(allowance, Wait(need, since)))
        self.on_sessions(owner, lambda s: s.standing(allowance))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), local=LOCALS, steps=st.integers(1, 4), batch=BATCHES)
    def go_on(self, data: st.DataObject, local: str, steps: int, batch: str) -> None:
        self.bring_forward(self.draw_session(data), local, steps, batch)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), local=LOCALS, steps=st.integers(2, 4), batch=BATCHES)
    def claim_and_go_on(self, data: st.DataObject, local: str, steps: int, batch: str) -> None:
        owner = self.draw_session(data)
        self.claim_some(data, owner, local, limit=1_000)
        self.bring_forward(owner, local, steps, batch)

    def bring_forward(self, owner: str, local: str, steps: int, batch: str) -> None:
        way: list[Callable[[DriverSession], None]] = [
            lambda s: s.mark_written(local_batch_id=local, sha256="sha", size_bytes=9),
            lambda s: s.mark_uploaded(local_batch_id=local, input_file_id="file"),
            lambda s: s.mark_sending(local_batch_id=local, ttl_sec=60),
            lambda s: s.register(local_batch_id=local, provider_batch_id=batch, status="validating"),
        ]
        for step in way[:steps]:
            self.on_sessions(owner, step)

    @precondition(lambda self: self.sessions)
    @rule(
        data=st.data(),
        local=LOCALS,
        step=st.sampled_from(["drop", "mark_unknown", "look_up", "quarantine", "postpone"]),
    )
    def trouble(self, data: st.DataObject, local: str, step: str) -> None:
        def call(session: DriverSession) -> None:
            match step:
                case "drop":
                    session.drop(local_batch_id=local, error_class="rejected")
                case "postpone":
                    session.postpone(local_batch_id=local, error_class="too_early", next_check_at=6.0)
                case "mark_unknown":
                    session.mark_unknown(local_batch_id=local, error_class="timeout", next_check_at=5.0)
                case "look_up":
                    session.record_look_up(
                        local_batch_id=local, clean_listings=1, fenced_at=2.0, next_check_at=9.0
                    )
                case _:
                    session.quarantine(local_batch_id=local, error_class="can't look")

        self.on_sessions(self.draw_session(data), call)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        self.on_sessions(self.draw_session(data), lambda s: s.requeue_local())

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), indexes=INDEXES)
    def fail_unsubmitted(self, data: st.DataObject, indexes: list[int]) -> None:
        failures = [(index, kit.failure("too_long", retryable=False)) for index in indexes]
        self.on_sessions(self.draw_session(data), lambda s: s.fail_unsubmitted(failures))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), batch=BATCHES, status=STATUSES)
    def poll(self, data: st.DataObject, batch: str, status: str) -> None:
        owner = self.draw_session(data)
        self.on_sessions(
            owner,
            lambda s: s.update_batch(
                provider_batch_id=batch,
                status=status,
                output_file_id="out",
                error_file_id=None,
                due_at=50.0 if status == "validating" else None,
                next_poll_at=7.0 if status == "in_progress" else 0.0,
            ),
        )
        if status == "completed":
            self.on_sessions(owner, lambda s: s.record_wait(provider_batch_id=batch, wait=kit.wait()))
        if status == "something new":
            self.on_sessions(
                owner, lambda s: s.record_poll_failure(provider_batch_id=batch, next_poll_at=77.0, error="no")
            )

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), end=st.booleans())
    def collect(self, data: st.DataObject, end: bool) -> None:
        owner = self.draw_session(data)
        batches = self.on_stores(lambda s: s.get_batches(run_id=self.run_id))
        batch = data.draw(st.sampled_from([one.provider_batch_id for one in batches] or ["p0"]))
        self.collect_batch(data, owner, batch, end=end)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), end=st.booleans())
    def work_through(self, data: st.DataObject, end: bool) -> None:
        """A batch as it goes on a good day, so that lives get far enough to be interesting."""
        owner, name = self.draw_session(data), f"w{next(self.numbers)}"
        self.claim_some(data, owner, name, limit=1_000)
        self.bring_forward(owner, name, 4, name)
        self.collect_batch(data, owner, name, end=end)

    def collect_batch(self, data: st.DataObject, owner: str, batch: str, *, end: bool) -> None:
        owned = self.on_sessions(owner, lambda s: s.submitted_items(provider_batch_id=batch))
        names = (
            [*owned, *self.draw_custom_ids(data)] if isinstance(owned, dict) else self.draw_custom_ids(data)
        )
        ends = data.draw(st.lists(st.sampled_from("ggffpu-"), min_size=len(names), max_size=len(names)))
        of = {end: [name for name, its in zip(names, ends, strict=True) if its == end] for end in "gfpu"}
        failures = [
            kit.bad(name, usage=kit.usage(1), cost=data.draw(COSTS), next_request=data.draw(NEXT_REQUESTS))
            for name in of["f"]
        ]
        if data.draw(st.booleans()):
            failures = [replace(one, error=kit.failure("invalid_json")) for one in failures]
        failures += [kit.bad(name, retryable=False, output_text="no") for name in of["p"]]
        cost = data.draw(COSTS)
        completions = [
            kit.good(name, output_text='{"a": 1}', text_is_json=True, cost=cost) for name in of["g"]
        ]
        self.on_sessions(
            owner,
            lambda s: s.apply_outcome(
                provider_batch_id=batch,
                completions=completions,
                failures=failures,
                released_custom_ids=of["u"],
                max_attempts=MAX,
                end=BatchEnd("completed", kit.usage(50), [f"what {batch} leaves out"]) if end else None,
            ),
        )

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), what=st.sampled_from(["pause", "cancel", "fail", "clear", "orphans"]))
    def the_whole_run(self, data: st.DataObject, what: str) -> None:
        def call(session: DriverSession) -> object:
            match what:
                case "pause":
                    return session.pause(reason="quota")
                case "cancel":
                    return session.cancel_remaining(error=kit.failure("run_cancelled", retryable=False))
                case "fail":
                    return session.record_failure(
                        error_class="e", base_delay_sec=1, max_delay_sec=9, message="m"
                    )
                case "clear":
                    return session.clear_backoff()
                case _:
                    return session.count_orphan_batches(2)

        self.on_sessions(self.draw_session(data), call)

    # --- operators ---------------------------------------------------------------------------------------------------

    @rule(state=st.sampled_from(list(RunControlState)))
    def control(self, state: RunControlState) -> None:
        self.on_stores(lambda s: s.set_run_control_state(run_id=self.run_id, control_state=state))

    @rule(local=LOCALS, decision=st.sampled_from(["adopt", "wait", "resubmit", "fail"]), batch=BATCHES)
    def settle(self, local: str, decision: Any, batch: str) -> None:
        self.on_stores(
            lambda s: s.settle_submission(
                run_id=self.run_id, local_batch_id=local, decision=decision, provider_batch_id=batch
            )
        )

    @rule(rare=st.integers(0, 5))
    def reopen(self, rare: int) -> None:
        if rare == 0:
            self.reopened |= bool(self.on_stores(lambda s: s.reopen_failed_items(run_id=self.run_id)))

    @rule(rare=st.integers(0, 9))
    def cancel_all(self, rare: int) -> None:
        if rare == 0:
            gone = kit.failure("run_cancelled", retryable=False)
            self.on_stores(lambda s: s.mark_nonterminal_items_cancelled(run_id=self.run_id, error=gone))

    # --- files -------------------------------------------------------------------------------------------------------

    @rule(batch=BATCHES, output=st.sampled_from([None, "o1", "o2"]), error=st.sampled_from([None, "e1"]))
    def keep_files(self, batch: str, output: str | None, error: str | None) -> None:
        pointers = [BatchArtifactPointer(batch, output, error)]
        self.on_stores(lambda s: s.record_batch_artifacts(run_id=self.run_id, pointers=pointers))

    @rule(paths=st.lists(st.sampled_from(["o1", "o2", "e1"]), unique=True))
    def forget_files(self, paths: list[str]) -> None:
        self.on_stores(lambda s: s.clear_batch_artifact_pointers(run_id=self.run_id, artifact_paths=paths))

    @rule(indexes=INDEXES, path=st.sampled_from(["r1", "r2"]))
    def point(self, indexes: list[int], path: str) -> None:
        pointers = [RequestArtifactPointer(f"item-{index}", path, 1, "sha") for index in indexes]
        self.on_stores(lambda s: s.record_request_artifacts(run_id=self.run_id, pointers=pointers))

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def all_stores_show_the_same(self) -> None:
        shown = [self.shown(store) for store in self.stores]
        for part in shown[0]:
            self._same([(part, one[part]) for one in shown])

    def shown(self, store: StateStore) -> dict[str, Any]:
        if not store.has_run(run_id=self.run_id):
            return {}
        summary = store.get_run_summary(run_id=self.run_id)
        backoff = store.get_retry_backoff(run_id=self.run_id)
        lease = store.get_lease(run_id=self.run_id)
        return {
            "summary": [getattr(summary, name) for name in _SUMMARY],
            "backoff": [backoff.consecutive_failures, backoff.total_failures, backoff.last_error_class],
            "items": store.get_item_records(run_id=self.run_id),
            "terminal": store.get_terminal_item_records(run_id=self.run_id, after_sequence=0),
            "caps": store.get_cap_standings(run_id=self.run_id),
            "batches": store.get_batches(run_id=self.run_id),
            "active": store.get_active_batches(run_id=self.run_id),
            "submissions": store.list_submissions(run_id=self.run_id),
            "files": store.get_artifact_inventory(run_id=self.run_id),
            "lease": lease and (lease.owner, lease.expires_at),
            "tokens": store.get_active_submitted_token_estimate(run_id=self.run_id),
            "checkpoint": store.get_ingest_checkpoint(run_id=self.run_id),
        }

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        store = self.stores[-1]
        if not store.has_run(run_id=self.run_id):
            return
        items = store.get_item_records(run_id=self.run_id)
        summary = store.get_run_summary(run_id=self.run_id)
        recount = Counter(item.status for item in items)
        assert summary.status_counts == {status: recount[status] for status in ItemStatus}
        assert summary.total_items == len(items) == len({item.item_id for item in items})
        ended = {item.item_id: item.terminal_result_sequence for item in items if item.status in TERMINAL}
        pages = store.get_terminal_item_records(run_id=self.run_id, after_sequence=0)
        assert {page.item_id: page.terminal_result_sequence for page in pages} == ended
        sequences = [page.terminal_result_sequence or 0 for page in pages]
        assert sequences == sorted(set(sequences))
        if not self.reopened:
            assert sequences == list(range(1, len(ended) + 1))
        self._owned_once(store, recount[ItemStatus.SUBMITTED])
        self._paid_once(store, items)
        self._completed_for_good(items)

    def _owned_once(self, store: StateStore, submitted: int) -> None:
        owned = [
            custom_id
            for batch in store.get_active_batches(run_id=self.run_id)
            for custom_id in store.get_submitted_custom_ids_for_batch(
                run_id=self.run_id, provider_batch_id=batch.provider_batch_id
            )
        ]
        assert len(owned) == submitted, "an item in a batch that nobody polls is an item lost"

    def _paid_once(self, store: StateStore, items: list[PersistedItemRecord]) -> None:
        cost = store.get_run_summary(run_id=self.run_id).cost
        whole = cost.usd if isinstance(cost, Cost) else dollars_of(0)
        assert whole == dollars_of(sum(item.cost or 0 for item in items)), "rows cost what their run costs"
        batches = store.get_batches(run_id=self.run_id)
        assert whole == dollars_of(sum(batch.cost for batch in batches)), "batches cost what their run costs"

    def _completed_for_good(self, items: list[PersistedItemRecord]) -> None:
        done = {item.item_id: item for item in items if item.status is ItemStatus.COMPLETED}
        assert done.items() >= self.completed.items()
        self.completed = done


_SUMMARY = [
    "status",
    "control_state",
    "control_reason",
    "total_items",
    "completed_items",
    "failed_items",
    "status_counts",
    "active_batches",
    "ingestion_complete",
    "usage",
    "estimated_tokens",
    "unknown_batches",
    "quarantined_batches",
    "orphan_batches",
    "cost",
    "repairs",
    "repaired_items",
]


def _ids(indexes: Sequence[int]) -> list[str]:
    return [f"item-{index}" for index in indexes]


def _result(call: Callable[[], Any]) -> Any:
    """What a call returns, or the kind of our own error that it raises."""
    try:
        result = call()
    except BatchorError as error:
        return type(error)
    if isinstance(result, RetryBackoffState):  # the delays are spread by chance
        return result.consecutive_failures, result.total_failures, result.last_error_class
    return result


LIVES = int(os.environ.get("BATCHOR_TEST_LIVES", "0"))
"""Lives for each store in the long form (``make lives``); 0 for the short form's."""

SHARDS = int(os.environ.get("BATCHOR_TEST_SHARDS", "1"))
"""Parts, with seeds of their own, that the lives are dealt out to, so that several processes can work on one store."""


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize(
    ("name", "lives"),
    [("memory", 5), ("sqlite", 15), pytest.param("postgres", 5, marks=pytest.mark.postgres)],
)
def test_a_store_lives_like_the_model(
    name: str, lives: int, shard: int, stack: ExitStack, tmp_path: Path
) -> None:
    lives = -(-LIVES // SHARDS) if LIVES else lives
    clock = Clock()
    stores = [make_backend(kind, stack, tmp_path).open(clock) for kind in ("model", name)]

    def life() -> Lives:
        return Lives(stores, clock)

    run_state_machine_as_test(
        seed(shard)(life) if LIVES else life,  # type: ignore[arg-type]  # any function that makes one will do
        settings=settings(
            max_examples=lives,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
