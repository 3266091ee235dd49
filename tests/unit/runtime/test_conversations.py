"""Conversations and rows with settings of their own: sent, compared when a run is started again, and refused where they'd be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchRunner,
    BodyOutput,
    OpenAIEndpoint,
    OpenAIProviderConfig,
    PromptFeature,
    PromptParts,
    VectorItemResult,
    VectorOutput,
)
from batchor_core.core.exceptions import InvalidInputError, RunItemsMismatchError
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.storage.state import PersistedRunConfig
from batchor_core.testing.fake_clock import FakeClock
from batchor_core.testing.fake_rows import body_row, vector_row
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster.revisions import JobDigest
from tests.contract.stores.kit import ThirdPartyStore
from tests.support.stranger import StrangerConfig, register_stranger, routes, vector_of
from tests.support.world import RUN, Verdict, World, ask, items, text_job

COUNT = 5
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def talk(item: BatchItem[Any]) -> PromptParts:
    last = {"role": "user", "content": [{"type": "text", "text": ask(item)}]}
    return PromptParts.of_messages([*TURNS, last], options={"temperature": 0})


def plain_but(index: int, **changes: Any) -> Callable[[BatchItem[Any]], PromptParts]:
    def build(item: BatchItem[Any]) -> PromptParts:
        made = talk(item)
        return replace(made, **changes) if item.item_id == f"item-{index}" else made

    return build


def conversation(**changes: Any) -> BatchJob[Any, Any]:
    return text_job(items(COUNT), **({"build_prompt": talk} | changes))


def test_each_row_is_sent_with_its_turns_and_settings(any_world: World) -> None:
    run = any_world.start(conversation()).wait()
    assert run.summary().completed_items == COUNT
    bodies = [line["body"] for batch in any_world.provider.batches.values() for line in batch.lines]
    assert [body["input"] for body in bodies] == [talk(item).messages for item in items(COUNT)]
    assert {body["temperature"] for body in bodies} == {0}


def test_the_same_conversation_goes_on(any_world: World) -> None:
    any_world.start(conversation())
    assert any_world.start(conversation()).wait().summary().completed_items == COUNT
    assert len(any_world.provider.submitted()) == COUNT


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"messages": [*TURNS, {"role": "user", "content": "other"}]}, ["messages"]),
        ({"options": {"temperature": 1}}, ["options"]),
        ({"options": None}, ["options"]),
        ({"system_prompt": "be brief"}, ["system_prompt"]),
        ({"messages": None, "prompt": "hello"}, ["prompt", "messages"]),
    ],
)
def test_a_changed_row_is_named(any_world: World, changes: dict[str, Any], fields: list[str]) -> None:
    any_world.start(conversation())
    with pytest.raises(RunItemsMismatchError) as raised:
        any_world.start(conversation(build_prompt=plain_but(3, **changes)))
    assert (raised.value.fields, raised.value.item_index) == (fields, 3)


def test_empty_options_are_none(any_world: World) -> None:
    any_world.start(text_job(items(COUNT)))
    job = text_job(items(COUNT), build_prompt=lambda item: PromptParts(ask(item), options={}))
    assert any_world.start(job).wait().is_finished


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda item: PromptParts.of_messages([{"role": "user"}]), r"messages\[0\]\.content"),
        (lambda item: PromptParts("x", options={"a": {1}}), r"options\.a is a set"),
        (lambda item: PromptParts("", messages=None), "non-empty string"),
    ],
)
def test_a_bad_shape_names_its_item(any_world: World, build: Any, said: str) -> None:
    def one_of_them(item: BatchItem[Any]) -> PromptParts:
        return build(item) if item.item_id == "item-2" else talk(item)

    with pytest.raises(InvalidInputError, match=f"item 'item-2': .*{said}"):
        any_world.start(conversation(build_prompt=one_of_them))
    assert any_world.provider.batches == {}


# --- who can't take them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ([], "its prompt has messages, which the provider fake does not support"),
        ([PromptFeature.MESSAGES], "its prompt has options, which the provider fake does not support"),
        ([PromptFeature.OPTIONS], "its prompt has messages, which"),
    ],
)
def test_a_provider_is_not_given_what_it_would_leave_out(any_world: World, taken: Any, said: str) -> None:
    any_world.provider.prompts = frozenset(taken)
    with pytest.raises(InvalidInputError, match=f"item 'item-0': {said}"):
        any_world.start(conversation())
    assert any_world.provider.batches == {}
    assert any_world.start(text_job(2), run_id="plain").wait().is_finished


def test_a_provider_of_the_eight_methods_alone_takes_two_texts(world: World) -> None:
    class Eight:
        """The documented methods and nothing else."""

        def __init__(self, inner: Any) -> None:
            for name in (
                "build_request_line", "upload_input_file", "delete_input_file", "create_batch", "get_batch",
                "download_file_content", "parse_batch_output", "estimate_request_tokens",
            ):  # fmt: skip
                setattr(self, name, getattr(inner, name))

    provider: Any = Eight(world.provider)
    with pytest.raises(
        InvalidInputError, match="its prompt has messages, which the provider fake does not support"
    ):
        world.start(conversation(), provider_factory=lambda config: provider)
    with pytest.raises(InvalidInputError, match=r"of the kind 'body', .* it supports text, model"):
        world.start(text_job(output=BodyOutput()), provider_factory=lambda config: provider)


def test_a_store_is_not_given_what_it_would_forget(world: World) -> None:
    store = ThirdPartyStore(MemoryStateStore(now=world.clock))
    with pytest.raises(InvalidInputError, match="ThirdPartyStore stores only a prompt and a system prompt"):
        world.runner(storage=store).start(conversation(), run_id=RUN)
    run = world.runner(storage=store).start(text_job(2), run_id="plain").wait()
    assert run.summary().completed_items == 2


def test_an_integration_knows_conversations_apart() -> None:
    digests = {
        JobDigest.of(conversation(build_prompt=build)).prompts
        for build in (talk, ask, plain_but(3, options={"temperature": 1}), plain_but(3, messages=TURNS[:1]))
    }
    assert len(digests) == 4


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", [OpenAIEndpoint.RESPONSES, OpenAIEndpoint.CHAT_COMPLETIONS])
def test_both_endpoints_of_the_built_in_provider_take_them(endpoint: OpenAIEndpoint, tmp_path: Path) -> None:
    tools = [{"type": "function", "name": "look_up", "function": {"name": "look_up"}}]

    def build(item: BatchItem[Any]) -> PromptParts:
        options = {"tools": tools} if item.item_id == "item-1" else None
        return PromptParts.of_messages([*TURNS, {"role": "user", "content": ask(item)}], options=options)

    seen: list[dict[str, Any]] = []

    def respond(body: dict[str, Any], _endpoint: str, _custom_id: str) -> Reply:
        seen.append(body)
        return Reply.answer("fine")

    with OpenAIServer(responder=respond, batch_seconds=0) as server:
        config = OpenAIProviderConfig(
            model="gpt-5-mini",
            api_key="any",
            base_url=server.base_url,
            endpoint=endpoint,
            poll_interval_sec=0,
        )
        job = BatchJob(items=items(2), build_prompt=build, provider_config=config, output=BodyOutput())
        with BatchRunner(storage="memory", temp_root=tmp_path) as runner:
            run = runner.run_and_wait(job, run_id=RUN)
            results = run.results()
    turns = {
        body["input" if endpoint is OpenAIEndpoint.RESPONSES else "messages"][2]["content"]: body
        for body in seen
    }
    assert turns["question 1"]["tools"] == tools
    assert "tools" not in turns["question 0"]
    assert [result.error for result in results] == [None, None]
    assert all(result.output and result.output["id"] for result in results)


@pytest.fixture
def stranger() -> Iterator[tuple[OpenAIServer, FakeClock]]:
    clock = FakeClock()
    with OpenAIServer(clock=clock, batch_seconds=10, protocols=[routes]) as server:
        server.responder = lambda body, endpoint, custom_id: Reply.answer(
            f"{len(body['messages'])} turns, {body.get('temperature')}: {body['messages'][-1]['content']}"
        )
        yield server, clock


def at_stranger(stranger: tuple[OpenAIServer, FakeClock], folder: Path, **changes: Any) -> Any:
    server, clock = stranger
    model = changes.pop("model", "stranger-1")
    config = StrangerConfig(server.base_url.removesuffix("/v1"), model=model)
    job = conversation(provider_config=config, **changes)
    runner = BatchRunner(
        storage=MemoryStateStore(now=clock),
        provider_registry=register_stranger(),
        temp_root=folder,
        sleep=clock.sleep,
    )
    return runner.start(job, run_id=RUN).wait(poll_interval=5)


def test_a_provider_that_is_nothing_like_it_takes_them(stranger: Any, tmp_path: Path) -> None:
    results = at_stranger(stranger, tmp_path).results()
    assert [result.output for result in results] == [f"3 turns, 0: question {n}" for n in range(COUNT)]


@pytest.mark.parametrize("model", ["stranger-numbers", "stranger-packed"])
def test_it_answers_with_vectors(stranger: Any, tmp_path: Path, model: str) -> None:
    results = at_stranger(stranger, tmp_path, model=model, output=VectorOutput(4)).results()
    expected = [vector_of(f"3 turns, 0: question {n}") for n in range(COUNT)]
    assert all(type(result) is VectorItemResult for result in results)
    assert [list(result.output or ()) for result in results] == expected


def test_it_answers_with_bodies(stranger: Any, tmp_path: Path) -> None:
    results = at_stranger(stranger, tmp_path, output=BodyOutput()).results()
    assert ["".join(result.output["words"]) for result in results] == [
        f"3 turns, 0: question {n}" for n in range(COUNT)
    ]


def test_it_is_not_asked_for_what_it_does_not_give(stranger: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="of the kind 'vector'"):
        at_stranger(stranger, tmp_path, output=VectorOutput(4))
    with pytest.raises(InvalidInputError, match=r"batch_metadata has 1 pairs, .* stranger carries none"):
        at_stranger(stranger, tmp_path, batch_metadata={"team": "reviews"})
    assert stranger[0].books.requests == []


class Forgetful(ThirdPartyStore):  # type: ignore[misc]
    """Keeps the fields of a config that it knows from the documentation."""

    def get_run_config(self, *, run_id: str) -> PersistedRunConfig:
        config: PersistedRunConfig = super().get_run_config(run_id=run_id)
        return replace(config, output=None)


# --- a store of somebody else's --------------------------------------------------------------------------------------


def test_a_store_with_the_documented_methods_alone_keeps_vectors_and_bodies(world: World) -> None:
    store = ThirdPartyStore(MemoryStateStore(now=world.clock))
    world.provider.answer = lambda line: vector_row([0.5, 1.0])
    run = world.runner(storage=store).start(text_job(2, output=VectorOutput(2)), run_id="vectors").wait()
    assert [list(result.output or ()) for result in run.results()] == [[0.5, 1.0]] * 2
    world.provider.answer = lambda line: body_row({"number": 2**70})
    run = world.runner(storage=store).start(text_job(2, output=BodyOutput()), run_id="bodies").wait()
    assert [result.output for result in run.results()] == [{"number": 2**70}] * 2


def test_a_store_that_forgets_the_output_is_refused_for_what_it_could_not_read(world: World) -> None:
    runner = world.runner(storage=Forgetful(MemoryStateStore(now=world.clock)))
    with pytest.raises(InvalidInputError, match=r"does not keep PersistedRunConfig\.output"):
        runner.start(text_job(2, output=BodyOutput()), run_id="bodies")
    assert world.provider.batches == {}
    assert runner.start(text_job(2), run_id="texts").wait().is_finished
    assert runner.start(text_job(2, structured_output=Verdict), run_id="models").wait().is_finished
