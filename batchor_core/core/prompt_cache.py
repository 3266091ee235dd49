"""The provider's prompt cache: under which key a row's prompt is cached, and whether the cache pays."""

from __future__ import annotations

import json
from fractions import Fraction
from hashlib import sha256

from batchor_core.core.pricing import BatchRates, Rates, dollars_of
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage
from batchor_core.core.words import usd_text

CACHE_KEY_BYTES = 96
"""The most bytes that a cache key may add to a request line, the name of its field included."""

ROWS_OF_A_KEY = 10_000
"""Neighbouring rows of a run that share a key. Each key has its beginning written once, which some models charge for."""


def job_key(provider: JSONObject, schema: JSONObject | None) -> str:
    """What the cache keys of a job begin with: the same for every run of the same settings and schema."""
    told = json.dumps([provider, schema], sort_keys=True, default=str)
    return f"batchor-{sha256(told.encode()).hexdigest()[:16]}"


def cache_key(job: str, item_index: int) -> str:
    """The key of a row: that of the job, and of its shard."""
    return f"{job}-{item_index // ROWS_OF_A_KEY}"


def cache_hit_rate(usage: TokenUsage) -> float | None:
    """The share of prompt tokens that were read from the cache, 0 to 1; None before any were billed."""
    return usage.cached_tokens / usage.input_tokens if usage.input_tokens else None


def cache_warning(usage: TokenUsage, rates: Rates) -> str:
    """Says that writing to the cache has cost more than reading from it has saved; empty if it has not, or no price is known."""
    if not usage.cache_write_tokens or not isinstance(rates, BatchRates):
        return ""
    prices = rates.brackets[0].prices
    plain = prices.get("input_tokens", Fraction(0))
    extra = usage.cache_write_tokens * (prices.get("cache_write_tokens", plain) - plain)
    saved = usage.cached_tokens * (plain - prices.get("cached_tokens", plain))
    if extra <= saved:
        return ""
    return (
        f"the prompt cache has cost {usd_text(dollars_of(int(extra - saved)))} more than it has saved: "
        f"{usage.cache_write_tokens:,} tokens were written to it and {usage.cached_tokens:,} were read. Put what all prompts have "
        "in common first, such as into the system prompt, and what differs last"
    )
