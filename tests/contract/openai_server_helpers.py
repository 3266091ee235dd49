"""What the tests of the local server share: rows, uploads, and OpenAI's published schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from openai import OpenAI
from openai.types import Batch

from batchor_core.testing.openai_server import OpenAIServer

_PUBLISHED = json.loads((Path(__file__).parents[1] / "data" / "openai_schemas.json").read_bytes())
_COMPONENTS = {**_PUBLISHED["schemas"], **_PUBLISHED["schemas_removed_from_spec_2025_06_17"]}

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"
DAY = 86_400


def check_schema(name: str, shown: Any) -> None:
    """Fail unless ``shown``, its nulls left out, is what OpenAI publishes as ``name``."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": _COMPONENTS}}
    Draft202012Validator(schema).validate(without_nulls(shown))


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(member) for member in value] if isinstance(value, list) else value


def request_row(
    custom_id: str, text: str = "Tell me about tea", url: str = RESPONSES, **body: Any
) -> dict[str, Any]:
    """A line of an input file."""
    spoken = {"messages": [{"role": "user", "content": text}]} if url == CHAT else {"input": text}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": url,
        "body": {"model": "gpt-4.1-mini", **spoken, **body},
    }


def rows(count: int, **body: Any) -> list[dict[str, Any]]:
    return [
        request_row(f"row-{number}", f"Tell me about tea number {number}", **body) for number in range(count)
    ]


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def upload(client: OpenAI, lines: list[dict[str, Any]] | bytes, name: str = "input.jsonl") -> str:
    """Upload an input file and return its id."""
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    return client.files.create(file=(name, content), purpose="batch").id


def submit(
    client: OpenAI, lines: list[dict[str, Any]] | bytes, endpoint: str = RESPONSES, **options: Any
) -> Batch:
    """Upload an input file and create a batch of it."""
    file_id = upload(client, lines)
    return client.batches.create(
        input_file_id=file_id,
        endpoint=endpoint,  # type: ignore[arg-type]
        completion_window="24h",
        **options,
    )


def finish(client: OpenAI, server: OpenAIServer, batch: Batch) -> Batch:
    """The batch as it is a while later."""
    server.advance(60)
    return client.batches.retrieve(batch.id)


def lines_of(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of an output or error file, each checked against the published shape."""
    assert file_id
    lines = [json.loads(line) for line in client.files.content(file_id).content.split(b"\n") if line]
    for line in lines:
        check_schema("BatchRequestOutput", line)
    return lines


def by_id(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {line["custom_id"]: line for line in lines}


def answer_text(line: dict[str, Any]) -> str:
    """The text of a Responses line."""
    message = line["response"]["body"]["output"][-1]
    return str(message["content"][0]["text"])
