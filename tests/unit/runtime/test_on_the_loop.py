"""Runs on an event loop: none blocks it, none keeps another waiting, and a cancelled task loses and doubles nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from batchor_core.core.exceptions import RunPausedError
from batchor_core.core.models import RunEvent
from batchor_core.runtime import on_the_loop
from batchor_core.runtime.run import Run
from tests.support.world import RUN, World, structured_job, text_job, texts

SOON = 0.1


def test_a_short_run_ends_while_thirty_others_wait_on_the_same_loop(world: World) -> None:
    world.provider.statuses = ["in_progress"] * 1_000_000

    async def scenario() -> None:
        async with world.runner() as runner:
            long = [await runner.start_async(text_job(1), run_id=f"long-{n}") for n in range(30)]
            waits = [asyncio.create_task(run.wait_async(poll_interval=SOON)) for run in long]
            world.provider.statuses = ["completed"]
            short = await runner.start_async(text_job(2), run_id="short")
            await short.wait_async(poll_interval=SOON)
            assert short.is_finished
            assert not any(task.done() for task in waits)
            for batch_id in world.batch_ids():
                world.provider.set_statuses(batch_id, "completed")
            for task in waits:
                assert (await task).is_finished

    asyncio.run(scenario())
    assert set(world.provider.submitted().values()) == {1}


def test_cycles_run_in_threads_of_the_runner(world: World) -> None:
    threads: set[str] = set()

    def observe(event: RunEvent) -> None:
        threads.add(threading.current_thread().name.rpartition("_")[0])

    async def scenario() -> None:
        async with world.runner(observer=observe) as runner:
            await runner.run_and_wait_async(text_job(3), run_id=RUN)

    asyncio.run(scenario())
    assert threads == {"batchor-async"}


def test_a_runner_that_is_closed_says_so(world: World) -> None:
    async def scenario() -> None:
        async with world.runner() as runner:
            run = await runner.start_async(text_job(1), run_id=RUN)
        with pytest.raises(RuntimeError, match="this runner is closed"):
            await runner.start_async(text_job(1), run_id="other")
        with pytest.raises(RuntimeError, match="this runner is closed"):
            await run.wait_async()

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["create_batch", "get_batch", "download_to_path"])
def test_a_cancelled_task_loses_and_doubles_nothing(
    any_world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    call = getattr(any_world.provider, method)

    def held_up(*args: Any, **kwargs: Any) -> Any:
        reached.set()
        assert go_on.wait(30)
        return call(*args, **kwargs)

    monkeypatch.setattr(any_world.provider, method, held_up)

    async def cancelled() -> None:
        async with any_world.runner() as runner:
            task = asyncio.create_task(runner.run_and_wait_async(text_job(5, per_batch=2), run_id=RUN))
            await asyncio.to_thread(reached.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()  # leaving the runner waits for the call

    async def again() -> Run:
        async with any_world.runner() as runner:
            return await runner.run_and_wait_async(text_job(5, per_batch=2), run_id=RUN)

    asyncio.run(cancelled())
    run = asyncio.run(again())
    assert len(texts(any_world.runner().get_run(run.run_id))) == 5
    assert set(any_world.provider.submitted().values()) == {1}
    assert sum(any_world.lines()) == 5


def test_a_wait_that_is_over_in_time_or_paused_raises_as_wait_does(world: World) -> None:
    world.provider.statuses = ["in_progress"] * 1_000_000

    async def scenario() -> None:
        async with world.runner() as runner:
            run = await runner.start_async(text_job(1), run_id=RUN)
            with pytest.raises(TimeoutError, match="not finished after 0"):
                await run.wait_async(timeout=0.0)
            await asyncio.to_thread(run.pause)
            with pytest.raises(RunPausedError):
                await run.wait_async()

    asyncio.run(scenario())


class Shape(BaseModel):
    """The same answer, as another process declares it."""

    label: str


def test_results_are_read_without_blocking_the_loop(world: World) -> None:
    world.provider.answer = lambda line: '{"label": "good", "score": 1.0}'
    run = world.start(structured_job(5)).wait()

    async def read(**given: Any) -> list[Any]:
        return [result async for result in run.iter_results_async(page_size=2, **given)]

    assert asyncio.run(read()) == list(run.iter_results())
    assert [result.output for result in asyncio.run(read(model=Shape))] == [Shape(label="good")] * 5


def test_a_cycle_that_was_cut_goes_on_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_the_loop, "SLICE_SEC", 0.0)  # each cycle is

    async def scenario() -> None:
        async with world.runner() as runner:
            run = await runner.start_async(text_job(5, per_batch=2), run_id=RUN)
            assert (await run.wait_async(poll_interval=3_600.0)).is_finished

    asyncio.run(scenario())
