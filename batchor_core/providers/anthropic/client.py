"""The SDK's client, set up so that nothing is ever sent twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.anthropic.config import AnthropicProviderConfig
from batchor_core.providers.anthropic.credentials import resolve_base_url, resolve_key
from batchor_core.providers.http_client import date_reader, tls_context

if TYPE_CHECKING:  # importing the SDK takes over a second, and reading stored results needs none of it
    from anthropic import Anthropic

logger = logging.getLogger(__name__)


@cache
def _report_server(base_url: str) -> None:
    """Warn once per process and server: every run has a client of its own."""
    logger.warning("requests go to %s, since the environment variable ANTHROPIC_BASE_URL is set", base_url)


def check_installed() -> None:
    """Refuse to begin without the SDK.

    Raises:
        InvalidInputError: It is not installed; the message names the extra.
    """
    if find_spec("anthropic") is None:
        raise InvalidInputError(
            "the provider anthropic needs the package anthropic: pip install 'batchor-core[anthropic]'"
        )


def make_client(
    config: AnthropicProviderConfig, *, on_date: Callable[[float], None] | None = None
) -> Anthropic:
    """Make a client that neither retries nor follows redirects; both would post a batch a second time.

    ``on_date`` gets the server's time, seconds since 1970, with each answer that has a Date header.

    Raises:
        MissingCredentialsError: There is no key.
        InvalidInputError: ``ANTHROPIC_BASE_URL`` is not a place to send a key to, or there is no SDK.
    """
    check_installed()
    base_url = resolve_base_url(config)  # first: no key may be a local variable of a frame that raises
    if base_url is not None and config.base_url is None:
        _report_server(base_url)

    import anthropic

    return anthropic.Anthropic(
        api_key=resolve_key(config),
        base_url=base_url,
        max_retries=0,
        timeout=config.request_timeout_sec,
        http_client=anthropic.DefaultHttpxClient(
            follow_redirects=False,
            timeout=config.request_timeout_sec,
            verify=tls_context(anthropic.DefaultHttpxClient),
            event_hooks={"response": list(date_reader(on_date))},
        ),
    )
