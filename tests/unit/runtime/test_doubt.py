"""A batch that may exist or not: asked for, fenced off, waited for, adopted, given up, or left to a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest

from batchor_core.core import boundaries
from batchor_core.core.boundaries import Boundary, When
from batchor_core.core.enums import RunLifecycleStatus, SubmissionState
from batchor_core.core.exceptions import (
    ProviderError,
    ProviderErrorKind,
    QuarantinedBatchError,
    RunPausedError,
    RunStateError,
)
from batchor_core.core.models import RetryPolicy
from batchor_core.core.types import BatchRemoteRecord
from batchor_core.providers.api import BatchState
from batchor_core.providers.eight_methods import EightMethodsApi
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.runner import BatchRunner
from batchor_core.testing.fake_provider import FakeProvider
from tests.contract.stores.kit import ThirdPartyStore
from tests.support.world import RUN, World, errors, text_job, texts

REFUSED = [400, 401, 403, 404, 405, 413, 422, 429]
UNCLEAR = [None, 200, 307, 408, 409, 500, 502, 503]

DOCUMENTED = (
    "build_request_line",
    "upload_input_file",
    "delete_input_file",
    "create_batch",
    "get_batch",
    "download_file_content",
    "parse_batch_output",
    "estimate_request_tokens",
)


class EightMethods:
    """A provider with the documented methods and nothing else."""

    def __init__(self, inner: FakeProvider) -> None:
        for name in DOCUMENTED:
            setattr(self, name, getattr(inner, name))


def lost(status: int | None = None, *, not_performed: bool = False, **more: Any) -> ProviderError:
    return ProviderError("lost", error_class="lost", status_code=status, not_performed=not_performed, **more)


def settle(run: Any, world: World, *, cycles: int = 40) -> None:
    """Go on until the run has ended or nothing moves any more."""
    for _ in range(cycles):
        if run.refresh().status is not RunLifecycleStatus.RUNNING:
            return
        world.clock.advance(50.0)


def submission(world: World) -> Any:
    return world.store.list_submissions(run_id=RUN)[-1]


def batch_starts(world: World) -> int:
    return world.provider.count("create_batch")


# --- what the answer to the POST means -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", UNCLEAR)
@pytest.mark.parametrize("created", [True, False])
def test_an_unclear_answer_is_never_followed_by_a_second_post(
    any_world: World, status: int | None, created: bool
) -> None:
    any_world.provider.fail("create_batch", lost(status), after=created)
    run = any_world.start()
    assert submission(any_world).state is SubmissionState.UNKNOWN
    assert any_world.summary().unknown_batches == 1
    assert run.summary().backoff_remaining_sec > 0
    settle(run, any_world)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == (1 if created else 2)
    assert set(any_world.provider.paid.values()) == {1}
    assert len(any_world.provider.paid) == 3
    assert ("submission_recovered" if created else "submission_dropped") in any_world.names()


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_is_certain(any_world: World, status: int) -> None:
    any_world.provider.fail("create_batch", lost(status, not_performed=True))
    run = any_world.start()
    assert submission(any_world).state is SubmissionState.DROPPED
    assert any_world.provider.count("list_batches") == 0
    settle(run, any_world)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert set(any_world.provider.paid.values()) == {1}


@pytest.mark.parametrize("record", [{}, {"status": "validating"}, {"id": None}, None, []])
def test_an_answer_without_a_batch_in_it_is_unclear(world: World, record: Any) -> None:
    create = world.provider.create_batch
    answers = iter([record])

    def garbled(**arguments: Any) -> Any:
        made = create(**arguments)
        return next(answers, made)

    world.provider.create_batch = garbled  # type: ignore[method-assign]
    run = world.start()
    assert submission(world).state is SubmissionState.UNKNOWN
    settle(run, world)
    assert set(world.provider.paid.values()) == {1}


# --- looking for it --------------------------------------------------------------------------------------------------


def test_a_batch_that_is_not_listed_is_fenced_off_before_it_counts_as_absent(any_world: World) -> None:
    any_world.provider.fail("create_batch", lost())
    run = any_world.start()
    file_id = submission(any_world).input_file_id
    run.refresh()
    assert ("remove_input_file", file_id) in any_world.provider.calls
    assert submission(any_world).fenced_at is not None
    assert batch_starts(any_world) == 1
    any_world.clock.advance(119.0)
    run.refresh()
    assert submission(any_world).state is SubmissionState.UNKNOWN, "the grace period is not over"


def test_three_complete_listings_are_needed_however_long_it_takes(world: World) -> None:
    world.provider.fail("create_batch", lost())
    run = world.start()
    run.refresh()
    for listings in (1, 2):
        world.clock.advance(500.0)
        run.refresh()
        assert (submission(world).state, submission(world).clean_listings) == (
            SubmissionState.UNKNOWN,
            listings,
        )
    world.clock.advance(500.0)
    run.refresh()
    assert world.store.list_submissions(run_id=RUN)[0].state is SubmissionState.DROPPED


def test_looking_holds_up_nothing_else(world: World) -> None:
    world.provider.fail("create_batch", lost())
    run = world.start(text_job(6, per_batch=2))
    for _ in range(4):
        run.refresh()
        world.clock.advance(2.0)
    assert submission(world).state is not SubmissionState.UNKNOWN
    assert run.summary().completed_items == 4
    assert run.summary().unknown_batches == 1
    assert world.clock.sleeps == []


def test_a_batch_that_is_listed_late_is_adopted(any_world: World) -> None:
    any_world.provider.fail("create_batch", lost(), after=True)
    run = any_world.start()
    hidden = any_world.provider.batches[any_world.batch_ids()[0]]
    hidden.listed = False
    run.refresh()
    any_world.clock.advance(60.0)
    run.refresh()
    hidden.listed = True
    settle(run, any_world)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 1


@pytest.mark.parametrize("status", ["completed", "COMPLETED", "failed", "expired"])
def test_a_batch_that_has_ended_meanwhile_is_collected(any_world: World, status: str) -> None:
    """Recorded as over, it would not be asked for by a store that shows open batches only."""
    any_world.provider.statuses = (status.lower(),)
    any_world.provider.fail("create_batch", lost(), after=True)
    run = any_world.start()
    any_world.provider.get_batch(any_world.batch_ids()[0])
    any_world.provider.batches[any_world.batch_ids()[0]].status = status
    any_world.provider.statuses = ("completed",)
    settle(run, any_world)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert set(any_world.provider.paid.values()) == {1}


def test_of_several_the_oldest_is_adopted_and_the_rest_cancelled(any_world: World) -> None:
    any_world.provider.fail("create_batch", lost(), after=True)
    run = any_world.start()
    first = any_world.provider.batches[any_world.batch_ids()[0]]
    any_world.clock.advance(1.0)
    any_world.provider.create_batch(input_file_id=first.input_file_id, metadata=first.metadata)
    settle(run, any_world)
    one, other = any_world.provider.batches.values()
    assert (one.status, other.status) == ("completed", "cancelling")
    assert any_world.data("duplicate_provider_batch")[0]["provider_batch_id"] == other.id
    assert run.summary().orphan_batches == 1


def test_a_gateway_that_drops_metadata_is_searched_by_file(world: World) -> None:
    world.provider.fail("create_batch", lost(), after=True)
    run = world.start()
    world.provider.batches[world.batch_ids()[0]].metadata = {}
    settle(run, world)
    assert batch_starts(world) == 1
    assert run.status is RunLifecycleStatus.COMPLETED


def bare(pages: Iterable[list[BatchRemoteRecord]]) -> Iterator[list[BatchRemoteRecord]]:
    """Pages of a list that say no more of a batch than its id and its state."""
    for page in pages:
        yield [{key: batch[key] for key in ("id", "status", "created_at") if key in batch} for batch in page]  # type: ignore[misc]


def test_a_list_that_names_neither_file_nor_tags_is_looked_up_by_id(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_world.provider.fail("create_batch", lost(), after=True)
    whole = any_world.provider.list_batches
    monkeypatch.setattr(any_world.provider, "list_batches", lambda: bare(whole()))
    run = any_world.start()
    settle(run, any_world)
    assert batch_starts(any_world) == 1
    assert run.status is RunLifecycleStatus.COMPLETED


def test_batches_that_nothing_names_are_left_to_a_person(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_world.provider.fail("create_batch", lost(), after=True)
    run = any_world.start()
    whole, batch = any_world.provider.list_batches, any_world.provider.batches[any_world.batch_ids()[0]]
    monkeypatch.setattr(any_world.provider, "list_batches", lambda: bare(whole()))
    batch.input_file_id, batch.metadata = "", {}
    quarantined(any_world, run)
    assert submission(any_world).last_error_class == "nameless_batches_listed"


def test_batches_that_are_known_to_be_others_hide_nothing(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_world.provider.fail("create_batch", lost())  # it never arrived
    run = any_world.start()
    foreign = BatchState("theirs", "in_progress", is_foreign=True)
    monkeypatch.setattr(EightMethodsApi, "list_batches", lambda api: iter([[foreign]]))
    settle(run, any_world)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 2  # it was proven absent


def with_entries(*entries: dict[str, Any], pages: Iterable[Any]) -> Iterator[list[Any]]:
    """The list with entries that name no batch."""
    yield list(entries)
    yield from pages


@pytest.mark.parametrize("entry", [{"id": "", "status": "unknown"}, {"status": "completed"}, None])
def test_an_entry_that_names_no_batch_keeps_a_list_from_proving_absence(
    any_world: World, monkeypatch: pytest.MonkeyPatch, entry: Any
) -> None:
    any_world.provider.fail("create_batch", lost(), after=True)
    monkeypatch.setattr(any_world.provider, "list_batches", lambda: with_entries(entry, pages=[]))
    run = any_world.start()
    quarantined(any_world, run)
    assert batch_starts(any_world) == 1
    assert submission(any_world).last_error_class == "nameless_batches_listed"


@pytest.mark.parametrize("created_at", [None, 1.0])
def test_an_entry_that_names_no_batch_does_not_hide_the_one_that_is_there(
    any_world: World, monkeypatch: pytest.MonkeyPatch, created_at: float | None
) -> None:
    any_world.provider.fail("create_batch", lost(), after=True)
    whole, entry = any_world.provider.list_batches, {"id": "", "created_at": created_at}
    monkeypatch.setattr(any_world.provider, "list_batches", lambda: with_entries(entry, pages=whole()))
    run = any_world.start()
    settle(run, any_world)
    assert batch_starts(any_world) == 1
    assert run.status is RunLifecycleStatus.COMPLETED


# --- when it can't be looked for -------------------------------------------------------------------------------------


def quarantined(world: World, run: Any) -> QuarantinedBatchError:
    with pytest.raises(QuarantinedBatchError) as caught:
        run.wait(timeout=20_000, poll_interval=100)
    assert batch_starts(world) == 1, "nothing was sent again"
    assert run.summary().quarantined_batches == 1
    assert [event["error_class"] for event in world.data("submission_quarantined")]
    return caught.value


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("method", ["list_batches", "remove_input_file"])
def test_where_the_provider_refuses_to_tell_a_person_decides(
    any_world: World, method: str, status: int
) -> None:
    kind = ProviderErrorKind.NOT_FOUND if status == 404 else ProviderErrorKind.CREDENTIALS
    any_world.provider.fail("create_batch", lost())
    any_world.provider.fail(method, lost(status, kind=kind), times=99)
    error = quarantined(any_world, any_world.start())
    message = str(error)
    for choice in ("run.adopt(", "run.resubmit(", "run.fail(", "batchor doctor", error.local_batch_ids[0]):
        assert choice in message


def test_another_account_is_not_asked(any_world: World) -> None:
    any_world.provider.fail("create_batch", lost(), after=True)
    run = any_world.start()
    any_world.provider.fingerprint = "another"
    quarantined(any_world, run)
    assert any_world.provider.count("list_batches") == 0
    assert submission(any_world).last_error_class == "api_key_changed"


def test_a_list_without_end_proves_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(settings=EngineSettings(list_page_cap=2))
    for _ in range(5):
        world.provider.files["other"] = b""
        world.provider.create_batch(input_file_id="other")
    world.provider.calls.clear()
    world.provider.fail("create_batch", lost())
    quarantined(world, world.start())
    assert submission(world).last_error_class == "too_many_batches_to_list"


@pytest.mark.parametrize("method", ["list_batches", "remove_input_file"])
def test_errors_without_end_are_not_waited_out_for_ever(any_world: World, method: str) -> None:
    any_world.provider.fail("create_batch", lost())
    any_world.provider.fail(method, lost(503), times=10_000)
    quarantined(any_world, any_world.start())


@pytest.mark.parametrize("method", ["list_batches", "remove_input_file"])
def test_a_network_that_is_down_is_waited_out(world: World, method: str) -> None:
    world.provider.fail("create_batch", lost())
    world.provider.fail(method, lost(None), times=200)
    run = world.start()
    run.wait(poll_interval=100)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert set(world.provider.paid.values()) == {1}


def test_eight_methods_are_resubmitted_to_unless_told_to_hold(make_world: Callable[..., World]) -> None:
    told: list[tuple[Literal["resubmit", "hold"], int]] = [("resubmit", 2), ("hold", 1)]
    for policy, posts in told:
        world = make_world(settings=EngineSettings(on_unknown=policy))
        world.provider.fail("create_batch", lost())
        eight = EightMethods(world.provider)
        run = world.start(provider_factory=lambda config, eight=eight: eight)
        settle(run, world, cycles=10)
        assert batch_starts(world) == posts
        assert run.is_finished == (policy == "resubmit")


# --- the operator's word ---------------------------------------------------------------------------------------------


def held(world: World) -> tuple[BatchRunner, Any, str]:
    """A run whose only batch, which exists, is in quarantine."""
    world.provider.fail("create_batch", lost(), after=True)
    world.provider.fail("list_batches", lost(403, kind=ProviderErrorKind.CREDENTIALS))
    runner = world.runner()
    run = runner.start(text_job(3), run_id=RUN)
    run.refresh()
    return runner, run, submission(world).local_batch_id


def test_the_operator_adopts(any_world: World) -> None:
    runner, run, local = held(any_world)
    runner.adopt_batch(RUN, local, any_world.batch_ids()[0])
    run.wait()
    assert len(texts(run)) == 3
    assert batch_starts(any_world) == 1


def test_the_operator_resubmits(any_world: World) -> None:
    runner, run, local = held(any_world)
    first = any_world.batch_ids()[0]
    runner.resubmit_batch(RUN, local)
    run.wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 2
    assert [event["provider_batch_id"] for event in any_world.data("orphan_batch")] == [first]


@pytest.mark.parametrize("decide", [BatchRunner.resubmit_batch, BatchRunner.fail_batch])
def test_a_request_on_its_way_can_not_create_what_the_operator_has_given_up(
    any_world: World, decide: Callable[[BatchRunner, str, str], Any]
) -> None:
    runner, _, local = held(any_world)
    file_id = submission(any_world).input_file_id
    assert file_id in any_world.provider.files
    decide(runner, RUN, local)
    assert file_id not in any_world.provider.files


@pytest.mark.parametrize("decide", [BatchRunner.resubmit_batch, BatchRunner.fail_batch])
def test_a_submission_that_is_being_sent_waits_for_no_decision(
    any_world: World, decide: Callable[[BatchRunner, str, str], Any]
) -> None:
    """A word on the wrong submission would otherwise take the file from a request that is about to succeed."""
    operator = any_world.runner()
    refused: list[RunStateError] = []

    def mix_up(name: Boundary, when: When) -> None:
        if (name, when) == (Boundary.CREATE_BATCH, "before"):
            with pytest.raises(RunStateError) as caught:
                decide(operator, RUN, submission(any_world).local_batch_id)
            refused.append(caught.value)

    boundaries.install(mix_up)
    run = any_world.start()
    boundaries.install(None)
    assert len(refused) == batch_starts(any_world) == 1
    settle(run, any_world)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 1


def test_a_decision_counts_where_the_file_can_not_be_deleted(any_world: World) -> None:
    runner, run, local = held(any_world)
    any_world.provider.fail("remove_input_file", lost(403, kind=ProviderErrorKind.CREDENTIALS))
    runner.resubmit_batch(RUN, local)
    run.wait()
    assert run.status is RunLifecycleStatus.COMPLETED


def test_the_operator_gives_up(any_world: World) -> None:
    runner, run, local = held(any_world)
    runner.fail_batch(RUN, local)
    run.wait()
    assert set(errors(run).values()) == {"submission_unknown"}
    assert batch_starts(any_world) == 1


# --- a registered batch that the provider has lost -------------------------------------------------------------------


def gone(world: World) -> tuple[BatchRunner, Any, str]:
    """A run whose batch has been unknown to the provider for longer than a batch ever is at first."""
    runner = world.runner()
    run = runner.start(text_job(3, retry=RetryPolicy(max_backoff_sec=30.0)), run_id=RUN)
    world.hidden = world.provider.batches.pop(world.batch_ids()[0])  # type: ignore[attr-defined]
    for _ in range(25):
        run.refresh()
        world.clock.advance(40.0)
    return runner, run, submission(world).local_batch_id


def test_a_batch_may_be_unknown_at_first(any_world: World) -> None:
    run = any_world.start()
    hidden = any_world.provider.batches.pop(any_world.batch_ids()[0])
    for _ in range(5):
        run.refresh()
        any_world.clock.advance(60.0)
    assert run.summary().quarantined_batches == 0
    any_world.provider.batches[hidden.id] = hidden
    settle(run, any_world)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 1


def test_a_lost_batch_is_never_sent_again_by_itself(any_world: World) -> None:
    _, run, local = gone(any_world)
    with pytest.raises(QuarantinedBatchError) as caught:
        run.wait(timeout=1_000)
    assert caught.value.local_batch_ids == [local]
    assert submission(any_world).last_error_class == "batch_not_found"
    assert batch_starts(any_world) == 1
    assert run.summary().completed_items == 0
    asked = any_world.provider.count("get_batch")
    run.refresh()
    assert any_world.provider.count("get_batch") == asked, "it waits for a word"


def test_a_lost_batch_can_be_found_again(any_world: World) -> None:
    runner, run, local = gone(any_world)
    hidden = any_world.hidden  # type: ignore[attr-defined]
    any_world.provider.batches[hidden.id] = hidden
    runner.adopt_batch(RUN, local, hidden.id)
    run.wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 1


def test_a_lost_batch_can_be_found_under_another_id(any_world: World) -> None:
    runner, run, local = gone(any_world)
    hidden = replace(any_world.hidden, id="batch_moved")  # type: ignore[attr-defined]
    any_world.provider.batches[hidden.id] = hidden
    runner.adopt_batch(RUN, local, "batch_moved")
    run.wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 1
    assert [batch.provider_batch_id for batch in any_world.store.get_batches(run_id=RUN)] == ["batch_moved"]


def test_a_lost_batch_can_be_sent_again(any_world: World) -> None:
    runner, run, local = gone(any_world)
    runner.resubmit_batch(RUN, local)
    with pytest.raises(RunStateError):
        runner.resubmit_batch(RUN, local)
    run.wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert batch_starts(any_world) == 2
    assert any_world.store.get_active_batches(run_id=RUN) == []


def test_a_lost_batch_can_be_given_up(any_world: World) -> None:
    runner, run, local = gone(any_world)
    runner.fail_batch(RUN, local)
    run.wait()
    assert set(errors(run).values()) == {"submission_unknown"}
    assert any_world.store.get_active_batches(run_id=RUN) == []


def test_a_batch_that_another_key_can_not_see_pauses_the_run(any_world: World) -> None:
    run = any_world.start()
    hidden = any_world.provider.batches.pop(any_world.batch_ids()[0])
    any_world.provider.fingerprint = "another"
    with pytest.raises(RunPausedError, match="another API key"):
        run.wait(poll_interval=60)
    any_world.provider.batches[hidden.id] = hidden
    any_world.provider.fingerprint = "fake"
    run.resume()
    run.wait()
    assert run.status is RunLifecycleStatus.COMPLETED


def test_cancelling_ends_a_lost_batch(any_world: World) -> None:
    _, run, _ = gone(any_world)
    run.cancel()
    run.wait(poll_interval=60)
    assert set(errors(run).values()) <= {"run_cancelled", "batch_output_missing_row"}
    assert len(errors(run)) == 3


def test_a_store_that_keeps_no_submissions_pauses_instead(world: World) -> None:
    """It has no place for a quarantine; the rows are not sent again all the same."""
    run = world.start(
        text_job(3, retry=RetryPolicy(max_backoff_sec=30.0)), storage=ThirdPartyStore(world.store)
    )
    world.provider.batches.clear()
    with pytest.raises(RunPausedError):
        run.wait(poll_interval=60)
    assert batch_starts(world) == 1
    assert world.summary().status_counts["submitted"] == 3


@pytest.mark.parametrize(
    "trouble",
    [lost(), lost(500), lost(200)],
    ids=["no answer", "HTTP 500", "garbage"],
)
@pytest.mark.parametrize("created", [True, False])
def test_a_cancelled_run_ends_only_when_what_may_be_paid_for_is_settled(
    any_world: World, trouble: ProviderError, created: bool
) -> None:
    """While the list can't be read, nobody knows whether there is a batch to wait for."""
    any_world.provider.fail("create_batch", lost(), after=created)
    for _ in range(3):
        any_world.provider.fail("list_batches", trouble)
    run = any_world.start()
    run.cancel()
    for _ in range(3):
        assert run.refresh().status is RunLifecycleStatus.RUNNING
        assert submission(any_world).state is SubmissionState.UNKNOWN
        assert any_world.summary().status_counts["queued_local"] == 3
        any_world.clock.advance(50.0)
    settle(run, any_world)
    assert run.is_finished
    assert submission(any_world).state is (SubmissionState.REGISTERED if created else SubmissionState.DROPPED)
    assert batch_starts(any_world) == 1
    if created:
        assert "submission_recovered" in any_world.names()
        (batch,) = any_world.provider.batches.values()
        assert batch.status in ("completed", "cancelled"), "it was found, and asked to stop"
    else:
        assert set(errors(run).values()) == {"run_cancelled"}
    assert not any_world.summary().unknown_batches
