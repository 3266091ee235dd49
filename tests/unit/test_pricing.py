"""An answer costs what the price list says of a batch, to the picodollar, or there is no figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from batchor_core import Cost, OpenAIProviderConfig, TokenUsage, Unpriced
from batchor_core.core import pricing
from batchor_core.core.price_list import batch_rates
from batchor_core.core.pricing import (
    LARGEST_AMOUNT,
    PICODOLLARS,
    BatchRates,
    Bracket,
    Rates,
    cost_of,
    cost_text,
    dollars_of,
    price_at,
)
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.core.words import usd_text

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
OnePrice: TypeAlias = Callable[[TokenUsage], "int | None"]


def rates_of(model: str, **options: object) -> Rates:
    return OpenAIProviderConfig(model=model, **options).batch_rates(at=NOVEMBER)  # type: ignore[arg-type]


def price_of(model: str, **options: object) -> OnePrice:
    rates = rates_of(model, **options)
    assert isinstance(rates, BatchRates)
    return lambda usage: price_at(rates)([usage])[0]


def flat(prices: Mapping[str, Fraction | int]) -> OnePrice:
    rates = BatchRates((Bracket(-1, {kind: Fraction(price) for kind, price in prices.items()}),))
    return lambda usage: price_at(rates)([usage])[0]


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("gpt-5-mini", (1_000, 0, 200, 0), "3.25"),
        ("gpt-5-mini-2025-08-07", (1_000, 0, 200, 0), "3.25"),
        ("gpt-5.4", (1_000, 0, 200, 0), "27.50"),
        ("gpt-5.6-luna", (1_000, 0, 200, 0), "2.20"),
        ("gpt-5.6-luna-2026-07-01", (1_000, 0, 200, 0), "2.20"),
        ("gpt-6-sol", (1_000, 0, 200, 0), "20.00"),
        ("gpt-4.1", (2_000, 1_800, 100, 0), "15.00"),
        ("gpt-4o-mini", (2_000, 1_800, 100, 0), "1.80"),
        ("o4-mini", (2_000, 1_800, 100, 50), "8.25"),
        # input that is all cached has no batch discount, and yet a batch price
        ("gpt-4.1", (2_000, 2_000, 0, 0), "10.00"),
        # the list says of this model that a batch has the standard price
        ("gpt-3.5-turbo-1106", (1_000, 0, 1_000, 0), "30.00"),
        # above 272,000 tokens of one request
        ("gpt-5.4", (300_000, 0, 200, 0), "7522.50"),
        ("gpt-5.4", (272_000, 0, 200, 0), "3415.00"),
        # a million with 200,000 cached ($0.10) and 300,000 written to the cache ($1.25), the rest at $1.00
        ("gpt-6-sol", (250_000, 50_000, 0, 0, 75_000), "2237.50"),
    ],
)
def test_ten_thousand_rows_cost_what_the_list_says(model: str, usage: tuple[int, ...], usd: str) -> None:
    amount = price_of(model)(TokenUsage(*usage))
    assert amount is not None
    assert cost_of(10_000 * amount, unpriced=0) == Cost(Decimal(usd))


@pytest.mark.parametrize(
    ("model", "base_url", "at", "reason"),
    [
        ("gpt-5.3-codex", None, NOVEMBER, "no batch price known for gpt-5.3-codex on 2026-11-01"),
        ("no-such-model", None, NOVEMBER, "no batch price known for no-such-model"),
        ("gpt-4.1", None, datetime(2026, 9, 1, tzinfo=UTC), "no batch price known for gpt-4.1 on 2026-09-01"),
        ("gpt-4.1", "https://eu.api.openai.com/v1", NOVEMBER, "the server eu.api.openai.com"),
        ("gpt-4.1", "https://api.openai.com.example.org/v1", NOVEMBER, "api.openai.com.example.org"),
        ("gpt-4.1", "https://mine.openai.azure.com/openai/v1/", NOVEMBER, "mine.openai.azure.com"),
        ("gpt-4.1", "http://127.0.0.1:8000/v1", NOVEMBER, "127.0.0.1"),
        ("gpt-4.1", "https://api.groq.com/openai/v1", NOVEMBER, "no batch price known for gpt-4.1"),
    ],
)
def test_without_a_batch_price_there_is_no_figure(
    model: str, base_url: str | None, at: datetime, reason: str
) -> None:
    rates = OpenAIProviderConfig(model=model, base_url=base_url).batch_rates(at=at)
    assert isinstance(rates, Unpriced)
    assert reason in rates.reason


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://API.openai.com/v1/"])
def test_openai_may_be_named(base_url: str) -> None:
    assert isinstance(rates_of("gpt-4.1", base_url=base_url), BatchRates)


def test_a_server_with_a_list_of_its_own_has_its_own_prices() -> None:
    price = price_of("openai/gpt-oss-20b", base_url="https://api.groq.com/openai/v1")
    assert price(TokenUsage(1_000_000, 500_000, 1_000_000)) == 187_500_000_000


def test_the_server_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example.org/v1")
    assert rates_of("gpt-4.1") == Unpriced("no batch price known for the server gateway.example.org")


@given(
    st.sampled_from(["gpt-4.1", "gpt-5-mini", "gpt-5.4", "gpt-5.5-pro", "gpt-6-sol", "o3"]),
    st.one_of(st.integers(0, 5_000), st.integers(271_990, 272_010), st.integers(0, 1_000_000)),
    st.fractions(0, 1),
    st.integers(0, 100_000),
)
def test_an_answer_costs_what_the_price_list_calculates(
    model: str, asked: int, share: Fraction, answered: int
) -> None:
    cached = int(asked * share)
    listed = calc_price(
        Usage(input_tokens=asked, cache_read_tokens=cached, output_tokens=answered),
        model,
        provider_id="openai",
        genai_request_timestamp=NOVEMBER,
        price_context={"processing": "batch"},
    ).total_price
    assert price_of(model)(TokenUsage(asked, cached, answered, answered // 2)) == listed * PICODOLLARS


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 5_000), st.integers(271_990, 272_010)),
            st.integers(0, 6_000),
            st.integers(0, 10**9),
        ),
        max_size=10,
    )
)
def test_answers_cost_the_same_together_and_one_by_one(drawn: list[tuple[int, int, int]]) -> None:
    rates = rates_of("gpt-5.4")
    assert isinstance(rates, BatchRates)
    usages = [TokenUsage(*counts) for counts in drawn]  # some contradict themselves, and some are too large
    price = price_at(rates)
    assert price(usages) == [price([usage])[0] for usage in usages]


@pytest.mark.parametrize(
    ("usage", "amount"),
    [
        (TokenUsage(10, 20, 200), None),
        (TokenUsage(10, 6, 200, 0, 6), None),
        (TokenUsage(10, 0, 5, 6), None),
        (TokenUsage(10, 10, 5, 5), 15),
        (TokenUsage(10, 4, 5, 5, 6), 15),
        (TokenUsage(LARGEST_AMOUNT), None),
        (TokenUsage(), 0),
    ],
)
def test_token_counts_that_can_not_be_right_have_no_price(usage: TokenUsage, amount: int | None) -> None:
    assert flat({"input_tokens": 1, "output_tokens": 1})(usage) == amount


@pytest.mark.parametrize(
    ("price", "tokens", "amount"), [("1/3", 1, 0), ("1/3", 2, 1), ("1/2", 1, 1), ("1/2", 3, 2), ("5/3", 3, 5)]
)
def test_parts_of_a_picodollar_are_rounded_once_for_each_answer(price: str, tokens: int, amount: int) -> None:
    assert flat({"input_tokens": Fraction(price)})(TokenUsage(tokens)) == amount


def test_kinds_may_overlap_where_a_third_one_counts_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here reasoning stands for audio in the input, and written tokens for cached audio."""
    within = {
        "cached_tokens": ("input_tokens",),
        "reasoning_tokens": ("input_tokens",),
        "cache_write_tokens": ("input_tokens", "cached_tokens", "reasoning_tokens"),
    }
    monkeypatch.setattr(pricing, "WITHIN", within)
    monkeypatch.setattr(
        pricing, "_CONTAINERS_FIRST", sorted(TOKEN_KINDS, key=lambda kind: len(within.get(kind, ())))
    )
    monkeypatch.setattr(pricing, "_CONTRADICTIONS", pricing._contradictions())
    price = flat(
        {
            "input_tokens": 10,
            "cached_tokens": 1,
            "reasoning_tokens": 100,
            "cache_write_tokens": 7,
            "output_tokens": 0,
        }
    )
    # of 20 tokens 5 are cached text, 4 are audio that is not cached, 3 are cached audio, and 8 are plain
    usage = TokenUsage(input_tokens=20, cached_tokens=8, reasoning_tokens=7, cache_write_tokens=3)
    assert price(usage) == 5 * 1 + 4 * 100 + 3 * 7 + 8 * 10
    assert (
        price(TokenUsage(input_tokens=11, cached_tokens=8, reasoning_tokens=7, cache_write_tokens=3)) is None
    )
    assert (
        price(TokenUsage(input_tokens=20, cached_tokens=2, reasoning_tokens=7, cache_write_tokens=3)) is None
    )


