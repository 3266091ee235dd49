"""The check that a batch's input file goes through before anything is run.

Codes, parameters and messages are those that users have seen live (2025), as far as they are known; codes for
repeated ids, mixed models and too many lines are the ones documented for the Azure edition of the API.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from batchor_core.testing.local_server.protocol import Report
from batchor_core.testing.local_server.records import batch_error
from batchor_core.testing.local_server.settings import Limits
from batchor_core.testing.openai_server import embeddings
from batchor_core.testing.openai_server.prompts import input_tokens

_REQUIRED = ("custom_id", "method", "url", "body")
_NAMES = {
    "/v1/chat/completions": "Chat Completions",
    "/v1/responses": "Responses",
    "/v1/completions": "Completions",
}
_NEEDED_INPUT = {
    "/v1/chat/completions": "messages",
    "/v1/responses": "input",
    "/v1/embeddings": "input",
    "/v1/moderations": "input",
    "/v1/completions": "prompt",
}
_OPTIONAL_MODEL = {"/v1/moderations"}
_MAX_ERRORS = 1_000


def validate_input(path: Path, endpoint: str, limits: Limits) -> Report:
    """Check every line of an input file."""
    report = Report()
    seen: set[str] = set()
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            report.total += 1
            error = _check(line, number, endpoint, limits, report, seen)
            if error and len(report.errors) < _MAX_ERRORS:
                report.errors.append(error)
    if not report.total:
        report.errors.append(batch_error("empty_file", "The input file contains no requests."))
    if report.total > limits.max_requests:
        message = f"The input file contains {report.total:,} requests; the limit is {limits.max_requests:,}."
        report.errors.append(batch_error("too_many_tasks", message))
    elif report.inputs > limits.max_requests:
        message = f"The input file contains {report.inputs:,} embedding inputs; the limit is {limits.max_requests:,}."
        report.errors.append(batch_error("too_many_tasks", message))
    return report


def _check(
    line: bytes, number: int, endpoint: str, limits: Limits, report: Report, seen: set[str]
) -> dict[str, Any] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        return batch_error("invalid_json_line", "This line is not parseable as valid JSON.", line=number)
    return (
        _check_envelope(row, number, endpoint, seen)
        or _check_model(row["body"], number, endpoint, limits, report)
        or _check_content(row["body"], number, endpoint, report)
    )


def _check_envelope(row: dict[str, Any], number: int, endpoint: str, seen: set[str]) -> dict[str, Any] | None:
    for name in _REQUIRED:
        if row.get(name) is None:
            message = f"Missing required parameter: '{name}'."
            return batch_error("missing_required_parameter", message, line=number, param=name)
    custom_id = row["custom_id"]
    if not isinstance(custom_id, str):
        return batch_error("invalid_request", "custom_id must be a string.", line=number, param="custom_id")
    if custom_id in seen:
        message = f"The custom_id '{custom_id}' is used more than once in this file."
        return batch_error("duplicate_custom_id", message, line=number, param="custom_id")
    seen.add(custom_id)
    if row["method"] != "POST":
        return batch_error("invalid_request", "The method must be POST.", line=number, param="method")
    if row["url"] != endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        return batch_error("invalid_url", message, line=number, param="url")
    if not isinstance(row["body"], dict):
        return batch_error("invalid_request", "The body must be an object.", line=number, param="body")
    return None


def _check_model(
    body: dict[str, Any], number: int, endpoint: str, limits: Limits, report: Report
) -> dict[str, Any] | None:
    model = body.get("model")
    if not model:
        if endpoint in _OPTIONAL_MODEL:
            return None
        return batch_error("invalid_request", "Model parameter is required.", line=number, param="body.model")
    if limits.models is not None and model not in limits.models:
        message = f"The provided model '{model}' is not supported by the Batch API."
        return batch_error("model_not_found", message, line=number, param="body.model")
    if report.model is None:
        report.model = model
    if model != report.model:
        message = f"All requests of a batch must use one model: expected '{report.model}', found '{model}'."
        return batch_error("mismatched_model", message, line=number, param="body.model")
    return None


def _check_content(body: dict[str, Any], number: int, endpoint: str, report: Report) -> dict[str, Any] | None:
    if body.get("stream"):
        message = f"{_NAMES.get(endpoint, endpoint)}: Streaming is not supported in the Batch API."
        return batch_error("streaming_unsupported", message, line=number, param="body.stream")
    needed = _NEEDED_INPUT.get(endpoint)
    if needed and not body.get(needed) and "prompt" not in body:
        message = f"{needed.capitalize()} parameter is required."
        return batch_error("invalid_request", message, line=number, param=f"body.{needed}")
    report.tokens += input_tokens(body)
    if endpoint == embeddings.ENDPOINT:
        report.inputs += len(embeddings.inputs_of(body))
    return None
