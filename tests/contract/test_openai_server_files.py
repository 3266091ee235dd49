"""The Files half of the local server, asked by the official client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI

from batchor_core.testing.openai_server import FileFault, Limits, OpenAIServer
from tests.contract.openai_server_helpers import DAY, check_schema, jsonl, request_row, rows, submit, upload


@pytest.fixture
def openai_server_options() -> dict[str, Any]:
    return {"manual": True, "limits": Limits(max_file_bytes=5_000)}


class TestUpload:
    def test_an_uploaded_file_is_described_as_published(self, openai_client: OpenAI) -> None:
        content = jsonl(rows(2))
        file = openai_client.files.create(file=("a name.jsonl", content), purpose="batch")
        check_schema("OpenAIFile", file.to_dict())
        assert (file.filename, file.purpose, file.bytes) == ("a name.jsonl", "batch", len(content))
        assert file.status == "processed"

    def test_a_batch_file_lives_thirty_days_unless_told_otherwise(self, openai_client: OpenAI) -> None:
        file = openai_client.files.create(file=("a.jsonl", jsonl(rows(1))), purpose="batch")
        assert file.expires_at == file.created_at + 30 * DAY

    def test_other_files_live_for_ever(self, openai_client: OpenAI) -> None:
        file = openai_client.files.create(file=("notes.txt", b"hello"), purpose="user_data")
        assert file.expires_at is None

    def test_a_file_expires_when_it_was_told_to(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        file = openai_client.files.create(
            file=("a.jsonl", jsonl(rows(1))),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3_600},
        )
        assert file.expires_at == file.created_at + 3_600
        openai_server.advance(3_601)
        with pytest.raises(openai.NotFoundError):
            openai_client.files.retrieve(file.id)
        assert openai_client.files.list().data == []

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("input.json", jsonl(rows(1)), "Must be .jsonl"),
            ("input.jsonl", b"", "Invalid file format"),
            ("input.jsonl", b"hello\n", "Invalid file format"),
            ("input.jsonl", jsonl([request_row("a", "x" * 5_000)]), "File is too large."),
        ],
    )
    def test_an_unfit_batch_file_is_refused(
        self, openai_client: OpenAI, name: str, content: bytes, message: str
    ) -> None:
        with pytest.raises(openai.BadRequestError, match=message):
            openai_client.files.create(file=(name, content), purpose="batch")

    @pytest.mark.parametrize(
        ("seconds", "code"), [(3_599, "integer_below_min_value"), (2_592_001, "integer_above_max_value")]
    )
    def test_a_lifetime_beyond_the_limits_is_refused(
        self, openai_client: OpenAI, seconds: int, code: str
    ) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            openai_client.files.create(
                file=("a.jsonl", jsonl(rows(1))),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": seconds},
            )
        assert (refused.value.code, refused.value.param) == (code, "expires_after.seconds")

    def test_an_unknown_purpose_is_refused(self, openai_client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            openai_client.files.create(
                file=("a.jsonl", b"{}"),
                purpose="decoration",  # type: ignore[arg-type]
            )
        assert refused.value.param == "purpose"

    def test_a_request_without_a_file_is_refused(self, openai_client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            openai_client.post("/files", cast_to=object, body={"purpose": "batch"})
        assert refused.value.param == "file"


class TestReading:
    def test_content_comes_back_byte_for_byte(self, openai_client: OpenAI) -> None:
        content = jsonl([request_row("a", "line\u2028separator and \u00fcmlaut")])
        assert openai_client.files.content(upload(openai_client, content)).content == content

    def test_a_file_can_be_retrieved_until_it_is_deleted(self, openai_client: OpenAI) -> None:
        file_id = upload(openai_client, rows(1))
        assert openai_client.files.retrieve(file_id).id == file_id
        deleted = openai_client.files.delete(file_id)
        check_schema("DeleteFileResponse", deleted.to_dict())
        assert deleted.deleted
        for gone in (
            openai_client.files.retrieve,
            openai_client.files.content,
            openai_client.files.delete,
        ):
            with pytest.raises(openai.NotFoundError, match=f"No such File object: {file_id}"):
                gone(file_id)

    def test_a_late_file_is_found_after_a_while(
        self, openai_server: OpenAIServer, openai_client: OpenAI
    ) -> None:
        openai_server.faults.add(FileFault(seconds=5))
        file_id = upload(openai_client, rows(1))
        with pytest.raises(openai.NotFoundError):
            openai_client.files.retrieve(file_id)
        with pytest.raises(openai.BadRequestError, match=f"Cannot find file {file_id}"):
            openai_client.batches.create(
                input_file_id=file_id, endpoint="/v1/responses", completion_window="24h"
            )
        openai_server.advance(5)
        assert openai_client.files.retrieve(file_id).id == file_id


class TestList:
    def test_files_are_listed_newest_first_in_pages(self, openai_client: OpenAI) -> None:
        ids = [upload(openai_client, rows(1), f"{number}.jsonl") for number in range(5)]
        page = openai_client.files.list(limit=2)
        check_schema("ListFilesResponse", page.to_dict() | {"first_id": ids[4], "last_id": ids[3]})
        assert [file.id for file in page.data] == [ids[4], ids[3]]
        assert page.has_more
        assert [file.id for file in openai_client.files.list(limit=2)] == ids[::-1]

    def test_the_oldest_come_first_on_demand(self, openai_client: OpenAI) -> None:
        ids = [upload(openai_client, rows(1)) for _ in range(3)]
        assert [file.id for file in openai_client.files.list(order="asc")] == ids
        assert [file.id for file in openai_client.files.list(order="asc", after=ids[0])] == ids[1:]

    def test_the_purpose_selects(self, openai_server: OpenAIServer, openai_client: OpenAI) -> None:
        batch = submit(openai_client, rows(1))
        openai_server.advance(60)
        output = openai_client.batches.retrieve(batch.id).output_file_id
        assert [file.id for file in openai_client.files.list(purpose="batch_output")] == [output]
        assert [file.id for file in openai_client.files.list(purpose="batch")] == [batch.input_file_id]

    @pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 10_001}, {"order": "random"}])
    def test_a_senseless_query_is_refused(self, openai_client: OpenAI, query: dict[str, Any]) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            openai_client.files.list(**query)
        assert refused.value.param == next(iter(query))


class TestKeys:
    def test_a_request_without_a_key_is_refused(self, openai_server: OpenAIServer) -> None:
        with (
            OpenAI(base_url=openai_server.base_url, api_key=" ", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError) as refused,
        ):
            client.files.list(extra_headers={"Authorization": ""})
        assert "You didn't provide an API key" in refused.value.message
        assert (refused.value.type, refused.value.code) == ("invalid_request_error", None)

    def test_only_configured_keys_are_accepted(self) -> None:
        with OpenAIServer(api_keys=["right"]) as server:
            with OpenAI(base_url=server.base_url, api_key="right", max_retries=0) as client:
                assert client.files.list().data == []
            with (
                OpenAI(base_url=server.base_url, api_key="wrong-key", max_retries=0) as client,
                pytest.raises(openai.AuthenticationError) as refused,
            ):
                client.files.list()
            assert refused.value.code == "invalid_api_key"
            assert "wrong-key" not in refused.value.message

    def test_an_unknown_route_is_told_apart(self, openai_client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match=r"Invalid URL \(GET /v1/nonsense\)"):
            openai_client.get("/nonsense", cast_to=object)
