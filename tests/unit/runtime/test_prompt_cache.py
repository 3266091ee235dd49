"""Request files name a cache key; nothing that is stored or compared does."""

from __future__ import annotations

from pathlib import Path

from batchor_core.runtime.engine import EngineSettings
from batchor_core.testing.fake_provider import FakeProvider
from tests.support.world import World, text_job


class Keyed(FakeProvider):
    """A provider whose requests may name a cache key."""

    def with_cache_key(self, line: bytes, *, key: str) -> bytes:
        return b'%b,"cached_under":"%b"}}' % (line[:-2], key.encode())


def test_rows_of_a_job_are_sent_under_one_key_and_stored_without_it(tmp_path: Path) -> None:
    world = World(tmp_path, provider=Keyed(), settings=EngineSettings(content_addresses=True))
    plain = World(tmp_path / "plain", settings=world.settings)
    for one in (world, plain):
        one.start(text_job(3, reuse="store")).wait()
    keys = {line["body"]["cached_under"] for batch in world.provider.batches.values() for line in batch.lines}
    assert len(keys) == 1
    stored = [
        list(one.store.iter_stored_items(run_id="run-1", first_index=0, count=9)) for one in (world, plain)
    ]
    assert stored[0] == stored[1]
    # the same rows in another run are answered without being sent
    again = world.start(text_job(3, reuse="store"), run_id="again")
    again.wait()
    assert again.summary().reused_items == 3
    assert world.lines() == [3]
    world.close()
    plain.close()
