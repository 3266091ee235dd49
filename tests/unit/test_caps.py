"""How much may be sent under caps, as tables of cases."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from batchor_core import BatchJob, BatchRunner, Cap, InvalidInputError, OpenAIProviderConfig
from batchor_core.core.answer_length import DEFAULT_ANSWER_TOKENS
from batchor_core.core.caps import (
    ActiveCap,
    CapMeasure,
    CapStanding,
    Reservation,
    active_caps,
    admit_under_caps,
    labels_of,
    reservation_at,
)
from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.pricing import PICODOLLARS, BatchRates, Bracket

USD, ROWS = CapMeasure.USD, CapMeasure.ROWS


def standing(measure: CapMeasure, limit: int, settled: int = 0, reserved: int = 0) -> CapStanding:
    return CapStanding(ActiveCap("store", measure, False, limit), settled, reserved)


@pytest.mark.parametrize(
    ("standings", "count", "need", "later"),
    [
        ([], 4, 0, False),
        ([standing(USD, 100)], 4, 0, False),
        ([standing(USD, 75)], 4, 0, False),  # 15 + 25 + 20 + 15
        ([standing(USD, 74)], 3, 15, True),
        ([standing(USD, 39)], 1, 25, True),
        ([standing(USD, 14)], 0, 15, False),
        ([standing(USD, 15, settled=1)], 0, 15, False),
        ([standing(USD, 15, reserved=1)], 0, 15, True),
        ([standing(USD, 5, settled=9)], 0, 15, False),
        ([standing(ROWS, 2)], 2, 1, True),
        ([standing(USD, 74), standing(ROWS, 2, reserved=1)], 1, 1, True),
        ([standing(ROWS, 2), standing(USD, 14)], 0, 15, False),
    ],
)
def test_the_first_rows_are_sent_that_fit_every_cap(
    standings: list[CapStanding], count: int, need: int, later: bool
) -> None:
    sent = admit_under_caps([10, 20, 15, 10], standings, Reservation(token=1, answer=5))
    assert (sent.rows, sent.need, sent.may_fit_later) == (count, need, later)


def test_a_reason_names_the_cap_what_is_used_and_what_is_needed() -> None:
    dollars = CapStanding(
        ActiveCap("tag:team=blue", USD, True, 10 * PICODOLLARS), 9 * PICODOLLARS, PICODOLLARS
    )
    sent = admit_under_caps([1], [dollars], Reservation(0, PICODOLLARS // 2))
    assert sent.reason() == (
        "the cap of $10.00 for tag:team=blue a day is reached: $9.00 and $1.00 reserved used, and the next row may need "
        "$0.50. Raise it (batchor cap), and resume the run"
    )
    rows = admit_under_caps([1], [standing(ROWS, 1_000, 1_000)], Reservation(0, 0))
    assert (
        "the cap of 1,000 rows for store is reached: 1,000 rows used, and the next row may need 1 row"
        in rows.reason()
    )


RATES = BatchRates(
    (
        Bracket(
            -1, {"input_tokens": Fraction(10), "cached_tokens": Fraction(1), "output_tokens": Fraction(5, 2)}
        ),
        Bracket(1_000, {"input_tokens": Fraction(20), "reasoning_tokens": Fraction(4)}),
    )
)


@pytest.mark.parametrize(
    ("largest", "answer", "expected"),
    [
        (1_000, 100, (10, 300)),  # a part of a picodollar is reserved as a whole one
        (1_001, 100, (20, 400)),
        (0, 100, (10, 300)),
        (10, None, (10, 3 * DEFAULT_ANSWER_TOKENS)),
    ],
)
def test_rows_reserve_the_most_that_they_may_cost(
    largest: int, answer: int | None, expected: tuple[int, int]
) -> None:
    assert reservation_at(RATES, largest=largest, answer_tokens=answer) == expected


def test_writing_to_the_cache_may_cost_more_than_input() -> None:
    rates = BatchRates((Bracket(-1, {"input_tokens": Fraction(4), "cache_write_tokens": Fraction(5)}),))
    assert reservation_at(rates, largest=1, answer_tokens=9) == (5, 0)


def test_labels_and_caps_meet() -> None:
    labels = labels_of("r1", tags={"team": "blue", "team=x": "y"}, extras={"dagster_asset_key": ["a", "b"]})
    assert labels == ["store", "run:r1", "asset:a/b", "tag:team=blue", "tag:team=x=y"]
    caps = [
        Cap(rows=1),
        Cap(rows=2, scope="run:r1"),
        Cap(rows=3, scope="run:r2"),
        Cap(usd=1),
        Cap(rows=4, per="day"),
    ]
    assert [(cap.label, cap.measure, cap.per_day, cap.limit) for cap in active_caps(caps, labels)] == [
        ("run:r1", ROWS, False, 2),
        ("run:r1", ROWS, True, 4),
        ("run:r1", USD, False, PICODOLLARS),
    ]
    assert active_caps(reversed(caps), labels) == active_caps(caps, labels)
    other = labels_of("r1=eu", tags={}, extras={"dagster_asset_key": "a=b"})
    assert active_caps([Cap(rows=1, scope="run:r1"), Cap(rows=1, scope="asset:a")], other) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "a cap has usd or rows"),
        ({"usd": 1, "rows": 1}, "a cap has usd or rows"),
        ({"usd": -1}, "the usd of a cap must be a number from 0 to 1,000,000, not -1"),
        ({"usd": "10"}, "the usd of a cap must be a number"),
        ({"usd": True}, "the usd of a cap must be a number"),
        ({"usd": float("nan")}, "the usd of a cap must be a number"),
        ({"usd": Decimal("Infinity")}, "the usd of a cap must be a number"),
        ({"usd": 10**9}, "the usd of a cap must be a number"),
        ({"usd": Decimal("1e999999")}, "the usd of a cap must be a number"),
        ({"rows": 10**5000}, "the rows of a cap must be a number"),
        ({"rows": 1.5}, "the rows of a cap must be a number"),
        ({"rows": 1, "per": "week"}, "per must be 'day' or None, not 'week'"),
        ({"rows": 1, "scope": "team"}, "the scope of a cap must be store, run, asset, tag:NAME"),
        ({"rows": 1, "scope": "tag:"}, "the scope of a cap must be"),
        ({"rows": 1, "scope": None}, "the scope of a cap must be"),
    ],
)
def test_what_is_no_cap_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        Cap(**settings)
    assert message in str(raised.value)


def test_jobs_and_runners_take_lists_of_caps() -> None:
    with pytest.raises(InvalidInputError, match=r"caps must be a list of Cap"):
        BatchJob(items=[], build_prompt=str, provider_config=OpenAIProviderConfig(model="m"), caps=Cap(usd=1))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"caps must be a list of Cap"):
        BatchRunner(storage="memory", caps=[10])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({}, None),
        ({"max_output_tokens": 7}, 7),
        ({"request_options": {"max_completion_tokens": 8}}, 8),
        ({"request_options": {"max_tokens": "many"}}, None),
        ({"max_output_tokens": 7, "request_options": {"n": 3}}, 21),
        ({"request_options": {"n": 2}}, 8_192),
    ],
)
def test_the_longest_answer_is_what_the_requests_say(options: dict[str, Any], longest: int | None) -> None:
    config = OpenAIProviderConfig(model="m", endpoint=OpenAIEndpoint.CHAT_COMPLETIONS, **options)
    assert config.longest_answer() == longest
    assert config.longest_answer_to({"custom_id": "", "body": {"max_tokens": 5}}) == 5
