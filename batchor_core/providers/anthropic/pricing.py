"""What Anthropic's batches cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from batchor_core.core.price_list import batch_rates
from batchor_core.core.pricing import Rates, Unpriced

_PRICE_LIST = "anthropic"
_OWN_HOST = "api.anthropic.com"
_HOUR = {"cache_write_tokens": "cache_write_1h_mtok"}
"""The price of a write that is kept for an hour, as the list calls it; the usual one is for five minutes."""


def anthropic_batch_rates(
    model: str, base_url: str | None, request_options: Mapping[str, Any], *, is_hour: bool, at: datetime
) -> Rates:
    """What the tokens of a batch cost on a day.

    Args:
        model: The model.
        base_url: The server; None for Anthropic's own. Another one has no known prices.
        request_options: The fields of each request.
        is_hour: Whether what is written to the cache is kept for an hour.
        at: The day.
    """
    host = _OWN_HOST if base_url is None else (urlsplit(base_url).hostname or base_url)
    if host != _OWN_HOST:
        return Unpriced(f"no batch price known for the server {host}")
    return batch_rates(
        _PRICE_LIST,
        model,
        at=at,
        unseen=list(billed_besides(request_options)),
        names=_HOUR if is_hour else {},
    )


def billed_besides(request_options: Mapping[str, Any]) -> Iterator[str]:
    """What such requests are billed for besides tokens: Anthropic's own tools have a type of their own."""
    tools = request_options.get("tools")
    listed = tools if isinstance(tools, list | tuple) else []
    kinds = {str(tool.get("type", "custom")) for tool in listed if isinstance(tool, Mapping)}
    for kind in sorted(kinds - {"custom"}):
        yield f"calls of the tool {kind}"
