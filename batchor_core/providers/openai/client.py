"""The SDK's client, set up so that nothing is ever sent twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from batchor_core.providers.http_client import date_reader, tls_context
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.credentials import (
    resolve_account,
    resolve_base_url,
    resolve_openai_api_key,
)

if TYPE_CHECKING:  # importing the SDK takes over a second, and reading stored results needs none of it
    from openai import OpenAI

TRANSFER_TIMEOUT_SEC = 600.0
"""Least patience for uploads and downloads, seconds without any progress: the service answers an upload of 200 MB late."""

logger = logging.getLogger(__name__)


@cache
def _report_server(base_url: str) -> None:
    """Warn once per process and server: every run has a client of its own."""
    logger.warning("requests go to %s, since the environment variable OPENAI_BASE_URL is set", base_url)


def make_client(
    config: OpenAIProviderConfig,
    *,
    on_date: Callable[[float], None] | None = None,
    on_content_type: Callable[[str], None] | None = None,
) -> OpenAI:
    """Make a client that neither retries nor follows redirects; both would post a batch a second time.

    ``on_date`` gets the server's time, seconds since 1970, with each answer that has a Date header; ``on_content_type`` gets
    the type of each answer, in the thread of its request.

    Raises:
        MissingCredentialsError: There is no key.
        InvalidInputError: ``OPENAI_BASE_URL`` is not a place to send a key to.
    """
    base_url = resolve_base_url(config)  # first: no key may be a local variable of a frame that raises
    if base_url is not None and config.base_url is None:
        _report_server(base_url)
    organization, project = resolve_account(config)

    import openai

    return openai.OpenAI(
        api_key=resolve_openai_api_key(config),
        base_url=base_url,
        organization=organization,
        project=project,
        max_retries=0,
        timeout=config.request_timeout_sec,
        http_client=openai.DefaultHttpxClient(
            follow_redirects=False,
            timeout=config.request_timeout_sec,
            verify=tls_context(openai.DefaultHttpxClient),
            event_hooks={"response": [*date_reader(on_date), *_type_reader(on_content_type)]},
        ),
    )


def _type_reader(on_content_type: Callable[[str], None] | None) -> Iterator[Callable[[Any], None]]:
    if on_content_type is not None:
        yield lambda response: on_content_type(response.headers.get("content-type") or "")


def with_timeout(client: Any, seconds: float) -> Any:
    """The same client with another timeout, and without retries even where the user made it.

    A stand-in without ``with_options`` is used as it is.
    """
    with_options = getattr(client, "with_options", None)
    return with_options(max_retries=0, timeout=seconds) if callable(with_options) else client
