"""The control plane's backoff: the documented methods."""

from __future__ import annotations

import pytest

from batchor_core.storage.state import RetryBackoffState, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import RUN, Backend, Clock, create, drive


def record(store: StateStore, base: float = 8.0, longest: float = 60.0) -> RetryBackoffState:
    return store.record_batch_retry_failure(
        run_id=RUN, error_class="rate_limit", base_delay_sec=base, max_delay_sec=longest
    )


def remaining(store: StateStore) -> float:
    return store.get_batch_retry_backoff_remaining_sec(run_id=RUN)


def test_a_new_run_is_not_held_back(any_store: StateStore) -> None:
    create(any_store)
    assert remaining(any_store) == 0.0
    assert any_store.get_run_summary(run_id=RUN).backoff_remaining_sec == 0.0


def test_failures_in_a_row_double_the_wait_up_to_a_limit(any_store: StateStore, clock: Clock) -> None:
    create(any_store)
    for count, plain in enumerate([8, 16, 32, 60, 60], 1):
        state = record(any_store)
        assert (state.consecutive_failures, state.total_failures) == (count, count)
        assert state.last_error_class == "rate_limit"
        assert 0.75 * plain <= state.backoff_sec <= plain  # the jitter spreads runs apart
        assert state.next_retry_at == pytest.approx(clock.seconds + state.backoff_sec, abs=1e-3)
        assert remaining(any_store) == pytest.approx(state.backoff_sec, abs=1e-3)


def test_the_wait_runs_out_with_the_stores_clock(any_store: StateStore, clock: Clock) -> None:
    create(any_store)
    wait = record(any_store).backoff_sec
    clock.advance(wait / 2)
    assert remaining(any_store) == pytest.approx(wait / 2, abs=1e-3)
    assert any_store.get_run_summary(run_id=RUN).backoff_remaining_sec == pytest.approx(wait / 2, abs=1e-3)
    clock.advance(wait)
    assert remaining(any_store) == 0.0


def test_success_clears_the_row_and_keeps_the_total(any_store: StateStore) -> None:
    create(any_store)
    record(any_store)
    record(any_store)
    any_store.clear_batch_retry_backoff(run_id=RUN)
    assert remaining(any_store) == 0.0
    state = record(any_store)
    assert (state.consecutive_failures, state.total_failures) == (1, 3)


def test_without_a_base_there_is_no_wait(any_store: StateStore) -> None:
    create(any_store)
    assert record(any_store, base=0.0).backoff_sec == 0.0
    assert remaining(any_store) == 0.0


def test_the_wait_outlives_the_store_object(backend: Backend, clock: Clock) -> None:
    first = backend.open(clock)
    create(first)
    wait = record(first).backoff_sec
    clock.advance(1)
    second = backend.open(clock)
    assert remaining(second) == pytest.approx(wait - 1, abs=1e-3)
    assert second.get_retry_backoff(run_id=RUN) == first.get_retry_backoff(run_id=RUN)
    assert record(second).consecutive_failures == 2


def test_each_run_has_its_own_backoff(any_store: StateStore) -> None:
    create(any_store)
    create(any_store, run_id="run-2")
    record(any_store)
    assert any_store.get_batch_retry_backoff_remaining_sec(run_id="run-2") == 0.0


def test_a_session_counts_in_the_same_place(any_store: StateStore) -> None:
    create(any_store)
    session = drive(any_store)
    record(any_store)
    state = session.record_failure(error_class="timeout", base_delay_sec=8.0, max_delay_sec=60.0)
    assert (state.consecutive_failures, state.last_error_class) == (2, "timeout")
    session.clear_backoff()
    session.clear_backoff()
    assert remaining(any_store) == 0.0
    assert record(any_store).total_failures == 3


def test_the_state_can_be_read(store: StateStore) -> None:
    create(store)
    assert store.get_retry_backoff(run_id=RUN) == RetryBackoffState()
    recorded = record(store)
    state = store.get_retry_backoff(run_id=RUN)
    assert (state.consecutive_failures, state.total_failures, state.last_error_class) == (1, 1, "rate_limit")
    assert state.backoff_sec == pytest.approx(recorded.backoff_sec)


def test_what_the_last_failure_said_is_shown_until_something_is_submitted(store: StateStore) -> None:
    create(store, 2)
    session = drive(store)
    session.record_failure(error_class="e", base_delay_sec=8.0, max_delay_sec=60.0, message="e: no luck")
    assert store.get_retry_backoff(run_id=RUN).last_error_message == "e: no luck"
    assert "no luck" in (store.get_run_summary(run_id=RUN).trouble or "")
    kit.submit(session, 0)
    state = store.get_retry_backoff(run_id=RUN)
    assert (state.consecutive_failures, state.last_error_message) == (1, None)
    assert store.get_run_summary(run_id=RUN).trouble is None
    session.record_poll_failure(provider_batch_id="p1", next_poll_at=1.0, error="timeout: slow")
    assert "timeout: slow" in (store.get_run_summary(run_id=RUN).trouble or "")
    session.update_batch(
        provider_batch_id="p1", status="in_progress", output_file_id=None, error_file_id=None
    )
    assert store.get_run_summary(run_id=RUN).trouble is None
