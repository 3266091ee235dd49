from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.providers.openai.errors import redact, translate


def raised_from(name: str) -> Exception:
    """An SDK error that came from a transport error of this class name."""
    error = RuntimeError("Connection error.")
    error.__cause__ = type(name, (Exception,), {})("details")
    return error


@pytest.mark.parametrize(
    ("name", "error_class", "not_performed"),
    [
        ("ConnectError", "connection", True),
        ("ConnectTimeout", "timeout", True),
        ("PoolTimeout", "timeout", True),
        ("ReadTimeout", "timeout", False),
        ("WriteTimeout", "timeout", False),
        ("ReadError", "connection", False),
        ("WriteError", "connection", False),
        ("RemoteProtocolError", "connection", False),
        ("ProxyError", "unreadable_answer", False),
        ("Whatever", "unreadable_answer", False),
    ],
)
def test_only_what_was_never_sent_is_certain(name: str, error_class: str, not_performed: bool) -> None:
    error = translate(raised_from(name), action="creation")
    assert (error.kind, error.error_class, error.not_performed) == (
        ProviderErrorKind.RETRY,
        error_class,
        not_performed,
    )
    assert name in str(error)
    assert error.status_code is None


def test_garbled_json_is_an_unknown_outcome() -> None:
    error = translate(json.JSONDecodeError("Expecting value", "x", 0), action="creation")
    assert (error.error_class, error.not_performed) == ("unreadable_answer", False)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcd1234.",
        "Incorrect API key provided: sk-proj-********1234. You can find",
        "Incorrect API key provided: secre*****1234",
        "Illegal header value b'Bearer abcd1234abcd1234'",
        "key SK-ABCD1234",
        "the key abcd1234, whole",
    ],
)
def test_keys_and_their_pieces_are_removed(text: str) -> None:
    cleaned = redact(text, ["abcd1234"])
    assert "[redacted]" in cleaned
    assert "1234" not in cleaned


def test_other_text_stays() -> None:
    text = "Enqueued token limit reached for gpt-4.1 in organization org-1. Limit: 2,000,000. Task-force risk-free."
    assert redact(text, ["", "Limit"]) == text, "a word that a local server takes for a key is no secret"


def test_messages_are_one_short_line() -> None:
    class RefusedError(Exception):
        status_code = 400
        body = {"message": "line one\nline \x1btwo " + "x" * 1_000_000}  # noqa: RUF012

    said = str(translate(RefusedError(), action="creation"))
    assert said.startswith("creation: HTTP 400: line one line two ")
    assert said.isprintable()
    assert len(said) <= 500


@pytest.mark.parametrize(
    ("code", "error_class"),
    [("model_not_found", "model_not_found"), ("a b\n", "bad_request"), (7, "bad_request")],
)
def test_a_code_is_a_class_only_if_it_is_a_name(code: Any, error_class: str) -> None:
    error = RuntimeError("no")
    error.status_code, error.body = 400, {"code": code}  # type: ignore[attr-defined]
    assert translate(error, action="creation").error_class == error_class


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "type", "message"]), inner, max_size=4)
    ),
)


@given(st.integers(), BODIES, st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text(max_size=30)))
def test_no_answer_makes_translation_fail(status: int, body: Any, headers: dict[str, str]) -> None:
    error = Exception("x")
    error.status_code, error.body = status, body  # type: ignore[attr-defined]
    error.response = type("Response", (), {"headers": headers})()  # type: ignore[attr-defined]
    translated = translate(error, action="creation")
    assert isinstance(translated, ProviderError)
    assert translated.retry_after is None or translated.retry_after >= 0


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_redirect_says_where_it_points_to(status: int) -> None:
    class Response:
        headers = {"location": "https://sso.example.com/login?next=secret"}  # noqa: RUF012

    class RedirectError(Exception):
        status_code = status
        body = None
        response = Response()

    error = translate(RedirectError(), action="upload", is_route=True)
    assert error.kind is ProviderErrorKind.RETRY
    assert "redirects to https://sso.example.com/login, where requests are not sent" in str(error)
    assert "secret" not in str(error)
