"""Planning batches: limits, order, budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchor_core.core.batching import (
    MIN_BUDGET_SHARE,
    OVER_BATCH_CAP,
    OVER_FILE_LIMIT,
    BatchPlan,
    batch_token_cap,
    effective_budget,
    plan_batches,
)
from batchor_core.core.exceptions import InvalidInputError


@dataclass(frozen=True)
class Row:
    item_index: int
    submission_tokens: int
    request_bytes: int


def rows(tokens: list[int], sizes: list[int] | None = None) -> list[Row]:
    sizes = sizes or [1] * len(tokens)
    return [Row(index, *pair) for index, pair in enumerate(zip(tokens, sizes, strict=True))]


def plan(candidates: list[Row], **limits: Any) -> BatchPlan:
    return plan_batches(candidates, **{"max_requests": 100, "max_file_bytes": 1000, **limits})


def shape(found: BatchPlan) -> list[list[int]]:
    return [list(batch.item_indexes) for batch in found.batches]


@pytest.mark.parametrize(
    ("tokens", "sizes", "limits", "batches", "waiting"),
    [
        pytest.param([], None, {}, [], False, id="nothing"),
        pytest.param([5], None, {}, [[0]], False, id="one"),
        pytest.param([1] * 5, None, {"max_requests": 2}, [[0, 1], [2, 3], [4]], False, id="by count"),
        pytest.param([1] * 4, None, {"max_requests": 2}, [[0, 1], [2, 3]], False, id="by count, exactly"),
        pytest.param([1] * 4, [400, 400, 300, 700], {}, [[0, 1], [2, 3]], False, id="by bytes"),
        pytest.param([4, 4, 4, 8], None, {"max_batch_tokens": 8}, [[0, 1], [2], [3]], False, id="by tokens"),
        pytest.param([0, 0, 0], None, {"max_batch_tokens": 8}, [[0, 1, 2]], False, id="no tokens at all"),
        pytest.param([6] * 3, None, {"budget": 10}, [[0]], True, id="the budget caps a batch"),
        pytest.param([5] * 5, None, {"budget": 10}, [[0, 1]], True, id="the budget is spent once"),
        pytest.param([5] * 5, None, {"budget": 10, "in_flight_tokens": 10}, [], True, id="no budget left"),
        pytest.param([5] * 5, None, {"budget": 10, "in_flight_tokens": 99}, [], True, id="over budget"),
        pytest.param(
            [5] * 5, None, {"budget": 10, "in_flight_tokens": 5}, [[0]], True, id="cut by the budget"
        ),
        pytest.param([5] * 2, None, {"budget": 100, "in_flight_tokens": 95}, [], True, id="a sliver waits"),
        pytest.param(
            [5], None, {"budget": 100, "in_flight_tokens": 95}, [[0]], False, id="the rest is no sliver"
        ),
        pytest.param(
            [5] * 5,
            None,
            {"budget": 20, "max_batch_tokens": 10},
            [[0, 1], [2, 3]],
            True,
            id="two batches fit",
        ),
        pytest.param(
            [5] * 3,
            None,
            {"budget": 20, "max_batch_tokens": 10},
            [[0, 1], [2]],
            False,
            id="all fit the budget",
        ),
        pytest.param(
            [1] * 3, None, {"max_requests": 2, "more_to_come": True}, [[0, 1]], False, id="hold the rest"
        ),
        pytest.param([1], None, {"more_to_come": True}, [], False, id="hold everything"),
        pytest.param(
            [1] * 2, None, {"max_requests": 2, "more_to_come": True}, [[0, 1]], False, id="full by count"
        ),
        pytest.param(
            [4] * 2, None, {"max_batch_tokens": 8, "more_to_come": True}, [[0, 1]], False, id="full by tokens"
        ),
        pytest.param([1], [1000], {"more_to_come": True}, [[0]], False, id="full by bytes"),
        pytest.param(
            [5] * 3,
            None,
            {"budget": 10, "in_flight_tokens": 5, "more_to_come": True},
            [[0]],
            True,
            id="hold no cut one",
        ),
    ],
)
def test_batches_are_filled_up_to_the_first_limit(
    tokens: list[int],
    sizes: list[int] | None,
    limits: dict[str, Any],
    batches: list[list[int]],
    waiting: bool,
) -> None:
    found = plan(rows(tokens, sizes), **limits)
    assert shape(found) == batches
    assert found.waiting_for_budget is waiting
    assert found.oversized == []


class TestOversized:
    def test_an_item_over_the_token_cap_is_named_with_the_numbers(self) -> None:
        found = plan(rows([5, 12_000, 5]), max_batch_tokens=10_000)
        assert shape(found) == [[0, 2]]
        assert [(one.item_index, one.error_class) for one in found.oversized] == [(1, OVER_BATCH_CAP)]
        assert (
            found.oversized[0].message == "the request is estimated at 12,000 tokens; a batch may hold 10,000"
        )

    def test_the_budget_is_a_cap_too(self) -> None:
        assert (
            plan(rows([11]), budget=10).oversized[0].error_class == "openai_request_exceeds_batch_token_limit"
        )

    def test_an_item_over_the_file_limit_is_named_with_the_numbers(self) -> None:
        found = plan(rows([1], [1001]))
        assert found.oversized[0].error_class == OVER_FILE_LIMIT
        assert "1,001 bytes" in found.oversized[0].message
        assert "1,000" in found.oversized[0].message

    def test_it_never_waits_for_budget_or_more_items(self) -> None:
        found = plan(rows([11]), budget=10, in_flight_tokens=10, more_to_come=True)
        assert len(found.oversized) == 1
        assert not found.waiting_for_budget


def test_a_batch_knows_its_sums() -> None:
    batch = plan(rows([1, 2], [30, 40])).batches[0]
    assert (batch.tokens, batch.size_bytes) == (3, 70)


def test_item_indexes_may_have_gaps() -> None:
    assert shape(plan([Row(3, 1, 1), Row(9, 1, 1)])) == [[3, 9]]


@pytest.mark.parametrize(
    ("limit", "ratio", "headroom", "budget"),
    [
        (0, 0.7, 100, 0),
        (1000, 0.7, 0, 700),
        (1000, 0.9, 200, 800),
        (1000, 1.0, 0, 1000),
        (3, 0.5, 0, 1),
    ],
)
def test_the_budget_is_the_smaller_of_share_and_limit_less_headroom(
    limit: int, ratio: float, headroom: int, budget: int
) -> None:
    assert effective_budget(limit, ratio, headroom) == budget


@pytest.mark.parametrize(("limit", "ratio", "headroom"), [(100, 0.7, 100), (100, 0.7, 200), (1, 0.5, 0)])
def test_a_budget_of_nothing_is_an_error_and_not_no_limit(limit: int, ratio: float, headroom: int) -> None:
    with pytest.raises(InvalidInputError, match="leaves no tokens"):
        effective_budget(limit, ratio, headroom)


@pytest.mark.parametrize(
    ("budget", "most", "cap"), [(0, 0, 0), (10, 0, 10), (0, 10, 10), (10, 20, 10), (20, 10, 10)]
)
def test_the_cap_of_a_batch_is_the_smaller_limit(budget: int, most: int, cap: int) -> None:
    assert batch_token_cap(budget, most) == cap


@given(
    sizes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60),
    max_requests=st.integers(1, 8),
    max_file_bytes=st.integers(1, 60),
    max_batch_tokens=st.integers(0, 40),
    budget=st.integers(0, 80),
    in_flight=st.integers(0, 100),
    more_to_come=st.booleans(),
)
def test_plans_keep_every_limit_lose_nothing_and_are_full(
    sizes: list[tuple[int, int]],
    max_requests: int,
    max_file_bytes: int,
    max_batch_tokens: int,
    budget: int,
    in_flight: int,
    more_to_come: bool,
) -> None:
    candidates = [Row(index, *pair) for index, pair in enumerate(sizes)]
    found = plan_batches(
        candidates,
        max_requests=max_requests,
        max_file_bytes=max_file_bytes,
        max_batch_tokens=max_batch_tokens,
        in_flight_tokens=in_flight,
        budget=budget,
        more_to_come=more_to_come,
    )
    cap = batch_token_cap(budget, max_batch_tokens)
    for batch in found.batches:
        assert 1 <= len(batch.item_indexes) <= max_requests
        assert batch.tokens == sum(sizes[index][0] for index in batch.item_indexes)
        assert batch.size_bytes == sum(sizes[index][1] for index in batch.item_indexes) <= max_file_bytes
        assert not cap or batch.tokens <= cap
    planned_tokens = sum(batch.tokens for batch in found.batches)
    if budget and found.batches:
        assert in_flight + planned_tokens <= budget

    # order kept, nothing twice, and what is left over is the tail
    planned = [index for batch in found.batches for index in batch.item_indexes]
    named = sorted(planned + [one.item_index for one in found.oversized])
    assert planned == sorted(planned)
    assert len(named) == len(set(named))
    rest = [row for row in candidates if row.item_index not in set(named)]
    assert not planned or not rest or rest[0].item_index > planned[-1]
    if rest and not found.waiting_for_budget:
        assert more_to_come
        assert len(rest) < max_requests

    # full: the first item of the next batch would not have fitted
    for batch, following in zip(found.batches, found.batches[1:], strict=False):
        tokens, size = sizes[following.item_indexes[0]]
        assert (
            len(batch.item_indexes) == max_requests
            or batch.size_bytes + size > max_file_bytes
            or (cap and batch.tokens + tokens > cap)
        )

    # with nothing in flight something leaves, and a budget that holds back is nearly spent
    if in_flight == 0 and rest and not more_to_come:
        assert found.batches
    if found.waiting_for_budget and not found.batches:
        room = budget - in_flight
        assert (
            room < rest[0].submission_tokens
            or room < cap * MIN_BUDGET_SHARE + rest[-1].submission_tokens + 30
        )
