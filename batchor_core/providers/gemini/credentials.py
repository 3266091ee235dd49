"""Which key and server a config means."""

from __future__ import annotations

import os
from typing import Protocol

from batchor_core.core import enqueue_budget
from batchor_core.core.exceptions import MissingCredentialsError
from batchor_core.core.server_address import normal_address
from batchor_core.providers.server_url import check_base_url

OWN_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
"""In the SDK's order."""

URL_VARIABLES = ("GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL")
"""The second is the SDK's."""


class Account(Protocol):
    """What a ``GeminiProviderConfig`` says of it; what is empty or None is left to the environment."""

    @property
    def api_key(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...


def find_api_key(config: Account) -> str:
    """The config's key, else the one in the environment, else an empty string."""
    from_environment = (os.environ.get(name, "").strip() for name in KEY_VARIABLES)
    return config.api_key.strip() or next(filter(None, from_environment), "")


def resolve_api_key(config: Account) -> str:
    """The same key.

    Raises:
        MissingCredentialsError: There is none, or no request can carry it.
    """
    # the key is no local variable of a frame that raises
    if not find_api_key(config):
        raise MissingCredentialsError(
            "no Gemini API key: set the environment variable GEMINI_API_KEY, or GeminiProviderConfig(api_key=...)"
        )
    if not (find_api_key(config).isascii() and find_api_key(config).isprintable()):
        raise MissingCredentialsError(
            "the Gemini API key can't be sent: keys have plain ASCII letters, digits and signs alone; copy the key again"
        )
    return find_api_key(config)


def effective_base_url(base_url: str | None) -> str | None:
    """The server of a config with this ``base_url``: falls back to the environment; None means Google's own."""
    from_environment = (os.environ.get(name, "").strip() for name in URL_VARIABLES)
    return base_url or next(filter(None, from_environment), None)


def resolve_base_url(config: Account) -> str | None:
    """The same server.

    Raises:
        InvalidInputError: The key may not be sent there.
    """
    url = effective_base_url(config.base_url)
    return check_base_url(url, example=OWN_URL) if url else None


def fingerprint(config: Account) -> str | None:
    """Sixteen hex digits that differ between keys and servers, and from which no key can be found; None without a key."""
    url = normal_address(resolve_base_url(config) or "")
    key = find_api_key(config)
    return enqueue_budget.fingerprint(key, "" if url == OWN_URL else url) if key else None
