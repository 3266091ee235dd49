"""How rows are named in batch files: readable for new runs, and as before for runs of earlier builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from batchor_core.core.custom_ids import CustomIdFormat
from batchor_core.core.models import BatchItem
from batchor_core.testing.fake_rows import http_error_row
from tests.contract.stores.kit import ThirdPartyStore
from tests.support.world import RUN, World, by_item, text_job, texts


def names(world: World) -> list[list[str]]:
    """custom_ids without their digests, by batch."""
    return [
        [line["custom_id"].rpartition("-")[0] for line in batch.lines]
        for batch in world.provider.batches.values()
    ]


GIVEN = [BatchItem(item_id, {"text": item_id}) for item_id in ("review-17", "=x", "東京", "a b " * 30)]


def test_who_opens_a_file_sees_which_row_is_which(any_world: World) -> None:
    any_world.provider.answer = by_item({1: [http_error_row(500), "fine"]})
    run = any_world.runner().run_and_wait(text_job(GIVEN), run_id=RUN)
    piece = ("a_b_" * 10)[:30]
    assert names(any_world) == [["review-17-0-0", "x-1-0", "item-2-0", f"{piece}-3-0"], ["x-1-1"]]
    assert texts(run) == dict.fromkeys([item.item_id for item in GIVEN], "fine")
    keys = any_world.store.get_request_artifact_paths(run_id=RUN)
    kept = [orjson.loads(line) for key in keys for line in any_world.artifacts.read_text(key).splitlines()]
    sent = [line for batch in any_world.provider.batches.values() for line in batch.lines]
    assert sorted(line["custom_id"] for line in kept) == sorted(line["custom_id"] for line in sent)


def test_a_run_of_an_earlier_build_goes_on_with_the_names_it_has(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(kind="sqlite")
    world.provider.answer = by_item({1: [http_error_row(500), "fine"]})
    with monkeypatch.context() as earlier:
        earlier.setattr("batchor_core.storage.sql.NEWEST", CustomIdFormat.INDEX_FIRST)
        world.start(text_job(GIVEN, per_batch=2))
    run = world.runner(storage=world.open_store()).start(text_job(GIVEN, per_batch=2), run_id=RUN).wait()
    assert names(world) == [["0-0", "1-0"], ["2-0", "3-0"], ["1-1"]]
    assert texts(run) == dict.fromkeys([item.item_id for item in GIVEN], "fine")
    assert set(world.provider.submitted().values()) == {1}
    world.runner(storage=world.open_store()).run_and_wait(text_job(GIVEN), run_id="new")
    assert names(world)[3][0] == "review-17-0-0"


def test_a_store_of_the_documented_methods_finds_the_rows_of_both(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(kind="memory")
    for run_id, known in (("old", CustomIdFormat.INDEX_FIRST), ("new", CustomIdFormat.READABLE)):
        with monkeypatch.context() as earlier:
            earlier.setattr("batchor_core.core.custom_ids.CustomIds.__new__.__defaults__", (known,))
            store: Any = ThirdPartyStore(world.store)
            world.runner(storage=store).start(text_job(GIVEN), run_id=run_id)
        another: Any = ThirdPartyStore(world.store)  # with a book of its own, as in another process
        run = world.runner(storage=another).get_run(run_id).wait()
        assert len(run.results()) == len(GIVEN)
        assert [result.error for result in run.results()] == [None] * len(GIVEN)
    old, new = names(world)
    assert (old[0].split("-")[0], new[0].split("-")[0]) == ("0", "review")
