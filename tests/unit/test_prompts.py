"""What may be asked for an item, and what is refused with a word about where it is wrong."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.media_types import media_type_of
from batchor_core.core.prompts import PromptFeature, PromptParts

TURN = {"role": "user", "content": "hello"}


def of(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_a_prompt_has_its_two_texts() -> None:
    prompt = PromptParts("hello", "be brief")
    assert (prompt.prompt, prompt.system_prompt, prompt.messages, prompt.options) == (
        "hello",
        "be brief",
        None,
        None,
    )
    assert prompt.features == []
    assert hash(prompt) == hash(PromptParts("hello", "be brief"))


def test_a_conversation_is_in_the_place_of_a_prompt() -> None:
    prompt = PromptParts.of_messages([TURN], system_prompt="be brief", options={"temperature": 0})
    assert prompt == PromptParts("", "be brief", [TURN], {"temperature": 0})
    assert prompt == PromptParts(None, "be brief", [TURN], {"temperature": 0})  # type: ignore[arg-type]
    assert (prompt.prompt, prompt.features) == ("", [PromptFeature.MESSAGES, PromptFeature.OPTIONS])
    assert PromptParts("x", options={"model": "m"}).features == [PromptFeature.OPTIONS, PromptFeature.MODEL]
    assert prompt != PromptParts.of_messages([TURN], system_prompt="be brief")


@pytest.mark.parametrize(
    "content",
    [
        "hello",
        [{"type": "text", "text": "hello"}],
        ({"type": "text", "text": "hello"},),
        [{"type": "image", "url": "https://example.com/a.png", "detail": "low"}],
        [{"type": "image", "data": "AAAA", "media_type": "image/png"}],
        [{"type": "image", "file_id": "file-1"}],
        [{"type": "file", "data": "AAAA", "media_type": "application/pdf", "name": "a.pdf"}],
        [{"type": "file", "url": "https://example.com/a.pdf"}],
        [{"type": "audio", "data": "AAAA", "format": "wav"}],
        [{"type": "file", "url": "https://example.com/a.pdf", "media_type": "application/pdf"}],
        [{"type": "audio", "file_id": "file-1"}],
        [{"type": "audio", "path": Path("a.wav")}],
        [{"type": "of the provider's own", "anything": {"goes": 1}}],
    ],
)
def test_these_contents_are_taken(content: Any) -> None:
    assert PromptParts.of_messages(of(content)).features == [PromptFeature.MESSAGES]


PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 9


def test_bytes_are_encoded_and_named_by_what_they_are() -> None:
    given = of([{"type": "text", "text": "?"}, {"type": "image", "data": PNG}])
    prompt = PromptParts.of_messages(given)
    assert prompt.messages is not None
    made = prompt.messages[0]["content"][1]
    assert made == {"type": "image", "data": b64encode(PNG).decode(), "media_type": "image/png"}
    assert given[0]["content"][1]["data"] == PNG  # what the caller gave is not changed
    assert replace(prompt, system_prompt="x").messages == prompt.messages


@pytest.mark.parametrize(
    ("beginning", "name", "expected"),
    [
        (PNG, "photo.jpg", "image/png"),
        (b"\xff\xd8\xff\xe0", "", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "", "audio/wav"),
        (b"\0\0\0\x18ftypheic", "", "image/heic"),
        (b"%PDF-1.7", "", "application/pdf"),
        (b"a,b\n", "rows.CSV", "text/csv"),
        (b"PK\x03\x04", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"?", "unknown.xyz", None),
        (b"", "", None),
    ],
)
def test_media_types_are_told_from_content_then_name(
    beginning: bytes, name: str, expected: str | None
) -> None:
    assert media_type_of(beginning, name) == expected


def test_a_message_may_say_all_in_further_keys() -> None:
    PromptParts.of_messages([TURN, {"role": "assistant", "content": None, "calls": [1]}])
    PromptParts.of_messages([TURN, {"role": "assistant", "content": "x", "name": "Ann"}])


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "messages is empty"),
        ("hello", "must be a list of messages, not 'hello'"),
        (TURN, "must be a list of messages"),
        (7, "must be a list of messages"),
        (iter([TURN]), "must be a list of messages"),
        (["hello"], r"messages\[0\] must be a dict"),
        ([TURN, {"content": "x"}], r"messages\[1\] must have a role"),
        ([{"role": "", "content": "x"}], r"messages\[0\] must have a role"),
        ([{"role": 7, "content": "x"}], r"messages\[0\] must have a role"),
        (
            [{"role": "user"}],
            r"messages\[0\]\.content must be a non-empty string or list of parts, and is None",
        ),
        (of(""), r"content must be a non-empty"),
        (of([]), r"content must be a non-empty"),
        (of({"type": "text", "text": "x"}), "content must be a non-empty"),
        (of(["x"]), r'content\[0\] must be a dict .* write text as \{"type": "text", "text": \'x\'\}'),
        (of([{"text": "x"}]), r"content\[0\] must have a type"),
        (of([{"type": "text"}]), "of type text, has no text"),
        (of([{"type": "text", "text": ""}]), r"content\[0\]\.text must be a non-empty string"),
        (of([{"type": "text", "text": "x", "extra": 1}]), "unknown key 'extra'; it may have text"),
        (of([{"type": "image"}]), "exactly one of url, data, file_id, path; it has none"),
        (of([{"type": "image", "url": "a", "file_id": "b"}]), "it has url and file_id"),
        (of([{"type": "image", "data": "AAAA"}]), "data .* and media_type, .* go together"),
        (of([{"type": "image", "data": b""}]), "data is empty"),
        (of([{"type": "image", "data": b"no image"}]), "data is of an unknown type; give its media_type"),
        (of([{"type": "image", "data": b"%PDF-1.7"}]), "data is application/pdf, not an image"),
        (
            of([{"type": "audio", "data": b"%PDF-1.7"}]),
            "data is application/pdf; if it is audio, give its format",
        ),
        (
            of([{"type": "image", "path": "/etc/passwd"}]),
            r"path must be a pathlib\.Path, .* must not choose a file",
        ),
        (of([{"type": "image", "path": 7}]), r"path must be a pathlib\.Path, .* and is 7"),
        (of([{"type": "image", "url": 7}]), r"content\[0\]\.url must be a non-empty string"),
        (of([{"type": "audio", "data": "AAAA"}]), r"data \(base64\) and format, .* go together"),
        (of([{"type": "own", "value": float("nan")}]), r"messages\[0\]\.content\[0\]\.value is nan"),
        (of("\ud800"), "half of a surrogate pair"),
        (of([{"type": "own", "value": {1}}]), "is a set, which JSON does not have"),
    ],
)
def test_these_messages_are_refused(messages: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        PromptParts.of_messages(messages)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("",), "a prompt must be a non-empty string"),
        ((None,), "a prompt must be a non-empty string"),
        ((["hello"],), "a prompt must be a non-empty string"),
        (("hello", 7), "a system prompt a string or None"),
        (("", 7, [TURN]), "a system prompt a string or None"),
        (("hello", None, [TURN]), "a prompt or messages, not both"),
        ((["hello"], None, [TURN]), "a prompt or messages, not both"),
        (("hello", None, None, [1]), "options must be a dict of request fields"),
        (("hello", None, None, {1: 2}), "options has the key 1"),
        (("hello", None, None, {"model": ""}), r"options\.model must be a non-empty string"),
        (("hello", None, None, {"model": 7}), r"options\.model must be a non-empty string"),
        (("hello", None, None, {"temperature": float("nan")}), r"options\.temperature is nan"),
        (("hello", None, None, {"tools": [{"a": object()}]}), r"options\.tools\[0\]\.a is a object"),
    ],
)
def test_these_parts_are_refused(arguments: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        PromptParts(*arguments)
