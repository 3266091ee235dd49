"""What the requests in flight will be billed, as a range.

Providers bill the texts of a request, and they differ in what they make of its schema: some bill most of its JSON with every
row, and some none of it. The estimate that is stored with each row, which budgets use, counts the whole request. It is the
upper end. The lower end leaves out what a request has besides its texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from batchor_core.core.exceptions import MissingCredentialsError
from batchor_core.core.models import RunSummary
from batchor_core.core.prompts import PromptParts
from batchor_core.core.types import BatchRequestLine
from batchor_core.providers.api import BatchApi, WantedOutput
from batchor_core.runtime.engine import wanted_output
from batchor_core.runtime.live import LiveRun

_SHORTEST = PromptParts("x")


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """Prompt tokens of the requests in flight.

    Attributes:
        texts: Of their texts alone.
        requests: Of the whole requests, schema included.
    """

    texts: int
    requests: int


def estimate(live: LiveRun, summary: RunSummary) -> TokenEstimate:
    """The range. Without a key for the provider, both ends are the upper one."""
    in_flight, whole = summary.items_in_flight, summary.estimated_tokens
    if not in_flight:
        return TokenEstimate(whole, whole)
    try:
        around = _tokens_around_texts(live)
    except MissingCredentialsError:
        return TokenEstimate(whole, whole)
    return TokenEstimate(min(whole, max(in_flight, whole - in_flight * around)), whole)


def shortest_line(api: BatchApi, output: WantedOutput | None) -> BatchRequestLine:
    """A request of one token of text, and of what every request has around its texts."""
    return api.request_line(custom_id="", prompt=_SHORTEST, output=output)


def _tokens_around_texts(live: LiveRun) -> int:
    """The estimate for a request with almost no text, by the same rule as for the run's rows."""
    api, chars_per_token = live.provider.get(), live.config.chunk_policy.chars_per_token
    line = shortest_line(api, wanted_output(live.config))
    if api.enqueue_budget() is None:
        return len(orjson.dumps({**line, "custom_id": ""})) // chars_per_token
    (tokens,) = api.estimate_tokens([line], chars_per_token=chars_per_token)
    return tokens - 1