def test_an_unknown_kind_of_token_is_never_left_out() -> None:
    with pytest.raises(KeyError, match="dreamt_tokens"):
        flat({"dreamt_tokens": 1})(TokenUsage(1))


@pytest.mark.parametrize("tools", [None, "none", [{"type": "function", "name": "f"}], [3, {"type": ["odd"]}]])
def test_functions_cost_nothing_by_themselves(tools: object) -> None:
    rates = rates_of("gpt-4.1", request_options={"tools": tools})
    assert isinstance(rates, BatchRates)
    assert rates.unseen == (("calls of the tool ['odd']",) if isinstance(tools, list) and 3 in tools else ())


@pytest.mark.parametrize(
    ("model", "options", "unseen"),
    [
        ("gpt-4.1", {"web_search_options": {}}, ("calls of the tool web_search",)),
        ("gpt-4o-mini-search-preview", {}, ("calls of the tool web_search",)),
        ("gpt-4.1", {"tools": {"type": "web_search"}}, ("calls of the tool web_search",)),
        ("gpt-4.1", {"modalities": ["text", "audio"]}, ("tokens of audio, which have a price of their own",)),
        ("gpt-4.1", {"modalities": ["text"]}, ()),
    ],
)
def test_what_is_billed_besides_tokens_is_named(
    model: str, options: dict[str, object], unseen: tuple[str, ...]
) -> None:
    rates = rates_of(model, request_options=options)
    assert isinstance(rates, BatchRates)
    assert rates.unseen == unseen


