"""A provider of the eight documented methods, and what it may have besides them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchor_core.core.exceptions import InvalidInputError, ProviderError, ProviderErrorKind
from batchor_core.core.lateness import StatedCounts
from batchor_core.providers.api import BatchApi, BatchLimits, FoundBy, ResultFile
from batchor_core.providers.base import OptionalMethods
from batchor_core.providers.eight_methods import EightMethodsApi, as_batch_api, batch_state
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig
from batchor_core.providers.openai.answers import read_record


class EightMethodsOnly:
    """Not even a BatchProvider: the engine takes what has the methods."""

    def estimate_request_tokens(self, request_line: Any, *, chars_per_token: int) -> int:
        return len(request_line["custom_id"]) * chars_per_token

    def download_file_content(self, file_id: str) -> str:
        return f"content of {file_id}"

    def parse_batch_output(self, *, output_content: str | None, error_content: str | None) -> Any:
        good = {"custom_id": "a", "response": {"status_code": 200, "body": {"choices": []}}}
        return {}, {"a": good}, [good]


def adapted(provider: Any) -> EightMethodsApi:
    return EightMethodsApi(provider)


def test_a_provider_with_the_documented_methods_gets_harmless_defaults(tmp_path: Path) -> None:
    api = adapted(EightMethodsOnly())
    lines: Any = [{"custom_id": "a", "body": {}}, {"custom_id": "abc", "body": {}}]
    assert api.estimate_tokens(lines, chars_per_token=2) == [2, 6]
    line: Any = {"custom_id": "a", "response": None, "error": {"code": "server_error"}}
    assert api.read(line) == read_record(line)
    assert (api.limits.found_by, api.limits.can_fence, api.limits.can_cancel) == (
        FoundBy.NOTHING,
        False,
        False,
    )
    assert api.find_prepared("a.jsonl") == []
    assert [api.key_fingerprint(), api.enqueue_budget(), api.clock_offset()] == [None, None, None]
    assert not api.streams
    api.fetch(ResultFile("f1"), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "content of f1"
    api.close()


def test_what_the_provider_calls_an_error_is_one_although_it_reads_like_an_answer() -> None:
    ((answer, _),) = adapted(EightMethodsOnly()).read_files({True: ""})
    assert answer.failure is not None


def test_what_a_provider_has_is_used() -> None:
    api = adapted(OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1")))
    assert (api.limits.found_by, api.limits.can_fence, api.limits.can_cancel) == (FoundBy.TAGS, True, True)
    assert api.streams


def test_placeholders_of_the_base_class_are_no_abilities() -> None:
    class Nothing(EightMethodsOnly, OptionalMethods):
        pass

    api = adapted(Nothing())
    assert (api.limits.found_by, api.streams) == (FoundBy.NOTHING, False)
    assert api.key_fingerprint() is None


def test_an_attribute_that_is_no_method_is_no_ability() -> None:
    provider = EightMethodsOnly()
    provider.cancel_batch = None  # type: ignore[attr-defined]
    assert not adapted(provider).limits.can_cancel


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("list_batch", "list_batches"),
        ("remove_input_files", "remove_input_file"),
        ("download_to_paths", "download_to_path"),
        ("cancel_batches", "cancel_batch"),
        ("read_records", "read_record"),
    ],
)
@pytest.mark.parametrize("bases", [(EightMethodsOnly,), (EightMethodsOnly, OptionalMethods)])
def test_a_misspelt_ability_is_refused(misspelt: str, meant: str, bases: tuple[type, ...]) -> None:
    provider = type("Acme", bases, {misspelt: lambda self: None})()
    with pytest.raises(InvalidInputError, match=rf"Acme\.{misspelt} .*{meant}"):
        adapted(provider)


def test_what_is_no_provider_says_which_methods_it_lacks() -> None:
    with pytest.raises(InvalidInputError, match="NoneType is no provider: it has no build_request_line, "):
        as_batch_api(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"limits": None}, "Acme.limits must be a BatchLimits, not None"),
        (
            {"limits": BatchLimits(found_by=FoundBy.ROWS)},
            "state found_by='rows', .* no method 'list_batches'",
        ),
        ({"limits": BatchLimits(can_fence=True)}, "state can_fence=True, and it has no method 'fence'"),
        ({"limits": BatchLimits(can_cancel=True)}, "state can_cancel=True, and it has no method 'cancel'"),
        (
            {"limits": BatchLimits(can_continue=True)},
            "state can_continue=True, and it has no method 'continued_line'",
        ),
        ({"limits": BatchLimits(), "list_batchs": len}, r"Acme\.list_batchs .*'list_batches'"),
    ],
)
def test_limits_that_state_more_than_there_is_are_refused(members: dict[str, Any], problem: str) -> None:
    needed = {name: lambda self: None for name in BatchApi.__abstractmethods__}
    api = type("Acme", (BatchApi,), needed | members)()
    with pytest.raises(InvalidInputError, match=problem):
        as_batch_api(api)


@pytest.mark.parametrize("name", ["list_models", "answer", "set_statuses", "count", "files", "close_session"])
def test_methods_of_its_own_are_nobodys_business(name: str) -> None:
    adapted(type("Acme", (EightMethodsOnly,), {name: lambda self: None})())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, ((), StatedCounts(), False)),
        ({"output_file_id": "o", "error_file_id": ""}, ((ResultFile("o"),), StatedCounts(), False)),
        (
            {
                "output_file_id": None,
                "error_file_id": "e",
                "request_counts": {"completed": None, "failed": None},
            },
            ((ResultFile("e", is_error_file=True),), StatedCounts(), False),
        ),
        (
            {"status": "COMPLETED", "request_counts": {"total": 3, "completed": 2, "failed": True}},
            ((), StatedCounts(2, None, 3), True),
        ),
        ({"status": "scheduling", "request_counts": "3"}, ((), StatedCounts(), False)),
    ],
)
def test_a_record_of_a_batch_is_read_whatever_is_left_out(record: dict[str, Any], expected: Any) -> None:
    state = batch_state({"id": "b", "status": "in_progress", **record})  # type: ignore[typeddict-item]
    assert (state.results, state.counts, state.has_ended) == expected


def test_only_a_refused_batch_has_a_failure() -> None:
    errors = {"data": [{"code": "token_limit_exceeded"}]}
    refused: Any = {"id": "b", "status": "failed", "errors": errors}
    assert batch_state(refused).failure is not None
    assert batch_state(refused | {"status": "completed"}).failure is None
    failure = batch_state(refused).failure
    assert failure is not None
    assert failure.kind is ProviderErrorKind.CAPACITY


@pytest.mark.parametrize("batch_id", [None, "", 7])
def test_a_record_that_names_no_batch_is_unreadable(batch_id: Any) -> None:
    with pytest.raises(ProviderError, match="batch's id"):
        batch_state({"id": batch_id, "status": "completed"})
