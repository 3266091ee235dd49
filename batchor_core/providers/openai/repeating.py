"""Whether the same request, sent again, can bring another outcome. What can't is not paid for again.

Models sample, so a useless text may be followed by a good one: whatever concerns the words of an answer is worth another
attempt, at ``temperature`` 0 as well, since hosted models don't promise the same answer to the same request. What follows
from the request itself is not.
"""

from __future__ import annotations

from batchor_core.providers.openai.spelling import plain_name

RETRYABLE_STATUSES = frozenset({408, 409, 429})
"""HTTP statuses under 500 after which another try may do better."""

UNSUPPORTED_STATUSES = frozenset({501, 505})
"""HTTP statuses from 500 on that say the server can't do this at all."""

REQUEST_CODES = frozenset(
    {
        "bad_request",
        "bio_policy",
        "context_length_exceeded",
        "context_window_exceeded",
        "data_residency_mismatch",
        "deployment_not_found",
        "invalid_json_schema",
        "invalid_prompt",
        "misalignment_policy_violation",
        "model_not_found",
        "string_above_max_length",
        "unsupported_parameter",
        "unsupported_value",
    }
)
"""Codes that blame the request whatever HTTP status they come with: proxies turn a 400 into a 500."""

FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
"""Codes of a provider's filter."""

FILTER_REASONS = frozenset(
    {
        "content_filter",
        "safety",
        "recitation",
        "prohibited_content",
        "blocklist",
        "spii",
        "guardrail_intervened",
    }
)
"""Finish reasons, in lower case, of an answer that a filter stopped. Compatible servers pass on those of other vendors."""

LENGTH_REASONS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
"""Finish reasons, in lower case, of an answer that was cut off by a limit on its length."""

BROKEN_REASONS = frozenset({"error", "abort", "cancelled", "insufficient_system_resource"})
"""Finish reasons, in lower case, of an answer that the server did not finish."""

_REQUEST_TYPES = frozenset({"invalid_request", "invalid_request_error"})
_TOO_LONG = "maximum context length"
_REQUEST_PREFIXES = (
    "image_",
    "invalid_",
    "missing_required_",
    "unknown_param",
    "unsupported_",
    "empty_image_",
)
_REQUEST_SUFFIXES = ("_above_max_length", "_above_max_value", "_below_min_length", "_below_min_value")


def error_may_pass(status: int | None, code: str, kind: str, message: str = "") -> bool:
    """Whether the same request may get another answer than this error.

    Args:
        status: The HTTP status; None if the error came without one.
        code: The error's code.
        kind: The error's type.
        message: Its words.
    """
    code, kind = plain_name(code), plain_name(kind)
    if code.removesuffix("_error") in REQUEST_CODES or code in FILTER_CODES:
        return False
    if status:
        if status == 429:
            return not message.startswith("Request too large")  # for the limit per minute, at any time
        if status >= 500 and (kind in _REQUEST_TYPES or _TOO_LONG in message):
            return False  # a gateway's status around the error of the server behind it
        return status in RETRYABLE_STATUSES or not (400 <= status < 500 or status in UNSUPPORTED_STATUSES)
    return _TOO_LONG not in message and not any(_blames_the_request(name) for name in (code, kind))


def _blames_the_request(name: str) -> bool:
    return (
        name.removesuffix("_error") in REQUEST_CODES
        or name in _REQUEST_TYPES
        or name.startswith(_REQUEST_PREFIXES)
        or name.endswith(_REQUEST_SUFFIXES)
    )
