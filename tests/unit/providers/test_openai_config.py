from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from batchor_core.core.enums import OpenAIEndpoint, OpenAIModel, OpenAIReasoningEffort, ProviderKind
from batchor_core.core.exceptions import InvalidInputError, MissingCredentialsError
from batchor_core.providers.base import EnqueueBudget
from batchor_core.providers.openai import (
    OpenAIBatchProvider,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    resolve_openai_api_key,
)
from batchor_core.providers.openai.base_url import check_base_url


def config(**settings: Any) -> OpenAIProviderConfig:
    return OpenAIProviderConfig(**{"model": "gpt-4.1", **settings})


def test_the_documented_defaults() -> None:
    default = OpenAIProviderConfig("gpt-4.1")
    assert (default.api_key, default.endpoint, default.completion_window) == (
        "",
        OpenAIEndpoint.RESPONSES,
        "24h",
    )
    assert (default.request_timeout_sec, default.poll_interval_sec, default.reasoning_effort) == (
        30,
        1.0,
        None,
    )
    assert default.enqueue_limits == OpenAIEnqueueLimitConfig(0, 0.7, 0, 0)
    assert default.provider_kind is ProviderKind.OPENAI


def test_names_may_be_constants_or_strings() -> None:
    assert config(model=OpenAIModel.GPT_5_MINI) == config(model="gpt-5-mini")
    assert config(endpoint="/v1/chat/completions").endpoint is OpenAIEndpoint.CHAT_COMPLETIONS
    assert config(reasoning_effort="xhigh") == config(reasoning_effort=OpenAIReasoningEffort.XHIGH)
    assert config(model="released-tomorrow", reasoning_effort="more").model == "released-tomorrow"


def test_it_is_frozen_and_hashable() -> None:
    with pytest.raises(FrozenInstanceError):
        config().model = "other"  # type: ignore[misc]
    assert hash(config(request_options={"temperature": 0})) == hash(
        config(request_options={"temperature": 0})
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"model": ""},
        {"model": "  "},
        {"endpoint": "/v1/videos"},
        {"completion_window": ""},
        {"request_timeout_sec": 0},
        {"request_timeout_sec": float("inf")},
        {"request_timeout_sec": float("nan")},
        {"poll_interval_sec": -1},
        {"poll_interval_sec": float("nan")},
        {"reasoning_effort": ""},
        {"base_url": ""},
        {"base_url": "http://example.com/v1"},
        {"max_output_tokens": 0},
        {"organization": ""},
        {"request_options": {"model": "other"}},
        {"request_options": {"stream": True}},
        {"request_options": {"temperature": float("nan")}},
        {"request_options": {"x": object()}},
    ],
)
def test_values_that_cant_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        config(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": None},
        {"model": 3},
        {"api_key": None},
        {"endpoint": 1},
        {"completion_window": 24},
        {"request_timeout_sec": "30"},
        {"request_timeout_sec": True},
        {"poll_interval_sec": "1"},
        {"reasoning_effort": 1},
        {"enqueue_limits": "many"},
        {"base_url": 1},
        {"max_output_tokens": 1.5},
        {"organization": 1},
        {"project": []},
        {"request_options": []},
    ],
)
def test_wrong_types_are_type_errors_made_or_loaded(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        config(**settings)
    with pytest.raises(TypeError):
        OpenAIProviderConfig.from_payload({**config().to_payload(), **settings})


def test_a_payload_needs_a_model_and_nothing_else() -> None:
    assert OpenAIProviderConfig.from_payload({"model": "gpt-4.1"}) == config()
    assert OpenAIProviderConfig.from_payload({"model": "gpt-4.1", "from_the_future": 1}) == config()
    with pytest.raises(TypeError, match="model"):
        OpenAIProviderConfig.from_payload({})


def test_the_key_is_in_the_full_payload_only() -> None:
    secret = config(api_key="sk-secret")
    assert secret.to_payload()["api_key"] == "sk-secret"
    assert "api_key" not in secret.to_public_payload()
    assert "sk-secret" not in repr(secret)
    assert secret.to_payload() == {"api_key": "sk-secret", **secret.to_public_payload()}


def test_pickles_leave_the_key_behind_and_copies_keep_it() -> None:
    secret = config(api_key="sk-secret", request_options={"metadata": {"a": "b"}})
    assert pickle.loads(pickle.dumps(secret)) == replace(secret, api_key="")
    assert copy.copy(secret) == copy.deepcopy(secret) == secret
    assert copy.deepcopy(secret).request_options["metadata"] is not secret.request_options["metadata"]


def test_the_configs_key_comes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingCredentialsError):
        resolve_openai_api_key(config())
    monkeypatch.setenv("OPENAI_API_KEY", "from-env\n")
    assert resolve_openai_api_key(config()) == "from-env"
    assert resolve_openai_api_key(config(api_key="mine")) == "mine"
    assert resolve_openai_api_key(config(api_key="  ")) == "from-env"


