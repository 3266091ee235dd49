"""The pytest fixtures as a user finds them, nothing overridden."""

from __future__ import annotations

from openai import OpenAI

from batchor_core.testing.openai_server import OpenAIServer
from tests.contract.openai_server_helpers import lines_of, rows, submit


def test_a_batch_is_complete_when_it_is_first_asked_for(openai_client: OpenAI) -> None:
    batch = openai_client.batches.retrieve(submit(openai_client, rows(2)).id)
    assert batch.status == "completed"
    assert len(lines_of(openai_client, batch.output_file_id)) == 2


def test_every_test_has_books_of_its_own(openai_server: OpenAIServer) -> None:
    assert openai_server.books.batches == []
    assert openai_server.books.requests == []
