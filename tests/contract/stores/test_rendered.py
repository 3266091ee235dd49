"""What items were rendered to is kept with them, and what is stored of them is read back, on every kind of store."""

from __future__ import annotations

import pytest

from batchor_core.core.exceptions import DuplicateItemError
from batchor_core.core.rendered import RenderedChunk
from batchor_core.storage.state import DriverSession, MaterializedItem, StateStore, StoredItem
from tests.contract.stores import kit
from tests.contract.stores.kit import BOB, RUN, Clock, create, drive


def _chunk(*indexes: int, text: str = "prompt") -> tuple[list[MaterializedItem], RenderedChunk]:
    chunk = kit.items(*indexes)
    return chunk, RenderedChunk.of(
        indexes[0] if indexes else 0,
        item_ids=[item.item_id for item in chunk],
        prompts=[f"{text} {item.item_index}" for item in chunk],
        system_prompts=[None for _ in chunk],
        metadata=["{}" for _ in chunk],
    )


def _append(session: DriverSession, *indexes: int, text: str = "prompt") -> RenderedChunk:
    chunk, rendered = _chunk(*indexes, text=text)
    session.append(
        chunk,
        next_item_index=max(indexes, default=0) + 1,
        checkpoint_payload=None,
        ingestion_complete=False,
        rendered=rendered,
    )
    return rendered


def test_digests_come_back_in_item_order(any_store: StateStore) -> None:
    create(any_store)
    session = drive(any_store)
    kept = [_append(session, 0, 1, 2), _append(session, 3, 4), _append(session, 5)]
    assert any_store.get_rendered_chunks(run_id=RUN) == kept
    assert [chunk.end for chunk in kept] == [3, 5, 6]


def test_a_chunk_that_is_appended_again_keeps_its_first_digests(store: StateStore) -> None:
    create(store)
    session = drive(store)
    first = _append(session, 0, 1)
    _append(session, 0, 1, text="another")
    assert store.get_rendered_chunks(run_id=RUN) == [first]


def test_a_chunk_that_is_partly_there_has_one_digest(store: StateStore) -> None:
    create(store)
    session = drive(store)
    _append(session, 0, 1)
    longer = _append(session, 0, 1, 2)
    assert store.get_rendered_chunks(run_id=RUN) == [longer]


def test_an_empty_chunk_has_none(any_store: StateStore) -> None:
    create(any_store)
    _append(drive(any_store))
    assert any_store.get_rendered_chunks(run_id=RUN) == []


def test_items_without_digests_have_none(any_store: StateStore) -> None:
    create(any_store, 3)
    assert any_store.get_rendered_chunks(run_id=RUN) == []


def test_a_refused_chunk_leaves_no_digest(store: StateStore) -> None:
    create(store)
    session = drive(store)
    first = _append(session, 0, 1)
    chunk, rendered = _chunk(2, 3)
    chunk[1] = chunk[1]._replace(item_id="item-0")
    with pytest.raises(DuplicateItemError):
        session.append(
            chunk, next_item_index=4, checkpoint_payload=None, ingestion_complete=False, rendered=rendered
        )
    assert store.get_rendered_chunks(run_id=RUN) == [first]


def test_a_discarded_run_leaves_no_digests(store: StateStore, clock: Clock) -> None:
    create(store)
    session = drive(store)
    _append(session, 0, 1)
    session.close()
    assert store.discard_unsent_run(run_id=RUN)
    create(store)
    assert store.get_rendered_chunks(run_id=RUN) == []


def test_runs_have_digests_of_their_own(any_store: StateStore) -> None:
    for run_id in ("one", "two"):
        create(any_store, run_id=run_id)
        _append(drive(any_store, run_id=run_id, owner=BOB), 0, 1, text=run_id)
    assert any_store.get_rendered_chunks(run_id="one") == [_chunk(0, 1, text="one")[1]]
    assert any_store.get_rendered_chunks(run_id="two") == [_chunk(0, 1, text="two")[1]]


def test_stored_items_come_back_as_they_were_given(store: StateStore) -> None:
    line = b'{"custom_id":"x","body":{}}'
    given = [
        kit.item(0),
        kit.item(1, metadata={}, system_prompt=None),
        kit.item(2, item_id="\ud800", prompt="", system_prompt=None, request_line=line),
    ]
    store.create_run(run_id=RUN, config=kit.config(), items=given)
    assert list(store.iter_stored_items(run_id=RUN, first_index=0, count=9)) == [
        StoredItem(0, "item-0", {"row": 0}, "prompt 0", "be brief"),
        StoredItem(1, "item-1", {}, "prompt 1", None),
        StoredItem(2, "\ud800", {"row": 2}, "", None, line),
    ]


@pytest.mark.parametrize(
    ("first", "count", "found"), [(0, 2, [0, 1]), (1, 3, [1, 2, 3]), (4, 9, [4, 5]), (6, 1, [])]
)
def test_stored_items_are_read_from_an_index_on(
    any_store: StateStore, first: int, count: int, found: list[int]
) -> None:
    create(any_store, 6)
    stored = any_store.iter_stored_items(run_id=RUN, first_index=first, count=count)
    assert [(item.item_index, item.item_id) for item in stored] == [(n, f"item-{n}") for n in found]
