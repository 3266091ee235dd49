"""Which key and server a config means."""

from __future__ import annotations

import os
from typing import Protocol

from batchor_core.core import enqueue_budget
from batchor_core.core.exceptions import MissingCredentialsError
from batchor_core.core.server_address import normal_address
from batchor_core.providers.server_url import check_base_url

OWN_URL = "https://api.anthropic.com"


class Account(Protocol):
    """What a config says of it; what is empty or None is left to the environment."""

    @property
    def api_key(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...


def find_key(config: Account) -> str:
    """The config's key, else the one in ``ANTHROPIC_API_KEY``; an empty string if there is none."""
    return config.api_key.strip() or os.environ.get("ANTHROPIC_API_KEY", "").strip()


def resolve_key(config: Account) -> str:
    """The same.

    Raises:
        MissingCredentialsError: There is none, or no request can carry it.
    """
    key = find_key(config)
    if not key:
        raise MissingCredentialsError(
            "no Anthropic API key: set the environment variable ANTHROPIC_API_KEY, or AnthropicProviderConfig(api_key=...)"
        )
    if not (key.isascii() and key.isprintable()):
        del key  # no local variable of a frame that raises
        raise MissingCredentialsError(
            "the Anthropic API key has characters that can't be sent: keys have plain ASCII letters, digits and signs "
            "alone; copy the key again"
        )
    return key


def resolve_base_url(config: Account) -> str | None:
    """The config's server, else the one in ``ANTHROPIC_BASE_URL``; None means Anthropic's own.

    Raises:
        InvalidInputError: The key may not be sent there.
    """
    url = config.base_url or os.environ.get("ANTHROPIC_BASE_URL", "").strip() or None
    return check_base_url(url, example=OWN_URL) if url else None


def fingerprint(key: str, config: Account) -> str:
    """Sixteen hex digits that differ between keys and servers, and from which no key can be found."""
    url = normal_address(resolve_base_url(config) or "")
    return enqueue_budget.fingerprint(key, "anthropic", "" if url == OWN_URL else url)
