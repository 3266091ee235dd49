"""A user's own prices come before the public list; what is wrong with them is said with file, table and key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchor_core import InvalidInputError, OpenAIProviderConfig, PriceBook, TokenUsage, Unpriced
from batchor_core.core.price_table import PriceTable
from batchor_core.core.pricing import BatchRates, Rates, dollars_of, price_at

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
MODEL = OpenAIProviderConfig(model="house")


def usd(rates: Rates, usage: TokenUsage) -> Decimal:
    assert isinstance(rates, BatchRates)
    [amount] = price_at(rates)([usage])
    assert amount is not None
    return dollars_of(amount)


def test_a_file_has_prices_by_model_kind_day_and_size(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        """
        ["openai/house*"]
        input_tokens = 9

        [["openai/house"]]
        valid_from = 2026-11-02
        input_tokens = 3

        [["openai/house"]]
        valid_from = 2026-01-01
        input_tokens = 0.1
        cached_tokens = 0.01
        output_tokens = 0.3
        batch_rate = 0.5
        tiers = [{ above = 1000, input_tokens = 0.2 }, { above = 2000, output_tokens = 3 }]
        """,
        encoding="utf-8",
    )
    book = PriceBook.of(str(path))
    for usage, dollars in [
        (TokenUsage(1_000, 400, 100, 100), "0.000047"),  # 600 at 0.05, 400 at 0.005, 100 at 0.15 a million
        (TokenUsage(1_001, 0, 0), "0.0001001"),
        (TokenUsage(2_001, 0, 100), "0.0003501"),
    ]:
        assert usd(book.rates(MODEL, at=NOVEMBER), usage) == Decimal(dollars)
    million = TokenUsage(1_000)
    assert usd(book.rates(MODEL, at=datetime(2026, 11, 2, tzinfo=UTC)), million) == Decimal("0.003")
    assert usd(book.rates(MODEL, at=datetime(2025, 1, 1, tzinfo=UTC)), million) == Decimal("0.009")
    assert usd(book.rates(OpenAIProviderConfig(model="house-2"), at=NOVEMBER), million) == Decimal("0.009")


def test_the_table_comes_before_the_function_and_the_list_last() -> None:
    asked: list[tuple[str, str, date]] = []

    def prices(provider: str, model: str, day: date) -> Mapping[str, Any] | None:
        asked.append((provider, model, day))
        return {"input_tokens": 2} if model == "gpt-4.1" else None

    book = PriceBook({"openai/house": {"input_tokens": 1.0}}, prices)
    million = TokenUsage(1_000_000)
    assert usd(book.rates(MODEL, at=NOVEMBER), million) == 1
    assert asked == []
    assert usd(book.rates(OpenAIProviderConfig(model="gpt-4.1"), at=NOVEMBER), million) == 2
    assert asked == [("openai", "gpt-4.1", date(2026, 11, 1))]
    assert usd(book.rates(OpenAIProviderConfig(model="gpt-5-mini"), at=NOVEMBER), million) == Decimal("0.125")
    unlisted = book.rates(OpenAIProviderConfig(model="gpt-5.3-codex"), at=NOVEMBER)
    assert unlisted == Unpriced("no batch price known for gpt-5.3-codex on 2026-11-01")


def test_own_prices_leave_out_what_is_billed_besides_tokens() -> None:
    config = OpenAIProviderConfig(model="house", request_options={"tools": [{"type": "web_search"}]})
    rates = PriceBook({"openai/house": {"input_tokens": 1}}).rates(config, at=NOVEMBER)
    assert isinstance(rates, BatchRates)
    assert rates.unseen == ("calls of the tool web_search",)


TIER = {"above": 10, "input_tokens": 1}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"house": {"input_tokens": 1}}, "prices: ['house'] must be named provider/model"),
        ({"openai/x": 3}, "prices: ['openai/x'] must be a table of prices, and is 3"),
        ({"openai/x": []}, "['openai/x'] must be a table of prices"),
        ({"openai/x": {}}, "['openai/x'] has no price: give one of input_tokens"),
        ({"openai/x": {"inptu_tokens": 1}}, "there is no key 'inptu_tokens'; did you mean 'input_tokens'?"),
        ({"openai/x": {"zzz": 1}}, "there is no key 'zzz'; there are input_tokens"),
        ({"openai/x": {"input_tokens": -1}}, "input_tokens must be a number from 0 to 1,000,000, and is -1"),
        ({"openai/x": {"input_tokens": "1"}}, "input_tokens must be a number"),
        ({"openai/x": {"input_tokens": True}}, "input_tokens must be a number"),
        ({"openai/x": {"input_tokens": float("nan")}}, "input_tokens must be a number"),
        ({"openai/x": {"input_tokens": Decimal("Infinity")}}, "input_tokens must be a number"),
        ({"openai/x": {"input_tokens": 1, "batch_rate": 50}}, "batch_rate must be a number from 0 to 1"),
        (
            {"openai/x": {"input_tokens": 1, "valid_from": "May"}},
            "valid_from must be a date such as 2026-11-01",
        ),
        ({"openai/x": [{"input_tokens": 1}] * 2}, "['openai/x'] has two tables for the same time"),
        ({"openai/x": {"input_tokens": 1, "tiers": 3}}, "tiers must be a list of tables"),
        ({"openai/x": {"input_tokens": 1, "tiers": [1]}}, "tiers[0] must be a table"),
        (
            {"openai/x": {"input_tokens": 1, "tiers": [TIER, TIER]}},
            "tiers[1]: above must be a number of tokens",
        ),
        (
            {"openai/x": {"input_tokens": 1, "tiers": [{"abve": 1}]}},
            "tiers[0]: there is no key 'abve'; did you",
        ),
        (5, "prices must be the path of a TOML file, a mapping, a function or a PriceBook, not 5"),
    ],
)
def test_what_can_not_be_used_is_named(tables: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        PriceBook.of(tables)
    assert message in str(raised.value)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('["openai/m"]\ninput_tokens = 1\n', encoding="utf-8-sig")  # as some editors on Windows do
    assert PriceTable.load(file).rates("openai", "m", date(2026, 11, 1)) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "prices.toml is not TOML"),
        ('["openai/x"]\ninput_tokens = "free"', "prices.toml: ['openai/x']: input_tokens must be a number"),
        (None, "the prices can't be read"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError) as raised:
        PriceBook(path)
    assert message in str(raised.value)


def test_a_function_that_returns_no_prices_is_named() -> None:
    book = PriceBook(function=lambda provider, model, day: {"inpt": 1})
    with pytest.raises(InvalidInputError, match="the prices that the function returned for openai/house"):
        book.rates(MODEL, at=NOVEMBER)
