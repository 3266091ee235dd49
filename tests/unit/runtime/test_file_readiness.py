"""An input file that the provider does not find, or has not processed yet: waited for, and then a person is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from batchor_core.core.enums import ItemStatus, RunControlState, SubmissionState
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.retry import FILE_PATIENCE_SEC
from batchor_core.providers.openai import OpenAIProviderConfig
from batchor_core.providers.registry import build_default_provider_registry
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.testing.fake_clock import FakeClock
from batchor_core.testing.openai_server import HttpFault, OpenAIServer
from tests.support.world import RUN, World, text_job, texts


def not_ready(**changes: Any) -> ProviderError:
    given: dict[str, Any] = {
        "kind": ProviderErrorKind.NOT_READY,
        "error_class": "input_file_not_ready",
        "status_code": 400,
        "not_performed": True,
    }
    return ProviderError("Cannot find file file-1", **(given | changes))


def states(world: World) -> list[SubmissionState]:
    return [submission.state for submission in world.store.list_submissions(run_id=RUN)]


def test_the_same_file_is_tried_again_and_again_until_it_is_there(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready(), times=3)
    run = any_world.start(text_job(3))
    assert states(any_world) == [SubmissionState.UPLOADED]
    assert run.control_state is RunControlState.RUNNING
    assert texts(run.wait()) == {f"item-{n}": f"answer to question {n}" for n in range(3)}
    assert any_world.provider.count("create_batch") == 4
    assert any_world.provider.count("upload_input_file") == 1
    assert len(any_world.data("submission_postponed")) == 3
    assert states(any_world) == [SubmissionState.REGISTERED]
    assert set(any_world.provider.submitted().values()) == {1}
    assert all(result.attempt_count == 1 for result in run.results())


def test_nothing_is_tried_before_the_wait_is_over(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready(), times=100)
    run = any_world.start(text_job(3, per_batch=2))
    tried = any_world.provider.count("create_batch")
    for _ in range(4):
        run.refresh()
    assert any_world.provider.count("create_batch") == tried
    assert not run.has_work()
    any_world.clock.advance(5)
    assert run.has_work()
    run.refresh()
    assert any_world.provider.count("create_batch") == tried * 2


def test_no_further_batch_is_uploaded_while_one_waits(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready(), times=100)
    run = any_world.start(text_job(20, per_batch=2))
    uploads = any_world.provider.count("upload_input_file")
    assert uploads <= 2
    for _ in range(10):
        any_world.clock.advance(60)
        run.refresh()
    assert any_world.provider.count("upload_input_file") == uploads


def test_another_process_goes_on_waiting_with_the_same_file(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready(), times=2)
    any_world.start(text_job(3))
    any_world.clock.advance(600)
    run = any_world.runner().get_run(RUN)
    run.refresh()
    assert run.control_state is RunControlState.RUNNING
    assert run.wait().is_finished
    assert any_world.provider.count("upload_input_file") == 1


def test_after_some_minutes_a_person_is_asked_and_the_rows_are_free(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready(), times=1_000)
    run = any_world.start(text_job(3))
    for _ in range(60):
        any_world.clock.advance(60)
        run.refresh()
    assert run.control_state is RunControlState.PAUSED
    reason = run.summary().control_reason or ""
    assert reason.startswith("input_file_not_ready: ")
    assert "Cannot find file file-1" in reason
    assert "resume()" in reason
    assert run.summary().status_counts[ItemStatus.PENDING] == 3
    assert any_world.provider.files == {}
    assert any_world.provider.count("create_batch") <= FILE_PATIENCE_SEC / 60 + 6
    assert states(any_world) == [SubmissionState.DROPPED]
    # whoever resumes gets as many minutes again
    any_world.provider._faults.clear()
    run.resume()
    assert run.wait().is_finished
    assert run.summary().orphan_batches == 0


def test_a_file_that_is_still_processed_is_not_asked_for(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready())
    run = any_world.start(text_job(3))
    any_world.provider.files_ready = False
    for _ in range(3):
        any_world.clock.advance(60)
        run.refresh()
    assert any_world.provider.count("create_batch") == 1
    any_world.provider.files_ready = True
    any_world.clock.advance(60)
    run.refresh()
    assert any_world.provider.count("create_batch") == 2
    assert run.wait().is_finished


def test_a_look_that_fails_costs_nothing(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready())
    any_world.provider.fail("is_input_file_ready", ProviderError("timeout"), times=2)
    assert any_world.start(text_job(3)).wait().is_finished
    assert any_world.provider.count("create_batch") == 2


def test_a_file_that_the_provider_rejects_needs_a_person(any_world: World) -> None:
    rejected = not_ready(kind=ProviderErrorKind.BAD_REQUEST, error_class="input_file_rejected")
    any_world.provider.fail("create_batch", not_ready())
    any_world.provider.fail("is_input_file_ready", rejected)
    run = any_world.start(text_job(3))
    any_world.clock.advance(60)
    run.refresh()
    assert run.control_state is RunControlState.PAUSED
    assert (run.summary().control_reason or "").startswith("input_file_rejected")


def test_an_unknown_outcome_of_a_later_try_is_looked_up_like_any_other(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready())
    any_world.provider.fail("create_batch", ProviderError("lost"), after=True)
    run = any_world.start(text_job(3))
    any_world.clock.advance(60)
    run.refresh()
    assert states(any_world) == [SubmissionState.UNKNOWN]
    assert run.wait().is_finished
    assert set(any_world.provider.submitted().values()) == {1}


def test_cancelling_gives_up_what_waits_for_its_file(any_world: World) -> None:
    any_world.provider.fail("create_batch", not_ready(), times=100)
    run = any_world.start(text_job(3))
    run.cancel()
    assert run.wait().is_finished
    assert {result.error.error_class for result in run.results() if result.error} == {"run_cancelled"}
    assert any_world.provider.files == {}


def test_a_batch_that_failed_for_want_of_its_file_is_sent_again_with_a_new_one(any_world: World) -> None:
    error = {
        "code": "invalid_request",
        "param": "file_id",
        "message": "Cannot find file file-1",
        "line": None,
    }
    any_world.provider.statuses = ["validating", "failed"]
    run = any_world.start(text_job(3))
    any_world.provider.set_statuses(any_world.batch_ids()[0], "failed", errors={"data": [error]})
    any_world.provider.statuses = ["completed"]
    run.refresh()
    assert run.control_state is RunControlState.RUNNING
    assert run.summary().backoff_remaining_sec > 40
    assert "Cannot find file" in (run.summary().trouble or "")
    assert run.wait().is_finished
    assert any_world.provider.count("upload_input_file") == 2


def test_batches_that_go_on_failing_for_want_of_their_file_ask_a_person_after_ten_minutes(
    any_world: World,
) -> None:
    error = {
        "code": "invalid_request",
        "param": "file_id",
        "message": "Cannot find file file-1",
        "line": None,
    }
    any_world.provider.statuses = ["failed"]
    create = any_world.provider._create

    def failing(*args: Any) -> Any:
        record = create(*args)
        any_world.provider.set_statuses(record["id"], "failed", errors={"data": [error]})
        return record

    any_world.provider._create = failing  # type: ignore[method-assign, assignment]
    run = any_world.start(text_job(3))
    began = any_world.clock.time()
    for _ in range(3_000):
        any_world.clock.advance(10)
        run.refresh()
        if run.control_state is RunControlState.PAUSED:
            break
    assert any_world.clock.time() - began >= 450
    assert "Cannot find file" in (run.summary().control_reason or "")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Cannot find file file-1, or project proj_1 does not have access to it."),
        (400, "The input file is not in a processed state."),
        (404, "No such File object: file-1"),
        (409, "The file has not been processed yet"),
    ],
)
def test_the_real_client_waits_for_a_file_of_the_local_server(
    tmp_path: Any, make_world: Callable[..., World], status: int, message: str
) -> None:
    clock = FakeClock()
    with OpenAIServer(batch_seconds=0) as server:
        server.faults.add(
            HttpFault("status", method="POST", path="/v1/batches", status=status, message=message, times=2)
        )
        config = OpenAIProviderConfig(model="gpt-4.1", api_key="any", base_url=server.base_url)
        with BatchRunner(
            storage=MemoryStateStore(now=clock),
            provider_registry=build_default_provider_registry(),
            temp_root=tmp_path,
            sleep=clock.sleep,
        ) as runner:
            run = runner.start(replace(text_job(3), provider_config=config), run_id=RUN)
            assert run.control_state is RunControlState.RUNNING
            assert run.wait().is_finished
            assert run.summary().completed_items == 3
