"""Which servers a key may be sent to."""

from __future__ import annotations

import os

from batchor_core.core.server_address import normal_address, spellings
from batchor_core.providers import server_url

OWN_URL = "https://api.openai.com/v1"


def effective_base_url(base_url: str | None) -> str | None:
    """The server of a config with this ``base_url``: falls back to ``OPENAI_BASE_URL``; None means OpenAI's own."""
    return base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or None


def account_address(url: str | None) -> str:
    """The server as part of an account: one spelling for each, and an empty string for OpenAI's own."""
    normal = normal_address(url or "")
    return "" if normal == OWN_URL else normal


def address_spellings(url: str | None) -> list[str]:
    """How builds before :func:`account_address` may have put the same server down."""
    return spellings(url or OWN_URL) + ([] if account_address(url) else [""])


def check_base_url(url: str) -> str:
    """See :func:`~batchor_core.providers.server_url.check_base_url`."""
    return server_url.check_base_url(url, example=OWN_URL)
