"""The SDK's client, set up so that nothing is ever sent twice, and so that answers can be read as they came."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.gemini.credentials import (
    Account,
    resolve_api_key,
    resolve_base_url,
)
from batchor_core.providers.http_client import tls_context
from batchor_core.providers.http_errors import timestamp

if TYPE_CHECKING:  # importing the SDK takes seconds, and reading stored results needs none of it
    from google.genai import Client

logger = logging.getLogger(__name__)

TRANSFER_TIMEOUT_SEC = 600.0
"""Least patience for uploads and downloads, in seconds without any progress."""

_DOWNLOAD = ":download"
_UPLOAD_STATUS = "x-goog-upload-status"


class Received(threading.local):
    """The last answer that this thread has received.

    Attributes:
        json: Its body, decoded; None for a download and for what is no JSON.
        size: How many bytes it announced; None if it did not.
    """

    json: Any = None
    size: int | None = None


@cache
def _report_server(base_url: str) -> None:
    """Warn once per process and server: every run has a client of its own."""
    logger.warning("requests go to %s, since an environment variable says so", base_url)


def check_installed() -> None:
    """Refuse to begin without the SDK.

    Raises:
        InvalidInputError: It is not installed; the message names the extra.
    """
    if find_spec("google") is None or find_spec("google.genai") is None:
        raise InvalidInputError(
            "the provider gemini needs the package google-genai: pip install 'batchor-core[gemini]'"
        )


def make_client(
    config: Account, *, timeout_sec: float, received: Received, on_date: Callable[[float], None]
) -> Client:
    """Make a client that neither retries nor follows redirects; both would create a batch a second time.

    Args:
        config: Key and server.
        timeout_sec: Of each request, unless it is given another.
        received: Gets each answer.
        on_date: Gets the server's time, seconds since 1970, with each answer that says it.

    Raises:
        MissingCredentialsError: There is no key.
        InvalidInputError: The variable of the environment is not a place to send a key to, or there is no SDK.
    """
    check_installed()
    base_url = resolve_base_url(config)  # first: no key may be a local variable of a frame that raises
    if base_url is not None and config.base_url is None:
        _report_server(base_url)

    import httpx2
    from google import genai
    from google.genai import types

    context = tls_context(httpx2.Client)

    def note(response: Any) -> None:
        date = timestamp(response.headers.get("date"))
        if date is not None:
            on_date(date)
        received.json, received.size = None, _size(response)
        if response.request.url.path.endswith(_DOWNLOAD) and response.status_code == 200:
            return  # it is streamed to the disk
        response.read()
        received.json = _json(response)
        if "x-goog-upload-command" in response.request.headers and _UPLOAD_STATUS not in response.headers:
            # the SDK would send the same piece three times more
            response.headers[_UPLOAD_STATUS] = "cancelled"

    return genai.Client(
        api_key=resolve_api_key(config),
        vertexai=False,  # the variables of the environment that mean another API are not followed
        http_options=types.HttpOptions(
            base_url=base_url,
            timeout=int(timeout_sec * 1_000) or 1,
            client_args={"follow_redirects": False, "verify": context, "event_hooks": {"response": [note]}},
            # of the asynchronous transports, which are not used: each would load the certificates again
            async_client_args={"verify": context, "ssl": context},
        ),
    )


def patient(timeout_sec: float) -> dict[str, Any]:
    """The options of a request that transfers a file."""
    return {"http_options": {"timeout": int(max(timeout_sec, TRANSFER_TIMEOUT_SEC) * 1_000)}}


def _json(response: Any) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _size(response: Any) -> int | None:
    if response.headers.get("content-encoding", "identity") != "identity":
        return None
    size = response.headers.get("content-length", "")
    return int(size) if size.isdigit() else None
