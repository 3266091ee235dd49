"""Webhooks of a provider as a wake-up: a batch has ended, so its run is polled now and not at its next turn.

A call is taken only if it is signed, in the way of Standard Webhooks (https://www.standardwebhooks.com), which OpenAI and
Gemini's project webhooks follow. Its content is not trusted: the run is polled, and the provider's response counts. So a repeated call
costs a poll, a lost one costs the time until the next poll, and a forged one costs nothing.
"""

from __future__ import annotations

import binascii
import hmac
import json
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from hashlib import sha256
from typing import Any

from batchor_core.core.arguments import check_instance, shown
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import BatchorError, InvalidInputError
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner

__all__ = ["WebhookReceiver", "WebhookSignatureError", "verify", "verify_and_wake", "wake"]

TOLERANCE_SEC = 300.0
"""How old a call may be, and how far ahead its sender's clock."""

LARGEST_BODY_BYTES = 1024 * 1024

log = logging.getLogger("batchor_core.webhooks")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WebhookSignatureError(BatchorError, ValueError):
    """A call is not signed with the secret, or too old; whoever sent it, nothing was done."""


def verify(
    *, headers: Mapping[str, str], body: bytes, secret: str, now: float | None = None
) -> dict[str, Any]:
    """Return the event in a webhook's body, if it is signed with the secret.

    Args:
        headers: Of the call; their names may be in any case.
        body: As it came, byte for byte.
        secret: The endpoint's signing secret, ``whsec_...``.
        now: Seconds since the epoch; by default the present.

    Raises:
        WebhookSignatureError: A header is missing, the call is older than five minutes, or no signature fits.
        InvalidInputError: An argument is of a wrong type, the secret is none, or what is signed is no JSON object.
    """
    if not isinstance(body, bytes | bytearray):
        raise InvalidInputError(f"body must be the bytes of the call, as they came, not {shown(body)}")
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent_at, signatures = (
            given[f"webhook-{name}"] for name in ("id", "timestamp", "signature")
        )
        age = (time.time() if now is None else now) - int(sent_at)
    except (KeyError, ValueError, OverflowError) as error:
        raise WebhookSignatureError(f"the call has no usable webhook headers: {error}") from error
    if abs(age) > TOLERANCE_SEC:
        raise WebhookSignatureError(f"the call is {age:.0f} s old; {TOLERANCE_SEC:.0f} are allowed")
    signed = f"{message_id}.{sent_at}.".encode() + body
    expected = b64encode(hmac.digest(_key(secret), signed, sha256))
    versions = (one.partition(",") for one in signatures.split())
    fits = [
        hmac.compare_digest(value.encode(), expected) for version, _, value in versions if version == "v1"
    ]
    if not any(fits):
        raise WebhookSignatureError("no signature of the call fits the secret; is it this endpoint's?")
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"the webhook's body is no JSON: {error}") from error
    if not isinstance(event, dict):
        raise InvalidInputError("the webhook's body is no JSON object")
    return event


def _key(secret: str) -> bytes:
    check_instance("secret", secret, str, hint="; is its environment variable set?" if secret is None else "")
    try:
        key = b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError(
            "the webhook secret must be whsec_ and base64, as the provider shows it"
        ) from error
    if not key:
        raise InvalidInputError(
            "the webhook secret is empty; take the one that the provider shows for the endpoint"
        )
    return key


def verify_and_wake(
    runner: BatchRunner, *, headers: Mapping[str, str], body: bytes, secret: str
) -> Run | None:
    """Verify a webhook, and do a cycle of the run whose batch it names: poll, collect, send what is next.

    It needs the provider's key, and takes as long as a cycle does; a web server answers the call first, as :class:`WebhookReceiver`
    does. A run that another process is driving at the moment is left to it.

    Returns:
        The run; None if the event is about no batch in flight of this store.

    Raises:
        WebhookSignatureError: The call is not signed with the secret.
        InvalidInputError: The secret is none, or what is signed is no JSON object.
    """
    return wake(runner, verify(headers=headers, body=body, secret=secret))


def wake(runner: BatchRunner, event: Mapping[str, Any]) -> Run | None:
    """Do a cycle of the run whose batch an event of :func:`verify` names, if one of this store has it in flight."""
    data = event.get("data")
    batch_id = data.get("id") if isinstance(data, dict) else None
    if not str(event.get("type")).startswith("batch.") or not isinstance(batch_id, str):
        return None
    for listing in runner.list_runs():
        summary = listing.summary
        if summary.status is not RunLifecycleStatus.RUNNING or not summary.active_batches:
            continue
        batches = runner.storage.get_active_batches(run_id=listing.run_id)
        if any(batch.provider_batch_id == batch_id for batch in batches):
            run = runner.get_run(listing.run_id)
            run.refresh()
            return run
    return None


class WebhookReceiver:
    """An ASGI application that takes webhooks, for a route of FastAPI, Starlette or any other ASGI server.

    A call is answered as soon as it is verified, with 204; the run is woken after that, in a thread of the runner. Calls that are
    not signed get 401, and nothing else happens.

    Args:
        runner: Whose runs are woken.
        secret: The endpoint's signing secret, ``whsec_...``.

    Raises:
        InvalidInputError: The secret is none.
    """

    def __init__(self, runner: BatchRunner, *, secret: str) -> None:
        _key(secret)
        self._runner = runner
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one call, as ASGI has it."""
        if scope["type"] != "http":
            return None
        if scope["method"] != "POST":
            return await _answer(send, 405)
        body = await _body(receive)
        if body is None:
            return await _answer(send, 413)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            event = verify(headers=headers, body=body, secret=self._secret)
        except WebhookSignatureError as error:
            log.warning("a webhook was refused: %s", error)
            return await _answer(send, 401)
        except InvalidInputError as error:
            log.warning("a webhook was refused: %s", error)
            return await _answer(send, 400)
        await _answer(send, 204)
        try:
            await self._runner._runs.threads.run(partial(wake, self._runner, event))
        except Exception:  # it has been answered; polling finds what was missed
            log.exception("the run of a webhook could not be woken; it goes on with its next poll")


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if it is larger than any webhook's."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY_BYTES:
            return None
    return bytes(body)


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
