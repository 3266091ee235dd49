"""What may be sent now: budgets are filled, shared fairly, and no row waits for ever."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchor_core.core.admission import (
    LONGEST_HOLD_SEC,
    PLACE_LIFETIME_SEC,
    PLACE_REFRESH_SEC,
    SLIVER_PATIENCE_SEC,
    Admission,
    Allowance,
    Granted,
    Measure,
    Place,
    Standing,
    Wait,
    Waiter,
    admit,
    free,
    kept_place,
    may_send,
    must_keep,
    room,
    standing_of,
    still_waiting,
)
from batchor_core.core.batching import OVER_BATCH_CAP, BatchSize

NOW = 1_000_000.0


@dataclass(frozen=True)
class Row:
    item_index: int
    submission_tokens: int
    request_bytes: int = 1


def rows(*tokens: int) -> list[Row]:
    return [Row(index, count) for index, count in enumerate(tokens)]


def waits(need: int = 0, *, seconds: float = 1.0, seen: float = 0.0) -> Place:
    return Place(since=NOW - seconds, need=need, seen_at=NOW - seen)


def granted(limit: int, **standing: Any) -> Granted:
    return Granted(Allowance(Measure.ENQUEUED_TOKENS, "key", limit), replace(Standing(now=NOW), **standing))


def decide(tokens: list[int], *given: Granted, more_to_come: bool = False, **limits: int) -> Admission:
    most = BatchSize(**{"max_requests": 100, "max_file_bytes": 10_000, **limits})
    return admit(rows(*tokens), most, given, more_to_come=more_to_come)


def shape(found: Admission) -> list[list[int]]:
    return [list(batch.item_indexes) for batch in found.batches]


@pytest.mark.parametrize(
    ("tokens", "limit", "standing", "limits", "batches", "wait"),
    [
        pytest.param(
            [100] * 10, 1_000, {"own": 600}, {}, [[0, 1, 2, 3]], Wait(100), id="four of ten rows go"
        ),
        pytest.param([100] * 10, 1_000, {"others": 600}, {}, [[0, 1, 2, 3]], Wait(100), id="whoever holds"),
        pytest.param([100] * 4, 1_000, {"own": 600}, {}, [[0, 1, 2, 3]], None, id="all that is left fits"),
        pytest.param([6] * 3, 10, {}, {}, [[0]], Wait(6), id="the budget caps a batch"),
        pytest.param([5] * 5, 10, {"own": 10}, {}, [], Wait(5), id="no budget left"),
        pytest.param([5] * 5, 10, {"own": 99}, {}, [], Wait(5), id="over budget"),
        pytest.param([5] * 5, 20, {}, {"max_tokens": 10}, [[0, 1], [2, 3]], Wait(5), id="two batches fit"),
        pytest.param([5] * 3, 20, {}, {"max_tokens": 10}, [[0, 1], [2]], None, id="all fit the budget"),
        pytest.param([1] * 100, 100, {"own": 95}, {}, [], Wait(10), id="a sliver waits"),
        pytest.param([1] * 100, 100, {"own": 90}, {}, [list(range(10))], Wait(10), id="a tenth does not"),
        pytest.param(
            [1] * 100,
            100,
            {"own": 95, "place": waits(10, seconds=SLIVER_PATIENCE_SEC)},
            {},
            [list(range(5))],
            Wait(10),
            id="a sliver that has waited for long goes",
        ),
        pytest.param([5] * 2, 100, {"own": 95}, {}, [[0]], Wait(5), id="half of what is there is no sliver"),
        pytest.param(
            [1] * 20,
            1_000,
            {"own": 990},
            {"max_requests": 10},
            [list(range(10))],
            Wait(1),
            id="a batch that is full by count is no sliver",
        ),
        pytest.param(
            [500, 100, 100], 1_000, {"own": 600}, {}, [], Wait(500), id="a large row blocks its own"
        ),
        pytest.param(
            [500, 100, 100, 300],
            1_000,
            {"own": 600, "place": waits(500, seconds=LONGEST_HOLD_SEC)},
            {},
            [[1, 2]],
            Wait(300, NOW - LONGEST_HOLD_SEC),
            id="but not when nothing ends any more",
        ),
        pytest.param([100] * 10, 1_000, {"waiting": 9}, {}, [[0]], Wait(0), id="an equal share of ten"),
        pytest.param([100] * 10, 1_000, {"waiting": 9, "own": 100}, {}, [], Wait(0), id="no more than that"),
        pytest.param(
            [100] * 10,
            1_000,
            {"waiting": 1, "others": 400, "settled": 400},
            {},
            [[0, 1, 2]],
            Wait(0),
            id="of what the settled ones leave",
        ),
        pytest.param([500, 500], 1_000, {"waiting": 9}, {}, [[0]], Wait(0), id="a row larger than the share"),
        pytest.param([100] * 10, 1_000, {"ahead": 950}, {}, [], Wait(100), id="those ahead come first"),
        pytest.param([100] * 10, 1_000, {"ahead": 700}, {}, [[0, 1, 2]], Wait(100), id="and leave the rest"),
    ],
)
def test_what_is_left_is_filled(
    tokens: list[int],
    limit: int,
    standing: dict[str, Any],
    limits: dict[str, Any],
    batches: list[list[int]],
    wait: Wait | None,
) -> None:
    found = decide(tokens, granted(limit, **standing), **limits)
    assert shape(found) == batches
    assert found.wait == wait
    assert found.oversized == []


def test_without_allowances_everything_leaves() -> None:
    assert decide([5] * 3, max_requests=2) == Admission(
        batches=decide([5] * 3, max_requests=2).batches, oversized=[], wait=None
    )
    assert shape(decide([5] * 3, max_requests=2)) == [[0, 1], [2]]


def test_every_allowance_counts() -> None:
    wide, narrow = granted(1_000, own=100), granted(500, own=300)
    assert shape(decide([100] * 10, wide, narrow)) == shape(decide([100] * 10, narrow, wide)) == [[0, 1]]


def test_an_item_that_fits_no_budget_is_named_and_does_not_wait() -> None:
    found = decide([5, 11, 5], granted(10, own=10))
    assert [(one.item_index, one.error_class) for one in found.oversized] == [(1, OVER_BATCH_CAP)]
    assert found.oversized[0].message.endswith("a batch may hold 10")


def test_a_batch_that_is_not_full_waits_for_more_rows_and_not_for_budget() -> None:
    assert decide([5] * 3, granted(100, own=95), more_to_come=True).wait is None
    assert shape(decide([5] * 3, granted(10, own=5), more_to_come=True)) == [[0]]


@pytest.mark.parametrize(
    ("place", "standing", "expected"),
    [
        (None, {"own": 1_000}, True),
        (waits(100), {"own": 900}, True),
        (waits(100), {"own": 901}, False),
        (waits(0), {"own": 999}, True),
        (waits(0), {"own": 1_000}, False),
        (waits(100), {"ahead": 950}, False),
        (waits(100, seconds=SLIVER_PATIENCE_SEC + 1, seen=2), {"own": 950}, True),
        (waits(100, seconds=SLIVER_PATIENCE_SEC + 1), {"own": 950}, False),
        (waits(100, seconds=LONGEST_HOLD_SEC + 1, seen=2), {"own": 950}, True),
    ],
)
def test_a_run_looks_at_its_rows_only_when_what_it_waits_for_may_be_there(
    place: Place | None, standing: dict[str, Any], expected: bool
) -> None:
    assert may_send([granted(1_000, place=place, **standing)]) is expected


@pytest.mark.parametrize(
    ("wait", "place", "expected"),
    [
        (Wait(5), None, True),
        (Wait(5), waits(5), False),
        (Wait(6), waits(5), True),
        (Wait(5, NOW - 1), waits(5), False),
        (Wait(5, NOW - 9), waits(5), True),
        (Wait(5), waits(5, seconds=999, seen=PLACE_REFRESH_SEC), True),
        (Wait(5), waits(5, seconds=SLIVER_PATIENCE_SEC + 1, seen=2), True),
    ],
)
def test_a_place_is_written_only_when_something_changes(
    wait: Wait, place: Place | None, expected: bool
) -> None:
    assert must_keep(wait, Standing(place=place, now=NOW)) is expected


def test_a_run_that_has_its_share_reserves_nothing_once_others_wait() -> None:
    assert still_waiting([granted(100, own=90, place=waits(10))]) == Wait(10, NOW - 1)
    assert still_waiting([granted(100, own=90, place=waits(10), waiting=1)]) == Wait(0, NOW - 1)
    assert still_waiting([granted(100, own=90)]) is None


class TestStanding:
    def one(self, *waiters: Waiter, place: Place | None = None) -> Standing:
        return standing_of(own=1, others=100, place=place, order=5, waiters=waiters, now=NOW)

    def test_who_has_waited_longer_is_ahead(self) -> None:
        older, younger = Waiter(waits(7, seconds=9), 8, 10), Waiter(waits(11, seconds=2), 1, 20)
        found = self.one(older, younger, place=waits(seconds=5))
        assert (found.ahead, found.waiting, found.settled) == (7, 2, 70)

    def test_whoever_has_no_place_stands_behind_all(self) -> None:
        assert self.one(Waiter(waits(7), 8, 0), Waiter(waits(11), 9, 0)).ahead == 18

    def test_of_two_that_came_together_one_goes_first(self) -> None:
        assert self.one(Waiter(waits(7), 4, 0), place=waits()).ahead == 7
        assert self.one(Waiter(waits(7), 6, 0), place=waits()).ahead == 0

    @pytest.mark.parametrize("seen", [PLACE_LIFETIME_SEC + 1, -PLACE_LIFETIME_SEC - 1])
    def test_a_run_that_is_heard_of_no_more_holds_up_nobody(self, seen: float) -> None:
        gone = Waiter(Place(NOW - 99, 7, NOW - seen), 1, 30)
        found = self.one(gone, place=waits())
        assert (found.ahead, found.waiting, found.settled) == (0, 0, 100)

    def test_who_waits_for_what_never_ends_reserves_nothing(self) -> None:
        found = self.one(Waiter(waits(7, seconds=LONGEST_HOLD_SEC), 1, 0), place=waits())
        assert (found.ahead, found.waiting) == (0, 1)

    def test_a_clock_that_was_set_back_makes_no_negative_wait(self) -> None:
        assert Standing(place=Place(NOW + 50, 1, NOW), now=NOW).waited_sec == 0


# --- several runs ----------------------------------------------------------------------------------------------------


@dataclass
class Simulated:
    """A run that is driven now and then: what it has to send, and what it has in flight as (end, tokens)."""

    rows: list[int]
    place: Place | None = None
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    batches: int = 0

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.in_flight)


@dataclass
class Account:
    """Runs that share a budget, as stores and drivers treat them, in simulated time."""

    limit: int
    runs: list[Simulated]
    batch_sec: float = 3_600.0
    now: float = NOW
    cap: int = 0

    def cycle(self, number: int) -> None:
        run = self.runs[number]
        run.in_flight = [(end, tokens) for end, tokens in run.in_flight if end > self.now]
        if not run.rows:
            return
        one = Granted(Allowance(Measure.ENQUEUED_TOKENS, "key", self.limit), self.standing(number))
        if not may_send([one]):
            self.keep(run, still_waiting([one]), one.standing)
            return
        candidates = [Row(index, tokens) for index, tokens in enumerate(run.rows)]
        found = admit(candidates, BatchSize(1_000, 10**9, self.cap), [one])
        assert found.oversized == []
        gone = {index for batch in found.batches for index in batch.item_indexes}
        for batch in found.batches:
            assert batch.tokens <= free(Granted(one.allowance, self.standing(number)))
            run.in_flight.append((self.now + self.batch_sec, batch.tokens))
            run.place = None if batch is found.batches[-1] else run.place
            run.batches += 1
        run.sent += [run.rows[index] for index in sorted(gone)]
        run.rows = [tokens for index, tokens in enumerate(run.rows) if index not in gone]
        self.keep(run, found.wait, self.standing(number))
        assert sum(each.tokens for each in self.runs) <= self.limit

    def standing(self, number: int) -> Standing:
        run = self.runs[number]
        others = [(order, each) for order, each in enumerate(self.runs) if each is not run]
        return standing_of(
            own=run.tokens,
            others=sum(each.tokens for _, each in others),
            place=run.place,
            order=number,
            waiters=[
                Waiter(each.place, order, each.tokens) for order, each in others if each.place and each.rows
            ],
            now=self.now,
        )

    def keep(self, run: Simulated, wait: Wait | None, standing: Standing) -> None:
        if wait is not None and must_keep(wait, standing):
            run.place = kept_place(run.place, wait, now=self.now)

    def round(self) -> None:
        for number in range(len(self.runs)):
            self.cycle(number)
        self.now += 60.0


def test_ten_partitions_get_equal_shares_though_one_came_first() -> None:
    account = Account(1_000, [Simulated([20] * 500) for _ in range(10)], batch_sec=600)
    account.cycle(0)
    assert account.runs[0].tokens == 1_000  # nobody else was there
    for _ in range(80):
        account.round()
    sent = [sum(run.sent) for run in account.runs]
    assert max(sent[1:]) - min(sent[1:]) <= 100
    assert sent[0] <= min(sent) + 1_000
    assert (
        sum(sent) >= 0.8 * 1_000 * 80 / 11
    )  # the budget is in use: batches end at the next look after 10 minutes


def test_a_dead_run_gives_its_share_back() -> None:
    alive, dead = Simulated([10] * 500), Simulated([10] * 500)
    account = Account(1_000, [alive, dead], batch_sec=600)
    for _ in range(2):
        account.round()
    for _ in range(40):
        account.cycle(0)
        account.now += 60.0
    assert alive.tokens == 1_000


@pytest.mark.parametrize("large", [300, 900, 1_000])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_a_large_row_gets_its_turn_among_runs_of_small_ones(large: int, position: int) -> None:
    small = [Simulated([10] * 1_000) for _ in range(4)]
    waiting = Simulated([large])
    account = Account(1_000, [*small[:position], waiting, *small[position:]], batch_sec=600)
    for _ in range(4):  # the others have begun
        for number, run in enumerate(account.runs):
            if run is not waiting:
                account.cycle(number)
        account.now += 60.0
    for _ in range(40):
        account.round()
    assert waiting.sent == [large]


@given(
    st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=30), min_size=1, max_size=6),
    st.integers(100, 400),
    st.sampled_from([0, 100, 150]),
    st.data(),
)
def test_every_row_is_sent_in_the_end_in_its_order(
    work: list[list[int]], limit: int, cap: int, data: st.DataObject
) -> None:
    account = Account(limit, [Simulated(list(tokens)) for tokens in work], batch_sec=600, cap=cap)
    order = data.draw(st.permutations(range(len(work))))
    for _ in range(300):
        for number in order:
            account.cycle(number)
        account.now += 60.0
        if not any(run.rows for run in account.runs):
            break
    assert [run.sent for run in account.runs] == work


@given(st.lists(st.integers(1, 30), min_size=20, max_size=60), st.integers(100, 300))
def test_batches_are_no_slivers(work: list[int], limit: int) -> None:
    account = Account(limit, [Simulated(list(work))], batch_sec=600)
    for _ in range(300):
        account.round()
    assert account.runs[0].rows == []
    assert account.runs[0].batches <= sum(work) / limit * 10 + 2


def test_a_room_is_never_negative() -> None:
    assert room(granted(10, own=50), need=5) == 0
