"""OpenAI's profile."""

from __future__ import annotations

from batchor_core.providers.openai import OpenAIEnqueueLimitConfig, OpenAIProviderConfig, tokens
from batchor_core.providers.openai.client import make_client
from batchor_core.providers.openai.provider import OpenAIBatchProvider
from batchor_core.providers.registry import build_default_provider_registry
from tests.chaos.profile import Profile, Request


class Unfenced(OpenAIBatchProvider):
    """A provider without the file fence: what it is asked to delete stays."""

    def remove_input_file(self, file_id: str) -> None:
        """Say that it is gone."""

    def delete_input_file(self, file_id: str) -> None:
        """Say nothing."""


def config(url: str, token_limit: int) -> OpenAIProviderConfig:
    """The account."""
    return OpenAIProviderConfig(
        model="gpt-4.1-mini",
        api_key="sk-chaos",
        base_url=f"{url}/v1",
        request_timeout_sec=0.4,
        poll_interval_sec=0.01,
        enqueue_limits=OpenAIEnqueueLimitConfig(enqueued_token_limit=token_limit),
    )


def warm_up() -> None:
    """The SDK; and no driver downloads a vocabulary: characters are counted."""
    client = make_client(OpenAIProviderConfig(model="gpt-4.1-mini", api_key="sk-chaos"))
    for imported_late in (client.batches, client.files):
        assert imported_late is not None
    client.close()
    tokens._encodings[tokens.DEFAULT_ENCODING] = None


PROFILE = Profile(
    name="openai",
    config=config,
    api=OpenAIBatchProvider,
    careless=Unfenced,
    registry=build_default_provider_registry,
    requests={
        Request.UPLOAD: ("POST", "/v1/files"),
        Request.CREATE: ("POST", "/v1/batches"),
        Request.LIST: ("GET", "/v1/batches"),
        Request.POLL: ("GET", "/v1/batches/batch_*"),
        Request.LOOK_UP_FILE: ("GET", "/v1/files/batch_*put"),
        Request.DOWNLOAD: ("GET", "/v1/files/*/content"),
        Request.DELETE: ("DELETE", "/v1/files/*"),
        Request.CANCEL: ("POST", "/v1/batches/*/cancel"),
    },
    warm_up=warm_up,
)
