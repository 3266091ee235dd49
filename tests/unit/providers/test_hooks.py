from __future__ import annotations

from typing import Any

from batchor_core.core.outcome import read_record
from batchor_core.providers.base import ProviderHooks
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig


class EightMethodsOnly:
    """Not even a BatchProvider: the engine takes what has the methods."""

    def estimate_request_tokens(self, request_line: Any, *, chars_per_token: int) -> int:
        return len(request_line["custom_id"]) * chars_per_token


def test_a_provider_with_the_documented_methods_gets_harmless_defaults() -> None:
    hooks = ProviderHooks.of(EightMethodsOnly())
    lines: Any = [{"custom_id": "a", "body": {}}, {"custom_id": "abc", "body": {}}]
    assert hooks.estimate_tokens(lines, chars_per_token=2) == [2, 6]
    assert hooks.read_record is read_record
    assert hooks.download_to_path is hooks.cancel_batch is hooks.list_batches is None
    assert hooks.remove_input_file is hooks.find_input_files is None
    assert hooks.key_fingerprint() is None
    assert hooks.enqueue_budget() is None
    hooks.close()


def test_what_a_provider_has_is_used() -> None:
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"))
    hooks = ProviderHooks.of(provider)
    assert hooks.estimate_tokens == provider.estimate_tokens
    for name in ("download_to_path", "cancel_batch", "list_batches", "remove_input_file", "find_input_files"):
        assert getattr(hooks, name) == getattr(provider, name)


def test_an_attribute_that_is_no_method_is_no_hook() -> None:
    provider = EightMethodsOnly()
    provider.cancel_batch = None  # type: ignore[attr-defined]
    assert ProviderHooks.of(provider).cancel_batch is None
