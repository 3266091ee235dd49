"""Gemini's profile."""

from __future__ import annotations

from dataclasses import replace

from batchor_core.providers.gemini import GeminiBatchApi, GeminiProviderConfig, errors
from batchor_core.providers.gemini.client import Received, make_client
from batchor_core.providers.registry import build_default_provider_registry
from batchor_core.testing.gemini_server import GeminiServer
from tests.chaos.profile import Profile, Request


class Careless(GeminiBatchApi):
    """Takes what it does not find for never created."""

    def __init__(self, config: GeminiProviderConfig) -> None:
        super().__init__(config)
        self.limits = replace(self.limits, lifetime_sec=0.0)


def config(url: str, token_limit: int) -> GeminiProviderConfig:
    """The account."""
    return GeminiProviderConfig(
        model="gemini-3-flash",
        api_key="AIza-chaos",
        base_url=url,
        request_timeout_sec=0.4,
        poll_interval_sec=0.01,
        enqueue_limits={"enqueued_token_limit": token_limit},
    )


def warm_up() -> None:
    """The SDK; and no driver waits a minute for a full queue."""
    errors.CAPACITY_RETRY_SEC = 0.0
    account = GeminiProviderConfig(model="gemini-3-flash", api_key="AIza-chaos")
    client = make_client(account, timeout_sec=1, received=Received(), on_date=lambda date: None)
    for imported_late in (client.batches, client.files):
        assert imported_late is not None
    client.close()


PROFILE = Profile(
    name="gemini",
    config=config,
    api=GeminiBatchApi,
    careless=Careless,
    registry=build_default_provider_registry,
    requests={
        Request.UPLOAD: ("POST", "/upload/v1/files"),
        Request.CREATE: ("POST", "/v1/models/*:batchGenerateContent"),
        Request.LIST: ("GET", "/v1/batches"),
        Request.POLL: ("GET", f"/v1/batches/{'?' * 32}"),
        Request.LOOK_UP_FILE: ("GET", "/v1/files/file-????????????????????????????????"),
        Request.DOWNLOAD: ("GET", "/v1/files/*:download"),
        Request.DELETE: ("DELETE", "/v1/files/*"),
        Request.CANCEL: ("POST", "/v1/batches/*:cancel"),
    },
    server=GeminiServer,
    warm_up=warm_up,
)
