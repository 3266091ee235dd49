from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.models import PromptParts
from batchor_core.core.types import BatchRequestLine
from batchor_core.providers.base import EnqueueBudget
from batchor_core.providers.eight_methods import EightMethodsApi
from batchor_core.providers.openai.answers import read_record
from batchor_core.providers.openai.strict_schema import model_output_schema
from batchor_core.testing import FakeClock, FakeProvider
from batchor_core.testing.fake_rows import answer_row, blank_row, http_error_row, row_error


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., str]:
    def upload(provider: FakeProvider, *custom_ids: str) -> str:
        lines = [
            provider.build_request_line(custom_id=name, prompt_parts=PromptParts(name)) for name in custom_ids
        ]
        path = tmp_path / "batch-1.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return provider.upload_input_file(path)

    return upload


def outcome(provider: FakeProvider, record: Any) -> dict[str, str | None]:
    """Text or error class by custom_id, over both files of a batch."""
    contents = [
        provider.download_file_content(record[name]) if record[name] else None
        for name in ("output_file_id", "error_file_id")
    ]
    _, _, records = provider.parse_batch_output(output_content=contents[0], error_content=contents[1])
    answers = [read_record(found) for found in records]
    return {a.custom_id: a.text if a.failure is None else a.failure.error_class for a in answers}


def test_a_batch_takes_one_step_for_each_look(upload: Callable[..., str]) -> None:
    provider = FakeProvider(statuses=["validating", "in_progress", "finalizing", "completed"])
    batch = provider.create_batch(input_file_id=upload(provider, "a"))
    looks = [provider.get_batch(batch["id"])["status"] for _ in range(6)]
    assert looks == ["validating", "in_progress", "finalizing", "completed", "completed", "completed"]
    assert provider.paid == {"a": 1}


def test_answers_are_given_as_told(upload: Callable[..., str]) -> None:
    said: dict[str, Any] = {
        "text": "yes",
        "row": answer_row("also yes", input_tokens=1),
        "http": http_error_row(500),
        "blank": blank_row(),
        "gone": None,
        "expired": row_error("batch_expired"),
    }

    def answer(line: BatchRequestLine) -> Any:
        return said[line["custom_id"]]

    provider = FakeProvider(answer=answer, statuses=["completed"])
    record = provider.get_batch(provider.create_batch(input_file_id=upload(provider, *said))["id"])
    assert outcome(provider, record) == {
        "text": "yes",
        "row": "also yes",
        "http": "provider_item_error",
        "blank": "provider_item_error",
        "expired": "batch_terminal_expired",
    }
    assert provider.paid == {"text": 1, "row": 1}


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_cut_short_keeps_what_was_answered(upload: Callable[..., str], status: str) -> None:
    provider = FakeProvider(answer=lambda line: "yes", statuses=[status], answered_rows=1)
    record = provider.get_batch(provider.create_batch(input_file_id=upload(provider, "a", "b"))["id"])
    assert outcome(provider, record) == {"a": "yes", "b": f"batch_terminal_{status}"}


def test_a_failed_batch_runs_nothing(upload: Callable[..., str]) -> None:
    provider = FakeProvider()
    batch_id = provider.create_batch(input_file_id=upload(provider, "a"))["id"]
    provider.set_statuses(batch_id, "failed", errors={"data": [{"code": "token_limit_exceeded"}]})
    record = provider.get_batch(batch_id)
    assert (record["status"], record["output_file_id"], record["error_file_id"]) == ("failed", None, None)
    assert record["errors"]["data"][0]["code"] == "token_limit_exceeded"
    assert not provider.paid


def test_cancelling_ends_a_batch_at_the_next_look(upload: Callable[..., str]) -> None:
    provider = FakeProvider()
    batch_id = provider.create_batch(input_file_id=upload(provider, "a"))["id"]
    assert provider.cancel_batch(batch_id)["status"] == "cancelling"
    assert provider.get_batch(batch_id)["status"] == "cancelled"


def test_faults_come_before_or_after_the_work(upload: Callable[..., str]) -> None:
    provider = FakeProvider()
    file_id = upload(provider, "a")
    lost = ProviderError("lost")
    provider.fail("create_batch", times=2)
    provider.fail("create_batch", lost, after=True)
    for created in (0, 0, 1):
        with pytest.raises(ProviderError):
            provider.create_batch(input_file_id=file_id)
        assert len(provider.batches) == created
    provider.create_batch(input_file_id=file_id)
    assert provider.submitted() == {"a": 2}
    assert provider.count("create_batch") == 4


def test_deleting_swallows_faults_and_removing_does_not(upload: Callable[..., str]) -> None:
    provider = FakeProvider()
    file_id = upload(provider, "a")
    provider.fail("delete_input_file")
    provider.fail("remove_input_file")
    provider.delete_input_file(file_id)
    with pytest.raises(ProviderError):
        provider.remove_input_file(file_id)
    assert provider.find_input_files("batch-1.jsonl") == [file_id]
    provider.remove_input_file(file_id)
    with pytest.raises(ProviderError) as caught:
        provider.create_batch(input_file_id=file_id)
    assert caught.value.not_performed


def test_a_fault_for_no_method_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="create_bach"):
        FakeProvider().fail("create_bach")


def test_batches_can_be_hidden_from_the_list(upload: Callable[..., str]) -> None:
    clock = FakeClock()
    provider = FakeProvider(clock=clock)
    ids = []
    for _ in range(4):
        clock.advance(10)
        ids.append(provider.create_batch(input_file_id=upload(provider, "a"))["id"])
    provider.batches[ids[3]].listed = False
    pages = list(provider.list_batches())
    assert [[record["id"] for record in page] for page in pages] == [[ids[2], ids[1]], [ids[0]]]
    assert provider.batches[ids[0]].created_at == clock.time() - 30


def test_unknown_ids_are_not_found() -> None:
    for look in (FakeProvider().get_batch, FakeProvider().download_file_content, FakeProvider().cancel_batch):
        with pytest.raises(ProviderError) as caught:
            look("none")
        assert caught.value.kind is ProviderErrorKind.NOT_FOUND


def test_hooks_answer_as_told() -> None:
    budget = EnqueueBudget("key", 10, 5)
    provider = FakeProvider(budget=budget, fingerprint="other")
    api = EightMethodsApi(provider)
    assert (api.enqueue_budget(), api.key_fingerprint()) == (budget, "other")
    api.close()
    assert provider.closed


class Inner(BaseModel):
    label: str
    scores: list[int]


class Outer(BaseModel):
    inner: Inner
    child: Outer | None
    ratio: float
    ok: bool


def test_the_default_answer_satisfies_the_schema(upload: Callable[..., str], tmp_path: Path) -> None:
    provider = FakeProvider(statuses=["completed"])
    line = provider.build_request_line(
        custom_id="a", prompt_parts=PromptParts("hi", "system"), structured_output=model_output_schema(Outer)
    )
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps(line) + "\n")
    record = provider.get_batch(provider.create_batch(input_file_id=provider.upload_input_file(path))["id"])
    Outer.model_validate_json(outcome(provider, record)["a"] or "")
