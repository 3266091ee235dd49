"""A mistake in a provider's code pauses the run and says where it is; nothing is paid for twice because of it."""

from __future__ import annotations

import pytest

from batchor_core.core.exceptions import RunPausedError
from tests.support.world import RUN, World, text_job


@pytest.mark.parametrize(
    ("method", "after"),
    [
        ("upload_input_file", False),
        ("create_batch", False),
        ("create_batch", True),
        ("get_batch", False),
        ("download_to_path", False),
    ],
)
def test_a_mistake_in_the_code_pauses_the_run_and_costs_nothing(
    world: World, method: str, after: bool
) -> None:
    world.provider.fail(method, TypeError("unexpected keyword"), after=after)
    run = world.start(text_job(2))
    with pytest.raises(
        RunPausedError, match=r"TypeError: unexpected keyword \(.*fake_provider.py, line \d+, in "
    ):
        run.wait()
    run.resume()
    run.wait()
    assert run.summary().completed_items == 2
    assert max(world.provider.submitted().values()) == 1
    assert len(world.provider.batches) == 1


def test_trouble_at_the_vendor_is_waited_for(world: World) -> None:
    world.provider.fail("get_batch", ValueError("odd answer"))
    run = world.start(text_job(1), run_id=RUN)
    run.wait()
    assert run.is_finished
