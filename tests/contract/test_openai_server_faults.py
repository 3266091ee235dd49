"""Everything that can be made to go wrong with the local server, seen by the official client."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from batchor_core.testing.local_server.faults import ResultFile
from batchor_core.testing.openai_server import BatchFault, Faults, HttpFault, OpenAIServer, RowFault
from tests.contract.openai_server_helpers import (
    answer_text,
    by_id,
    check_schema,
    finish,
    lines_of,
    request_row,
    rows,
    submit,
    upload,
)
from tests.support.waiting import until


@pytest.fixture
def openai_server_options() -> dict[str, Any]:
    return {"manual": True, "seed": 7}


def create(client: OpenAI, file_id: str) -> Batch:
    return client.batches.create(input_file_id=file_id, endpoint="/v1/responses", completion_window="24h")


class TestHttp:
    @pytest.mark.parametrize(
        ("status", "error", "code"),
        [
            (400, openai.BadRequestError, None),
            (401, openai.AuthenticationError, "invalid_api_key"),
            (403, openai.PermissionDeniedError, "permission_denied"),
            (404, openai.NotFoundError, None),
            (409, openai.ConflictError, None),
            (429, openai.RateLimitError, "rate_limit_exceeded"),
            (500, openai.InternalServerError, "server_error"),
            (503, openai.InternalServerError, "server_error"),
        ],
    )
    def test_a_status_is_answered_once_and_nothing_is_done(
        self,
        openai_server: OpenAIServer,
        openai_client: OpenAI,
        status: int,
        error: type[openai.APIStatusError],
        code: str | None,
    ) -> None:
        file_id = upload(openai_client, rows(1))
        openai_server.faults.add(HttpFault("status", method="POST", path="/v1/batches", status=status))
        with pytest.raises(error) as refused:
            create(openai_client, file_id)
        assert refused.value.code == code
        assert openai_server.books.batches == []
        create(openai_client, file_id)
        assert len(openai_server.books.batches) == 1

    def test_code_message_and_retry_after_can_be_chosen(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(
            HttpFault("status", status=429, code="insufficient_quota", message="Pay first.", retry_after=3)
        )
        with pytest.raises(openai.RateLimitError, match="Pay first") as refused:
            openai_client.files.list()
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
        assert refused.value.response.headers["retry-after"] == "3"

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (HttpFault("cut", path="/v1/batches"), openai.APIConnectionError),
            (HttpFault("status", path="/v1/batches", status=502), openai.InternalServerError),
            (HttpFault("garbage", path="/v1/batches"), json.JSONDecodeError),
        ],
    )
    @pytest.mark.parametrize("after_work", [False, True])
    def test_the_batch_exists_only_if_the_fault_came_after_the_work(
        self,
        openai_server: OpenAIServer,
        openai_client: OpenAI,
        fault: HttpFault,
        error: type[Exception],
        after_work: bool,
    ) -> None:
        file_id = upload(openai_client, rows(1))
        openai_server.faults.add(replace(fault, after_work=after_work))
        with pytest.raises(error):
            create(openai_client, file_id)
        assert [batch.input_file_id for batch in openai_server.books.batches] == [file_id] * after_work

    def test_the_default_client_repeats_a_create_that_was_cut_off(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        file_id = upload(openai_client, rows(1))
        openai_server.faults.add(HttpFault("cut", path="/v1/batches", after_work=True, times=2))
        create(openai_client.with_options(max_retries=2), file_id)
        assert len(openai_server.books.batches) == 3

    def test_a_truncated_answer_breaks_off_after_its_announced_beginning(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        file_id = upload(openai_client, rows(2_000))
        size = openai_client.files.retrieve(file_id).bytes
        openai_server.faults.add(HttpFault("truncate", path="/v1/files/*/content", keep=0.25, times=2))
        with pytest.raises(openai.APIConnectionError):
            openai_client.files.content(file_id)
        arrived: list[bytes] = []
        with openai_client.files.with_streaming_response.content(file_id) as response:
            assert response.headers["content-length"] == str(size)
            chunks = response.iter_bytes()
            with pytest.raises(httpx2.RemoteProtocolError):
                arrived.extend(chunks)
        assert sum(map(len, arrived)) == size // 4
        assert len(openai_client.files.content(file_id).content) == size

    def test_a_redirect_points_where_it_was_told(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        file_id = upload(openai_client, rows(1))
        openai_server.faults.add(HttpFault("redirect", path="/v1/batches"))
        create(openai_client, file_id)  # the client follows redirects and posts again
        assert [request.status for request in openai_server.books.requests] == [200, 307, 200]

    def test_a_delay_comes_before_the_work(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.faults.add(HttpFault("delay", seconds=0.2))
        started = time.monotonic()
        upload(openai_client, rows(1))
        assert time.monotonic() - started >= 0.2

    def test_a_delayed_request_is_worked_on_though_its_client_has_gone(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        file_id = upload(openai_client, rows(1))
        openai_server.faults.add(HttpFault("delay", path="/v1/batches", seconds=0.8))
        with pytest.raises(openai.APITimeoutError):
            create(openai_client.with_options(timeout=0.3, max_retries=0), file_id)
        assert openai_server.books.batches == []
        until(lambda: openai_server.books.batches, "the batch", seconds=20)

    def test_a_delay_after_the_work_outlasts_an_impatient_client(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        file_id = upload(openai_client, rows(1))
        openai_server.faults.add(HttpFault("delay", path="/v1/batches", seconds=0.8, after_work=True))
        with pytest.raises(openai.APITimeoutError):
            create(openai_client.with_options(timeout=0.5), file_id)
        assert len(openai_server.books.batches) == 1

    def test_nth_times_and_path_select_the_request(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(HttpFault("status", method="GET", path="/v1/files", nth=2, times=2))
        outcomes = []
        for _ in range(5):
            openai_client.batches.list()
            try:
                openai_client.files.list()
                outcomes.append("fine")
            except openai.InternalServerError:
                outcomes.append("struck")
        assert outcomes == ["fine", "struck", "struck", "fine", "fine"]

    def test_a_rate_strikes_about_that_share_and_always_the_same(self) -> None:
        def strikes() -> list[bool]:
            faults = Faults(seed=3)
            faults.add(HttpFault("cut", times=None, rate=0.3))
            return [faults.for_request("GET", "/v1/files") is not None for _ in range(1_000)]

        assert strikes() == strikes()
        assert 250 < sum(strikes()) < 350

    def test_a_delete_can_be_refused(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        file_id = upload(openai_client, rows(1))
        openai_server.faults.add(HttpFault("status", method="DELETE", path="/v1/files/*", status=403))
        with pytest.raises(openai.PermissionDeniedError):
            openai_client.files.delete(file_id)
        assert openai_client.files.retrieve(file_id).id == file_id

    def test_a_large_upload_is_refused_in_good_order(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(HttpFault("status", status=429))
        with pytest.raises(openai.RateLimitError):
            upload(openai_client, b'{"custom_id": 1}\n' * 500_000)
        assert openai_server.books.all_files == []


class TestBatch:
    def test_validation_fails_with_any_code(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.faults.add(BatchFault("fail", code="billing_hard_limit_reached", message="No money."))
        batch = finish(openai_client, openai_server, submit(openai_client, rows(1)))
        check_schema("Batch", batch.to_dict())
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert (batch.status, batch.errors.data[0].code) == ("failed", "billing_hard_limit_reached")
        assert finish(openai_client, openai_server, submit(openai_client, rows(1))).status == "completed"

    @pytest.mark.parametrize(
        ("kind", "status", "code"),
        [("expire", "expired", "batch_expired"), ("cancel", "cancelled", "batch_cancelled")],
    )
    def test_a_batch_ends_early_with_some_rows_done(
        self, openai_server: OpenAIServer, openai_client: OpenAI, kind: Any, status: str, code: str
    ) -> None:
        openai_server.faults.add(BatchFault(kind, after_rows=3))
        batch = finish(openai_client, openai_server, submit(openai_client, rows(10)))
        check_schema("Batch", batch.to_dict())
        assert batch.status == status
        assert set(by_id(lines_of(openai_client, batch.output_file_id))) == {"row-0", "row-1", "row-2"}
        errors = lines_of(openai_client, batch.error_file_id)
        assert [line["error"]["code"] for line in errors] == [code] * 7
        assert openai_server.books.rows_executed == 3

    def test_a_batch_that_expires_with_nothing_done_has_no_output(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(BatchFault("expire"))
        batch = finish(openai_client, openai_server, submit(openai_client, rows(2)))
        assert (batch.status, batch.output_file_id) == ("expired", None)
        assert len(lines_of(openai_client, batch.error_file_id)) == 2

    def test_a_stuck_batch_does_nothing_until_its_window_closes(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(BatchFault("stuck"))
        batch = finish(openai_client, openai_server, submit(openai_client, rows(2)))
        assert batch.status == "in_progress"
        openai_server.advance(86_400)
        assert openai_client.batches.retrieve(batch.id).status == "expired"

    @pytest.mark.parametrize("seconds", [30, None])
    def test_a_batch_can_be_missing_in_lists(
        self, openai_server: OpenAIServer, openai_client: OpenAI, seconds: float | None
    ) -> None:
        openai_server.faults.add(BatchFault("unlisted", seconds=seconds))
        batch = submit(openai_client, rows(1))
        assert list(openai_client.batches.list()) == []
        assert openai_client.batches.retrieve(batch.id).id == batch.id
        openai_server.advance(30)
        assert [listed.id for listed in openai_client.batches.list()] == ([batch.id] if seconds else [])

    def test_a_new_batch_can_be_unknown_for_a_while(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(BatchFault("not_found", seconds=5))
        batch = submit(openai_client, rows(1))
        with pytest.raises(openai.NotFoundError):
            openai_client.batches.retrieve(batch.id)
        openai_server.advance(5)
        assert openai_client.batches.retrieve(batch.id).status == "completed"

    def test_a_batch_can_vanish(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.faults.add(BatchFault("vanish", seconds=5))
        batch = submit(openai_client, rows(1))
        assert openai_client.batches.retrieve(batch.id).status == "validating"
        openai_server.advance(5)
        with pytest.raises(openai.NotFoundError):
            openai_client.batches.retrieve(batch.id)
        assert list(openai_client.batches.list()) == []

    def test_files_can_come_late(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.faults.add(BatchFault("late_files", seconds=30))
        batch = submit(openai_client, rows(1))
        openai_server.advance(20)
        batch = openai_client.batches.retrieve(batch.id)
        assert (batch.status, batch.output_file_id) == ("completed", None)
        openai_server.advance(30)
        assert openai_client.batches.retrieve(batch.id).output_file_id

    @pytest.mark.parametrize(("late", "other"), [("output", "error"), ("error", "output")])
    def test_each_file_can_come_late_by_itself(
        self, openai_server: OpenAIServer, openai_client: OpenAI, late: ResultFile, other: str
    ) -> None:
        openai_server.faults.add(
            BatchFault("late_files", seconds=90, file=late), RowFault("status", custom_id="row-1")
        )
        batch = finish(openai_client, openai_server, submit(openai_client, rows(2)))
        assert (batch.status, getattr(batch, f"{late}_file_id")) == ("completed", None)
        assert getattr(batch, f"{other}_file_id")
        assert batch.request_counts
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
        openai_server.advance(90)
        assert getattr(openai_client.batches.retrieve(batch.id), f"{late}_file_id")

    def test_files_can_come_after_some_polls(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(BatchFault("late_files", polls=2))
        batch = submit(openai_client, rows(1))
        openai_server.advance(20)
        seen = [openai_client.batches.retrieve(batch.id).output_file_id is not None for _ in range(4)]
        assert seen == [False, False, True, True]

    def test_files_can_be_short_without_a_size(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(BatchFault("short_files", polls=1, keep=0.5))
        batch = finish(openai_client, openai_server, submit(openai_client, rows(4)))
        assert batch.output_file_id
        short = openai_client.files.content(batch.output_file_id).content
        assert openai_client.files.retrieve(batch.output_file_id).bytes is None
        openai_client.batches.retrieve(batch.id)
        whole = openai_client.files.content(batch.output_file_id).content
        assert whole.count(b"\n") == 4
        assert short == whole[: len(whole) // 2]

    def test_files_can_be_named_and_gone(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.faults.add(BatchFault("gone_files", polls=1, file="output"))
        batch = finish(openai_client, openai_server, submit(openai_client, rows(1)))
        assert batch.output_file_id
        with pytest.raises(openai.NotFoundError):
            openai_client.files.content(batch.output_file_id)
        openai_client.batches.retrieve(batch.id)
        assert openai_client.files.content(batch.output_file_id).content

    def test_a_batch_can_go_on_past_its_expiry(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(BatchFault("never_ends"))
        batch = submit(openai_client, rows(1))
        openai_server.advance(5 * 86_400)
        assert openai_client.batches.retrieve(batch.id).status == "finalizing"
        assert openai_client.batches.cancel(batch.id).status == "cancelling"
        openai_server.advance(86_400)
        assert openai_client.batches.retrieve(batch.id).status == "cancelling"

    def test_nth_chooses_the_batch(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.faults.add(BatchFault("fail", nth=2))
        statuses = [
            finish(openai_client, openai_server, submit(openai_client, rows(1))).status for _ in range(3)
        ]
        assert statuses == ["completed", "failed", "completed"]


def _struck(server: OpenAIServer, client: OpenAI, fault: RowFault, count: int = 3) -> Batch:
    server.responder = lambda body, endpoint, custom_id: '{"answer":"a long enough text"}'
    server.faults.add(fault)
    return finish(client, server, submit(client, rows(count)))


class TestRows:
    @pytest.mark.parametrize(
        ("status", "code"), [(429, "rate_limit_exceeded"), (500, "server_error"), (400, None)]
    )
    def test_a_row_fails_with_a_status(
        self, openai_server: OpenAIServer, openai_client: OpenAI, status: int, code: str | None
    ) -> None:
        batch = _struck(openai_server, openai_client, RowFault("status", custom_id="row-1", status=status))
        (line,) = lines_of(openai_client, batch.error_file_id)
        assert line["custom_id"] == "row-1"
        assert line["response"]["status_code"] == status
        assert line["response"]["body"]["error"]["code"] == code

    def test_a_blank_row_counts_as_completed(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = _struck(openai_server, openai_client, RowFault("blank", custom_id="row-1"))
        (line,) = lines_of(openai_client, batch.error_file_id)
        assert line["response"]["status_code"] == 0
        assert batch.request_counts is not None
        assert batch.request_counts.completed == 3

    def test_a_missing_row_is_in_neither_file(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = _struck(openai_server, openai_client, RowFault("missing", custom_id="row-1"))
        assert set(by_id(lines_of(openai_client, batch.output_file_id))) == {"row-0", "row-2"}
        assert batch.error_file_id is None

    def test_a_row_that_did_not_run_is_not_in_the_books(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        batch = _struck(openai_server, openai_client, RowFault("not_run", custom_id="row-1"))
        (line,) = lines_of(openai_client, batch.error_file_id)
        assert (line["response"], line["error"]["code"]) == (None, "server_error")
        assert openai_server.books.rows_executed == 2

    def test_answers_are_spoiled_in_their_body(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(
            RowFault("refusal", custom_id="row-0"),
            RowFault("length", custom_id="row-1"),
            RowFault("content_filter", custom_id="row-2"),
            RowFault("invalid_json", custom_id="row-3"),
        )
        batch = _struck(openai_server, openai_client, RowFault("schema_mismatch", custom_id="row-4"), count=6)
        lines = by_id(lines_of(openai_client, batch.output_file_id))
        bodies = {custom_id: line["response"]["body"] for custom_id, line in lines.items()}
        assert bodies["row-0"]["output"][-1]["content"][0]["type"] == "refusal"
        assert bodies["row-1"]["incomplete_details"] == {"reason": "max_output_tokens"}
        assert bodies["row-2"]["incomplete_details"] == {"reason": "content_filter"}
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer_text(lines["row-3"]))
        assert json.loads(answer_text(lines["row-4"])) == {"something_else": True}
        assert json.loads(answer_text(lines["row-5"])) == {"answer": "a long enough text"}

    def test_lines_are_spoiled_in_the_file(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        openai_server.faults.add(
            RowFault("duplicate", custom_id="row-0"), RowFault("unknown_id", custom_id="row-1")
        )
        batch = _struck(openai_server, openai_client, RowFault("unparseable", custom_id="row-2"), count=4)
        assert batch.output_file_id
        found = []
        for line in openai_client.files.content(batch.output_file_id).content.splitlines():
            try:
                found.append(json.loads(line)["custom_id"])
            except json.JSONDecodeError:
                found.append("unparseable")
        assert sorted(found) == ["nobody-sent-this", "row-0", "row-0", "row-3", "unparseable"]

    def test_times_spares_the_second_execution_of_an_id(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        first = _struck(openai_server, openai_client, RowFault("status", times=1), count=1)
        second = finish(openai_client, openai_server, submit(openai_client, rows(1)))
        assert (first.output_file_id, second.error_file_id) == (None, None)

    def test_a_rule_chooses_by_the_request(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        fault = RowFault("missing", rule=lambda custom_id, body: body["input"].endswith("number 2"))
        batch = _struck(openai_server, openai_client, fault)
        assert set(by_id(lines_of(openai_client, batch.output_file_id))) == {"row-0", "row-1"}

    def test_a_rate_strikes_the_same_rows_again(self) -> None:
        def struck() -> set[str]:
            with (
                OpenAIServer(batch_seconds=0, fault_rate=0.2, seed=5) as server,
                OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
            ):
                batch = client.batches.retrieve(submit(client, rows(500)).id)
                return set(by_id(lines_of(client, batch.error_file_id)))

        assert struck() == struck()
        assert 10 < len(struck()) < 60


class TestControl:
    """The same by HTTP, for tests in other languages and other processes."""

    @staticmethod
    def ask(client: OpenAI, server: OpenAIServer, method: str, path: str, body: Any = None) -> Any:
        options = {} if body is None else {"body": body}
        return getattr(client, method)(f"{server.url}/_control/{path}", cast_to=object, **options)

    def test_faults_are_added_listed_and_cleared(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        added = {"scope": "http", "kind": "status", "path": "/v1/files", "status": 503}
        self.ask(openai_client, openai_server, "post", "faults", added)
        with pytest.raises(openai.InternalServerError):
            openai_client.files.list()
        (listed,) = self.ask(openai_client, openai_server, "get", "faults")["faults"]
        assert added.items() <= listed.items()
        assert listed["struck"] == 1
        self.ask(openai_client, openai_server, "delete", "faults")
        assert self.ask(openai_client, openai_server, "get", "faults") == {"faults": []}

    def test_several_faults_come_together(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        several = [{"scope": "row", "kind": "missing", "rate": 0.5}, {"scope": "file", "seconds": 3}]
        self.ask(openai_client, openai_server, "post", "faults", {"faults": several})
        listed = openai_server.faults.as_json()
        assert [fault["scope"] for fault in listed] == ["row", "file"]

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ({}, "needs a scope"),
            ({"scope": "weather", "kind": "rain"}, "one of http, file, batch, row"),
            ({"scope": "http", "kind": "rain"}, "the kinds are status, cut"),
            ({"scope": "row", "kind": "blank", "mood": "bad"}, "mood"),
            ({"scope": "row", "kind": "blank", "rule": "x"}, "rule"),
            ({"scope": "http"}, "kind"),
        ],
    )
    def test_a_senseless_fault_is_refused(
        self, openai_server: OpenAIServer, openai_client: OpenAI, fault: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(openai.BadRequestError, match=message):
            self.ask(openai_client, openai_server, "post", "faults", fault)
        assert openai_server.faults.as_json() == []

    def test_time_moves_on_request(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        before = openai_server.clock()
        moved = self.ask(openai_client, openai_server, "post", "advance", {"seconds": 90})
        assert moved == {"now": before + 90}
        with pytest.raises(openai.BadRequestError):
            self.ask(openai_client, openai_server, "post", "advance", {"seconds": -1})

    def test_the_books_are_open(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        batch = submit(openai_client, rows(3), metadata={"job": "tea"})
        self.ask(openai_client, openai_server, "post", "advance", {"seconds": 60})
        books = self.ask(openai_client, openai_server, "get", "books")
        assert [(entry["id"], entry["status"], entry["rows"]) for entry in books["batches"]] == [
            (batch.id, "completed", 3)
        ]
        assert (books["rows_executed"], books["outcomes"]) == (3, {"answer": 3})
        assert books["bodies_executed_twice"] == {}
        listed = httpx2.get(f"{openai_server.url}/_control/executions").content
        lines = [json.loads(line) for line in listed.splitlines()]
        assert {line["custom_id"] for line in lines} == {"row-0", "row-1", "row-2"}

    def test_a_reset_forgets_everything(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        finish(openai_client, openai_server, submit(openai_client, rows(3)))
        openai_server.faults.add(RowFault("missing"))
        self.ask(openai_client, openai_server, "post", "reset")
        assert list(openai_client.batches.list()) == []
        assert openai_client.files.list().data == []
        assert openai_server.books.rows_executed == 0
        assert openai_server.faults.as_json() == []


class TestBooks:
    def test_work_that_was_paid_twice_shows(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        once, twice = request_row("a", "once"), request_row("b", "twice")
        finish(openai_client, openai_server, submit(openai_client, [once, twice]))
        finish(openai_client, openai_server, submit(openai_client, [{**twice, "custom_id": "b2"}]))
        books = openai_server.books
        assert books.times_executed == {"a": 1, "b": 1, "b2": 1}
        assert list(books.bodies_executed_twice.values()) == [2]
        paid_twice = {
            row.custom_id for row in books.executions() if row.body_sha256 in books.bodies_executed_twice
        }
        assert paid_twice == {"b", "b2"}

    def test_every_request_is_logged_with_what_became_of_it(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(HttpFault("cut", method="GET", path="/v1/batches"))
        with pytest.raises(openai.APIConnectionError):
            openai_client.batches.list(limit=5)
        with pytest.raises(openai.NotFoundError):
            openai_client.files.retrieve("file-x")
        logged = [
            (entry.method, entry.path, entry.status, entry.fault) for entry in openai_server.books.requests
        ]
        assert logged == [
            ("GET", "/v1/batches?limit=5", None, "cut"),
            ("GET", "/v1/files/file-x", 404, None),
        ]

    def test_deleted_files_stay_on_record(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        file_id = upload(openai_client, rows(1))
        openai_client.files.delete(file_id)
        assert openai_server.books.files == []
        assert [file.id for file in openai_server.books.all_files] == [file_id]
