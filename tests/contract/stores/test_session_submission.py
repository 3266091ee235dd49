"""A batch's way from candidates to a registered batch, on every kind of session."""

from __future__ import annotations

import re

import pytest

from batchor_core.core.enums import ItemStatus, SubmissionState
from batchor_core.core.exceptions import DuplicateItemError, LeaseLostError, RunStateError
from batchor_core.storage.state import Candidate, DriverSession, IngestCheckpoint, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, Clock, create, custom_id_for, drive, statuses, take

PENDING, QUEUED, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED
START = IngestCheckpoint(source_kind="csv", source_ref="rows.csv", source_fingerprint="abc")


# --- ingestion -------------------------------------------------------------------------------------------------------


def test_a_chunk_and_its_checkpoint_are_stored_together(any_store: StateStore) -> None:
    create(any_store)
    any_store.set_ingest_checkpoint(run_id=RUN, checkpoint=START)
    session = drive(any_store)
    session.append(kit.items(0, 1), next_item_index=2, checkpoint_payload={"at": 2}, ingestion_complete=False)
    session.append(kit.items(2), next_item_index=3, checkpoint_payload=None, ingestion_complete=True)
    checkpoint = any_store.get_ingest_checkpoint(run_id=RUN)
    assert checkpoint is not None
    assert (checkpoint.next_item_index, checkpoint.checkpoint_payload) == (3, None)
    assert (checkpoint.ingestion_complete, checkpoint.source_fingerprint) == (True, "abc")
    assert statuses(any_store) == [PENDING] * 3


def test_a_repeated_id_moves_no_checkpoint(any_store: StateStore) -> None:
    create(any_store)
    any_store.set_ingest_checkpoint(run_id=RUN, checkpoint=START)
    session = drive(any_store)
    chunk = [kit.item(0), kit.item(1, item_id="item-0")]
    with pytest.raises(DuplicateItemError):
        session.append(chunk, next_item_index=2, checkpoint_payload={"at": 2}, ingestion_complete=True)
    assert any_store.get_ingest_checkpoint(run_id=RUN) == START
    assert statuses(any_store) == []


def test_a_chunk_that_was_stored_before_a_crash_is_passed_over(any_store: StateStore) -> None:
    create(any_store)
    any_store.set_ingest_checkpoint(run_id=RUN, checkpoint=START)
    session = drive(any_store)
    for count in (2, 3):
        session.append(
            kit.items(*range(count)), next_item_index=count, checkpoint_payload=None, ingestion_complete=False
        )
    assert statuses(any_store) == [PENDING] * 3


# --- claiming --------------------------------------------------------------------------------------------------------


def test_candidates_come_in_item_order_with_their_sizes(store: StateStore) -> None:
    line = b'{"custom_id":"x"}'
    items = [
        kit.item(3, submission_tokens=30),
        kit.item(1, prompt="", request_line=line, submission_tokens=5),
    ]
    store.create_run(run_id=RUN, config=kit.config(), items=items)
    session = drive(store)
    assert session.candidates(max_attempts=MAX, limit=10) == [
        Candidate(item_index=1, submission_tokens=5, request_bytes=len(line) + 1),
        Candidate(item_index=3, submission_tokens=30, request_bytes=0),
    ]
    assert [one.item_index for one in session.candidates(max_attempts=MAX, limit=1)] == [1]
    assert statuses(store) == [PENDING, PENDING]


def test_a_claimed_item_is_no_candidate(any_session: DriverSession) -> None:
    take(any_session, 0, 2)
    assert [one.item_index for one in any_session.candidates(max_attempts=MAX, limit=10)] == [1, 3, 4, 5]


def test_items_without_attempts_left_are_no_candidates(any_store: StateStore) -> None:
    kit.fail(any_store, kit.submitted_run(any_store, 2)[:1])
    session = drive(any_store)
    assert session.candidates(max_attempts=1, limit=10) == []
    assert [one.item_index for one in session.candidates(max_attempts=2, limit=10)] == [0]


