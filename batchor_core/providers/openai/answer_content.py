"""What a model said in a response body: text, a refusal, or calls and media that are not text.

OpenAI-compatible servers leave out ``type``, ``role`` and ``index``, spell them in their own way, or put text and calls in other
places. So an item or part without a type is read by the fields it has: what has a text is text, and what has the fields of a
call is a call, which the same request brings again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from batchor_core.core.tools import ToolCall
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.providers.openai.spelling import plain_name

MAX_CALLS = 16
MAX_CALL_CHARS = 2_000

_TEXT_PARTS = frozenset({"output_text", "text"})
_THOUGHTS = ("reasoning", "thinking", "summary")
_ANSWERING_ROLES = frozenset({"", "ai", "assistant", "model"})
_CLIENT_CALLS = frozenset(
    {
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "function",
        "function_call",
        "local_shell_call",
        "mcp_approval_request",
        "shell_call",
        "tool_call",
        "tool_use",
    }
)
"""Calls that the caller has to perform. The provider performs all others itself, and the model goes on after them."""
_PLAIN_MESSAGE = frozenset({"annotations", "content", "id", "phase", "refusal", "role", "status", "type"})
_CALL_REASONS = frozenset({"function_call", "tool_call", "tool_calls", "tool_use"})
_OTHER_CALLS = frozenset({"additional_tools", "mcp_list_tools", "program"})
_PART_FIELDS = frozenset(
    {"arguments", "content", "function", "functionCall", "input", "json", "refusal", "text", "type"}
)
"""A dict in the place of a message's content is a part if it has one of these; else it is a decoded JSON answer."""
_INNER = ("function", "custom", "functionCall", "function_call")
_MEDIA = ("image", "audio", "video", "file", "output_image", "output_audio", "output_file")


@dataclass(slots=True)
class Said:
    """What one answer holds.

    Attributes:
        text: Its text.
        refusal: The words of a refusal.
        calls: Whatever else it holds that is not text: calls of tools, images, audio.
        called: The calls that name a function, whole; those that a provider has performed itself are not among them.
        is_waiting: Whether the model stopped to wait for the result of a call, so that ``text`` is not the final answer.
        reason: Chat Completions' ``finish_reason``, in lower case; empty if there is none.
        error: An error object in the place of the answer.
    """

    text: str = ""
    refusal: str = ""
    calls: list[JSONObject] = field(default_factory=list)
    called: list[ToolCall] = field(default_factory=list)
    is_waiting: bool = False
    reason: str = ""
    error: JSONObject | None = None

    @property
    def names(self) -> str:
        """The calls in words, for a message."""
        words = dict.fromkeys(
            " ".join(str(call[key]) for key in ("type", "name") if key in call) for call in self.calls
        )
        shown = ", ".join(list(words)[:3])
        return shown if len(words) <= 3 else f"{shown} and {len(words) - 3} more"


def read_output(output: Any) -> Said:
    """Read the ``output`` of a Responses body: a list of items, one item, or a text."""
    if isinstance(output, str):
        return Said(text=output)
    messages: list[dict[str, Any]] = []
    others: list[tuple[str, dict[str, Any]]] = []
    for item in output if isinstance(output, list) else [output]:
        if not isinstance(item, dict):
            continue
        kind = item.get("type")
        if kind == "reasoning":
            continue
        if kind == "message" and item.get("role") == "assistant":
            messages.append(item)
            continue
        kind = plain_name(kind) or _guessed(item)
        if kind.endswith("message"):  # also "output_message"
            if plain_name(item.get("role")) in _ANSWERING_ROLES:
                messages.append(item)
        elif kind == "refusal" or _is_text(kind, item):
            messages.append({"content": [item]})  # a part without a message around it
        elif kind and kind != "reasoning":
            others.append((kind, item))
    if len(messages) > 1:  # a model may think aloud first; its answer is then marked as final
        messages = [message for message in messages if message.get("phase") == "final_answer"] or messages
    said = Said()
    for message in messages:
        _read_message(message, said)
    if others:
        _read_calls(others, said)
        said.is_waiting = said.is_waiting and not any(
            message.get("phase") == "final_answer" for message in messages
        )
    return said


