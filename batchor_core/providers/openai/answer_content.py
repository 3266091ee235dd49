"""What a model said in a response body: text, a refusal, or calls and media that are not text.

OpenAI-compatible servers leave out ``type``, ``role`` and ``index``, so an item or part without a type is read by the fields
it has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batchor_core.core.types import JSONObject, JSONValue

MAX_CALLS = 16
MAX_CALL_CHARS = 2_000

_TEXT_PARTS = frozenset({"output_text", "text"})
_THOUGHTS = ("reasoning", "thinking", "summary")
_ANSWERING_ROLES = frozenset({"", "assistant", "model"})
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
_PLAIN_MESSAGE = frozenset({"role", "content", "refusal", "annotations"})
_OTHER_CALLS = frozenset({"additional_tools", "mcp_list_tools", "program"})
_MEDIA = ("image", "audio", "video", "file", "output_image", "output_audio", "output_file")


@dataclass(slots=True)
class Said:
    """What one answer holds.

    Attributes:
        text: Its text.
        refusal: The words of a refusal.
        calls: Whatever else it holds that is not text: calls of tools, images, audio.
        is_waiting: Whether the model stopped to wait for the result of a call, so that ``text`` is not the final answer.
        reason: Chat Completions' ``finish_reason``, in lower case; empty if there is none.
        error: An error object in the place of the answer.
    """

    text: str = ""
    refusal: str = ""
    calls: list[JSONObject] = field(default_factory=list)
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


def read_output(output: list[Any]) -> Said:
    """Read the ``output`` of a Responses body."""
    messages: list[dict[str, Any]] = []
    others: list[tuple[str, dict[str, Any]]] = []
    for item in output:
        if not isinstance(item, dict):
            continue
        kind = item.get("type")
        if kind == "reasoning":
            continue
        if kind == "message" and item.get("role") == "assistant":
            messages.append(item)
            continue
        kind = _string(kind) or _guessed(item)
        if kind == "message":
            if _string(item.get("role")) in _ANSWERING_ROLES:
                messages.append(item)
        elif kind in _TEXT_PARTS or kind == "refusal":
            messages.append({"content": [item]})  # a part without a message around it
        elif kind and kind != "reasoning":
            others.append((kind, item))
    if len(messages) > 1:  # a model may think aloud first; its answer is then marked as final
        messages = [message for message in messages if message.get("phase") == "final_answer"] or messages
    said = Said()
    for message in messages:
        _read_content(message.get("content"), said)
    if others:
        _read_calls(others, said)
        said.is_waiting = said.is_waiting and not any(
            message.get("phase") == "final_answer" for message in messages
        )
    return said


def read_choices(choices: list[Any]) -> Said:
    """Read the ``choices`` of a Chat Completions body. The choice of index 0 is the answer."""
    choice = first_choice(choices)
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {}
    said = Said()
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        said.reason = reason.casefold()
    if isinstance(choice.get("error"), dict):
        said.error = choice["error"]
    _read_content(message.get("content"), said)
    if isinstance(message.get("refusal"), str):
        said.refusal = message["refusal"]
    if not _PLAIN_MESSAGE.issuperset(message):
        _read_extras(message, said)
    if not said.calls and not said.text and said.reason in ("tool_calls", "function_call"):
        _add_call(said.reason, {}, said)
    return said


def _read_extras(message: dict[str, Any], said: Said) -> None:
    """Add what a chat message holds besides its content."""
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else [calls]:
        if isinstance(call, dict) and call:
            _add_call(_string(call.get("type")) or "function", call, said)
    if isinstance(message.get("function_call"), dict) and message["function_call"]:
        _add_call("function_call", message["function_call"], said)
    audio = message.get("audio")
    if isinstance(audio, dict):
        if isinstance(audio.get("transcript"), str) and not said.text:
            said.text = audio["transcript"]
        else:
            _add_call("audio", audio, said)
    if isinstance(message.get("images"), list) and message["images"]:
        _add_call("image", {}, said)


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
    """The type of an item that does not say it, by its fields."""
    if "arguments" in item or "call_id" in item:
        return "function_call_output" if "output" in item else "function_call"
    if "summary" in item or "encrypted_content" in item:
        return "reasoning"
    if "content" in item or "role" in item:
        return "message"
    if isinstance(item.get("text"), str):
        return "text"
    return "refusal" if isinstance(item.get("refusal"), str) else ""


def _read_content(content: Any, said: Said) -> None:
    """Add what a message's content holds: a string, a list of parts, one part, or null."""
    if isinstance(content, str):
        said.text += content
        return
    if isinstance(content, dict):
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
    kind = _string(part.get("type"))
    words = part.get("text")
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
    elif kind in _CLIENT_CALLS or kind.startswith(_MEDIA):
        _add_call(kind, part, said)


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
    if len(said.calls) >= MAX_CALLS:
        return
    inner = call.get("function") or call.get("custom")
    shown: dict[str, JSONValue] = {"type": kind[:64]}
    for holder in (call, inner):
        if isinstance(holder, dict):
            for name, source in (("name", "name"), ("arguments", "arguments"), ("arguments", "input")):
                if isinstance(holder.get(source), str):
                    shown[name] = holder[source][:MAX_CALL_CHARS]
    said.calls.append(shown)
