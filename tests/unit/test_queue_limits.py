"""A queue limit is learned from refusals, grows with what is accepted, and never costs a row."""

from __future__ import annotations

import pytest

from batchor_core.core.admission import Allowance, Granted, Measure, Standing, admit
from batchor_core.core.batching import BatchSize
from batchor_core.core.queue_limits import after_refusal, growth, with_room_for
from tests.unit.test_admission import rows


@pytest.mark.parametrize(
    ("known", "in_flight", "tried", "expected"),
    [
        (None, 0, 1_000, 500),
        (500, 0, 500, 250),
        (None, 600, 400, 800),
        (700, 600, 400, 700),
        (None, 0, 1, 1),
        (None, 0, 0, 1),
    ],
)
def test_a_refusal_takes_back_half_of_what_was_tried(
    known: int | None, in_flight: int, tried: int, expected: int
) -> None:
    assert after_refusal(known, in_flight=in_flight, tried=tried) == expected


def test_a_limit_grows_by_a_tenth_of_what_was_accepted() -> None:
    assert [growth(tokens) for tokens in (0, 9, 100, 1_234)] == [1, 1, 10, 123]


@pytest.mark.parametrize(("observed", "oversized"), [(True, 0), (False, 1)])
def test_only_a_limit_that_was_stated_fails_a_row(observed: bool, oversized: int) -> None:
    allowance = Allowance(Measure.ENQUEUED_TOKENS, "key", 40, is_observed=observed)
    granted = with_room_for([Granted(allowance, Standing())], 50)
    found = admit(rows(20, 50, 20), BatchSize(max_requests=9, max_file_bytes=99), granted)
    assert len(found.oversized) == oversized
    assert [batch.item_indexes for batch in found.batches] == ([(0,)] if observed else [(0, 2)])
