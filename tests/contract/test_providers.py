"""What every provider promises, tried on the one in memory and on OpenAI's against the local server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.models import PromptParts, ProviderConfig
from batchor_core.core.structured import model_output_schema
from batchor_core.providers.base import BatchProvider, ProviderHooks
from batchor_core.providers.openai import OpenAIEnqueueLimitConfig, OpenAIProviderConfig
from batchor_core.testing.fake_provider import FakeProviderConfig, register_fake_provider
from batchor_core.testing.openai_server import OpenAIServer

CANARY = "sk-canary-0123456789abcdefghijklmnop"

CONFIGS: list[ProviderConfig] = [
    FakeProviderConfig(api_key=CANARY),
    FakeProviderConfig(model="other", api_key=CANARY, poll_interval_sec=2),
    OpenAIProviderConfig(model="gpt-4.1", api_key=CANARY),
    OpenAIProviderConfig(
        model="some-new-model",
        api_key=CANARY,
        endpoint="/v1/chat/completions",  # type: ignore[arg-type]
        completion_window="48h",
        request_timeout_sec=5,
        poll_interval_sec=0.5,
        reasoning_effort="high",
        enqueue_limits=OpenAIEnqueueLimitConfig(1_000, 0.5, 100, 200),
        base_url="https://example.com/v1",
        max_output_tokens=7,
        organization="org-1",
        project="proj_1",
        request_options={"temperature": 0, "text": {"verbosity": "low"}},
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_storage_but_for_its_secret(config: Any) -> None:
    registry = register_fake_provider()
    stored = json.dumps(registry.dump_config(config, include_secrets=False))
    assert CANARY not in stored
    restored = registry.load_config(json.loads(stored))
    assert restored != config
    assert restored.to_public_payload() == config.to_public_payload()
    assert registry.dump_config(restored, include_secrets=False) == json.loads(stored)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_with_its_secret_comes_back_equal(config: Any) -> None:
    registry = register_fake_provider()
    assert registry.load_config(json.loads(json.dumps(registry.dump_config(config)))) == config


class Answer(BaseModel):
    label: str
    score: int


@pytest.fixture(params=["fake", "openai responses", "openai chat"])
def provider(request: pytest.FixtureRequest) -> Iterator[BatchProvider]:
    registry = register_fake_provider()
    if request.param == "fake":
        yield registry.create(FakeProviderConfig())
        return
    endpoint = "/v1/responses" if request.param.endswith("responses") else "/v1/chat/completions"
    with OpenAIServer(batch_seconds=0) as server:
        config = OpenAIProviderConfig(
            model="gpt-4.1", api_key="any", base_url=server.base_url, endpoint=endpoint
        )  # type: ignore[arg-type]
        openai = registry.create(config)
        yield openai
        ProviderHooks.of(openai).close()


@pytest.fixture
def input_file(provider: BatchProvider, tmp_path: Path) -> Callable[..., Path]:
    def write(*prompts: str, name: str = "batch-1.jsonl", structured: bool = False) -> Path:
        schema = model_output_schema(Answer) if structured else None
        lines = [
            provider.build_request_line(
                custom_id=f"row-{index}",
                prompt_parts=PromptParts(prompt, "Be brief."),
                structured_output=schema,
            )
            for index, prompt in enumerate(prompts)
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def finish(provider: BatchProvider, batch_id: str) -> Any:
    for _ in range(20):
        record = provider.get_batch(batch_id)
        if record["status"] in ("completed", "failed", "expired", "cancelled"):
            return record
    raise AssertionError(f"batch never ended: {record}")


def test_the_same_item_gives_the_same_line(provider: BatchProvider) -> None:
    schema = model_output_schema(Answer)

    def build() -> str:
        parts = PromptParts("prompt", "system")
        return json.dumps(
            provider.build_request_line(custom_id="a", prompt_parts=parts, structured_output=schema)
        )

    assert build() == build()
    assert json.loads(build())["custom_id"] == "a"


@pytest.mark.parametrize("structured", [False, True])
def test_a_batch_goes_through(
    provider: BatchProvider, input_file: Callable[..., Path], tmp_path: Path, structured: bool
) -> None:
    path = input_file("one", "two\u2028three", structured=structured)
    file_id = provider.upload_input_file(path)
    created = provider.create_batch(input_file_id=file_id, metadata={"batchor_run_id": "r"})
    record = finish(provider, created["id"])
    assert record["status"] == "completed"
    assert record["input_file_id"] == file_id
    content = provider.download_file_content(record["output_file_id"])
    hooks = ProviderHooks.of(provider)
    assert hooks.download_to_path is not None
    assert hooks.download_to_path(record["output_file_id"], tmp_path / "out.jsonl") == len(content.encode())
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == content
    successes, errors, records = provider.parse_batch_output(output_content=content, error_content=None)
    assert (set(successes), errors, len(records)) == ({"row-0", "row-1"}, {}, 2)
    answers = [hooks.read_record(found) for found in records]
    assert all(answer.failure is None and answer.text and answer.usage for answer in answers)
    if structured:
        for answer in answers:
            Answer.model_validate_json(answer.text or "")


def test_a_created_batch_is_listed_with_what_identifies_it(
    provider: BatchProvider, input_file: Callable[..., Path]
) -> None:
    file_id = provider.upload_input_file(input_file("one"))
    created = provider.create_batch(input_file_id=file_id, metadata={"batchor_local_batch_id": "local-1"})
    hooks = ProviderHooks.of(provider)
    assert hooks.list_batches is not None
    (found,) = [record for page in hooks.list_batches() for record in page]
    assert (found["id"], found["input_file_id"]) == (created["id"], file_id)
    assert found["metadata"] == {"batchor_local_batch_id": "local-1"}
    assert isinstance(found["created_at"], int | float)


def test_an_uploaded_file_is_found_by_name_until_it_is_removed(
    provider: BatchProvider, input_file: Callable[..., Path]
) -> None:
    hooks = ProviderHooks.of(provider)
    assert hooks.find_input_files is not None
    assert hooks.remove_input_file is not None
    first = provider.upload_input_file(input_file("one", name="a.jsonl"))
    provider.upload_input_file(input_file("one", name="b.jsonl"))
    assert hooks.find_input_files("a.jsonl") == [first]
    hooks.remove_input_file(first)
    hooks.remove_input_file(first)
    provider.delete_input_file(first)
    assert hooks.find_input_files("a.jsonl") == []


def test_a_removed_file_can_make_no_batch(provider: BatchProvider, input_file: Callable[..., Path]) -> None:
    hooks = ProviderHooks.of(provider)
    assert hooks.remove_input_file is not None
    file_id = provider.upload_input_file(input_file("one"))
    hooks.remove_input_file(file_id)
    with pytest.raises(ProviderError) as caught:
        provider.create_batch(input_file_id=file_id)
    assert caught.value.not_performed


def test_cancelling_twice_is_fine(provider: BatchProvider, input_file: Callable[..., Path]) -> None:
    created = provider.create_batch(input_file_id=provider.upload_input_file(input_file("one")))
    hooks = ProviderHooks.of(provider)
    assert hooks.cancel_batch is not None
    hooks.cancel_batch(created["id"])
    hooks.cancel_batch(created["id"])
    assert finish(provider, created["id"])["status"] in ("cancelled", "completed")
    assert hooks.cancel_batch(created["id"])["status"] in ("cancelled", "completed")


@pytest.mark.parametrize("method", ["get_batch", "download_file_content"])
def test_what_does_not_exist_is_not_found(provider: BatchProvider, method: str) -> None:
    with pytest.raises(ProviderError) as caught:
        getattr(provider, method)("batch_none" if method == "get_batch" else "file-none")
    assert caught.value.kind is ProviderErrorKind.NOT_FOUND


def test_tokens_of_many_lines_are_those_of_each(provider: BatchProvider) -> None:
    lines = [
        provider.build_request_line(custom_id="a", prompt_parts=PromptParts("word " * n)) for n in (1, 5, 50)
    ]
    hooks = ProviderHooks.of(provider)
    together = hooks.estimate_tokens(lines, chars_per_token=4)
    assert together == [provider.estimate_request_tokens(line, chars_per_token=4) for line in lines]
    assert together[0] >= 0
    assert together[2] > together[1]


def test_its_account_has_a_name_that_tells_nothing(provider: BatchProvider) -> None:
    hooks = ProviderHooks.of(provider)
    assert hooks.key_fingerprint() == hooks.key_fingerprint()
    assert hooks.enqueue_budget() is None
