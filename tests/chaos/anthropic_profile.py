"""Anthropic's profile."""

from __future__ import annotations

from dataclasses import replace

from batchor_core.providers.anthropic import AnthropicBatchApi, AnthropicProviderConfig
from batchor_core.providers.anthropic.api import PATH
from batchor_core.providers.anthropic.client import make_client
from batchor_core.providers.registry import build_default_provider_registry
from batchor_core.testing.anthropic_server import AnthropicServer
from tests.chaos.profile import Profile, Request


class Careless(AnthropicBatchApi):
    """Takes what it does not find for never created."""

    limits = replace(AnthropicBatchApi.limits, lifetime_sec=0.0)


def config(url: str, token_limit: int) -> AnthropicProviderConfig:
    """The account."""
    return AnthropicProviderConfig(
        model="claude-sonnet-4-5",
        api_key="sk-ant-chaos",
        base_url=url,
        request_timeout_sec=0.4,
        poll_interval_sec=0.01,
        enqueue_limits={"enqueued_token_limit": token_limit},
    )


def warm_up() -> None:
    """The SDK."""
    client = make_client(AnthropicProviderConfig(model="claude-sonnet-4-5", api_key="sk-ant-chaos"))
    assert client.messages.batches is not None
    client.close()


PROFILE = Profile(
    name="anthropic",
    config=config,
    api=AnthropicBatchApi,
    careless=Careless,
    registry=build_default_provider_registry,
    requests={
        Request.CREATE: ("POST", PATH),
        Request.LIST: ("GET", PATH),
        Request.POLL: ("GET", f"{PATH}/msgbatch_{'?' * 32}"),
        Request.DOWNLOAD: ("GET", f"{PATH}/*/results"),
        Request.CANCEL: ("POST", f"{PATH}/*/cancel"),
    },
    server=AnthropicServer,
    warm_up=warm_up,
)
