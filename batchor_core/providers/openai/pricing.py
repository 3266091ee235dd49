"""Whose price list holds for a server that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from batchor_core.core.price_list import batch_rates
from batchor_core.core.pricing import Rates, Unpriced
from batchor_core.providers.openai.base_url import effective_base_url

_OWN_HOST = "api.openai.com"
_PRICE_LISTS = {_OWN_HOST: "openai", "api.groq.com": "groq"}
"""By host, the provider's id in genai-prices. Only hosts that count tokens as OpenAI does: the cached ones within the input,
those of reasoning within the output. OpenAI's regional hosts have a surcharge and are not among them."""

_FREE_TOOLS = {"function", "custom"}


def openai_batch_rates(
    model: str, base_url: str | None, request_options: Mapping[str, Any], *, at: datetime
) -> Rates:
    """What the tokens of a batch cost on a day. A server without a known price list has no rates."""
    url = effective_base_url(base_url)
    host = _OWN_HOST if url is None else (urlsplit(url).hostname or url)
    price_list = _PRICE_LISTS.get(host)
    if price_list is None:
        return Unpriced(f"no batch price known for the server {host}")
    return batch_rates(
        price_list, str(model), at=at, unseen=list(billed_besides(str(model), request_options))
    )


def billed_besides(model: str, request_options: Mapping[str, Any]) -> Iterator[str]:
    """What such requests are billed for besides tokens of text."""
    tools = request_options.get("tools")
    listed = tools if isinstance(tools, list | tuple) else [tools]
    kinds = {str(tool.get("type")) for tool in listed if isinstance(tool, Mapping)}
    if "search-preview" in model or "search-api" in model or "web_search_options" in request_options:
        kinds.add("web_search")
    for kind in sorted(kinds - _FREE_TOOLS):
        yield f"calls of the tool {kind}"
    modalities = request_options.get("modalities")
    if isinstance(modalities, list | tuple) and "audio" in modalities:
        yield "tokens of audio, which have a price of their own"
