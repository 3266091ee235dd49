"""Which key, account and server a config means."""

from __future__ import annotations

import os
from typing import Protocol

from batchor_core.core import enqueue_budget
from batchor_core.core.exceptions import MissingCredentialsError
from batchor_core.providers.openai.base_url import (
    account_address,
    address_spellings,
    check_base_url,
    effective_base_url,
)
from batchor_core.providers.openai.profiles import HostProfile


class Account(Protocol):
    """What an ``OpenAIProviderConfig`` says of it; what is empty or None is left to the environment."""

    @property
    def api_key(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def organization(self) -> str | None: ...
    @property
    def project(self) -> str | None: ...
    @property
    def host(self) -> HostProfile | None: ...


def resolve_openai_api_key(config: Account) -> str:
    """Return the config's key, else the one in ``OPENAI_API_KEY`` or its host's variable, without surrounding white space.

    Raises:
        MissingCredentialsError: There is neither, or no request can carry it.
    """
    at = _unsendable(find_openai_api_key(config))  # the key is no local variable of a frame that raises
    if at is not None:
        raise MissingCredentialsError(
            f"character {at + 1} of the OpenAI API key can't be sent: keys have plain ASCII letters, digits and signs alone; "
            "copy the key again"
        )
    key = find_openai_api_key(config)
    if not key:
        host = config.host
        whose, variable = ("OpenAI", "OPENAI_API_KEY") if host is None else (host.name, host.key_variable)
        raise MissingCredentialsError(
            f"no {whose} API key: set the environment variable {variable}, or OpenAIProviderConfig(api_key=...)"
        )
    return key


def _unsendable(key: str) -> int | None:
    """Where the first character is that no HTTP header holds."""
    return next((at for at, char in enumerate(key) if not (char.isascii() and char.isprintable())), None)


def find_openai_api_key(config: Account) -> str:
    """The key of :func:`resolve_openai_api_key`, or an empty string."""
    if config.host is not None:
        return config.api_key.strip() or config.host.key()
    return config.api_key.strip() or os.environ.get("OPENAI_API_KEY", "").strip()


def resolve_base_url(config: Account) -> str | None:
    """Return the config's server, else the one in ``OPENAI_BASE_URL``; None means OpenAI's own.

    Raises:
        InvalidInputError: The key may not be sent there.
    """
    url = effective_base_url(config.base_url)
    return check_base_url(url) if url else None


def resolve_account(config: Account) -> tuple[str | None, str | None]:
    """Return organization and project, from the config or from the variables that the SDK reads."""
    organization = config.organization or os.environ.get("OPENAI_ORG_ID") or None
    project = config.project or os.environ.get("OPENAI_PROJECT_ID") or None
    return organization, project


def fingerprint(key: str, config: Account) -> str:
    """Sixteen hex digits that differ between keys, accounts and servers, and from which no key can be found."""
    return _fingerprint(key, account_address(resolve_base_url(config)), config)


def earlier_fingerprints(key: str, config: Account) -> frozenset[str]:
    """What builds that took each spelling of ``base_url`` for a server of its own called the same account."""
    return frozenset(
        _fingerprint(key, address, config) for address in address_spellings(resolve_base_url(config))
    )


def _fingerprint(key: str, address: str, config: Account) -> str:
    organization, project = resolve_account(config)
    return enqueue_budget.fingerprint(key, address, organization or "", project or "")
