"""Caps: no claim goes over one, whoever makes it; what is settled takes the place of what was reserved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from batchor_core import Cap
from batchor_core.core.caps import CapStanding, Reservation
from batchor_core.core.pricing import PICODOLLARS
from batchor_core.storage.session import BatchEnd
from batchor_core.storage.state import DriverSession, StateStore, SubmissionRecord
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, Backend, Clock, create, drive

DOLLAR = PICODOLLARS
PRICE = Reservation(token=DOLLAR // 100, answer=DOLLAR // 2)
"""A row of ten tokens reserves 10 cents for its prompt and 50 for its answer."""
ROW = 60 * DOLLAR // 100


def claim(
    session: DriverSession, *indexes: int, local: str = "b1", price: Reservation | None = PRICE
) -> SubmissionRecord | None:
    return session.claim(
        local_batch_id=local,
        artifact_key=f"{local}.jsonl",
        item_indexes=indexes,
        max_attempts=MAX,
        reservation=price,
    )


def register(session: DriverSession, local: str = "b1", batch: str = "p1") -> list[str]:
    kit.upload(session, local)
    session.mark_sending(local_batch_id=local, ttl_sec=60)
    session.register(local_batch_id=local, provider_batch_id=batch, status="validating")
    return list(session.submitted_items(provider_batch_id=batch))


def used(session: DriverSession) -> tuple[int, int]:
    [standing] = session.caps()
    return standing.settled, standing.reserved


def test_a_claim_within_every_cap_is_made(store: StateStore) -> None:
    create(store, 3)
    session = drive(store)
    store.keep_caps([Cap(usd=1.2), Cap(rows=2, scope="store")])
    assert claim(session, 0, 1) is not None
    assert [(one.settled, one.reserved, one.left) for one in session.caps()] == [
        (0, 2 * ROW, 0),
        (0, 2, 0),
    ]


@pytest.mark.parametrize("cap", [Cap(usd=1.19), Cap(rows=1), Cap(usd=0, scope="store", per="day")])
def test_a_claim_over_a_cap_changes_nothing(store: StateStore, cap: Cap) -> None:
    create(store, 3)
    session = drive(store)
    store.keep_caps([cap])
    assert claim(session, 0, 1) is None
    assert store.list_submissions(run_id=RUN) == []
    assert used(session) == (0, 0)


def test_without_a_price_nothing_is_claimed_under_a_cap(store: StateStore) -> None:
    create(store, 1)
    store.keep_caps([Cap(usd=100)])
    assert claim(drive(store), 0, price=None) is None


def test_what_is_settled_takes_the_place_of_what_was_reserved(store: StateStore) -> None:
    create(store, 4)
    session = drive(store)
    store.keep_caps([Cap(usd=2)])
    assert claim(session, 0, 1, 2) is not None
    assert claim(session, 3, local="b2") is None
    names = register(session)
    assert used(session) == (0, 3 * ROW)
    session.apply_outcome(provider_batch_id="p1", completions=[kit.good(names[0], cost=7)], max_attempts=MAX)
    # of a batch that is settled in part, all prompts count
    assert used(session) == (7, 2 * DOLLAR // 2 + 3 * DOLLAR // 10)
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[kit.good(names[1], cost=8)],
        failures=[kit.bad(names[2], usage=kit.usage(1), cost=9)],
        max_attempts=MAX,
        end=BatchEnd("completed"),
    )
    assert used(session) == (24, 0)
    # a retry counts again
    assert claim(session, 2, 3, local="b2") is not None
    assert used(session) == (24, 2 * ROW)


def test_an_answer_without_a_price_counts_as_what_was_reserved_for_it(store: StateStore) -> None:
    """Otherwise a provider that states no tokens, or a price that is lost, would lift the cap."""
    create(store, 3)
    session = drive(store)
    store.keep_caps([Cap(usd=1.2)])
    assert claim(session, 0, 1) is not None
    names = register(session)
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[kit.good(names[0], cost=7), kit.good(names[1])],
        max_attempts=MAX,
        end=BatchEnd("completed"),
    )
    assert used(session) == (7 + ROW, 0)
    assert claim(session, 2, local="b2") is None


def test_what_is_dropped_is_released(store: StateStore) -> None:
    create(store, 2)
    session = drive(store)
    store.keep_caps([Cap(usd=0.6), Cap(rows=1)])
    assert claim(session, 0) is not None
    assert claim(session, 1, local="b2") is None
    session.drop(local_batch_id="b1", error_class="rejected")
    assert [(one.settled, one.reserved) for one in session.caps()] == [(0, 0), (0, 0)]
    assert claim(session, 1, local="b2") is not None
    session.requeue_local()
    assert [(one.settled, one.reserved) for one in session.caps()] == [(0, 0), (0, 0)]


def test_rows_count_as_often_as_they_are_sent(store: StateStore) -> None:
    create(store, 2)
    session = drive(store)
    store.keep_caps([Cap(rows=3)])
    assert claim(session, 0, 1, price=Reservation(0, 0)) is not None
    names = register(session)
    session.apply_outcome(
        provider_batch_id="p1", released_custom_ids=names, max_attempts=MAX, end=BatchEnd("expired")
    )
    assert used(session) == (2, 0)
    assert claim(session, 0, 1, local="b2") is None
    assert claim(session, 0, local="b2") is not None


def test_a_days_cap_begins_again_on_the_next_day(store: StateStore, clock: Clock) -> None:
    create(store, 2)
    session = drive(store)
    store.keep_caps([Cap(usd=0.6, per="day")])
    assert claim(session, 0) is not None
    assert claim(session, 1, local="b2") is None
    clock.advance(86_400)
    assert used(session) == (0, 0)


LABELLED = {"batch_metadata": {"team": "blue"}, "extras": {"dagster_asset_key": ["shop", "facts"]}}


@pytest.mark.parametrize(
    ("scope", "is_shared", "label"),
    [
        ("store", True, "store"),
        ("run", False, f"run:{RUN}"),
        ("asset", True, "asset:shop/facts"),
        ("asset:shop/facts", True, "asset:shop/facts"),
        ("tag:team", True, "tag:team=blue"),
        ("tag:team=blue", True, "tag:team=blue"),
        ("tag:tea", None, ""),
        ("tag:team=red", None, ""),
        ("asset:shop", None, ""),
    ],
)
def test_runs_share_the_cap_of_what_they_have_in_common(
    store: StateStore, scope: str, is_shared: bool | None, label: str
) -> None:
    for run_id in (RUN, "other"):
        store.create_run(run_id=run_id, config=kit.config(**LABELLED), items=kit.items(0, 1))
    store.create_run(run_id="stranger", config=kit.config(), items=kit.items(0))
    store.keep_caps([Cap(rows=1, scope=scope)])
    other = drive(store, run_id="other")
    assert claim(other, 0) is not None
    session = drive(store)
    assert [one.cap.label for one in session.caps()] == ([label] if label else [])
    assert (claim(session, 0, local="c1") is None) == bool(is_shared)


def test_the_cap_of_one_counts_before_that_of_each_and_an_operator_before_the_code(
    store: StateStore,
) -> None:
    create(store, 1)
    session = drive(store)

    def limits() -> list[int]:
        return [standing.cap.limit for standing in session.caps()]

    store.keep_caps([Cap(rows=1), Cap(rows=9, scope="store")])
    assert limits() == [1, 9]
    store.keep_caps([Cap(rows=2, scope=f"run:{RUN}")])
    assert limits() == [2, 9]
    store.keep_caps([Cap(rows=3, scope=f"run:{RUN}")], by_operator=True)
    store.keep_caps([Cap(rows=4, scope=f"run:{RUN}")])
    assert limits() == [3, 9]
    assert store.list_caps() == [
        Cap(rows=1),
        Cap(rows=3, scope=f"run:{RUN}"),
        Cap(rows=9, scope="store"),
    ]
    assert store.remove_cap(Cap(rows=0, scope=f"run:{RUN}"))
    assert not store.remove_cap(Cap(usd=0, scope=f"run:{RUN}"))
    assert limits() == [1, 9]


def test_many_drivers_share_a_cap_exactly(backend: Backend, clock: Clock) -> None:
    stores = [backend.open(clock) for _ in range(4)]
    stores[0].keep_caps([Cap(usd=5 * 0.6, scope="store")])
    sessions = []
    for number, store in enumerate(stores):
        store.create_run(run_id=f"run-{number}", config=kit.config(), items=kit.items(*range(4)))
        sessions.append(drive(store, run_id=f"run-{number}"))
    together = Barrier(len(stores))

    def go(number: int) -> int:
        together.wait()
        found = [claim(sessions[number], index, local=f"b{number}-{index}") for index in range(4)]
        return sum(one is not None for one in found)

    with ThreadPoolExecutor(len(stores)) as pool:
        assert sum(pool.map(go, range(len(stores)))) == 5
    standings: list[list[CapStanding]] = [session.caps() for session in sessions]
    assert [(one.settled, one.reserved) for [one] in standings] == [(0, 5 * ROW)] * 4


def test_a_store_that_keeps_no_amounts_keeps_no_caps() -> None:
    store: Any = kit.ThirdPartyStore(None)
    store.keep_caps([])
    with pytest.raises(NotImplementedError, match="can't keep caps"):
        store.keep_caps([Cap(usd=1)])
    assert store.list_caps() == []
