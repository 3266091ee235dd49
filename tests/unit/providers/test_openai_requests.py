from __future__ import annotations

import json
from typing import Any

import pytest

from batchor_core.core.models import PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRequestLine
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig

SCHEMA = StructuredOutputSchema(
    "answer", {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
)
CHAT = "/v1/chat/completions"


def build(
    prompt: PromptParts, schema: StructuredOutputSchema | None = None, **settings: Any
) -> BatchRequestLine:
    provider = OpenAIBatchProvider(OpenAIProviderConfig(**{"model": "gpt-4.1", **settings}))
    return provider.build_request_line(custom_id="row-1", prompt_parts=prompt, structured_output=schema)


# prompt, schema, settings, body
LINES: list[tuple[PromptParts, StructuredOutputSchema | None, dict[str, Any], dict[str, Any]]] = [
    (PromptParts("hi"), None, {}, {"model": "gpt-4.1", "input": "hi"}),
    (
        PromptParts("hi", "be brief"),
        None,
        {"reasoning_effort": "low", "max_output_tokens": 9},
        {
            "model": "gpt-4.1",
            "instructions": "be brief",
            "input": "hi",
            "reasoning": {"effort": "low"},
            "max_output_tokens": 9,
        },
    ),
    (
        PromptParts("hi", ""),
        SCHEMA,
        {},
        {
            "model": "gpt-4.1",
            "instructions": "",
            "input": "hi",
            "text": {
                "format": {"type": "json_schema", "name": "answer", "schema": SCHEMA.schema, "strict": True}
            },
        },
    ),
    (
        PromptParts("hi"),
        None,
        {"endpoint": CHAT},
        {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}]},
    ),
    (
        PromptParts("hi", "be brief"),
        SCHEMA,
        {"endpoint": CHAT, "reasoning_effort": "low", "max_output_tokens": 9},
        {
            "model": "gpt-4.1",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA.schema, "strict": True},
            },
            "reasoning_effort": "low",
            "max_completion_tokens": 9,
        },
    ),
    (
        PromptParts("hi"),
        SCHEMA,
        {
            "reasoning_effort": "low",
            "request_options": {
                "temperature": 0,
                "text": {"verbosity": "low", "format": "ours wins"},
                "reasoning": {"summary": "auto"},
            },
        },
        {
            "model": "gpt-4.1",
            "input": "hi",
            "text": {
                "verbosity": "low",
                "format": {"type": "json_schema", "name": "answer", "schema": SCHEMA.schema, "strict": True},
            },
            "reasoning": {"summary": "auto", "effort": "low"},
            "temperature": 0,
        },
    ),
]


@pytest.mark.parametrize(("prompt", "schema", "settings", "body"), LINES)
def test_a_line_asks_for_what_the_config_says(
    prompt: PromptParts, schema: StructuredOutputSchema | None, settings: dict[str, Any], body: dict[str, Any]
) -> None:
    line = build(prompt, schema, **settings)
    url = settings.get("endpoint", "/v1/responses")
    assert line == {"custom_id": "row-1", "method": "POST", "url": url, "body": body}
    assert list(line) == ["custom_id", "method", "url", "body"]
    assert list(line["body"]) == list(body)
    assert json.loads(json.dumps(line)) == line


def test_every_line_gets_the_schema_it_was_built_with() -> None:
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"))
    other = StructuredOutputSchema("other", SCHEMA.schema)
    names = []
    for schema in (SCHEMA, None, other, SCHEMA, SCHEMA, None):
        line = provider.build_request_line(
            custom_id="a", prompt_parts=PromptParts("hi"), structured_output=schema
        )
        names.append(line["body"].get("text", {}).get("format", {}).get("name"))
    assert names == ["answer", None, "other", "answer", "answer", None]
