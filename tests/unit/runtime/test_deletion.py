"""Deleting a run: its files and what the store has, never while it may bring something, and again after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchor_core.core.boundaries import Boundary, When, install
from batchor_core.core.exceptions import ProviderError, RunNotFoundError, RunStateError
from tests.support.world import RUN, World, text_job


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def files(world: World) -> list[Path]:
    return [path for path in (world.folder / "artifacts").rglob("*") if path.is_file()]


def test_a_finished_run_goes_with_its_files_and_its_id_is_free(world: World) -> None:
    runner = world.runner()
    runner.run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    runner.run_and_wait(text_job(1), run_id="other")
    assert len(runner.delete_run(RUN)) == 4
    assert {path.parts[-3] for path in files(world)} == {"other"}
    assert world.names("run_created")[-1] == "run_deleted"
    with pytest.raises(RunNotFoundError):
        runner.get_run(RUN)
    assert runner.run_and_wait(text_job(2), run_id=RUN).summary().completed_items == 2


def test_a_run_at_the_provider_is_kept_with_its_files(world: World) -> None:
    run = world.start()
    before = files(world)
    with pytest.raises(RunStateError, match="cancel it, and let it end"):
        world.runner().delete_run(RUN)
    assert files(world) == before
    run.cancel()
    run.wait()
    world.runner().delete_run(RUN)
    assert files(world) == []


def test_a_batch_that_may_turn_up_late_keeps_its_run(world: World) -> None:
    world.provider.fail("create_batch", ProviderError("lost"), after=False)
    run = world.start()
    for _ in range(10):
        world.clock.advance(200.0)
        run.refresh()
    run.wait()
    submissions = [one.state.value for one in world.store.list_submissions(run_id=RUN)]
    assert submissions == ["dropped", "registered"]
    with pytest.raises(RunStateError, match="may still turn up"):
        world.runner().delete_run(RUN)
    world.clock.advance(27 * 3600)
    world.runner().delete_run(RUN)
    assert not world.store.has_run(run_id=RUN)


def test_killed_half_way_it_deletes_the_rest_when_it_is_asked_again(world: World) -> None:
    world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)

    def die(boundary: Boundary, when: When) -> None:
        if (boundary, when) == (Boundary.DISCARD_RUN, "before"):
            raise KeyboardInterrupt

    install(die)
    try:
        with pytest.raises(KeyboardInterrupt):
            world.runner().delete_run(RUN)
    finally:
        install(None)
    assert world.store.has_run(run_id=RUN), "what names the files goes last"
    world.runner().delete_run(RUN)
    assert (world.store.has_run(run_id=RUN), files(world)) == (False, [])


def test_a_run_that_is_not_there_can_not_be_deleted(world: World) -> None:
    with pytest.raises(RunNotFoundError):
        world.runner().delete_run(RUN)
