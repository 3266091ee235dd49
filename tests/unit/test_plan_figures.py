"""What a plan is made of, as tables of cases: waves, the length of answers, prices and caps."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from batchor_core.core.admission import Allowance, Measure
from batchor_core.core.batching import BatchSize
from batchor_core.core.caps import ActiveCap, CapMeasure, CapStanding, Reservation
from batchor_core.core.forecast import NewRows, answers_like, answers_within, forecast
from batchor_core.core.plan import Range
from batchor_core.core.pricing import PICODOLLARS, BatchRates, Bracket, Unpriced
from batchor_core.core.usage import TokenUsage
from batchor_core.core.waves import Waves
from batchor_core.storage.session import Candidate

MILLION = Fraction(10**6)
RATES = BatchRates(
    (
        Bracket(0, {"input_tokens": MILLION, "output_tokens": 2 * MILLION}),
        Bracket(100, {"input_tokens": 3 * MILLION, "output_tokens": 4 * MILLION}),
    )
)


@pytest.mark.parametrize(
    ("rows", "not_sent", "max_requests", "limit", "expected"),
    [
        (0, (), 10, None, (0, 0)),
        (25, (), 10, None, (3, 1)),
        (25, range(10, 20), 10, None, (2, 1)),  # a batch of followers alone is none
        (25, range(1, 25), 10, None, (1, 1)),
        (25, (), 10, 100, (3, 3)),  # 10 tokens a row
        (25, (), 10, 200, (3, 2)),
        (25, (), 10, 250, (3, 1)),
        (40, (), 10, 150, (5, 3)),  # a batch is cut to what is left
    ],
)
@pytest.mark.parametrize("chunk", [7, 1_000])
def test_waves(
    rows: int, not_sent: Any, max_requests: int, limit: int | None, expected: tuple[int, int], chunk: int
) -> None:
    allowances = [] if limit is None else [Allowance(Measure.ENQUEUED_TOKENS, "account", limit)]
    waves = Waves(BatchSize(max_requests, 10**9), allowances)
    everything = [Candidate(index, 10, 100) for index in range(rows)]
    for start in range(0, rows, chunk):
        waves.add(
            everything[start : start + chunk], not_sent=set(not_sent) & set(range(start, start + chunk))
        )
    waves.finish()
    assert (waves.batches, waves.waves) == expected


def test_rows_of_two_models_are_two_batches() -> None:
    waves = Waves(BatchSize(10, 10**9), [])
    waves.add([Candidate(index, 10, 100, "other" if index % 2 else None) for index in range(6)], not_sent=())
    waves.finish()
    assert (waves.batches, waves.waves) == (2, 1)


def test_a_row_larger_than_a_learned_limit_is_sent_by_itself() -> None:
    waves = Waves(BatchSize(10, 10**9), [Allowance(Measure.ENQUEUED_TOKENS, "account", 5, is_observed=True)])
    waves.add([Candidate(index, 10, 100) for index in range(3)], not_sent=())
    waves.finish()
    assert (waves.batches, waves.waves) == (3, 3)


def test_answers_are_as_long_as_earlier_ones() -> None:
    usages = [TokenUsage(100, 50, n, n // 2) for n in range(1, 102)]
    found = answers_like(usages, "earlier answers")
    assert list(found.tokens) == [11, 51, 91]
    assert (found.cached, found.basis) == (0.5, "101 earlier answers")
    skewed = answers_like([TokenUsage(output_tokens=1)] * 99 + [TokenUsage(output_tokens=10_000)], "")
    assert skewed.tokens[0] <= skewed.tokens[1] <= skewed.tokens[2]
    assert answers_within(70).tokens == (0, 70, 70)
    assert "no bound" in answers_within(None).basis


def test_every_row_is_priced_in_its_own_bracket() -> None:
    new = NewRows(RATES, around=20, unbilled=10)
    new.add([50, 115])
    assert new.input_tokens() == Range(30 + 95, 40 + 105, 50 + 115)
    # picodollars: whole rows, of which the second one is in the dearer bracket, but for its texts alone
    assert new.cost(answers_within(10)) == Range(
        *[Decimal(n).scaleb(-6) for n in (30 + 95, 40 + 3 * 105 + 20 + 40, 50 + 3 * 115 + 20 + 40)]
    )
    assert isinstance(NewRows(Unpriced("none"), around=0, unbilled=0).cost(answers_within(10)), Unpriced)


def test_cached_prompts_cost_what_they_did() -> None:
    prices = {"input_tokens": MILLION, "cached_tokens": MILLION / 10, "cache_write_tokens": MILLION * 5 / 4}
    new = NewRows(BatchRates((Bracket(0, prices),)), around=0, unbilled=0)
    new.add([1_000])
    half = answers_like([TokenUsage(100, 50)], "")
    written = answers_like([TokenUsage(100, 10, cache_write_tokens=90)], "")
    assert new.cost(half) == Range(*[Decimal("0.00055")] * 3)
    assert not new.writes_cost_more(half)
    assert new.writes_cost_more(written)


@pytest.mark.parametrize(
    ("measure", "limit", "cost", "stops"),
    [
        (CapMeasure.ROWS, 10, (1, 1, 1), "no"),
        (CapMeasure.ROWS, 9, (1, 1, 1), "yes"),
        (CapMeasure.USD, 4, (1, 2, 3), "no"),
        (CapMeasure.USD, 3, (1, 2, 3), "perhaps"),  # the last row reserves 1
        (CapMeasure.USD, 2, (1, 2, 3), "yes"),
        (CapMeasure.USD, 2, None, "unknown"),
    ],
)
def test_a_run_stops_where_the_last_row_finds_no_room(
    measure: CapMeasure, limit: int, cost: Any, stops: str
) -> None:
    unit = PICODOLLARS if measure is CapMeasure.USD else 1
    standing = CapStanding(ActiveCap("store", measure, False, limit * unit), 0, 0)
    usd = Unpriced("none") if cost is None else Range(*map(Decimal, cost))
    found = forecast(standing, 10, usd, largest=1, reservation=Reservation(PICODOLLARS, 0))
    assert found.stops == stops
    assert forecast(standing, 0, usd, largest=1, reservation=Reservation(0, 0)).stops == (
        "unknown" if cost is None else "no"
    )