def test_a_claim_makes_an_submission(store: StateStore, clock: Clock) -> None:
    create(store, 4)
    session = drive(store)
    submission = session.claim(
        local_batch_id="b1", artifact_key="k", item_indexes=[1, 3], max_attempts=MAX, key_fingerprint="fp"
    )
    assert submission is not None
    assert (submission.local_batch_id, submission.state) == ("b1", SubmissionState.CLAIMED)
    assert (submission.item_count, submission.submission_tokens, submission.created_at) == (
        2,
        20,
        clock.seconds,
    )
    assert (submission.artifact_key, submission.key_fingerprint) == ("k", "fp")
    assert (submission.sending_at, submission.fenced_at, submission.provider_batch_id) == (None, None, None)
    lease = store.get_lease(run_id=RUN)
    assert lease is not None
    assert submission.fencing_token == lease.fencing_token
    assert session.open_submissions() == store.list_submissions(run_id=RUN) == [submission]
    assert statuses(store) == [PENDING, QUEUED, PENDING, QUEUED]


def test_lines_are_numbered_in_item_order(any_session: DriverSession) -> None:
    take(any_session, 4, 0, 2)
    drafts = list(any_session.drafts(local_batch_id="b1"))
    assert [draft.item_index for draft in drafts] == [0, 2, 4]
    assert [draft.line_number for draft in drafts] == [1, 2, 3]
    assert [draft.item_id for draft in drafts] == ["item-0", "item-2", "item-4"]
    assert [draft.prompt for draft in drafts] == ["prompt 0", "prompt 2", "prompt 4"]
    assert {draft.system_prompt for draft in drafts} == {"be brief"}
    assert list(any_session.drafts(local_batch_id="b1")) == drafts


