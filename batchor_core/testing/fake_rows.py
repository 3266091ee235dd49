"""The lines that :class:`~batchor_core.testing.FakeProvider` writes into its result files: what became of a row, without its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.testing.openai_server.responder import default_responder

AnswerFunction: TypeAlias = Callable[[BatchRequestLine], "str | JSONObject | None"]
"""Answers a row: a text; a dictionary with ``response`` or ``error`` to be written as the row's line; None to leave it out."""


def default_answer(line: BatchRequestLine) -> str | JSONObject:
    """Repeat the prompt, or give JSON that satisfies the schema, of words of the prompt."""
    body = line["body"]
    if not body.get("text"):
        return f"answer to {body.get('input', '')}"
    reply = default_responder(body, line.get("url", ""), line["custom_id"])
    return reply.content or http_error_row(reply.status, reply.code, reply.message or "")


def answer_row(text: str, *, input_tokens: int = 10, output_tokens: int = 5) -> JSONObject:
    """The line of a row that was answered, without its name."""
    body: JSONObject = {
        "object": "response",
        "status": "completed",
        "error": None,
        "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        ],
        "usage": {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }
    return {"response": {"status_code": 200, "request_id": "req_fake", "body": body}, "error": None}


def vector_row(vector: str | Sequence[float | None], *, input_tokens: int = 10) -> JSONObject:
    """The line of a row that was answered with a vector, in base64 or as numbers, without its name."""
    found = vector if isinstance(vector, str) else list(vector)
    return body_row({"data": [{"vector": found}], "usage": {"prompt_tokens": input_tokens}})


def body_row(body: JSONObject) -> JSONObject:
    """The line of a row that was answered with this body, without its name."""
    return {"response": {"status_code": 200, "request_id": "req_fake", "body": body}, "error": None}


def http_error_row(status: int, code: str | None = None, message: str = "told to fail") -> JSONObject:
    """The line of a row that ended in an HTTP error, without its name."""
    error: JSONObject = {"message": message, "type": "fake_error", "param": None, "code": code}
    return {
        "response": {"status_code": status, "request_id": "req_fake", "body": {"error": error}},
        "error": None,
    }


def row_error(code: str, message: str = "told to fail", *, custom_id: str | None = None) -> JSONObject:
    """The line of a row that was never run, such as ``batch_expired``; without its name unless that is given."""
    name: JSONObject = {} if custom_id is None else {"custom_id": custom_id}
    return {**name, "response": None, "error": {"code": code, "message": message}}


def blank_row() -> JSONObject:
    """The line of a row that the provider lost: status 0 and nothing else. Its name is left out."""
    return {"response": {"status_code": 0, "request_id": "", "body": {}}, "error": None}
