"""Response bodies in the full shape of each endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batchor_core.testing.local_server.records import Tokens
from batchor_core.testing.local_server.replies import Reply, ReplyKind
from batchor_core.testing.local_server.words import count_tokens
from batchor_core.testing.openai_server.embeddings import embeddings
from batchor_core.testing.openai_server.prompts import input_tokens

_REASONING_TOKENS = 64
_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

SUPPORTED_ENDPOINTS = (
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
)
"""The batch endpoints that the server can answer by itself."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A response body and the tokens it cost."""

    body: dict[str, Any]
    tokens: Tokens


def response_body(reply: Reply, request: dict[str, Any], endpoint: str, key: str, now: float) -> Answered:
    """The body of a row that was answered.

    Args:
        reply: An answer, a refusal or an incomplete answer.
        request: The body of the row's request.
        endpoint: One of :data:`SUPPORTED_ENDPOINTS`; any other gets a body with the text alone.
        key: Unique hexadecimal text from which ids are made.
        now: Epoch seconds.
    """
    tokens = _tokens(reply, request)
    match endpoint:
        case "/v1/responses":
            body = _responses(reply, request, key, now, tokens)
        case "/v1/chat/completions":
            body = _chat(reply, request, key, now, tokens)
        case "/v1/embeddings":
            body, read = embeddings(request)
            tokens = Tokens(input=read)
        case "/v1/completions":
            body = _completion(reply, request, key, now, tokens)
        case "/v1/moderations":
            body, tokens = _moderation(request, key), Tokens()
        case _:
            body = {"id": key, "object": "result", "created": int(now), "text": reply.content}
    return Answered(body, tokens)


def tokens_of_body(body: dict[str, Any]) -> Tokens:
    """The tokens that a ready-made body reports, in either shape."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return Tokens()
    read = usage.get("input_tokens", usage.get("prompt_tokens"))
    written = usage.get("output_tokens", usage.get("completion_tokens"))
    return Tokens(input=int(read or 0), output=int(written or 0))


def _reasons(request: dict[str, Any]) -> bool:
    """Whether the model thinks before it answers."""
    model = str(request.get("model", "")).lower()
    return (
        "reasoning" in request
        or "reasoning_effort" in request
        or model.startswith(("o1", "o3", "o4", "gpt-5"))
    )


def _tokens(reply: Reply, request: dict[str, Any]) -> Tokens:
    reasoning = _REASONING_TOKENS if _reasons(request) else 0
    return Tokens(
        input=input_tokens(request),
        output=count_tokens(reply.content) + reasoning,
        reasoning=reasoning,
    )


def _responses(reply: Reply, request: dict[str, Any], key: str, now: float, tokens: Tokens) -> dict[str, Any]:
    incomplete = reply.kind is ReplyKind.INCOMPLETE
    reasoning = request.get("reasoning") or {}
    text = request.get("text") or {}
    return {
        "id": f"resp_{key}",
        "object": "response",
        "created_at": int(now),
        "status": "incomplete" if incomplete else "completed",
        "background": False,
        "completed_at": None if incomplete else int(now),
        "error": None,
        "incomplete_details": {"reason": reply.reason} if incomplete else None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": request.get("model"),
        "output": _output_items(reply, request, key),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": None,
        "service_tier": "default",
        "store": request.get("store", True),
        "temperature": request.get("temperature", 1.0),
        "text": {
            "format": text.get("format", {"type": "text"}),
            "verbosity": text.get("verbosity", "medium"),
        },
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": request.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": _responses_usage(tokens),
        "user": None,
        "metadata": request.get("metadata") or {},
    }


def _output_items(reply: Reply, request: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if _reasons(request):
        items.append({"id": f"rs_{key}", "type": "reasoning", "summary": []})
    if reply.kind is ReplyKind.INCOMPLETE and not reply.content:
        return items
    if reply.kind is ReplyKind.CALL:
        call = {
            "name": reply.tool,
            "arguments": reply.content,
            "call_id": f"call_{key}",
            "status": "completed",
        }
        return [*items, {"id": f"fc_{key}", "type": "function_call", **call}]
    items.append(
        {
            "id": f"msg_{key}",
            "type": "message",
            "status": "incomplete" if reply.kind is ReplyKind.INCOMPLETE else "completed",
            "content": [_content(reply)],
            "role": "assistant",
        }
    )
    return items


def _content(reply: Reply) -> dict[str, Any]:
    if reply.kind is ReplyKind.REFUSAL:
        return {"type": "refusal", "refusal": reply.content}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": reply.content}


def _chat(reply: Reply, request: dict[str, Any], key: str, now: float, tokens: Tokens) -> dict[str, Any]:
    refused = reply.kind is ReplyKind.REFUSAL
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused else reply.content,
        "refusal": reply.content if refused else None,
        "annotations": [],
    }
    if reply.kind is ReplyKind.CALL:
        function = {"name": reply.tool, "arguments": reply.content}
        message |= {
            "content": None,
            "tool_calls": [{"id": f"call_{key}", "type": "function", "function": function}],
        }
    return {
        "id": f"chatcmpl-{key}",
        "object": "chat.completion",
        "created": int(now),
        "model": request.get("model"),
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}
        ],
        "usage": _chat_usage(tokens),
        "service_tier": "default",
        "system_fingerprint": "fp_local",
    }


def _finish_reason(reply: Reply) -> str:
    if reply.kind is ReplyKind.CALL:
        return "tool_calls"
    if reply.kind is not ReplyKind.INCOMPLETE:
        return "stop"
    return "content_filter" if reply.reason == "content_filter" else "length"


def _completion(
    reply: Reply, request: dict[str, Any], key: str, now: float, tokens: Tokens
) -> dict[str, Any]:
    return {
        "id": f"cmpl-{key}",
        "object": "text_completion",
        "created": int(now),
        "model": request.get("model"),
        "choices": [
            {"index": 0, "text": reply.content, "logprobs": None, "finish_reason": _finish_reason(reply)}
        ],
        "usage": _chat_usage(tokens),
    }


def _moderation(request: dict[str, Any], key: str) -> dict[str, Any]:
    """A text is flagged for violence if it has the word ``kill``, and for nothing else."""
    given = request.get("input", "")
    inputs = given if isinstance(given, list) else [given]
    flags = ["kill" in str(text).lower().split() for text in inputs]
    return {
        "id": f"modr-{key}",
        "model": request.get("model"),
        "results": [
            {
                "flagged": flag,
                "categories": {name: flag and name == "violence" for name in _CATEGORIES},
                "category_scores": {
                    name: 0.9 if flag and name == "violence" else 0.01 for name in _CATEGORIES
                },
                "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
            }
            for flag in flags
        ],
    }


def _responses_usage(tokens: Tokens) -> dict[str, Any]:
    """The usage of Responses bodies, which since 2026 tells writes to the cache as well."""
    details = {"cached_tokens": tokens.cached, "cache_write_tokens": 0}
    return {**tokens.as_usage(), "input_tokens_details": details}


def _chat_usage(tokens: Tokens) -> dict[str, Any]:
    """The usage of Chat Completions bodies."""
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
