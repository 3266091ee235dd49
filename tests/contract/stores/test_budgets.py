"""One enqueue budget for all runs of an account and model, whoever drives them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from batchor_core.core.admission import PLACE_LIFETIME_SEC, Place, Standing, Wait
from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.storage.state import DriverIdentity, DriverSession, StateStore, SubmissionRecord
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, Backend, Clock, create, drive, tokens

KEY = "echo/account/model"


def claim(
    session: DriverSession,
    *indexes: int,
    limit: int,
    local: str = "b1",
    key: str = KEY,
    leaves_queue: bool = False,
) -> SubmissionRecord | None:
    """Claim items of ten tokens each under a budget."""
    session.candidates(max_attempts=MAX, limit=10_000)
    return session.claim(
        local_batch_id=local,
        artifact_key=f"{local}.jsonl",
        item_indexes=indexes,
        max_attempts=MAX,
        allowances=[tokens(key, limit)],
        leaves_queue=leaves_queue,
    )


def test_a_claim_within_the_budget_is_made(store: StateStore) -> None:
    create(store, 3, budget_key=KEY)
    assert claim(drive(store), 0, 1, limit=20) is not None


def test_a_claim_over_the_budget_changes_nothing(store: StateStore) -> None:
    create(store, 3, budget_key=KEY)
    session = drive(store)
    assert claim(session, 0, 1, limit=19) is None
    assert kit.statuses(store) == [ItemStatus.PENDING] * 3
    assert store.list_submissions(run_id=RUN) == []


def test_what_is_in_flight_counts_until_it_is_answered(store: StateStore) -> None:
    create(store, 4, budget_key=KEY)
    session = drive(store)
    assert claim(session, 0, 1, limit=30) is not None
    assert claim(session, 2, 3, limit=30, local="b2") is None
    kit.upload(session)
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    assert claim(session, 2, 3, limit=30, local="b2") is None
    done = list(session.submitted_items(provider_batch_id="p1"))[:1]
    session.apply_outcome(provider_batch_id="p1", completions=[kit.good(done[0])], max_attempts=MAX)
    assert claim(session, 2, 3, limit=30, local="b2") is not None


def test_a_dropped_batch_gives_its_tokens_back(store: StateStore) -> None:
    create(store, 2, budget_key=KEY)
    session = drive(store)
    assert claim(session, 0, limit=10) is not None
    assert claim(session, 1, limit=10, local="b2") is None
    session.drop(local_batch_id="b1", error_class="rejected")
    assert claim(session, 1, limit=10, local="b2") is not None


def test_runs_with_the_same_key_share_a_budget(store: StateStore) -> None:
    create(store, 2, budget_key=KEY)
    create(store, 2, run_id="run-2", budget_key=KEY)
    assert claim(drive(store), 0, 1, limit=30) is not None
    other = drive(store, run_id="run-2")
    assert claim(other, 0, 1, limit=30) is None
    assert claim(other, 0, limit=30) is not None


def test_runs_with_another_key_do_not_count(store: StateStore) -> None:
    create(store, 2, budget_key="another/account")
    create(store, 2, run_id="run-2", budget_key=KEY)
    create(store, 2, run_id="run-3")
    kit.take(drive(store), 0, 1)
    kit.take(drive(store, run_id="run-3"), 0, 1)
    assert claim(drive(store, run_id="run-2"), 0, 1, limit=20) is not None


def test_racing_runs_stay_under_the_budget_together(backend: Backend, clock: Clock) -> None:
    names = [f"run-{number}" for number in range(4)]
    first = backend.open(clock)
    for name in names:
        create(first, 10, run_id=name, budget_key=KEY)
    start = Barrier(len(names))

    def work(name: str) -> int:
        session = drive(backend.open(clock), run_id=name, owner=DriverIdentity(session=name))
        start.wait()
        return sum(claim(session, index, limit=100, local=f"b{index}") is not None for index in range(10))

    with ThreadPoolExecutor(len(names)) as pool:
        claimed = sum(pool.map(work, names))
    assert claimed == 10


# --- the queue -------------------------------------------------------------------------------------------------------


def two_runs(store: StateStore) -> tuple[DriverSession, DriverSession]:
    create(store, 4, budget_key=KEY)
    create(store, 4, run_id="run-2", budget_key=KEY)
    return drive(store), drive(store, run_id="run-2")


def test_a_run_sees_what_is_in_flight_and_who_waits(store: StateStore, clock: Clock) -> None:
    one, two = two_runs(store)
    allowance = tokens(KEY, 100)
    assert claim(one, 0, 1, 2, limit=100) is not None
    assert two.standing(allowance) == Standing(others=30, settled=30, now=clock.seconds)
    one.keep_place(allowance, Wait(need=7))
    place = Place(clock.seconds, 7, clock.seconds)
    assert two.standing(allowance) == Standing(others=30, waiting=1, ahead=7, now=clock.seconds)
    assert one.standing(allowance) == Standing(own=30, place=place, now=clock.seconds)


def test_a_place_keeps_its_age_until_the_run_has_got_what_it_waited_for(
    store: StateStore, clock: Clock
) -> None:
    one, _ = two_runs(store)
    allowance = tokens(KEY, 100)
    began = clock.seconds
    one.keep_place(allowance, Wait(need=7))
    clock.advance(60)
    one.keep_place(allowance, Wait(need=9))
    assert one.standing(allowance).place == Place(began, 9, clock.seconds)
    assert claim(one, 0, limit=100) is not None
    assert one.standing(allowance).place == Place(began, 9, clock.seconds)
    assert claim(one, 1, limit=100, local="b2", leaves_queue=True) is not None
    assert one.standing(allowance).place is None
    one.keep_place(allowance, Wait(need=9, since=began))
    assert one.standing(allowance).place == Place(began, 9, clock.seconds)


def test_a_place_is_lost_by_who_does_not_ask_again(store: StateStore, clock: Clock) -> None:
    one, two = two_runs(store)
    allowance = tokens(KEY, 100)
    one.keep_place(allowance, Wait(need=7))
    clock.advance(PLACE_LIFETIME_SEC + 1)
    assert two.standing(allowance) == Standing(now=clock.seconds)
    assert one.standing(allowance).place is None
    one.keep_place(allowance, Wait(need=7))
    assert one.standing(allowance).place == Place(clock.seconds, 7, clock.seconds)


def test_who_is_paused_or_has_nothing_to_send_holds_up_nobody(store: StateStore, clock: Clock) -> None:
    one, two = two_runs(store)
    allowance = tokens(KEY, 100)
    one.keep_place(allowance, Wait(need=7))
    store.set_run_control_state(run_id=RUN, control_state=RunControlState.PAUSED)
    assert two.standing(allowance) == Standing(now=clock.seconds)
    store.set_run_control_state(run_id=RUN, control_state=RunControlState.RUNNING)
    assert two.standing(allowance).waiting == 1
    one.cancel_remaining(error=kit.failure())
    assert two.standing(allowance) == Standing(now=clock.seconds)


def test_a_claim_leaves_what_those_ahead_need(store: StateStore, clock: Clock) -> None:
    one, two = two_runs(store)
    one.keep_place(tokens(KEY, 40), Wait(need=30))
    clock.advance(1)
    assert claim(two, 0, 1, limit=40) is None
    assert claim(two, 0, limit=40) is not None
    assert claim(one, 0, 1, 2, limit=40) is not None


def test_a_run_counts_under_the_key_of_its_last_claim(store: StateStore) -> None:
    """Runs of a provider that stated no budget were stored without a key."""
    create(store, 4)
    create(store, 4, run_id="run-2")
    assert claim(drive(store), 0, 1, limit=30) is not None
    assert claim(drive(store, run_id="run-2"), 0, 1, limit=30) is None
