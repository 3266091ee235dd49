"""Results that come late: they are waited for, never bought again by the engine itself, and a person is asked in the end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from batchor_core.core.custom_ids import parse
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import QuarantinedBatchError, RunPausedError, RunStateError
from batchor_core.core.models import ArtifactPolicy, ChunkPolicy
from batchor_core.runtime.run import Run
from batchor_core.testing.fake_batch import FakeBatch
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import http_error_row, row_error
from tests.contract.stores.kit import ThirdPartyStore
from tests.support.late import HOUR, ONCE, ROWS, begin, drive, sent
from tests.support.world import RUN, World, by_item, errors, index_of, text_job, texts

ONE_LEFT_OUT = by_item({9: [None, "again"]})
ONE_FAILED = by_item({9: [http_error_row(500), "again"]})


class LateProvider(FakeProvider):
    """Holds back what :meth:`hold` names, from the end of the first batch until :meth:`hand_over`.

    It states what it has answered from the first moment on.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(states_counts=True, **options)
        self.held: dict[str, dict[str, str | None]] = {}
        self.shortened: dict[str, bytes] = {}
        self.withheld: tuple[str, ...] = ()
        self.cut: Callable[[bytes], bytes] | None = None

    def hold(self, *files: str) -> None:
        self.withheld = files

    def _finish(self, batch: FakeBatch) -> None:
        super()._finish(batch)
        if self.held:
            return
        self.held[batch.id] = {}
        for name in self.withheld:
            self.held[batch.id][name] = getattr(batch, f"{name}_file_id")
            setattr(batch, f"{name}_file_id", None)
        if self.cut is not None and batch.output_file_id is not None:
            whole = self.files[batch.output_file_id]
            self.shortened[batch.output_file_id] = whole
            self.files[batch.output_file_id] = self.cut(whole)

    def hand_over(self, *files: str) -> None:
        """What is held back is there; so is what later batches bring."""
        self.withheld = tuple(name for name in self.withheld if name not in files)
        self.cut = None
        for batch_id, held in self.held.items():
            for name in files:
                if name in held:
                    setattr(self.batches[batch_id], f"{name}_file_id", held.pop(name))
        self.files |= self.shortened
        self.shortened = {}


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=pytest.mark.long)])
def late(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    """In memory; in the long form on a file too. What is waited for is the engine's business, hours of it in each test."""
    world = make_world(kind=request.param, provider=LateProvider(answer=ONE_FAILED))
    world.provider._clock = world.clock
    return world


def provider(world: World) -> LateProvider:
    assert isinstance(world.provider, LateProvider)
    return world.provider


def local(world: World) -> str:
    return world.store.list_submissions(run_id=RUN)[0].local_batch_id


LAST_TWICE = [*ONCE, 9]


@pytest.mark.parametrize(
    ("files", "at_hand"), [(("output",), 0), (("error",), 9), (("output", "error"), 0)], ids=str
)
@pytest.mark.parametrize("minutes", [1, 5])
def test_files_that_come_later_cost_nothing(
    late: World, files: tuple[str, ...], at_hand: int, minutes: int
) -> None:
    provider(late).hold(*files)
    run = begin(late)
    drive(late, run, minutes * 60.0)
    assert run.summary().completed_items in (at_hand, at_hand + 1)  # with the row that failed at first
    # an error line that is there is an answer: its row goes again while the others are waited for
    assert set(sent(late)) == set(ONCE)
    assert max(sent(late).count(index) for index in range(9)) == 1
    provider(late).hand_over(*files)
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(late) == LAST_TWICE
    assert len(texts(run)) == ROWS
    assert all(result.raw_response is not None for result in run.results())


@pytest.mark.parametrize("first", ["output", "error"])
def test_one_file_after_the_other(late: World, first: str) -> None:
    provider(late).hold("output", "error")
    run = begin(late)
    drive(late, run, 120.0)
    provider(late).hand_over(first)
    drive(late, run, 60.0)
    provider(late).hand_over("output", "error")
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(late) == LAST_TWICE


def test_waiting_says_so(late: World) -> None:
    provider(late).hold("output")
    run = begin(late)
    drive(late, run, 600.0, step=10.0)
    summary = run.summary()
    assert (summary.late_batches, summary.late_rows) == (1, 9)
    said = late.data("batch_results_late")
    assert said[0]["cause"] == "results_late"
    assert (said[0]["missing"], said[0]["stated_completed"], said[0]["lines"]) == (9, 9, 1)
    assert "the provider states 9 answered rows" in str(said[0]["reason"])
    looks = [float(one["waited_sec"]) for one in said]
    pauses = [after - before for before, after in pairwise(looks)]
    assert len(said) < 15, "it looks less and less often"
    assert pauses[-1] > pauses[0]
    assert late.data("submission_quarantined") == []


def test_nothing_else_is_held_up(late: World) -> None:
    """Another batch of the run is taken in, its failed row goes again, and the new batch is taken in too."""
    provider(late).hold("output")
    run = begin(late, chunk_policy=ChunkPolicy(max_requests=5))
    drive(late, run, 600.0)
    assert run.summary().completed_items == 5
    assert late.lines() == [5, 5, 1]
    assert run.summary().late_rows == 5
    provider(late).hand_over("output")
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED


def asked(world: World, run: Run) -> QuarantinedBatchError:
    with pytest.raises(QuarantinedBatchError) as caught:
        run.wait(timeout=48 * HOUR, poll_interval=900.0)
    assert caught.value.local_batch_ids == [local(world)]
    return caught.value


def test_a_person_is_asked_in_the_end_and_never_is_a_row_bought_before(late: World) -> None:
    provider(late).hold("output", "error")
    run = begin(late)
    began = late.clock.time()
    error = asked(late, run)
    assert 6 * HOUR <= late.clock.time() - began <= 8 * HOUR
    assert sent(late) == ONCE
    assert "the provider states 9 answered rows" in error.late[local(late)]
    for word in ("run.keep_waiting(", "run.resubmit(", "run.fail("):
        assert word in str(error)
    assert "adopt" not in str(error)
    assert run.summary().quarantined_batches == 1
    (said,) = late.data("submission_quarantined")
    assert said["error_class"] == "results_late"


def test_the_question_is_withdrawn_when_the_files_come(late: World) -> None:
    provider(late).hold("output", "error")
    run = begin(late)
    asked(late, run)
    provider(late).hand_over("output", "error")
    drive(late, run, 4 * HOUR, step=600.0)
    run.wait(poll_interval=60.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert run.summary().quarantined_batches == 0
    assert sent(late) == LAST_TWICE


def test_a_person_can_wait_on(late: World) -> None:
    provider(late).hold("output", "error")
    run = begin(late)
    asked(late, run)
    late.runner().keep_waiting(RUN, local(late))
    assert run.summary().quarantined_batches == 0
    began = late.clock.time()
    asked(late, run)
    assert late.clock.time() - began >= 6 * HOUR, "patience begins again"
    late.runner().keep_waiting(RUN, local(late))
    provider(late).hand_over("output", "error")
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(late) == LAST_TWICE


def test_a_person_can_take_what_is_there_and_buy_the_rest(late: World) -> None:
    provider(late).hold("output")
    run = begin(late)
    asked(late, run)
    assert run.summary().completed_items == 1, "the row with the error has gone again"
    provider(late).hold()
    late.runner().resubmit_batch(RUN, local(late))
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(late) == sorted([*ONCE, *ONCE])  # nine that were waited for, and the one with the error
    summary = run.summary()
    assert (summary.active_batches, summary.late_batches, summary.quarantined_batches) == (0, 0, 0)
    assert summary.orphan_batches == 0, "the store knows the batch"
    bundle = run.export_artifacts(late.folder / "bundle")
    assert bundle.exported_artifact_paths


def test_a_person_can_fail_the_rest(late: World) -> None:
    provider(late).hold("output")
    run = begin(late)
    asked(late, run)
    late.runner().fail_batch(RUN, local(late))
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED_WITH_FAILURES
    assert len(errors(run)) == 9
    assert sent(late) == LAST_TWICE


def test_waiting_survives_a_restart_and_a_clock_that_is_set_back(
    make_world: Callable[..., World],
) -> None:
    world = make_world(kind="sqlite", provider=LateProvider(answer=ONE_FAILED))
    provider(world).hold("output", "error")
    run = begin(world)
    drive(world, run, HOUR, step=120.0)
    world.store = world.open_store()
    run = world.runner().get_run(RUN)
    assert run.summary().late_rows == ROWS
    since = world.store.get_active_batches(run_id=RUN)[0].ended_at
    drive(world, run, 2 * HOUR, step=120.0)
    assert world.store.get_active_batches(run_id=RUN)[0].ended_at == since
    world.store = world.open_store(behind_sec=86_400.0)
    run = world.runner().get_run(RUN)
    drive(world, run, 2 * HOUR, step=120.0)
    assert sent(world) == ONCE
    assert run.summary().quarantined_batches == 0
    provider(world).hand_over("output", "error")
    run.wait(poll_interval=60.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(world) == LAST_TWICE


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    "cut",
    [
        lambda whole: whole[: len(whole) // 2 - 20],
        lambda whole: b"".join(whole.splitlines(keepends=True)[:4]),
        lambda whole: b"".join(reversed(whole.splitlines(keepends=True)[:7])),
        lambda whole: b"".join(reversed(whole.splitlines(keepends=True)[:7]))[:-20],
        lambda whole: b"",
    ],
    ids=["in a line", "between lines", "in another order", "in another order, in a line", "empty"],
)
@pytest.mark.parametrize("states", [True, False], ids=["counts", "no counts"])
def test_a_file_that_is_short_at_first_costs_nothing(
    late: World, cut: Callable[[bytes], bytes], keep: bool, states: bool
) -> None:
    """What has been stored from the short version is still what the raw responses show."""
    provider(late).answer = lambda line: f"answer {index_of(line)}"
    provider(late).cut = cut
    provider(late).states_counts = states
    run = begin(late, artifact_policy=ArtifactPolicy(persist_raw_output_artifacts=keep))
    drive(late, run, 200.0)
    assert not run.is_finished
    provider(late).hand_over()
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(late) == ONCE
    for index, result in enumerate(run.results()):
        assert result.output_text == f"answer {index}"
        raw = result.raw_response
        assert raw is not None
        attempt = parse(str(raw["custom_id"]))
        assert attempt is not None
        assert attempt.item_index == index


def test_a_file_that_stays_cut_is_asked_about_though_nothing_states_its_size(late: World) -> None:
    provider(late).states_counts = False
    provider(late).answer = by_item({})
    provider(late).cut = lambda whole: whole[: len(whole) // 2 - 20]
    run = begin(late)
    error = asked(late, run)
    assert "breaks off in the middle of a line" in error.late[local(late)]
    assert sent(late) == ONCE
    assert 0 < run.summary().completed_items < ROWS


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_an_expired_or_cancelled_batch_may_bring_its_files_late(late: World, status: str) -> None:
    late.provider.answered_rows = 4
    late.provider.answer = by_item({})
    late.provider.statuses = ("in_progress", status)
    provider(late).hold("output", "error")
    run = begin(late)
    drive(late, run, HOUR, step=120.0)
    assert sent(late) == ONCE
    late.provider.statuses = ("in_progress", "completed")
    provider(late).hand_over("output", "error")
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(late) == sorted([*ONCE, *range(4, ROWS)])
    assert set(late.provider.paid.values()) == {1}


def test_rows_that_are_stated_as_failed_go_again_when_their_error_line_does_not_come(late: World) -> None:
    """An error costs nothing to run again; the line would only say whether that makes sense."""
    provider(late).hold("error")
    run = begin(late)
    drive(late, run, 540.0)
    assert sent(late) == ONCE
    provider(late).hold()
    run.wait(poll_interval=30.0)
    assert sent(late) == LAST_TWICE
    assert run.status is RunLifecycleStatus.COMPLETED


def test_a_row_that_is_left_out_of_a_batch_without_counts_goes_again_after_some_minutes(late: World) -> None:
    provider(late).states_counts = False
    provider(late).answer = ONE_LEFT_OUT
    run = begin(late)
    drive(late, run, 540.0)
    assert sent(late) == ONCE
    assert run.summary().completed_items == 9
    run.wait(poll_interval=30.0)
    assert sent(late) == LAST_TWICE


def test_a_row_with_an_error_is_held_back_while_its_answer_is_stated(late: World) -> None:
    """The error file is there, the answers are late, and the counts speak of as many answers as rows."""
    provider(late).answer = by_item({})
    provider(late).hold("output")
    run = begin(late)
    run.refresh()
    (batch,) = late.provider.batches.values()
    line = {"custom_id": batch.lines[0]["custom_id"], **http_error_row(500)}
    batch.error_file_id = late.provider._keep_lines("errors.jsonl", [line])
    drive(late, run, HOUR, step=120.0)
    assert sent(late) == ONCE
    provider(late).hand_over("output")
    run.wait(poll_interval=30.0)
    assert sent(late) == ONCE
    assert run.status is RunLifecycleStatus.COMPLETED


# --- files that are gone ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_file(late: World) -> World:
    """The first batch names an output file that the provider does not have."""
    late.provider.answer = by_item({})
    finish = provider(late)._finish

    def finished(batch: FakeBatch) -> None:
        finish(batch)
        if batch is next(iter(late.provider.batches.values())):
            assert batch.output_file_id is not None
            provider(late).shortened[batch.output_file_id] = late.provider.files.pop(batch.output_file_id)

    provider(late)._finish = finished  # type: ignore[method-assign]
    return late


def test_a_file_that_is_gone_is_named_and_what_can_not_work_is_not_offered(without_file: World) -> None:
    run = begin(without_file)
    error = asked(without_file, run)
    (batch,) = without_file.provider.batches.values()
    reason = error.late[local(without_file)]
    for word in (str(batch.output_file_id), batch.id, "404"):
        assert word in reason
    assert "adopt" not in str(error)
    (said,) = without_file.data("submission_quarantined")
    assert said["error_class"] == "result_file_gone"
    assert sent(without_file) == ONCE


def test_a_file_may_be_unknown_right_after_the_end(without_file: World) -> None:
    run = begin(without_file)
    drive(without_file, run, 300.0)
    assert run.summary().late_rows == ROWS
    provider(without_file).hand_over()
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(without_file) == ONCE


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_a_cancelled_run_takes_in_what_comes_late(late: World) -> None:
    provider(late).hold("output", "error")
    run = begin(late)
    drive(late, run, 60.0)
    run.cancel()
    drive(late, run, 600.0)
    assert not run.is_finished
    provider(late).hand_over("output", "error")
    run.wait(poll_interval=30.0)
    assert set(errors(run).values()) == {"run_cancelled"}
    assert run.summary().completed_items == 9
    assert sent(late) == ONCE


@pytest.mark.parametrize("was_asked", [False, True])
def test_a_cancelled_run_ends_without_what_never_comes(late: World, was_asked: bool) -> None:
    provider(late).hold("output", "error")
    run = begin(late)
    if was_asked:
        asked(late, run)
    else:
        drive(late, run, 60.0)
    run.cancel()
    began = late.clock.time()
    run.wait(poll_interval=60.0)
    assert late.clock.time() - began <= 2.5 * HOUR
    assert len(errors(run)) == ROWS
    assert set(errors(run).values()) == {"run_cancelled"}
    assert sent(late) == ONCE
    assert run.summary().quarantined_batches == 0


# --- batches that don't end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["finalizing", "in_progress", "validating", "something_new"])
def test_a_batch_that_does_not_end_is_told_about_and_asked_about(late: World, status: str) -> None:
    late.provider.statuses = (status,)
    run = begin(late)
    drive(late, run, 24 * HOUR, step=HOUR)
    assert run.summary().overdue_batches == 0
    assert late.data("batch_overdue") == []
    drive(late, run, 3 * HOUR, step=HOUR)
    assert run.summary().overdue_batches == 1
    assert late.data("batch_overdue")
    polls = late.provider.count("get_batch")
    drive(late, run, 20 * HOUR, step=900.0)
    assert late.provider.count("get_batch") - polls <= 25, "it is asked for less and less often"
    error = asked(late, run)
    assert f"still {status}" in str(error)
    assert sent(late) == ONCE
    late.runner().keep_waiting(RUN, local(late))
    late.provider.set_statuses(late.batch_ids()[0], "completed")
    late.provider.statuses = ("completed",)
    run.wait(poll_interval=300.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(late) == LAST_TWICE


def test_a_batch_that_ends_after_a_person_was_asked_needs_no_word(late: World) -> None:
    late.provider.statuses = ("finalizing",)
    run = begin(late)
    asked_in = 60 * HOUR
    with pytest.raises(QuarantinedBatchError):
        run.wait(timeout=asked_in, poll_interval=HOUR)
    late.provider.set_statuses(late.batch_ids()[0], "completed")
    late.provider.statuses = ("completed",)
    drive(late, run, 3 * HOUR, step=600.0)
    run.wait(poll_interval=60.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert run.summary().quarantined_batches == 0


class Endless(LateProvider):
    """Its batches never stop cancelling."""

    def cancel_batch(self, batch_id: str) -> Any:
        record = super().cancel_batch(batch_id)
        self.batches[batch_id].steps.clear()
        return record


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_cancellation_that_never_ends_is_bounded_and_names_the_choices(
    make_world: Callable[..., World], kind: str
) -> None:
    world = make_world(kind=kind, provider=Endless(statuses=("in_progress",)))
    run = begin(world)
    run.cancel()
    began = world.clock.time()
    with pytest.raises(QuarantinedBatchError, match="still cancelling") as caught:
        run.wait(poll_interval=60.0)
    assert world.clock.time() - began <= 3 * HOUR
    assert run.control_state is RunControlState.CANCEL_REQUESTED
    runner = world.runner()
    runner.keep_waiting(RUN, caught.value.local_batch_ids[0])
    with pytest.raises(QuarantinedBatchError):
        run.wait(poll_interval=60.0)
    runner.fail_batch(RUN, caught.value.local_batch_ids[0])
    run.wait(poll_interval=60.0)
    assert set(errors(run).values()) == {"submission_unknown"}
    # should it bring something after all, somebody hears of it
    assert runner.sweep_ended_runs() == [RUN]


def test_expiry_is_the_providers_own_where_it_says_when(late: World) -> None:
    late.provider.statuses = ("in_progress",)
    run = begin(late)
    batch = late.provider.batches[late.batch_ids()[0]]
    batch.expires_at = batch.created_at + HOUR
    drive(late, run, HOUR, step=600.0)
    assert run.summary().overdue_batches == 0
    drive(late, run, HOUR, step=600.0)
    assert run.summary().overdue_batches == 1


# --- stores and events -----------------------------------------------------------------------------------------------


def test_a_store_that_keeps_no_submissions_pauses_and_resuming_waits_on(world: World) -> None:
    """Its own clock has to be the run's."""
    world.provider = LateProvider(answer=ONE_FAILED)
    provider(world).hold("output")
    store = ThirdPartyStore(world.store)
    store.now = world.clock.time
    run = world.start(text_job(ROWS), storage=store)
    with pytest.raises(RunPausedError):
        run.wait(timeout=24 * HOUR, poll_interval=300.0)
    assert sent(world) == ONCE
    run.resume()
    drive(world, run, HOUR, step=300.0)
    assert run.summary().control_state is RunControlState.RUNNING
    provider(world).hand_over("output")
    run.wait(poll_interval=300.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(world) == ONCE


def test_nobody_can_wait_for_a_batch_that_is_not_asked_about(late: World) -> None:
    begin(late)
    with pytest.raises(RunStateError):
        late.runner().keep_waiting(RUN, local(late))


@pytest.mark.parametrize(
    ("said", "error_class"),
    [
        ({n: ["no json", '{"label":"fine","score":1}'] for n in range(ROWS)}, "invalid_json"),
        (
            {n: [row_error("batch_expired"), '{"label":"fine","score":1}'] for n in range(ROWS)},
            "batch_terminal_expired",
        ),
        (
            {n: [http_error_row(500), '{"label":"fine","score":1}'] for n in range(ROWS)},
            "provider_item_error",
        ),
    ],
    ids=str,
)
def test_a_batch_without_a_good_answer_says_what_happened_to_most_rows(
    late: World, said: dict[int, Any], error_class: str
) -> None:
    from tests.support.world import Verdict

    late.provider.answer = by_item(said)
    run = begin(late, structured_output=Verdict)
    drive(late, run, 60.0)
    (event,) = late.data("batch_submit_retry")
    assert event["error_class"] == error_class
    assert f"{ROWS} {error_class}" in str(event["message"])
