"""Under which key prompts are cached, and whether the cache pays."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import orjson
import pytest

from batchor_core.core.models import PromptParts
from batchor_core.core.pricing import PER_MILLION, BatchRates, Bracket, Rates, Unpriced
from batchor_core.core.prompt_cache import (
    CACHE_KEY_BYTES,
    ROWS_OF_A_KEY,
    cache_hit_rate,
    cache_key,
    cache_warning,
    job_key,
)
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.provider import OpenAIBatchProvider

PRICES = {"input_tokens": 4, "cached_tokens": 1, "cache_write_tokens": 5}
RATES = BatchRates((Bracket(0, {name: Fraction(usd * PER_MILLION) for name, usd in PRICES.items()}),))


def _usage(*, read: int = 0, written: int = 0) -> TokenUsage:
    return TokenUsage(input_tokens=10_000_000, cached_tokens=read, cache_write_tokens=written)


@pytest.mark.parametrize(
    ("usage", "rates", "warns"),
    [
        (_usage(read=1_000_000, written=3_000_000), RATES, False),
        (_usage(read=1_000_000, written=4_000_000), RATES, True),
        (_usage(written=1), RATES, True),
        (_usage(read=1_000_000), RATES, False),
        (_usage(written=4_000_000), Unpriced("no price"), False),
        (_usage(written=4_000_000), BatchRates((Bracket(0, {"input_tokens": Fraction(4)}),)), False),
    ],
)
def test_writes_that_cost_more_than_reads_save_are_told(usage: TokenUsage, rates: Rates, warns: bool) -> None:
    assert bool(cache_warning(usage, rates)) is warns


def test_the_warning_says_how_much() -> None:
    said = cache_warning(_usage(read=1_000_000, written=4_000_000), RATES)
    assert said.startswith(
        "the prompt cache has cost $1.00 more than it has saved: 4,000,000 tokens were written"
    )


def test_the_hit_rate_is_of_all_prompt_tokens() -> None:
    assert cache_hit_rate(_usage(read=2_500_000)) == 0.25
    assert cache_hit_rate(TokenUsage()) is None


def test_neighbours_share_a_key_and_so_do_runs_of_one_job() -> None:
    job = job_key({"model": "m"}, {"type": "object"})
    assert job == job_key({"model": "m"}, {"type": "object"})
    assert job != job_key({"model": "n"}, {"type": "object"})
    keys = [cache_key(job, index) for index in (0, ROWS_OF_A_KEY - 1, ROWS_OF_A_KEY)]
    assert keys[0] == keys[1] != keys[2]
    assert len(f',"prompt_cache_key":"{cache_key(job, 10**9)}"') <= CACHE_KEY_BYTES


@pytest.mark.parametrize(
    ("changes", "options", "keyed"),
    [
        ({}, None, True),
        ({"endpoint": "/v1/chat/completions"}, None, True),
        ({"request_options": {"prompt_cache_key": "mine"}}, None, False),
        ({}, {"prompt_cache_key": "mine"}, False),
        ({"base_url": "https://llm.example/v1"}, None, False),
        ({"base_url": "https://api.openai.com/v1"}, None, True),
        ({"endpoint": "/v1/embeddings"}, None, False),
    ],
)
def test_only_openai_gets_a_key_and_only_where_there_is_none(
    changes: dict[str, Any], options: dict[str, Any] | None, keyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="m", api_key="sk-x", **changes))
    line: Any = provider.build_request_line(custom_id="a", prompt_parts=PromptParts("hello", options=options))
    written = orjson.dumps(line)
    after = orjson.loads(provider.with_cache_key(written, key="batchor-1-0"))
    if keyed:
        assert after["body"].pop("prompt_cache_key") == "batchor-1-0"
    assert after == line
