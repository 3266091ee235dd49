"""The Batches half of the local server, asked by the official client."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from batchor_core.testing.openai_server import Limits, OpenAIServer, Reply, Timing
from tests.contract.openai_server_helpers import (
    CHAT,
    DAY,
    RESPONSES,
    answer_text,
    by_id,
    check_schema,
    finish,
    jsonl,
    lines_of,
    request_row,
    rows,
    submit,
    upload,
)


@pytest.fixture
def openai_server_options() -> dict[str, Any]:
    timing = Timing(validating=10, running=100, finalizing=10, cancelling=10)
    return {"manual": True, "timing": timing}


class TestLife:
    def test_a_batch_passes_through_the_documented_statuses(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(openai_client, rows(10), metadata={"job": "tea"})
        seen = []
        for seconds in (0, 10, 50, 50, 10):
            openai_server.advance(seconds)
            batch = openai_client.batches.retrieve(batch.id)
            check_schema("Batch", batch.to_dict())
            assert batch.request_counts is not None
            seen.append((batch.status, batch.request_counts.completed))
        assert seen == [
            ("validating", 0),
            ("in_progress", 0),
            ("in_progress", 5),
            ("finalizing", 10),
            ("completed", 10),
        ]
        created = batch.created_at
        assert batch.in_progress_at == created + 10
        assert batch.finalizing_at == created + 110
        assert batch.completed_at == created + 120
        assert batch.expires_at == created + DAY
        assert (batch.model, batch.metadata) == ("gpt-4.1-mini", {"job": "tea"})

    def test_steps_missed_while_nobody_asked_bear_their_own_instants(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(openai_client, rows(1))
        openai_server.advance(10_000)
        batch = openai_client.batches.retrieve(batch.id)
        assert batch.completed_at == batch.created_at + 120

    def test_every_row_is_answered_under_its_own_id(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(openai_client, rows(1_200))
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        lines = lines_of(openai_client, batch.output_file_id)
        assert sorted(line["custom_id"] for line in lines) == sorted(f"row-{n}" for n in range(1_200))
        assert [line["custom_id"] for line in lines] != [f"row-{n}" for n in range(1_200)]
        assert answer_text(by_id(lines)["row-7"]) == "You asked about: Tell me about tea number 7."

    def test_the_output_is_a_file_like_any_other(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(
            openai_client, rows(1), output_expires_after={"anchor": "created_at", "seconds": 3_600}
        )
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        assert batch.output_file_id
        file = openai_client.files.retrieve(batch.output_file_id)
        check_schema("OpenAIFile", file.to_dict())
        assert file.filename == f"{batch.id}_output.jsonl"
        assert file.expires_at == file.created_at + 3_600
        assert file.bytes == len(openai_client.files.content(file.id).content)

    def test_many_who_ask_at_once_execute_each_row_once(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batches = [submit(openai_client, rows(700)) for _ in range(3)]
        openai_server.advance(120)
        with ThreadPoolExecutor(8) as pool:
            asked = [batch.id for batch in batches] * 8
            statuses = {batch.status for batch in pool.map(openai_client.batches.retrieve, asked)}
        assert statuses == {"completed"}
        assert set(openai_server.books.times_executed.values()) == {3}
        assert openai_server.books.rows_executed == 3 * 700

    def test_usage_adds_up_over_the_rows(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        batch = submit(openai_client, rows(3))
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        lines = lines_of(openai_client, batch.output_file_id)
        usages = [line["response"]["body"]["usage"] for line in lines]
        assert batch.usage is not None
        assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in usages) > 0

    def test_a_zero_second_batch_is_complete_at_once(self) -> None:
        with (
            OpenAIServer(batch_seconds=0) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(2))
            assert client.batches.retrieve(batch.id).status == "completed"

    def test_optional_fields_can_be_left_out(self) -> None:
        with (
            OpenAIServer(manual=True, omit_nulls=True) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(1))
            raw = client.batches.with_raw_response.retrieve(batch.id).parse().to_dict()
        assert "output_file_id" not in raw
        assert "errors" not in raw


class TestFiles:
    def test_rows_that_fail_go_to_a_file_of_their_own(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.responder = lambda body, endpoint, custom_id: (
            Reply.http_error(400, "context_length_exceeded") if custom_id == "row-1" else "fine"
        )
        batch = submit(openai_client, rows(3))
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
        assert set(by_id(lines_of(openai_client, batch.output_file_id))) == {"row-0", "row-2"}
        (failed,) = lines_of(openai_client, batch.error_file_id)
        assert failed["error"] is None
        assert failed["response"]["status_code"] == 400
        assert failed["response"]["body"]["error"]["code"] == "context_length_exceeded"

    def test_a_batch_of_failures_has_no_output_file(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.responder = lambda body, endpoint, custom_id: Reply.http_error(500)
        batch = submit(openai_client, rows(2))
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        assert (batch.status, batch.output_file_id) == ("completed", None)
        assert len(lines_of(openai_client, batch.error_file_id)) == 2

    @pytest.mark.parametrize("shown", [None, ""])
    def test_a_clean_batch_shows_the_error_file_id_it_was_told_to(self, shown: str | None) -> None:
        with (
            OpenAIServer(batch_seconds=0, clean_error_file_id=shown) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(1))
            assert client.batches.retrieve(batch.id).error_file_id == shown

    def test_the_input_may_be_deleted_once_it_was_read(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(openai_client, rows(4))
        openai_server.advance(10)
        openai_client.batches.retrieve(batch.id)
        openai_client.files.delete(batch.input_file_id)
        assert finish(openai_client, openai_server, batch).status == "in_progress"
        assert finish(openai_client, openai_server, batch).status == "completed"

    def test_an_input_deleted_before_it_was_read_fails_the_batch(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(openai_client, rows(4))
        openai_client.files.delete(batch.input_file_id)
        batch = finish(openai_client, openai_server, batch)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert (batch.errors.data[0].code, batch.errors.data[0].param) == ("invalid_request", "file_id")
        assert openai_server.books.rows_executed == 0


class TestReplies:
    @pytest.mark.parametrize("endpoint", [RESPONSES, CHAT])
    @pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-5-mini"])
    @pytest.mark.parametrize(
        "reply", [Reply.answer("yes"), Reply.refusal("no"), Reply.incomplete("ye"), Reply.incomplete()]
    )
    def test_bodies_are_what_the_official_client_parses(
        self, openai_server: OpenAIServer, openai_client: OpenAI, endpoint: str, model: str, reply: Reply
    ) -> None:
        openai_server.responder = lambda body, endpoint, custom_id: reply
        batch = submit(openai_client, [request_row("a", url=endpoint, model=model)], endpoint)
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        (line,) = lines_of(openai_client, batch.output_file_id)
        shape = Response if endpoint == RESPONSES else ChatCompletion
        parsed = shape.model_validate(line["response"]["body"])
        assert parsed.model == model

    def test_a_refusal_reads_as_one(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.responder = lambda body, endpoint, custom_id: Reply.refusal("I won't")
        batch = submit(openai_client, [request_row("a", url=CHAT)], CHAT)
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        (line,) = lines_of(openai_client, batch.output_file_id)
        message = line["response"]["body"]["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, "I won't")

    @pytest.mark.parametrize(
        ("reason", "finish_reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
    )
    def test_an_incomplete_answer_says_why(
        self, openai_server: OpenAIServer, openai_client: OpenAI, reason: str, finish_reason: str
    ) -> None:
        openai_server.responder = lambda body, endpoint, custom_id: Reply.incomplete("half", reason=reason)
        bodies = []
        for endpoint in (RESPONSES, CHAT):
            batch = submit(openai_client, [request_row("a", url=endpoint)], endpoint)
            openai_server.advance(120)
            batch = openai_client.batches.retrieve(batch.id)
            (line,) = lines_of(openai_client, batch.output_file_id)
            bodies.append(line["response"]["body"])
        assert bodies[0]["status"] == "incomplete"
        assert bodies[0]["incomplete_details"] == {"reason": reason}
        assert bodies[1]["choices"][0]["finish_reason"] == finish_reason

    def test_the_kinds_of_rows_go_where_the_live_service_puts_them(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        replies = {
            "row-0": Reply.answer("fine"),
            "row-1": Reply.blank(),
            "row-2": Reply.missing(),
            "row-3": Reply.not_run("server_error", "never ran"),
            "row-4": Reply.whole_body({"id": "resp_x", "output": []}),
            "row-5": Reply.http_error(429),
        }
        openai_server.responder = lambda body, endpoint, custom_id: replies[custom_id]
        batch = submit(openai_client, rows(6))
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        output = by_id(lines_of(openai_client, batch.output_file_id))
        errors = by_id(lines_of(openai_client, batch.error_file_id))
        assert set(output) == {"row-0", "row-4"}
        assert set(errors) == {"row-1", "row-3", "row-5"}
        assert output["row-4"]["response"]["body"] == {"id": "resp_x", "output": []}
        assert errors["row-1"]["response"] == {"status_code": 0, "request_id": "", "body": {}}
        assert errors["row-3"]["response"] is None
        assert errors["row-3"]["error"] == {"code": "server_error", "message": "never ran"}
        # Blank and missing rows are counted as completed: counts are not to be trusted.
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.failed) == (4, 2)

    def test_a_garbled_line_stands_in_the_output_as_it_is(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.responder = lambda body, endpoint, custom_id: Reply.garbled('{"id": oops')
        batch = submit(openai_client, rows(1))
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        assert batch.output_file_id
        assert openai_client.files.content(batch.output_file_id).content == b'{"id": oops\n'

    def test_a_responder_that_raises_fails_its_row_alone(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        def responder(body: dict[str, Any], endpoint: str, custom_id: str) -> str:
            if custom_id == "row-0":
                raise RuntimeError("no idea")
            return "fine"

        openai_server.responder = responder
        batch = submit(openai_client, rows(2))
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        (failed,) = lines_of(openai_client, batch.error_file_id)
        assert "no idea" in failed["response"]["body"]["error"]["message"]

    def test_embeddings_are_answered_with_vectors(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        body = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 5}
        row = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}
        batch = submit(openai_client, [row], "/v1/embeddings")
        openai_server.advance(120)
        batch = openai_client.batches.retrieve(batch.id)
        (line,) = lines_of(openai_client, batch.output_file_id)
        parsed = CreateEmbeddingResponse.model_validate(line["response"]["body"])
        assert [len(entry.embedding) for entry in parsed.data] == [5, 5]


def _spoiled(**changes: Any) -> bytes:
    """Two lines of which the second has something changed; a value of ... removes the field."""
    row = {**request_row("bad"), **changes}
    return jsonl([request_row("good"), {key: value for key, value in row.items() if value is not ...}])


def _spoiled_body(**changes: Any) -> bytes:
    body = {**request_row("bad")["body"], **changes}
    return _spoiled(body={key: value for key, value in body.items() if value is not ...})


class TestValidation:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (jsonl(rows(1)) + b"{oops\n", ("invalid_json_line", 2, None)),
            (jsonl(rows(1)) + b"[]\n", ("invalid_json_line", 2, None)),
            (_spoiled(custom_id=...), ("missing_required_parameter", 2, "custom_id")),
            (_spoiled(method=...), ("missing_required_parameter", 2, "method")),
            (_spoiled(url=...), ("missing_required_parameter", 2, "url")),
            (_spoiled(body=...), ("missing_required_parameter", 2, "body")),
            (_spoiled(url="/v1/embeddings"), ("invalid_url", 2, "url")),
            (_spoiled(method="GET"), ("invalid_request", 2, "method")),
            (_spoiled(custom_id=7), ("invalid_request", 2, "custom_id")),
            (_spoiled(body="text"), ("invalid_request", 2, "body")),
            (_spoiled(custom_id="good"), ("duplicate_custom_id", 2, "custom_id")),
            (_spoiled_body(stream=True), ("streaming_unsupported", 2, "body.stream")),
            (_spoiled_body(model=...), ("invalid_request", 2, "body.model")),
            (_spoiled_body(model="gpt-4o"), ("mismatched_model", 2, "body.model")),
            (_spoiled_body(input=...), ("invalid_request", 2, "body.input")),
            (jsonl(rows(1)) + b"\n\noops\n", ("invalid_json_line", 4, None)),
        ],
    )
    def test_one_bad_line_fails_the_batch_before_anything_is_run(
        self,
        openai_server: OpenAIServer,
        openai_client: OpenAI,
        content: bytes,
        expected: tuple[str, int | None, str | None],
    ) -> None:
        batch = submit(openai_client, content)
        openai_server.advance(10)
        batch = openai_client.batches.retrieve(batch.id)
        check_schema("Batch", batch.to_dict())
        assert batch.status == "failed"
        assert batch.failed_at == batch.created_at + 10
        assert batch.errors is not None
        (error,) = batch.errors.data or []
        assert (error.code, error.line, error.param) == expected
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        assert openai_server.books.rows_executed == 0

    @pytest.mark.parametrize(
        ("limits", "model", "expected"),
        [
            (Limits(max_requests=2), "gpt-4o", ("too_many_tasks", None, None)),
            (
                Limits(models=frozenset({"gpt-4o"})),
                "gpt-x",
                ("model_not_found", 1, "body.model"),
            ),
            (Limits(enqueued_tokens=10), "gpt-4o", ("token_limit_exceeded", None, None)),
            (Limits(enqueued_tokens={"gpt-4o": 10}), "gpt-4o", ("token_limit_exceeded", None, None)),
        ],
    )
    def test_limits_of_the_account_fail_the_batch(
        self, limits: Limits, model: str, expected: tuple[str, int | None, str | None]
    ) -> None:
        with (
            OpenAIServer(batch_seconds=0, limits=limits) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(3, model=model))
            errors = client.batches.retrieve(batch.id).errors
        assert errors is not None
        assert errors.data is not None
        assert (errors.data[0].code, errors.data[0].line, errors.data[0].param) == expected

    def test_a_batch_has_no_more_texts_to_embed_than_requests(self) -> None:
        body = {"model": "text-embedding-3-small", "input": ["a", "b"]}
        lines = [
            {"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": body} for name in "ab"
        ]
        with (
            OpenAIServer(batch_seconds=0, limits=Limits(max_requests=3)) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            errors = client.batches.retrieve(submit(client, lines, "/v1/embeddings").id).errors
        assert errors is not None
        assert errors.data is not None
        assert "contains 4 embedding inputs; the limit is 3" in str(errors.data[0].message)

    def test_a_full_queue_has_room_again_when_a_batch_ends(self) -> None:
        with (
            OpenAIServer(manual=True, limits=Limits(enqueued_tokens=20)) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            first, second = submit(client, rows(2)), submit(client, rows(2))
            server.advance(0.5)
            assert client.batches.retrieve(second.id).status == "failed"
            assert client.batches.retrieve(first.id).status == "in_progress"
            server.advance(1)
            third = finish(client, server, submit(client, rows(2)))
        assert third.status == "completed"

    def test_the_message_of_a_full_queue_is_the_live_one(self) -> None:
        with (
            OpenAIServer(batch_seconds=0, limits=Limits(enqueued_tokens=1_000)) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(1_000, model="gpt-4o-mini"))
            errors = client.batches.retrieve(batch.id).errors
        assert errors is not None
        assert errors.data is not None
        assert "Enqueued token limit reached for gpt-4o-mini in organization" in str(errors.data[0].message)
        assert "Limit: 1,000 enqueued tokens." in str(errors.data[0].message)


class TestCreate:
    @pytest.mark.parametrize(
        ("changes", "param", "code"),
        [
            ({"endpoint": "/v1/poems"}, "endpoint", "invalid_value"),
            ({"completion_window": "1h"}, "completion_window", "invalid_value"),
            ({"input_file_id": ""}, "input_file_id", "missing_required_parameter"),
            ({"input_file_id": "file-nothing"}, "file_id", None),
            ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
            ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
            ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}", "string_above_max_length"),
            ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "object_above_max_properties"),
            (
                {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
                "output_expires_after.seconds",
                "integer_below_min_value",
            ),
            (
                {"output_expires_after": {"anchor": "now", "seconds": 5_000}},
                "output_expires_after.anchor",
                "invalid_value",
            ),
        ],
    )
    def test_a_wrong_parameter_is_refused_at_once(
        self, openai_client: OpenAI, changes: dict[str, Any], param: str, code: str | None
    ) -> None:
        right = {
            "input_file_id": upload(openai_client, rows(1)),
            "endpoint": RESPONSES,
            "completion_window": "24h",
        }
        with pytest.raises(openai.BadRequestError) as refused:
            openai_client.batches.create(**{**right, **changes})
        assert (refused.value.param, refused.value.code) == (param, code)
        assert openai_client.batches.list().data == []

    def test_a_file_for_another_purpose_is_refused(self, openai_client: OpenAI) -> None:
        file = openai_client.files.create(file=("a.jsonl", jsonl(rows(1))), purpose="user_data")
        with pytest.raises(openai.BadRequestError):
            openai_client.batches.create(
                input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
            )

    def test_only_so_many_batches_are_created_in_an_hour(self) -> None:
        with (
            OpenAIServer(manual=True, limits=Limits(creates_per_hour=2)) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            submit(client, rows(1)), submit(client, rows(1))
            with pytest.raises(openai.RateLimitError) as refused:
                submit(client, rows(1))
            assert refused.value.response.headers["retry-after"]
            server.advance(3_601)
            submit(client, rows(1))

    def test_a_body_that_is_no_json_is_refused(self, openai_client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="could not parse the JSON body"):
            openai_client.post("/batches", cast_to=object, content=b"{oops")


class TestList:
    def test_batches_are_listed_newest_first_in_pages(self, openai_client: OpenAI) -> None:
        ids = [submit(openai_client, rows(1)).id for _ in range(5)]
        page = openai_client.batches.list(limit=2)
        check_schema("ListBatchesResponse", page.to_dict())
        assert [batch.id for batch in page.data] == [ids[4], ids[3]]
        assert page.has_more
        assert [batch.id for batch in openai_client.batches.list(limit=2)] == ids[::-1]

    def test_an_empty_list_is_one(self, openai_client: OpenAI) -> None:
        page = openai_client.batches.list()
        check_schema("ListBatchesResponse", page.to_dict())
        assert (page.data, page.has_more) == ([], False)

    def test_listed_batches_stand_where_they_are_at_present(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        submit(openai_client, rows(1))
        openai_server.advance(120)
        assert [batch.status for batch in openai_client.batches.list()] == ["completed"]

    @pytest.mark.parametrize("limit", [0, 101])
    def test_a_senseless_limit_is_refused(self, openai_client: OpenAI, limit: int) -> None:
        with pytest.raises(openai.BadRequestError):
            openai_client.batches.list(limit=limit)

    def test_an_unknown_batch_is_not_found(self, openai_client: OpenAI) -> None:
        asks: list[Callable[[str], Any]] = [openai_client.batches.retrieve, openai_client.batches.cancel]
        for ask in asks:
            with pytest.raises(openai.NotFoundError, match="No batch found with id 'batch_nothing'"):
                ask("batch_nothing")


class TestEndings:
    def test_a_cancelled_batch_keeps_what_was_done(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(openai_client, rows(10))
        openai_server.advance(10 + 30)
        batch = openai_client.batches.cancel(batch.id)
        check_schema("Batch", batch.to_dict())
        assert batch.status == "cancelling"
        openai_server.advance(10)
        batch = openai_client.batches.retrieve(batch.id)
        check_schema("Batch", batch.to_dict())
        assert (batch.status, batch.cancelled_at) == ("cancelled", batch.created_at + 50)
        output = by_id(lines_of(openai_client, batch.output_file_id))
        errors = by_id(lines_of(openai_client, batch.error_file_id))
        assert set(output) == {"row-0", "row-1", "row-2"}
        assert set(errors) == {f"row-{number}" for number in range(3, 10)}
        assert {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}
        assert openai_server.books.rows_executed == 3

    def test_a_batch_cancelled_before_it_was_read_has_no_files(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = openai_client.batches.cancel(submit(openai_client, rows(3)).id)
        batch = finish(openai_client, openai_server, batch)
        assert (batch.status, batch.output_file_id, batch.error_file_id) == ("cancelled", None, None)

    def test_cancelling_twice_is_fine(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        batch = submit(openai_client, rows(1))
        assert openai_client.batches.cancel(batch.id).status == "cancelling"
        assert openai_client.batches.cancel(batch.id).status == "cancelling"
        openai_server.advance(10)
        assert openai_client.batches.cancel(batch.id).status == "cancelled"

    def test_a_completed_batch_can_not_be_cancelled(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = submit(openai_client, rows(1))
        openai_server.advance(120)
        with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'completed'"):
            openai_client.batches.cancel(batch.id)

    def test_a_batch_that_takes_longer_than_its_window_expires(self) -> None:
        with (
            OpenAIServer(manual=True, timing=Timing(validating=0, running=2 * DAY)) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(10))
            server.advance(DAY)
            batch = client.batches.retrieve(batch.id)
            check_schema("Batch", batch.to_dict())
            assert (batch.status, batch.expired_at) == ("expired", batch.created_at + DAY)
            assert len(lines_of(client, batch.output_file_id)) == 5
            errors = lines_of(client, batch.error_file_id)
        assert [line["error"]["code"] for line in errors] == ["batch_expired"] * 5
        assert {line["response"] for line in errors} == {None}
