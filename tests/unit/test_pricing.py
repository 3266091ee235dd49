"""A run's cost is what its requests cost one by one, at batch prices, or there is no figure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from batchor_core import OpenAIProviderConfig
from batchor_core.core.pricing import BatchRates, Cost, CostTally, Rates, Unpriced, batch_rates

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
KINDS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
NO_CACHE_WRITES = "the surcharge for writing to the prompt cache, which is not recorded"
LONG_CONTEXT = "the long-context price of retried answers"

Request = tuple[int, int, int, int]


def rates_of(model: str, **options: object) -> Rates:
    return OpenAIProviderConfig(model=model, **options).batch_rates(at=NOVEMBER)  # type: ignore[arg-type]


def tally_of(rates: Rates, requests: Sequence[Request]) -> CostTally:
    tally = CostTally(rates)
    for start in range(0, len(requests), 1_000):
        columns = zip(*requests[start : start + 1_000], strict=True)
        tally.add(dict(zip(KINDS, map(list, columns), strict=True)))
    return tally


def total(requests: Sequence[Request]) -> dict[str, int]:
    return {kind: sum(counts) for kind, counts in zip(KINDS, zip(*requests, strict=True), strict=True)}


def one_by_one(model: str, requests: Sequence[Request]) -> Decimal:
    return sum(
        (
            calc_price(
                Usage(input_tokens=given, cache_read_tokens=cached, output_tokens=answered),
                model,
                provider_id="openai",
                genai_request_timestamp=NOVEMBER,
                price_context={"processing": "batch"},
            ).total_price
            for given, cached, answered, _ in requests
        ),
        Decimal(0),
    )


@pytest.mark.parametrize(
    ("model", "request_", "usd"),
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
    ],
)
def test_ten_thousand_rows_cost_what_the_list_says(model: str, request_: Request, usd: str) -> None:
    requests = [request_] * 10_000
    cost = tally_of(rates_of(model), requests).cost(total(requests))
    assert isinstance(cost, Cost)
    assert cost.usd == Decimal(usd)
    assert set(cost.missing) <= {NO_CACHE_WRITES}


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
    assert CostTally(rates).cost({"input_tokens": 1}) == rates


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://API.openai.com/v1/"])
def test_openai_may_be_named(base_url: str) -> None:
    assert isinstance(rates_of("gpt-4.1", base_url=base_url), BatchRates)


def test_a_server_with_a_list_of_its_own_has_its_own_prices() -> None:
    rates = rates_of("openai/gpt-oss-20b", base_url="https://api.groq.com/openai/v1")
    requests = [(1_000_000, 500_000, 1_000_000, 0)]
    assert tally_of(rates, requests).cost(total(requests)) == Cost(Decimal("0.1875"))


def test_the_server_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example.org/v1")
    assert rates_of("gpt-4.1") == Unpriced("no batch price known for the server gateway.example.org")


@given(
    st.sampled_from(["gpt-4.1", "gpt-5-mini", "gpt-5.4", "gpt-5.5-pro", "gpt-6-sol", "o3"]),
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 5_000), st.integers(271_990, 272_010), st.integers(0, 1_000_000)),
            st.fractions(0, 1),
            st.integers(0, 100_000),
        ),
        min_size=1,
        max_size=30,
    ),
)
def test_sums_by_bracket_equal_the_requests_one_by_one(
    model: str, drawn: list[tuple[int, Decimal, int]]
) -> None:
    requests = [(given, int(given * share), answered, answered // 2) for given, share, answered in drawn]
    cost = tally_of(rates_of(model), requests).cost(total(requests))
    assert isinstance(cost, Cost)
    assert cost.usd == one_by_one(model, requests)


SMALL, LARGE = (1_000, 0, 200, 0), (300_000, 0, 200, 0)
MANY = [SMALL] * 1_000


@pytest.mark.parametrize(
    ("model", "stored", "earlier", "unstated", "usd", "missing"),
    [
        # without long-context prices the sum of earlier attempts has one price
        ("gpt-5-mini", MANY, [*MANY, LARGE], 5, ("gpt-5-mini", [*MANY, *MANY, LARGE]), ()),
        # every request that was asked for again is known to be small
        ("gpt-5.4", MANY, MANY, 0, ("gpt-5.4", [*MANY, *MANY]), ()),
        # so few tokens reach no threshold, whoever used them
        ("gpt-5.4", [*MANY, LARGE], [SMALL] * 200, 5, ("gpt-5.4", [*MANY, *[SMALL] * 200, LARGE]), ()),
        # which of them were large is not known: at least the small ones' price
        ("gpt-5.4", [*MANY, LARGE], MANY, 0, ("gpt-5.4", [*MANY, *MANY, LARGE]), (LONG_CONTEXT,)),
        ("gpt-5.4", MANY, MANY, 1, ("gpt-5.4", [*MANY, *MANY]), (LONG_CONTEXT,)),
    ],
)
def test_attempts_that_were_billed_and_tried_again_are_in_the_cost(
    model: str,
    stored: list[Request],
    earlier: list[Request],
    unstated: int,
    usd: tuple[str, list[Request]],
    missing: tuple[str, ...],
) -> None:
    tally = tally_of(rates_of(model), stored)
    tally.add_unstated(rows=unstated, answers=0)
    assert tally.cost(total([*stored, *earlier])) == Cost(one_by_one(*usd), missing)


def test_what_can_not_be_priced_is_named() -> None:
    requests = [(1_000, 0, 200, 0), (10, 20, 200, 0), (10, 0, 5, 6)]
    tally = tally_of(rates_of("gpt-4.1", request_options={"tools": [{"type": "web_search"}]}), requests)
    tally.add_unstated(rows=7, answers=3)
    assert tally.cost(total(requests)) == Cost(
        one_by_one("gpt-4.1", requests[:1]),
        (
            "3 answers without token counts",
            "2 answers whose token counts contradict each other",
            "calls of the tool web_search",
        ),
    )


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


def test_cache_writes_are_priced_where_they_are_counted() -> None:
    tally = CostTally(rates_of("gpt-6-sol"))
    counted = {"input_tokens": 1_000_000, "cached_tokens": 200_000, "cache_write_tokens": 300_000}
    for _ in range(4):  # pieces below the long-context price
        tally.add({kind: [count // 4] for kind, count in counted.items()})
    # 500,000 at $1.00, 200,000 at $0.10 and 300,000 at $1.25 a million
    assert tally.cost(counted) == Cost(Decimal("0.895"))


def test_an_unknown_kind_of_token_is_never_left_out() -> None:
    tally = CostTally(rates_of("gpt-4.1"))
    tally.add({"input_tokens": [1], "dreamt_tokens": [1]})
    with pytest.raises(KeyError, match="dreamt_tokens"):
        tally.cost({"input_tokens": 1})


def test_a_provider_without_a_price_list_says_so() -> None:
    rates = batch_rates("azure", "gpt-4.1", at=NOVEMBER)  # the list falls back to OpenAI's standard price
    assert rates == Unpriced("no batch price known for gpt-4.1 on 2026-11-01")
    assert batch_rates("nobody", "gpt-4.1", at=NOVEMBER) == Unpriced("no batch price known for gpt-4.1")