@pytest.mark.parametrize("key", ["sk-t\u00e9st-abcdefgh", "sk-a\nb", "sk-a\u2013b"])
def test_a_key_that_no_request_can_carry_is_named_and_not_shown(key: str) -> None:
    with pytest.raises(MissingCredentialsError, match=r"character 5 of the OpenAI API key") as caught:
        resolve_openai_api_key(config(api_key=key))
    assert "sk-" not in str(caught.value)


def test_fingerprints_tell_accounts_apart() -> None:
    accounts = [
        config(api_key="a"),
        config(api_key="b"),
        config(api_key="a", organization="o"),
        config(api_key="a", project="o"),
        config(api_key="a", base_url="https://example.com/v1"),
    ]
    prints = [OpenAIBatchProvider(account).key_fingerprint() for account in accounts]
    assert len(set(prints)) == len(prints)
    assert OpenAIBatchProvider(config(api_key="a", model="other")).key_fingerprint() == prints[0]


@pytest.mark.parametrize(
    ("limits", "inflight", "batch"),
    [
        (OpenAIEnqueueLimitConfig(), 0, 0),
        (OpenAIEnqueueLimitConfig(1_000), 700, 700),
        (OpenAIEnqueueLimitConfig(1_000, 1.0), 1_000, 1_000),
        (OpenAIEnqueueLimitConfig(1_000, 0.9, 300), 700, 700),
        (OpenAIEnqueueLimitConfig(1_000, 0.7, 0, 200), 700, 200),
        (OpenAIEnqueueLimitConfig(1_000, 0.7, 0, 900), 700, 700),
        (OpenAIEnqueueLimitConfig(0, 0.7, 0, 200), 0, 200),
        (OpenAIEnqueueLimitConfig(1, 0.1), 1, 1),
    ],
)
def test_the_budget_is_the_smaller_of_share_and_limit_less_headroom(
    limits: OpenAIEnqueueLimitConfig, inflight: int, batch: int
) -> None:
    assert (limits.inflight_limit, limits.batch_limit) == (inflight, batch)
    provider = OpenAIBatchProvider(config(api_key="k", enqueue_limits=limits))
    key = f"openai:{provider.key_fingerprint()}:gpt-4.1"
    assert provider.enqueue_budget() == (EnqueueBudget(key, inflight, batch) if batch else None)


@pytest.mark.parametrize(
    "limits",
    [
        {"enqueued_token_limit": -1},
        {"headroom": -1},
        {"max_batch_enqueued_tokens": -1},
        {"target_ratio": 0},
        {"target_ratio": 1.1},
        {"target_ratio": float("nan")},
        {"enqueued_token_limit": 10, "headroom": 10},
    ],
)
def test_limits_that_leave_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        OpenAIEnqueueLimitConfig(**limits)


@pytest.mark.parametrize(
    "payload", [{"enqueued_token_limit": "1"}, {"headroom": 1.5}, {"target_ratio": None}, []]
)
def test_limits_of_wrong_types_are_type_errors(payload: Any) -> None:
    with pytest.raises(TypeError):
        OpenAIEnqueueLimitConfig.from_payload(payload)


def test_limits_survive_storage() -> None:
    limits = OpenAIEnqueueLimitConfig(1_000, 0.5, 10, 20)
    assert OpenAIEnqueueLimitConfig.from_payload(limits.to_payload()) == limits


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://R.openai.azure.com/openai/v1/",
        "http://localhost:8000/v1",
        "http://127.0.0.1/v1",
        "http://127.8.8.8:1/v1",
        "http://[::1]:8000/v1",
        "http://app.localhost/v1",
    ],
)
def test_a_key_may_be_sent(url: str) -> None:
    assert check_base_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1",
        "http://10.0.0.1/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://0.0.0.0/v1",
        "https://user:secret@example.com/v1",
        "https://user@example.com/v1",
        "http://localhost@example.com/v1",
        "ftp://example.com/v1",
        "file:///etc/passwd",
        "example.com/v1",
        "https://",
        "https://example.com/v1#fragment",
        "https://example.com/v1 ",
        "https://example.com:port/v1",
        "https://[::1/v1",
        "",
    ],
)
def test_a_key_may_not_be_sent(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_base_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (None, "https://platform.openai.com/batches/batch_1%2F2"),
        ("https://API.openai.com/v1/", "https://platform.openai.com/batches/batch_1%2F2"),
        ("https://eu.api.openai.com/v1", None),
        ("http://127.0.0.1:8000/v1", None),
    ],
)
def test_a_batch_has_a_page_at_openai_itself(base_url: str | None, url: str | None) -> None:
    assert OpenAIProviderConfig(model="gpt-5-mini", base_url=base_url).batch_url("batch_1/2") == url
