"""Planning batches: limits and order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchor_core.core.batching import OVER_BATCH_CAP, OVER_FILE_LIMIT, BatchPlan, BatchSize, plan_batches


@dataclass(frozen=True)
class Row:
    item_index: int
    submission_tokens: int
    request_bytes: int


def rows(tokens: list[int], sizes: list[int] | None = None) -> list[Row]:
    sizes = sizes or [1] * len(tokens)
    return [Row(index, *pair) for index, pair in enumerate(zip(tokens, sizes, strict=True))]


def plan(candidates: list[Row], *, more_to_come: bool = False, **limits: Any) -> BatchPlan:
    given = {"max_requests": 100, "max_file_bytes": 1000, **limits}
    return plan_batches(candidates, BatchSize(**given), more_to_come=more_to_come)


def shape(found: BatchPlan) -> list[list[int]]:
    return [list(batch.item_indexes) for batch in found.batches]


@pytest.mark.parametrize(
    ("tokens", "sizes", "limits", "batches"),
    [
        pytest.param([], None, {}, [], id="nothing"),
        pytest.param([5], None, {}, [[0]], id="one"),
        pytest.param([1] * 5, None, {"max_requests": 2}, [[0, 1], [2, 3], [4]], id="by count"),
        pytest.param([1] * 4, None, {"max_requests": 2}, [[0, 1], [2, 3]], id="by count, exactly"),
        pytest.param([1] * 4, [400, 400, 300, 700], {}, [[0, 1], [2, 3]], id="by bytes"),
        pytest.param([4, 4, 4, 8], None, {"max_tokens": 8}, [[0, 1], [2], [3]], id="by tokens"),
        pytest.param([0, 0, 0], None, {"max_tokens": 8}, [[0, 1, 2]], id="no tokens at all"),
        pytest.param([1] * 3, None, {"max_requests": 2, "more_to_come": True}, [[0, 1]], id="hold the rest"),
        pytest.param([1], None, {"more_to_come": True}, [], id="hold everything"),
        pytest.param([1] * 2, None, {"max_requests": 2, "more_to_come": True}, [[0, 1]], id="full by count"),
        pytest.param([4] * 2, None, {"max_tokens": 8, "more_to_come": True}, [[0, 1]], id="full by tokens"),
        pytest.param([1], [1000], {"more_to_come": True}, [[0]], id="full by bytes"),
    ],
)
def test_batches_are_filled_up_to_the_first_limit(
    tokens: list[int], sizes: list[int] | None, limits: dict[str, Any], batches: list[list[int]]
) -> None:
    found = plan(rows(tokens, sizes), **limits)
    assert shape(found) == batches
    assert found.oversized == []


class TestOversized:
    def test_an_item_over_the_token_cap_is_named_with_the_numbers(self) -> None:
        found = plan(rows([5, 12_000, 5]), max_tokens=10_000)
        assert shape(found) == [[0, 2]]
        assert [(one.item_index, one.error_class) for one in found.oversized] == [(1, OVER_BATCH_CAP)]
        assert (
            found.oversized[0].message == "the request is estimated at 12,000 tokens; a batch may hold 10,000"
        )

    def test_an_item_over_the_file_limit_is_named_with_the_numbers(self) -> None:
        found = plan(rows([1], [1001]))
        assert found.oversized[0].error_class == OVER_FILE_LIMIT
        assert "1,001 bytes" in found.oversized[0].message
        assert "1,000" in found.oversized[0].message

    def test_it_never_waits_for_more_items(self) -> None:
        assert len(plan(rows([11]), max_tokens=10, more_to_come=True).oversized) == 1


def test_a_batch_knows_its_tokens() -> None:
    assert plan(rows([1, 2], [30, 40])).batches[0].tokens == 3


def test_item_indexes_may_have_gaps() -> None:
    assert shape(plan([Row(3, 1, 1), Row(9, 1, 1)])) == [[3, 9]]


@given(
    sizes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60),
    max_requests=st.integers(1, 8),
    max_file_bytes=st.integers(1, 60),
    cap=st.integers(0, 40),
    more_to_come=st.booleans(),
)
def test_plans_keep_every_limit_lose_nothing_and_are_full(
    sizes: list[tuple[int, int]], max_requests: int, max_file_bytes: int, cap: int, more_to_come: bool
) -> None:
    candidates = [Row(index, *pair) for index, pair in enumerate(sizes)]
    found = plan(
        candidates,
        max_requests=max_requests,
        max_file_bytes=max_file_bytes,
        max_tokens=cap,
        more_to_come=more_to_come,
    )
    for batch in found.batches:
        assert 1 <= len(batch.item_indexes) <= max_requests
        assert batch.tokens == sum(sizes[index][0] for index in batch.item_indexes)
        assert sum(sizes[index][1] for index in batch.item_indexes) <= max_file_bytes
        assert not cap or batch.tokens <= cap

    # order kept, nothing twice, and what is left over is the tail
    planned = [index for batch in found.batches for index in batch.item_indexes]
    named = sorted(planned + [one.item_index for one in found.oversized])
    assert planned == sorted(planned)
    assert len(named) == len(set(named))
    rest = [row for row in candidates if row.item_index not in set(named)]
    assert not planned or not rest or rest[0].item_index > planned[-1]
    if rest:
        assert more_to_come
        assert len(rest) < max_requests

    # full: the first item of the next batch would not have fitted
    for batch, following in zip(found.batches, found.batches[1:], strict=False):
        tokens, size = sizes[following.item_indexes[0]]
        filled = sum(sizes[index][1] for index in batch.item_indexes)
        assert (
            len(batch.item_indexes) == max_requests
            or filled + size > max_file_bytes
            or (cap and batch.tokens + tokens > cap)
        )


def test_what_each_line_has_besides_counts_against_the_files_size() -> None:
    candidates = rows([1] * 4, [100] * 4)
    found = plan_batches(candidates, BatchSize(10, 234, row_bytes=17))
    assert [batch.item_indexes for batch in found.batches] == [(0, 1), (2, 3)]
    assert not plan_batches(candidates, BatchSize(10, 233, row_bytes=17)).batches[0].item_indexes[1:]
    assert len(plan_batches(candidates, BatchSize(10, 116, row_bytes=17)).oversized) == 4