def test_custom_ids_are_fit_for_a_batch_file(any_session: DriverSession) -> None:
    custom_ids = take(any_session, *range(6))
    assert len(set(custom_ids)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", custom_id) for custom_id in custom_ids)


def test_custom_ids_follow_from_run_item_and_generation(session: DriverSession) -> None:
    (first,) = take(session, 3)
    assert first == custom_id_for(RUN, "item-3", 3, 0)
    kit.upload(session)
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    session.drop(local_batch_id="b1", error_class="rejected")
    (second,) = take(session, 3, local="b2")
    assert second == custom_id_for(RUN, "item-3", 3, 1)
    assert [draft.generation for draft in session.drafts(local_batch_id="b2")] == [1]


def test_a_stored_request_line_comes_back_byte_for_byte(store: StateStore) -> None:
    line = '{"custom_id":"0-0-x","body":{"é":"\u2028 \\u0000"}}'.encode()
    store.create_run(run_id=RUN, config=kit.config(), items=[kit.item(0, prompt="", request_line=line)])
    session = drive(store)
    take(session, 0)
    (draft,) = session.drafts(local_batch_id="b1")
    assert (draft.request_line, draft.prompt) == (line, "")


def test_many_drafts_come_in_pages_without_gaps(store: StateStore) -> None:
    count = 2_500
    create(store, count)
    session = drive(store)
    assert len(session.candidates(max_attempts=MAX, limit=count)) == count
    take(session, *range(0, count, 2))
    drafts = list(session.drafts(local_batch_id="b1"))
    assert [draft.item_index for draft in drafts] == list(range(0, count, 2))
    assert [draft.line_number for draft in drafts] == list(range(1, count // 2 + 1))


def test_items_that_are_no_longer_claimable_refuse_the_claim(any_store: StateStore) -> None:
    create(any_store, 3)
    session = drive(any_store)
    take(session, 1)
    before = statuses(any_store)
    assert session.claim(local_batch_id="b2", artifact_key="k", item_indexes=[0, 1], max_attempts=MAX) is None
    assert session.claim(local_batch_id="b3", artifact_key="k", item_indexes=[99], max_attempts=MAX) is None
    assert statuses(any_store)[1:2] == before[1:2] == [QUEUED]
    assert [submission.local_batch_id for submission in session.open_submissions()] == ["b1"]


def test_an_item_without_attempts_left_refuses_the_claim(store: StateStore) -> None:
    kit.fail(store, kit.submitted_run(store, 1))
    session = drive(store)
    assert session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[0], max_attempts=1) is None
    assert session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[0], max_attempts=2) is not None


# --- the way of a submission --------------------------------------------------------------------------------------------


def test_an_submission_goes_from_claimed_to_registered(any_store: StateStore, clock: Clock) -> None:
    create(any_store, 2)
    session = drive(any_store)

    def state() -> SubmissionState:
        (submission,) = session.open_submissions()
        return submission.state

    custom_ids = take(session, 0, 1)
    assert state() is SubmissionState.CLAIMED
    session.mark_written(local_batch_id="b1", sha256="abc", size_bytes=77)
    assert state() is SubmissionState.CLAIMED
    session.mark_uploaded(local_batch_id="b1", input_file_id="file-1")
    assert state() is SubmissionState.UPLOADED
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    assert state() is SubmissionState.SENDING
    (submission,) = session.open_submissions()
    assert (submission.sha256, submission.size_bytes, submission.input_file_id) == ("abc", 77, "file-1")
    assert submission.sending_at is not None
    session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    assert session.open_submissions() == []
    assert statuses(any_store) == [SUBMITTED, SUBMITTED]
    assert any_store.get_submitted_custom_ids_for_batch(run_id=RUN, provider_batch_id="p1") == custom_ids
    (batch,) = any_store.get_active_batches(run_id=RUN)
    assert (batch.provider_batch_id, batch.status) == ("p1", "validating")


def test_a_registered_submission_is_kept_with_its_batch(store: StateStore, clock: Clock) -> None:
    create(store, 2)
    session = drive(store)
    kit.submit(session, 0, 1)
    (submission,) = store.list_submissions(run_id=RUN)
    assert (submission.state, submission.provider_batch_id) == (SubmissionState.REGISTERED, "p1")
    assert submission.sending_at == clock.seconds
    (batch,) = store.get_active_batches(run_id=RUN)
    assert (batch.local_batch_id, batch.input_file_id, batch.item_count) == ("b1", "file-b1", 2)


def test_no_submission_is_ever_sent_twice(any_session: DriverSession) -> None:
    def refuses() -> None:
        with pytest.raises(RunStateError):
            any_session.mark_sending(local_batch_id="b1", ttl_sec=60)

    refuses()
    take(any_session, 0)
    refuses()
    kit.upload(any_session)
    any_session.mark_sending(local_batch_id="b1", ttl_sec=60)
    refuses()
    any_session.mark_unknown(local_batch_id="b1", error_class="timeout", next_check_at=0.0)
    refuses()
    any_session.quarantine(local_batch_id="b1", error_class="no look-up")
    refuses()
    any_session.drop(local_batch_id="b1", error_class="absent")
    refuses()
    kit.send(any_session, 1, local="b2")
    any_session.register(local_batch_id="b2", provider_batch_id="p2", status="validating")
    with pytest.raises(RunStateError):
        any_session.mark_sending(local_batch_id="b2", ttl_sec=60)


def test_registering_may_be_repeated(any_store: StateStore) -> None:
    create(any_store, 3)
    session = drive(any_store)
    kit.submit(session, 0, 1)
    session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    session.close()
    assert statuses(any_store) == [SUBMITTED, SUBMITTED, PENDING]
    assert kit.active(any_store) == ["p1"]


def test_a_registered_submission_can_be_neither_dropped_nor_registered_as_another(
    any_store: StateStore,
) -> None:
    create(any_store, 1)
    session = drive(any_store)
    kit.submit(session, 0)
    with pytest.raises(RunStateError):
        session.drop(local_batch_id="b1", error_class="x")
    with pytest.raises(RunStateError):
        session.register(local_batch_id="b1", provider_batch_id="p2", status="validating")
    assert statuses(any_store) == [SUBMITTED]
    assert kit.active(any_store) == ["p1"]


def test_a_dropped_submission_frees_its_items(any_store: StateStore) -> None:
    create(any_store, 3)
    session = drive(any_store)
    kit.send(session, 0, 1)
    session.drop(local_batch_id="b1", error_class="rejected")
    session.drop(local_batch_id="b1", error_class="rejected")
    assert session.open_submissions() == []
    session.close()
    assert statuses(any_store) == [PENDING] * 3
    assert {record.attempt_count for record in any_store.get_item_records(run_id=RUN)} == {0}


def test_a_dropped_submission_can_not_be_registered(any_session: DriverSession) -> None:
    kit.send(any_session, 0)
    any_session.drop(local_batch_id="b1", error_class="absent")
    with pytest.raises(RunStateError):
        any_session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")


def test_only_a_batch_that_was_sent_uses_up_its_custom_ids(session: DriverSession) -> None:
    first = take(session, 0, 1)
    session.drop(local_batch_id="b1", error_class="not_sent")
    second = take(session, 0, 1, local="b2")
    assert second == first
    kit.upload(session, "b2")
    session.mark_sending(local_batch_id="b2", ttl_sec=60)
    session.drop(local_batch_id="b2", error_class="rejected")
    third = take(session, 0, 1, local="b3")
    assert not set(third) & set(first)


def test_a_custom_id_that_was_sent_is_never_used_again(any_session: DriverSession) -> None:
    used: set[str] = set()
    for local in ("b1", "b2", "b3"):
        custom_ids = kit.send(any_session, 0, 1, local=local)
        assert not used & set(custom_ids)
        used |= set(custom_ids)
        any_session.drop(local_batch_id=local, error_class="rejected")


def test_a_retried_item_gets_a_new_custom_id(any_session: DriverSession) -> None:
    (first,) = kit.submit(any_session, 0)
    any_session.apply_outcome(provider_batch_id="p1", failures=[kit.bad(first)], max_attempts=MAX)
    (second,) = kit.submit(any_session, 0, local="b2", batch="p2")
    any_session.apply_outcome(provider_batch_id="p2", released_custom_ids=[second], max_attempts=MAX)
    (third,) = kit.submit(any_session, 0, local="b3", batch="p3")
    assert len({first, second, third}) == 3


def test_an_unknown_outcome_is_looked_up_until_it_is_settled(any_session: DriverSession) -> None:
    kit.send(any_session, 0)
    any_session.mark_unknown(local_batch_id="b1", error_class="timeout", next_check_at=5.0)
    any_session.mark_unknown(local_batch_id="b1", error_class="reset", next_check_at=6.0)
    any_session.record_look_up(local_batch_id="b1", clean_listings=2, fenced_at=7.0, next_check_at=8.0)
    (submission,) = any_session.open_submissions()
    assert (submission.state, submission.last_error_class) == (SubmissionState.UNKNOWN, "reset")
    assert (submission.clean_listings, submission.fenced_at, submission.next_check_at) == (2, 7.0, 8.0)
    any_session.register(local_batch_id="b1", provider_batch_id="p1", status="in_progress")
    assert any_session.open_submissions() == []


@pytest.mark.parametrize("ready", ["claimed", "uploaded"])
def test_only_what_was_sent_can_be_unknown(any_session: DriverSession, ready: str) -> None:
    take(any_session, 0)
    if ready == "uploaded":
        kit.upload(any_session)
    with pytest.raises(RunStateError):
        any_session.mark_unknown(local_batch_id="b1", error_class="timeout", next_check_at=0.0)


def test_a_quarantined_submission_keeps_its_items(any_store: StateStore) -> None:
    create(any_store, 2)
    session = drive(any_store)
    kit.send(session, 0)
    session.mark_unknown(local_batch_id="b1", error_class="timeout", next_check_at=0.0)
    session.quarantine(local_batch_id="b1", error_class="can't look")
    session.quarantine(local_batch_id="b1", error_class="can't look")
    (submission,) = session.open_submissions()
    assert (submission.state, submission.last_error_class) == (SubmissionState.QUARANTINED, "can't look")
    assert statuses(any_store)[0] is QUEUED
    assert session.requeue_local() == 0
    assert statuses(any_store)[0] is QUEUED


def test_a_registered_submission_can_be_quarantined(any_store: StateStore) -> None:
    create(any_store, 2)
    session = drive(any_store)
    kit.submit(session, 0)
    before = session.standing(kit.tokens("key", 100))
    session.quarantine(local_batch_id="b1", error_class="batch_not_found")
    (submission,) = session.open_submissions()
    assert (submission.state, submission.provider_batch_id) == (SubmissionState.QUARANTINED, "p1")
    assert session.standing(kit.tokens("key", 100)).own == before.own
    assert session.requeue_local() == 0
    assert statuses(any_store)[0] is SUBMITTED


def test_the_summary_shows_submissions_of_unknown_outcome(store: StateStore) -> None:
    create(store, 4)
    session = drive(store)
    for index, local in enumerate(("b1", "b2", "b3")):
        kit.send(session, index, local=local)
        session.mark_unknown(local_batch_id=local, error_class="timeout", next_check_at=0.0)
    session.quarantine(local_batch_id="b3", error_class="can't look")
    summary = store.get_run_summary(run_id=RUN)
    assert (summary.unknown_batches, summary.quarantined_batches) == (2, 1)
    assert summary.estimated_tokens == 30


def test_open_submissions_come_oldest_first(any_session: DriverSession) -> None:
    for index, local in enumerate(("z", "a", "m")):
        take(any_session, index, local=local)
    assert [submission.local_batch_id for submission in any_session.open_submissions()] == ["z", "a", "m"]


def test_requeueing_frees_only_what_was_certainly_not_sent(any_store: StateStore) -> None:
    create(any_store, 5)
    session = drive(any_store)
    take(session, 0, local="claimed")
    take(session, 1, local="uploaded")
    kit.upload(session, "uploaded")
    kit.send(session, 2, local="sending")
    kit.send(session, 3, local="unknown")
    session.mark_unknown(local_batch_id="unknown", error_class="timeout", next_check_at=0.0)
    session.close()
    session = drive(any_store)
    assert session.requeue_local() == 2
    assert session.requeue_local() == 0
    assert statuses(any_store) == [PENDING, PENDING, QUEUED, QUEUED, PENDING]
    assert [submission.local_batch_id for submission in session.open_submissions()] == ["sending", "unknown"]


def test_a_registered_batch_is_never_requeued(any_store: StateStore) -> None:
    create(any_store, 2)
    kit.submit(drive(any_store), 0)
    assert drive(any_store).requeue_local() == 0
    assert statuses(any_store)[0] is SUBMITTED


def test_over_long_requests_end_without_an_attempt(any_store: StateStore) -> None:
    create(any_store, 4)
    session = drive(any_store)
    take(session, 0)
    session.candidates(max_attempts=MAX, limit=10)
    too_long = kit.failure("openai_request_exceeds_batch_token_limit", retryable=False)
    outcome = session.fail_unsubmitted([(1, too_long), (3, too_long), (0, too_long), (99, too_long)])
    assert outcome.failed == 2
    session.close()
    assert statuses(any_store) == [QUEUED, ItemStatus.FAILED_PERMANENT, PENDING, ItemStatus.FAILED_PERMANENT]
    stored = any_store.get_item_records(run_id=RUN)
    assert [record.attempt_count for record in stored] == [0] * 4
    assert [record.terminal_result_sequence for record in stored] == [None, 1, None, 2]
    assert stored[1].error == too_long


@pytest.mark.parametrize(
    "step", ["mark_written", "mark_uploaded", "mark_sending", "register", "drop", "quarantine"]
)
def test_steps_of_an_unknown_submission_are_refused(any_session: DriverSession, step: str) -> None:
    arguments: dict[str, dict[str, object]] = {
        "mark_written": {"sha256": "x", "size_bytes": 1},
        "mark_uploaded": {"input_file_id": "f"},
        "mark_sending": {"ttl_sec": 60.0},
        "register": {"provider_batch_id": "p", "status": "validating"},
        "drop": {"error_class": "e"},
        "quarantine": {"error_class": "e"},
    }
    with pytest.raises(RunStateError):
        getattr(any_session, step)(local_batch_id="nobody", **arguments[step])


def test_a_local_batch_id_is_used_once(any_session: DriverSession) -> None:
    take(any_session, 0)
    any_session.candidates(max_attempts=MAX, limit=10)
    with pytest.raises((RunStateError, LeaseLostError)):
        any_session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[1], max_attempts=MAX)