def read_choices(choices: Any) -> Said:
    """Read the ``choices`` of a Chat Completions body. The choice of index 0 is the answer."""
    choice = first_choice(choices if isinstance(choices, list) else [choices])
    message = choice.get("message")
    if message is None:
        message = choice.get("delta")
    said = Said()
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        said.reason = plain_name(reason)
    if isinstance(choice.get("error"), dict):
        said.error = choice["error"]
    _read_message(message if isinstance(message, dict) else {"content": message}, said)
    if not said.text and isinstance(choice.get("text"), str):  # as completions had it before there was chat
        said.text = choice["text"]
    if "tool_calls" in choice:
        _read_extras({"tool_calls": choice["tool_calls"]}, said)
    if not said.calls and not said.text and said.reason in _CALL_REASONS:
        _add_call(said.reason, {}, said)
    if said.reason == "refusal" and not said.refusal:
        said.refusal = said.text or said.reason
    return said


def _read_message(message: dict[str, Any], said: Said) -> None:
    _read_content(message.get("content"), said)
    if isinstance(message.get("refusal"), str):
        said.refusal += message["refusal"]
    if not _PLAIN_MESSAGE.issuperset(message):
        _read_extras(message, said)


def _read_extras(message: dict[str, Any], said: Said) -> None:
    """Add what a message holds besides its content."""
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else [calls]:
        if isinstance(call, dict) and call:
            _add_call(plain_name(call.get("type")) or "function", call, said)
    for name in ("function_call", "functionCall"):
        if isinstance(message.get(name), dict) and message[name]:
            _add_call("function_call", message[name], said)
    audio = message.get("audio")
    if isinstance(audio, dict):
        if isinstance(audio.get("transcript"), str) and not said.text:
            said.text = audio["transcript"]
        else:
            _add_call("audio", audio, said)
    for kind in ("image", "video"):
        if message.get(kind) or message.get(f"{kind}s"):
            _add_call(kind, {}, said)
    if not said.text and isinstance(message.get("text"), str):
        said.text = message["text"]
    if not said.text and not said.calls and isinstance(message.get("parsed"), dict | list):
        said.text = _json_text(message["parsed"])


def first_choice(choices: list[Any]) -> dict[str, Any]:
    """The choice of index 0, wherever it is in the list.

    If none has that index: the first one without an index, else the one of the lowest. An empty object if there is no choice.
    """
    if len(choices) == 1 and isinstance(choices[0], dict):
        return choices[0]
    found = [choice for choice in choices if isinstance(choice, dict)]
    if len(found) < 2:
        return found[0] if found else {}
    numbers = [_index(choice.get("index")) for choice in found]
    wanted = (
        0
        if 0 in numbers
        else None
        if None in numbers
        else min(number for number in numbers if number is not None)
    )
    return found[numbers.index(wanted)]


