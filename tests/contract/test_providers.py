"""What every provider promises: the one in memory, OpenAI's against the local server, and one that is nothing like it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.models import PromptParts, ProviderConfig
from batchor_core.providers.anthropic import AnthropicProviderConfig
from batchor_core.providers.api import BatchApi, BatchState, FoundBy, ResultFile
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.providers.gemini import GeminiEndpoint, GeminiProviderConfig
from batchor_core.providers.openai import OpenAIEnqueueLimitConfig, OpenAIProviderConfig
from batchor_core.providers.openai.strict_schema import model_output_schema
from batchor_core.testing.anthropic_server import AnthropicServer
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import register_fake_provider
from batchor_core.testing.gemini_server import GeminiServer
from batchor_core.testing.local_server.server import LocalServer
from batchor_core.testing.openai_server import OpenAIServer
from tests.support.stranger import StrangerConfig, register_stranger
from tests.support.stranger import routes as stranger_routes

CANARY = "sk-canary-0123456789abcdefghijklmnop"

CONFIGS: list[ProviderConfig] = [
    FakeProviderConfig(api_key=CANARY),
    FakeProviderConfig(model="other", api_key=CANARY, poll_interval_sec=2),
    OpenAIProviderConfig(model="gpt-4.1", api_key=CANARY),
    AnthropicProviderConfig(
        model="claude-sonnet-4-5",
        api_key=CANARY,
        max_output_tokens=500,
        reasoning_effort="high",
        cache_prefix="1h",
        enqueue_limits={"enqueued_token_limit": 1_000},
        base_url="https://example.com",
        betas=("files-api-2025-04-14",),
        request_options={"thinking": {"type": "adaptive"}},
    ),
    GeminiProviderConfig(
        model="gemini-3-flash",
        api_key=CANARY,
        max_output_tokens=500,
        reasoning_effort="low",
        enqueue_limits={"enqueued_token_limit": 1_000},
        base_url="https://example.com",
        request_options={"temperature": 0, "safetySettings": []},
    ),
    GeminiProviderConfig(model="gemini-embedding-001", api_key=CANARY, endpoint=GeminiEndpoint.EMBED_CONTENT),
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


@pytest.fixture(params=["fake", "openai responses", "openai chat", "stranger", "anthropic", "gemini"])
def api(request: pytest.FixtureRequest) -> Iterator[BatchApi]:
    registry = register_stranger(register_fake_provider())
    if request.param == "fake":
        yield as_batch_api(registry.create(FakeProviderConfig()))
        return
    server: LocalServer = OpenAIServer(batch_seconds=0, protocols=[stranger_routes])
    if request.param == "anthropic":
        server = AnthropicServer(batch_seconds=0)
    elif request.param == "gemini":
        server = GeminiServer(batch_seconds=0)
    with server:
        config: ProviderConfig
        if request.param == "stranger":
            config = StrangerConfig(server.base_url.removesuffix("/v1"))
        elif request.param == "anthropic":
            config = AnthropicProviderConfig(
                model="claude-sonnet-4-5", api_key="any", base_url=server.base_url
            )
        elif request.param == "gemini":
            config = GeminiProviderConfig(model="gemini-3-flash", api_key="any", base_url=server.base_url)
        else:
            endpoint: Any = "/v1/responses" if request.param.endswith("responses") else "/v1/chat/completions"
            config = OpenAIProviderConfig(
                model="gpt-4.1", api_key="any", base_url=server.base_url, endpoint=endpoint
            )
        made = as_batch_api(registry.create(config))
        yield made
        made.close()


@pytest.fixture
def input_file(api: BatchApi, tmp_path: Path) -> Callable[..., Path]:
    def write(*prompts: str, name: str = "batch-1.jsonl", structured: bool = False) -> Path:
        schema = model_output_schema(Answer) if structured else None
        lines = [
            api.request_line(custom_id=f"row-{index}", prompt=PromptParts(prompt, "Be brief."), output=schema)
            for index, prompt in enumerate(prompts)
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def created(api: BatchApi, path: Path, tags: dict[str, str] | None = None) -> BatchState:
    handle = api.prepare(path)
    given = (tags or {}) if api.limits.max_tags else None
    return api.create(path if handle is None else None, handle=handle, tags=given)


def finished(api: BatchApi, batch_id: str) -> BatchState:
    for _ in range(20):
        state = api.poll(batch_id)
        if state.has_ended:
            return state
    raise AssertionError(f"the batch never ended: {state}")


def answers(api: BatchApi, state: BatchState, folder: Path) -> list[Any]:
    texts: dict[bool, str] = {}
    for file in state.results:
        api.fetch(file, folder / "results.jsonl")
        texts[file.is_error_file] = (folder / "results.jsonl").read_text(encoding="utf-8")
    if not api.streams:
        return [answer for answer, _ in api.read_files(texts)]
    return [api.read(json.loads(line)) for text in texts.values() for line in text.split("\n") if line]


def test_the_same_item_gives_the_same_line(api: BatchApi) -> None:
    schema = model_output_schema(Answer)

    def build() -> str:
        prompt = PromptParts("prompt", "system")
        return json.dumps(api.request_line(custom_id="a", prompt=prompt, output=schema))

    assert build() == build()
    assert api.custom_id_of(json.loads(build())) == "a"


@pytest.mark.parametrize("structured", [False, True])
def test_a_batch_goes_through(
    api: BatchApi, input_file: Callable[..., Path], tmp_path: Path, structured: bool
) -> None:
    batch = created(api, input_file("one", "two\u2028three", structured=structured))
    state = finished(api, batch.batch_id)
    assert (state.batch_id, state.status) == (batch.batch_id, "completed")
    found = answers(api, state, tmp_path)
    assert sorted(answer.custom_id for answer in found) == ["row-0", "row-1"]
    assert all(answer.failure is None and answer.text and answer.usage for answer in found)
    if structured:
        for answer in found:
            Answer.model_validate_json(answer.text or "")


def test_a_created_batch_is_listed_with_what_identifies_it(
    api: BatchApi, input_file: Callable[..., Path]
) -> None:
    batch = created(api, input_file("one"), {"batchor_local_batch_id": "local-1"})
    (found,) = [state for page in api.list_batches() for state in page]
    assert found.batch_id == batch.batch_id
    assert isinstance(found.created_at, int | float)
    match api.limits.found_by:
        case FoundBy.TAGS:
            assert found.handle == batch.handle
            assert found.tags == {"batchor_local_batch_id": "local-1"}
        case FoundBy.ROWS:
            assert found.tags is None
        case FoundBy.NOTHING:
            raise AssertionError("it was listed")


def test_an_uploaded_file_is_found_by_name_until_it_is_gone(
    api: BatchApi, input_file: Callable[..., Path]
) -> None:
    first = api.prepare(input_file("one", name="a.jsonl"))
    if first is None:
        assert api.find_prepared("a.jsonl") == []
        return
    api.prepare(input_file("one", name="b.jsonl"))
    assert api.find_prepared("a.jsonl") == [first]
    if api.limits.can_fence:
        api.fence(first)
        api.fence(first)
    api.discard(first)
    assert api.find_prepared("a.jsonl") == []


def test_behind_a_fence_no_batch_can_be_made(api: BatchApi, input_file: Callable[..., Path]) -> None:
    handle = api.prepare(input_file("one"))
    if not api.limits.can_fence:
        with pytest.raises(NotImplementedError):
            api.fence(handle or "")
        return
    assert handle is not None
    api.fence(handle)
    with pytest.raises(ProviderError) as caught:
        api.create(None, handle=handle, tags={})
    assert caught.value.not_performed


def test_cancelling_twice_is_fine(api: BatchApi, input_file: Callable[..., Path]) -> None:
    batch = created(api, input_file("one"))
    api.cancel(batch.batch_id)
    api.cancel(batch.batch_id)
    assert finished(api, batch.batch_id).status in ("cancelled", "completed")
    assert api.cancel(batch.batch_id).status in ("cancelled", "completed")


def test_a_batch_that_does_not_exist_is_not_found(api: BatchApi) -> None:
    with pytest.raises(ProviderError) as caught:
        api.poll("batch_none")
    assert caught.value.kind is ProviderErrorKind.NOT_FOUND


def test_results_that_do_not_exist_are_not_found(api: BatchApi, tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        api.fetch(ResultFile("/none"), tmp_path / "results")
    assert caught.value.kind is ProviderErrorKind.NOT_FOUND
    assert not (tmp_path / "results").exists()


def test_tokens_of_many_lines_are_those_of_each(api: BatchApi) -> None:
    lines = [
        api.request_line(custom_id="a", prompt=PromptParts("word " * times), output=None)
        for times in (1, 5, 50)
    ]
    together = api.estimate_tokens(lines, chars_per_token=4)
    assert together == [api.estimate_tokens([line], chars_per_token=4)[0] for line in lines]
    assert together[0] >= 0
    assert together[1] < together[2]


def test_its_account_has_a_name_that_tells_nothing(api: BatchApi) -> None:
    assert api.key_fingerprint() == api.key_fingerprint()


@pytest.mark.parametrize(
    "record",
    [{}, {"custom_id": 7}, {"key": "a", "result": 3}, {"custom_id": "a", "response": [], "error": {}}],
)
def test_no_line_makes_the_reader_raise(api: BatchApi, record: Any) -> None:
    answer = api.read(record)
    assert answer.failure is not None
    assert isinstance(answer.custom_id, str)