def test_a_provider_without_a_price_list_says_so() -> None:
    rates = batch_rates("azure", "gpt-4.1", at=NOVEMBER)  # the list falls back to OpenAI's standard price
    assert rates == Unpriced("no batch price known for gpt-4.1 on 2026-11-01")
    assert batch_rates("nobody", "gpt-4.1", at=NOVEMBER) == Unpriced("no batch price known for gpt-4.1")


@pytest.mark.parametrize(
    ("picodollars", "unpriced", "notes", "cost", "text"),
    [
        (0, 0, (), Cost(Decimal(0)), "$0.00"),
        (3_250_000_000_000, 0, (), Cost(Decimal("3.25")), "$3.25"),
        (1, 0, ("tools",), Cost(Decimal("1e-12"), ("tools",)), "at least $0.000000000001"),
        (10**12, 2, (), Cost(Decimal(1), ("2 answers without a price",)), "at least $1.00"),
        (10**12, 1, ("why",), Cost(Decimal(1), ("1 answer without a price", "why")), "at least $1.00"),
        (0, 2, (), Unpriced("no price known for 2 answers"), ""),
        (0, 2, ("why", "and why"), Unpriced("why; and why"), ""),
    ],
)
def test_a_sum_says_what_it_leaves_out(
    picodollars: int, unpriced: int, notes: tuple[str, ...], cost: Cost | Unpriced, text: str
) -> None:
    found = cost_of(picodollars, unpriced=unpriced, notes=notes)
    assert (found, cost_text(found)) == (cost, text)


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        ("1234567.891", "$1,234,567.89"),
        ("1", "$1.00"),
        ("0.32514", "$0.3251"),
        ("0.0001", "$0.0001"),
        ("0.0000375", "$0.00004"),
        ("0", "$0.00"),
    ],
)
def test_dollars_are_written_as_people_read_them(usd: str, text: str) -> None:
    assert usd_text(Decimal(usd)) == text


def test_amounts_are_exact_dollars() -> None:
    assert dollars_of(2**62) == Decimal("4611686.018427387904")
