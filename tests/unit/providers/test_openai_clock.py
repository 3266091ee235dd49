"""The server's clock, by the Date of its answers: what tells how far back a list has to be read."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from batchor_core.core.exceptions import ProviderError
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.provider import OpenAIBatchProvider
from batchor_core.testing.fake_clock import FakeClock
from batchor_core.testing.openai_server import OpenAIServer
from tests.support.world import RUN, World, text_job

HOURS = 3_600.0


@pytest.mark.parametrize("ahead", [0.0, 5 * HOURS, -5 * HOURS])
def test_the_offset_is_read_from_any_answer(ahead: float) -> None:
    with OpenAIServer(clock=lambda: time.time() + ahead) as server:
        provider = OpenAIBatchProvider(OpenAIProviderConfig(model="m", api_key="k", base_url=server.base_url))
        assert provider.clock_offset() is None
        with pytest.raises(ProviderError):
            provider.get_batch("batch_none")
        offset = provider.clock_offset()
        provider.close()
    assert offset is not None
    assert abs(offset - ahead) < 3


@pytest.mark.parametrize("tells", [True, False], ids=["a server that tells its time", "one that does not"])
def test_a_server_whose_clock_is_behind_is_searched_far_enough(tmp_path: Path, tells: bool) -> None:
    """Newer batches fill the first page; by the store's time alone it would seem to prove the batch absent."""
    world = World(tmp_path)
    servers_clock = FakeClock(world.clock() - timedelta(hours=5))
    world.provider._clock = servers_clock
    if tells:
        world.provider.clock_offset = lambda: servers_clock.time() - time.time()  # type: ignore[method-assign]
    world.provider.fail("create_batch", ProviderError("lost on its way"), after=True)
    run = world.start(text_job(1))
    for _ in range(6):
        servers_clock.advance(1.0)
        world.provider.files["other"] = b"{}"
        world.provider.create_batch(input_file_id="other")
    run.refresh()
    [submission] = world.store.list_submissions(run_id=RUN)
    assert round(submission.server_date_skew) == (-5 * HOURS if tells else 0)
    assert (submission.provider_batch_id == world.batch_ids()[0]) is tells
    world.close()
