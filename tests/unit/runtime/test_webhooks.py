"""A signed call wakes the run of its batch; what is not signed does nothing, and no call is believed."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from hashlib import sha256
from hmac import digest
from typing import Any

import httpx
import pytest
from openai import OpenAI
from starlette.applications import Starlette
from starlette.routing import Route

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.runtime.runner import BatchRunner
from batchor_core.webhooks import WebhookReceiver, WebhookSignatureError, verify, verify_and_wake
from tests.support.world import RUN, World, text_job

KEY = b"0123456789abcdef01234567"
SECRET = "whsec_" + b64encode(KEY).decode()


def call(
    batch_id: str, *, kind: str = "batch.completed", at: float | None = None
) -> tuple[bytes, dict[str, str]]:
    """A call as OpenAI sends it: body and headers."""
    event = {"object": "event", "id": "evt_1", "type": kind, "created_at": 1, "data": {"id": batch_id}}
    body = json.dumps(event).encode()
    sent_at = str(int(time.time() if at is None else at))
    signature = b64encode(digest(KEY, f"wh_1.{sent_at}.".encode() + body, sha256)).decode()
    return body, {"webhook-id": "wh_1", "webhook-timestamp": sent_at, "webhook-signature": f"v1,{signature}"}


def test_what_openai_s_own_sdk_takes_is_taken() -> None:
    body, headers = call("batch_1")
    OpenAI(api_key="any").webhooks.verify_signature(body, headers, secret=SECRET)
    assert verify(headers=headers, body=body, secret=SECRET)["data"] == {"id": "batch_1"}
    several = {"Webhook-Id": headers["webhook-id"], "WEBHOOK-TIMESTAMP": headers["webhook-timestamp"]}
    several["webhook-signature"] = f"v1,AAAA v2,x {headers['webhook-signature']}"
    assert verify(headers=several, body=body, secret=SECRET)["type"] == "batch.completed"


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,ü"},
        {"webhook-id": "wh_2"},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "9" * 400},
    ],
)
def test_what_is_not_signed_or_old_is_refused(change: dict[str, str]) -> None:
    body, headers = call("batch_1")
    with pytest.raises(WebhookSignatureError):
        verify(headers=headers | change, body=body, secret=SECRET)
    with pytest.raises(WebhookSignatureError):
        verify(headers=headers, body=body + b" ", secret=SECRET)
    with pytest.raises(WebhookSignatureError, match="webhook-id"):
        verify(headers={}, body=body, secret=SECRET)


def test_what_is_signed_may_still_be_no_event() -> None:
    body = b"[" * 100_000
    sent_at = str(int(time.time()))
    signature = b64encode(digest(KEY, f"wh_1.{sent_at}.".encode() + body, sha256)).decode()
    headers = {
        "webhook-id": "wh_1",
        "webhook-timestamp": sent_at,
        "webhook-signature": f"v1,{signature}",
    }
    with pytest.raises(InvalidInputError, match="is no JSON"):
        verify(headers=headers, body=body, secret=SECRET)
    text: Any = "[]"
    with pytest.raises(InvalidInputError, match="body must be the bytes of the call"):
        verify(headers=headers, body=text, secret=SECRET)


@pytest.mark.parametrize("secret", ["whsec_", "", "whsec_?", None, b"whsec_"])
def test_a_secret_that_is_none_is_an_error_of_the_one_who_gave_it(world: World, secret: Any) -> None:
    with pytest.raises(InvalidInputError, match="secret"):
        WebhookReceiver(world.runner(), secret=secret)


def test_the_run_of_the_batch_is_polled_at_once(any_world: World) -> None:
    runner = any_world.runner()
    others = runner.start(text_job(1), run_id="others")
    run = runner.start(text_job(2), run_id=RUN)
    batch_id = any_world.batch_ids()[-1]
    any_world.provider.set_statuses(batch_id, "completed")
    body, headers = call(batch_id)
    woken = verify_and_wake(any_world.runner(), headers=headers, body=body, secret=SECRET)
    assert woken is not None
    assert woken.run_id == RUN
    assert run.summary().completed_items == 2
    assert others.summary().completed_items == 0
    assert verify_and_wake(runner, headers=headers, body=body, secret=SECRET) is None  # it is repeated


def test_no_call_is_believed(world: World) -> None:
    world.provider.statuses = ["in_progress"] * 100
    run = world.start(text_job(2))
    for kind in ("batch.completed", "batch.failed", "batch.expired", "batch.succeeded"):
        body, headers = call(world.batch_ids()[0], kind=kind)
        verify_and_wake(world.runner(), headers=headers, body=body, secret=SECRET)
    assert run.summary().active_batches == 1
    assert world.provider.count("get_batch") == 4
    body, headers = call("batch_of_nobody")
    assert verify_and_wake(world.runner(), headers=headers, body=body, secret=SECRET) is None
    body, headers = call(world.batch_ids()[0], kind="response.completed")
    assert verify_and_wake(world.runner(), headers=headers, body=body, secret=SECRET) is None


async def posted(runner: BatchRunner, *calls: tuple[bytes, dict[str, str]]) -> list[int]:
    """The status of each call to a Starlette application."""
    app = Starlette(routes=[Route("/hook", WebhookReceiver(runner, secret=SECRET))])
    transport: Any = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return [
            (await client.post("/hook", content=body, headers=headers)).status_code for body, headers in calls
        ]


def test_a_route_answers_and_wakes(world: World) -> None:
    run = world.start(text_job(2))
    [batch_id] = world.batch_ids()
    world.provider.set_statuses(batch_id, "completed")
    good, (body, headers) = call(batch_id), call(batch_id)
    forged = (body, headers | {"webhook-signature": "v1,AAAA"})
    huge = (b"x" * 2_000_000, headers)
    assert asyncio.run(posted(world.runner(), forged, huge)) == [401, 413]
    assert run.summary().completed_items == 0
    assert asyncio.run(posted(world.runner(), good, good)) == [204, 204]
    assert run.summary().completed_items == 2


def test_a_wake_up_that_fails_is_logged_and_answered(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.start(text_job(2))

    class Broken(BatchRunner):
        def list_runs(self) -> Any:
            raise OSError("no store")

    broken = Broken(storage=world.store, provider_registry=world.registry(), artifact_store=world.artifacts)
    assert asyncio.run(posted(broken, call(world.batch_ids()[0]))) == [204]
    assert "could not be woken" in caplog.text
