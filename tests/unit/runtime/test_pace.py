"""How often a wait polls: the younger the batches, the more often, and as asked where somebody has asked."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from batchor_core.core.exceptions import ProviderError, RunPausedError
from batchor_core.core.pace import own_pause, pause_at_age
from batchor_core.testing.fake_config import FakeProviderConfig
from tests.support.world import RUN, World, text_job


@pytest.mark.parametrize(
    ("age", "pause"),
    [(None, 1), (0, 1), (59, 1), (60, 10), (599, 10), (600, 30), (3_599, 30), (3_600, 120), (86_400, 120)],
)
def test_the_pause_grows_with_the_age(age: float | None, pause: float) -> None:
    assert pause_at_age(age) == pause


@pytest.mark.parametrize(("given", "pause"), [(1.0, None), (0.0, 0.0), (30.0, 30.0)])
def test_a_config_that_says_another_interval_means_it(given: float, pause: float | None) -> None:
    assert own_pause(FakeProviderConfig(poll_interval_sec=given)) == pause


def polled_at(world: World, **how: Any) -> list[int]:
    """Seconds after the submission of each poll of a run that takes a quarter of an hour, from the first minute's end on."""
    run = world.start(text_job(1))
    began = world.clock.time()
    world.clock.advance(50)
    [batch] = world.batch_ids()
    at: list[int] = []
    step = world.provider.get_batch

    def poll(batch_id: str) -> Any:
        at.append(round(world.clock.time() - began))
        if at[-1] >= 900:
            world.provider.set_statuses(batch, "completed")
        return step(batch_id)

    world.provider.get_batch = poll  # type: ignore[method-assign]
    world.provider.set_statuses(batch, *["in_progress"] * 10_000)
    run.wait(**how)
    return at


def test_a_long_wait_polls_often_at_first_and_rarely_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "batchor_core"):
        at = polled_at(world)
    assert at == [*range(50, 60), *range(60, 600, 10), *range(600, 901, 30)]
    pace = [record.getMessage() for record in caplog.records if "polled every" in record.getMessage()]
    assert [line.partition("every ")[2] for line in pace] == [
        "10 s from now on",
        "30 s from now on",
    ]


def test_an_interval_that_is_given_stays_what_it_is(world: World) -> None:
    at = polled_at(world, poll_interval=200.0)
    assert at == [50, 250, 450, 650, 850, 1_050]


def test_an_operator_is_heard_in_a_long_pause(world: World) -> None:
    world.provider.statuses = ["in_progress"] * 10_000

    def sleep(seconds: float) -> None:
        world.clock.sleep(seconds)
        if world.clock.time() - began > 500 and not paused_at:
            paused_at.append(world.clock.time())
            world.runner().pause_run(RUN)

    paused_at: list[float] = []
    began = world.clock.time()
    run = world.start(text_job(1), sleep=sleep)
    with pytest.raises(RunPausedError):
        run.wait(poll_interval=100.0)
    assert world.clock.time() == paused_at[0]


def test_a_timeout_names_the_trouble(world: World) -> None:
    gone = ProviderError("no route to host", error_class="connection", not_performed=True)
    world.provider.fail("upload_input_file", gone, times=1_000)
    run = world.start(text_job(1))
    with pytest.raises(
        TimeoutError, match=r"after 60\.0 s; submission has been failing since .*no route to host"
    ):
        run.wait(timeout=60.0)
