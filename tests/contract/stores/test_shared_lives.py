"""Random lives of runs that reuse each other's answers, held against a model of whom a request has been sent for.

Whatever is done, a request of a scope is in flight once at most, and is not sent again while there is a run that has its answer;
equal items get equal answers; and when no more goes wrong, every item ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.lifecycle import IN_FLIGHT, TERMINAL
from batchor_core.core.reuse import Reuse
from batchor_core.storage.records import BatchArtifactPointer, MaterializedItem
from batchor_core.storage.session import DriverSession, ReuseTerms
from batchor_core.storage.state import BatchEnd, PersistedItemRecord, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, Clock, make_backend
from tests.contract.stores.test_state_machine import LIVES

RUNS = st.integers(0, 2)
ASKED = st.lists(st.integers(0, 4), min_size=1, max_size=4)
ENDS = st.sampled_from("ggbpu")
"""A good answer, a bad one, one that can't be tried again, none."""

_numbers = count()
TERMS = ReuseTerms()
COLLIDING = {3, 4}
"""Requests whose addresses begin alike, so that the index has one place for both: they may be sent again, and no answer may go to
the other one."""


class SharedLives(RuleBasedStateMachine):
    """Three runs of one scope, which come and go."""

    def __init__(self, store: StateStore, clock: Clock) -> None:
        super().__init__()
        self.store, self.clock = store, clock
        self.name = f"shared-{next(_numbers)}"
        self.sessions: dict[str, DriverSession] = {}
        self.asked: dict[str, list[int]] = {}
        """By run, what its items ask: the model knows a request by a number."""
        self.custom_ids: dict[str, dict[str, int]] = {}
        """By run, the items of its batch."""
        self.sent: Counter[int] = Counter()
        self.items: dict[str, list[PersistedItemRecord]] = {}
        self.completed: dict[tuple[str, str], str | None] = {}

    def run_id(self, number: int) -> str:
        return f"{self.name}-{number}"

    def look(self) -> None:
        """Read all items again."""
        self.items = {run_id: self.store.get_item_records(run_id=run_id) for run_id in self.asked}

    def everywhere(self) -> Iterator[tuple[int, PersistedItemRecord]]:
        """What is asked, and the item that asks it, at the last look."""
        for run_id, records in self.items.items():
            for record in records:
                yield self.asked[run_id][record.item_index], record

    # --- what drivers do ---------------------------------------------------------------------------------------------

    @rule(number=RUNS, asked=ASKED)
    def ask(self, number: int, asked: list[int]) -> None:
        """Start a run, or read on."""
        run_id = self.run_id(number)
        if run_id not in self.asked:
            reuse = Reuse("store", self.name)
            self.store.create_run(run_id=run_id, config=kit.config(reuse=reuse), items=[])
            self.asked[run_id] = []
            self.sessions[run_id] = kit.drive(self.store, run_id=run_id, ttl=1e9)
        there = self.asked[run_id]
        if len(there) >= 12:
            return
        items = [self._item(index, request) for index, request in enumerate(asked, len(there))]
        there += asked
        end = {"next_item_index": len(there), "checkpoint_payload": None, "ingestion_complete": True}
        answered = self.answered()
        self.sessions[run_id].append(items, reuse=TERMS, **end)  # type: ignore[arg-type]
        self.look()
        for record in self.items[run_id][-len(asked) :]:
            request, is_completed = there[record.item_index], record.status is ItemStatus.COMPLETED
            assert is_completed <= (request in answered), "nobody can have answered it"
            assert is_completed or request not in answered - COLLIDING, "what was answered needs no request"

    def _item(self, index: int, request: int) -> MaterializedItem:
        address = bytes([request if request not in COLLIDING else 3]) * 8 + bytes([request]) * 12
        line = b',"body":{"asked":%d}' % request
        return kit.item(index, prompt="", system_prompt=None, request_line=line, content_address=address)

    @rule(number=RUNS, most=st.integers(1, 6))
    def send(self, number: int, most: int) -> None:
        """A batch, unless one is under way."""
        run_id = self.run_id(number)
        if run_id not in self.sessions or self.custom_ids.get(run_id):
            return
        session, local = self.sessions[run_id], f"b{next(_numbers)}"
        chosen = [one.item_index for one in session.candidates(max_attempts=MAX, limit=most)]
        if not chosen:
            return
        answered, flying = self.answered(), self.in_flight()
        claimed = session.claim(
            local_batch_id=local, artifact_key=local, item_indexes=chosen, max_attempts=MAX, reuse=TERMS
        )
        requests = {self.asked[run_id][index] for index in chosen}
        if claimed is None:
            assert requests <= answered | flying.keys() | self.failed(run_id), "nothing need be sent"
            return
        drafts = list(session.drafts(local_batch_id=local))
        sent = [self.asked[run_id][draft.item_index] for draft in drafts]
        assert len(set(sent)) == len(sent), "equal items are sent once"
        assert not (set(sent) - COLLIDING) & (answered | flying.keys())
        self.sent.update(sent)
        kit.upload(session, local)
        session.mark_sending(local_batch_id=local, ttl_sec=1e9)
        session.register(local_batch_id=local, provider_batch_id=local, status="validating")
        self.custom_ids[run_id] = {draft.custom_id: draft.item_index for draft in drafts}

    @rule(number=RUNS, ends=st.lists(ENDS, min_size=6, max_size=6))
    def collect(self, number: int, ends: list[str]) -> None:
        """The end of the batch."""
        run_id = self.run_id(number)
        if not self.custom_ids.get(run_id):
            return
        names = self.custom_ids.pop(run_id)
        of: dict[str, list[str]] = {end: [] for end in "gbpu"}
        for name, end in zip(names, ends, strict=False):
            of[end].append(name)
        [batch] = self.store.get_active_batches(run_id=run_id)
        self.sessions[run_id].apply_outcome(
            provider_batch_id=batch.provider_batch_id,
            completions=[
                kit.good(name, output_text=f"{self._said(run_id, names[name])}") for name in of["g"]
            ],
            failures=[
                kit.bad(name, retryable=end == "b", usage=kit.usage(1)) for end in "bp" for name in of[end]
            ],
            released_custom_ids=of["u"],
            max_attempts=MAX,
            end=BatchEnd("completed", kit.usage(9), []),
        )

    def _said(self, run_id: str, index: int) -> str:
        request = self.asked[run_id][index]
        return f"{request}, {self.sent[request]} times"

    @rule(number=RUNS)
    def follow(self, number: int) -> None:
        if session := self.sessions.get(self.run_id(number)):
            can = self.store.can_follow(run_id=self.run_id(number))
            followed = session.follow(TERMS)
            moved = followed.completed + followed.failed + followed.released
            assert can == (moved > 0)
            assert not self.store.can_follow(run_id=self.run_id(number)), "it looks after everything at once"

    @rule(number=RUNS)
    def set_aside(self, number: int) -> None:
        if session := self.sessions.get(self.run_id(number)):
            chosen = [one.item_index for one in session.candidates(max_attempts=MAX, limit=6)]
            aside = session.set_aside(chosen, TERMS)
            left = {one.item_index for one in session.candidates(max_attempts=MAX, limit=99)}
            assert not aside & left

    # --- what operators do -------------------------------------------------------------------------------------------

    @rule(number=RUNS)
    def cancel(self, number: int) -> None:
        run_id = self.run_id(number)
        if session := self.sessions.get(run_id):
            session.cancel_remaining(error=kit.failure("run_cancelled", retryable=False))

    @rule(number=RUNS)
    def reopen(self, number: int) -> None:
        if self.run_id(number) in self.sessions:
            self.store.reopen_failed_items(run_id=self.run_id(number))

    @rule(number=RUNS)
    def keep_files_or_prune(self, number: int) -> None:
        """Raw responses of a run, to which answers of others point."""
        run_id = self.run_id(number)
        if run_id not in self.sessions:
            return
        paths = self.store.get_artifact_inventory(run_id=run_id).output_artifact_paths
        if paths:
            self.store.clear_batch_artifact_pointers(run_id=run_id, artifact_paths=paths)
        else:
            batches = self.store.get_batches(run_id=run_id)
            pointers = [
                BatchArtifactPointer(one.provider_batch_id, f"{run_id}.jsonl", None) for one in batches
            ]
            self.store.record_batch_artifacts(run_id=run_id, pointers=pointers)

    @rule(number=RUNS)
    def delete(self, number: int) -> None:
        """Whoever has an answer of it has a copy."""
        run_id = self.run_id(number)
        if run_id not in self.sessions:
            return
        before = {record.item_id: record.output_text for _, record in self.everywhere()}
        self.sessions[run_id].close()
        try:
            self.store.delete_run(run_id=run_id)
        except RunStateError:  # it is not finished
            self.sessions[run_id] = kit.drive(self.store, run_id=run_id, ttl=1e9)
            self.look()
            assert before == {record.item_id: record.output_text for _, record in self.everywhere()}
            return
        for known in (self.asked, self.sessions, self.custom_ids):
            known.pop(run_id, None)
        self.completed = {key: text for key, text in self.completed.items() if key[0] != run_id}

    # --- what must hold ----------------------------------------------------------------------------------------------

    def answered(self) -> set[int]:
        return {request for request, record in self.everywhere() if record.status is ItemStatus.COMPLETED}

    def in_flight(self) -> Counter[int]:
        return Counter(request for request, record in self.everywhere() if record.status in IN_FLIGHT)

    def failed(self, run_id: str) -> set[int]:
        """What has failed in the run, and so fails for all equal items of it."""
        failed = ItemStatus.FAILED_PERMANENT
        return {self.asked[run_id][one.item_index] for one in self.items[run_id] if one.status is failed}

    @invariant()
    def nothing_is_asked_twice_or_lost(self) -> None:
        self.look()
        assert all(times == 1 for request, times in self.in_flight().items() if request not in COLLIDING)
        answers: dict[int, set[str | None]] = {}
        for request, record in self.everywhere():
            if record.status is ItemStatus.COMPLETED:
                answers.setdefault(request, set()).add(record.output_text)
        assert all(len(texts) == 1 for request, texts in answers.items() if request not in COLLIDING), answers
        assert all(
            str(text).startswith(f"{request},") for request, texts in answers.items() for text in texts
        )
        done = {
            (run_id, one.item_id): one.output_text
            for run_id, records in self.items.items()
            for one in records
            if one.status is ItemStatus.COMPLETED
        }
        assert done.items() >= self.completed.items(), "an answer stays, whatever becomes of where it is from"
        self.completed = done
        for run_id, records in self.items.items():
            summary, found = self.store.get_run_summary(run_id=run_id), Counter(one.status for one in records)
            assert summary.status_counts == {status: found[status] for status in ItemStatus}
            ends = [one.terminal_result_sequence for one in records if one.status in TERMINAL]
            assert len(set(ends)) == len(ends)

    def teardown(self) -> None:
        """Nothing goes wrong any more: all come to their ends."""
        for _ in range(12):
            for number in range(3):
                self.collect(number, ["g"] * 6)
                self.follow(number)
                self.look()
                self.send(number, 6)
        for run_id in self.asked:
            summary = self.store.get_run_summary(run_id=run_id)
            self.sessions[run_id].close()
            assert summary.completed_items + summary.failed_items == summary.total_items, summary


@pytest.mark.parametrize(
    ("name", "lives"), [("memory", 12), pytest.param("postgres", 4, marks=pytest.mark.postgres)]
)
def test_runs_that_share_answers_ask_nothing_twice(
    name: str, lives: int, stack: ExitStack, tmp_path: Path
) -> None:
    clock = Clock()
    store = make_backend(name, stack, tmp_path).open(clock)
    run_state_machine_as_test(
        lambda: SharedLives(store, clock),  # type: ignore[arg-type]  # any function that makes one will do
        settings=settings(
            max_examples=LIVES or lives,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