def _index(value: Any) -> int | None:
    """An index as a number; None if there is none that can be read."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value == value // 1:
        return int(value)  # false for NaN and infinity, whose integer part is not a number
    return None


def _guessed(item: dict[str, Any]) -> str:
    """The type of an item or part that does not say it, by its fields."""
    if "arguments" in item or "call_id" in item:
        return "function_call_output" if "output" in item else "function_call"
    if isinstance(item.get("function"), dict):
        return "function"
    if isinstance(item.get("functionCall"), dict) or isinstance(item.get("function_call"), dict):
        return "function_call"
    if isinstance(item.get("name"), str) and "input" in item:
        return "tool_use"
    if "summary" in item or "encrypted_content" in item:
        return "reasoning"
    if "content" in item or "role" in item:
        return "message"
    if isinstance(item.get("text"), str):
        return "text"
    return "refusal" if isinstance(item.get("refusal"), str) else ""


def _is_text(kind: str, item: dict[str, Any]) -> bool:
    """Whether an item is a part of a message on its own; one of an unknown type is, if it has a text."""
    if kind in _TEXT_PARTS:
        return True
    is_other = kind in _CLIENT_CALLS or kind in _OTHER_CALLS or kind.startswith((*_THOUGHTS, *_MEDIA))
    return isinstance(item.get("text"), str) and not is_other and not kind.endswith(("_call", "_output"))


def _read_content(content: Any, said: Said) -> None:
    """Add what a message's content holds: a string, a list of parts, one part, or null."""
    if isinstance(content, str):
        said.text += content
        return
    if isinstance(content, dict):
        if content and not content.keys() & _PART_FIELDS:
            said.text += _json_text(content)
            return
        content = [content]
    if not isinstance(content, list):
        return
    for part in content:
        if isinstance(part, dict):
            if part.get("type") == "output_text" and isinstance(part.get("text"), str):
                said.text += part["text"]
            else:
                _read_part(part, said)
        elif isinstance(part, str):
            said.text += part


def _read_part(part: dict[str, Any], said: Said) -> None:
    kind = plain_name(part.get("type"))
    words = part.get("text")
    if words is None and kind in ("", *_TEXT_PARTS):
        words = part.get("content")
    if isinstance(words, dict):  # as in the Assistants API
        words = words.get("value")
    if kind in _TEXT_PARTS and isinstance(words, str):
        said.text += words
        return
    refusal = part.get("refusal")
    if isinstance(refusal, str) and refusal:
        said.refusal += refusal
    elif kind == "refusal":
        said.refusal += words if isinstance(words, str) else ""
    elif kind.startswith(_THOUGHTS):
        return
    elif isinstance(words, str):
        said.text += words
    elif (kind := kind or _guessed(part)) in _CLIENT_CALLS or kind.startswith(_MEDIA):
        _add_call(kind, part, said)
    elif isinstance(part.get("json"), dict | list):
        said.text += _json_text(part["json"])


def _json_text(value: Any) -> str:
    """An answer that a server has decoded already."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""


def _read_calls(others: list[tuple[str, dict[str, Any]]], said: Said) -> None:
    """Add items that are neither messages nor reasoning. A call whose result is among them is done."""
    done = {_string(item.get("call_id")) for kind, item in others if kind.endswith("_output")} - {""}
    for kind, item in others:
        if kind.endswith("_output"):
            continue
        if kind in _CLIENT_CALLS or kind in _OTHER_CALLS or kind.endswith("_call") or kind.startswith(_MEDIA):
            _add_call(kind, item, said, is_done=_string(item.get("call_id")) in done)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _add_call(kind: str, call: dict[str, Any], said: Said, *, is_done: bool = False) -> None:
    if not is_done and (kind in _CLIENT_CALLS or call.get("execution") == "client"):
        said.is_waiting = True
    inner = next((call[name] for name in _INNER if call.get(name)), None)
    if kind in _CLIENT_CALLS and not is_done:
        _note_function(inner if isinstance(inner, dict) else call, said)
    if len(said.calls) >= MAX_CALLS:
        return
    shown: dict[str, JSONValue] = {"type": kind[:64]}
    for holder in (call, inner):
        if isinstance(holder, dict):
            for name, source in (("name", "name"), ("arguments", "arguments"), ("arguments", "input")):
                if isinstance(holder.get(source), str):
                    shown[name] = holder[source][:MAX_CALL_CHARS]
    said.calls.append(shown)


def _note_function(call: dict[str, Any], said: Said) -> None:
    """Keep a call whole if it names a function. The same call may be found in two places of a message."""
    name = call.get("name")
    arguments = next((call[key] for key in ("arguments", "input", "args") if call.get(key) is not None), "{}")
    if isinstance(name, str) and name and ToolCall(name, arguments) not in said.called:
        said.called.append(ToolCall(name, arguments))
