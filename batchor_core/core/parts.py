"""Parts of a message: texts, images, files and audio, as every provider of conversations understands them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Required, TypeAlias, TypedDict

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.media_types import LOOKED_AT, audio_format_of, media_type_of
from batchor_core.core.types import JSONObject

SOURCES = ("url", "data", "file_id", "path")
"""Where the content of a part comes from; each part has one of them."""


class TextPart(TypedDict):
    """A text."""

    type: Literal["text"]
    text: str


class _Content(TypedDict, total=False):
    url: str
    """An address that the provider reads the content from."""
    file_id: str
    """The provider's id of a file that was uploaded to it."""
    data: bytes | str
    """The content itself: bytes, or base64 text, which needs ``media_type`` (of audio: ``format``) beside it."""
    path: Path
    """A local file, read once while the row is read. It must be a Path, so that no text in a row of data can name a file."""
    media_type: str
    """Such as ``image/png``; told from the content or the name of a file if it is left out."""


class ImagePart(_Content, total=False):
    """An image, with exactly one of ``url``, ``file_id``, ``data`` and ``path``."""

    type: Required[Literal["image"]]
    detail: str
    """How closely to look, such as ``low``."""


class FilePart(_Content, total=False):
    """A document such as a PDF, with exactly one of ``url``, ``file_id``, ``data`` and ``path``."""

    type: Required[Literal["file"]]
    name: str
    """Its name for the model; that of the local file if it is left out."""


class AudioPart(_Content, total=False):
    """A recording, with exactly one of ``url``, ``file_id``, ``data`` and ``path``."""

    type: Required[Literal["audio"]]
    format: str
    """Such as ``wav`` or ``mp3``; told from the content or the name of a file if it is left out."""


Part: TypeAlias = TextPart | ImagePart | FilePart | AudioPart
"""A part that every provider of conversations understands."""

_KEYS: dict[str, frozenset[str]] = {
    "image": frozenset({*SOURCES, "media_type", "detail"}),
    "file": frozenset({*SOURCES, "media_type", "name"}),
    "audio": frozenset({*SOURCES, "media_type", "format"}),
}
"""By type of part, the keys that it may have; each holds a text."""

ENCODED_CHARS_PER_TOKEN = 64
"""A rough estimate where no limit depends on it: base64 of images, documents and compressed audio has far fewer tokens than text."""

PART_TYPES = ("text", *_KEYS)


class LocalPath(str):
    """The path of a local file in a checked part. It is JSON like any text, and JSON can't make one."""

    __slots__ = ()


def checked_parts(where: str, content: Sequence[Any]) -> Sequence[Any]:
    """The parts of a message's content, with bytes as base64 and paths as :class:`LocalPath`; ``content`` itself if it has none.

    Raises:
        InvalidInputError: A part can't be sent.
    """
    checked = [_checked(f"{where}[{number}]", part) for number, part in enumerate(content)]
    return content if all(map(_is_same, checked, content)) else checked


def _is_same(one: Any, other: Any) -> bool:
    return one is other


def _checked(where: str, part: Any) -> Any:
    if not isinstance(part, dict):
        hint = f'; write text as {{"type": "text", "text": {part[:20]!r}}}' if isinstance(part, str) else ""
        raise InvalidInputError(f"{where} must be a dict with a type, not {shown(part)}{hint}")
    kind = part.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidInputError(
            f"{where} must have a type, one of {', '.join(PART_TYPES)} or one of the provider's own; its type is {shown(kind)}"
        )
    if kind == "text":
        _check_keys(where, part, frozenset({"text"}))
        if "text" not in part:
            raise InvalidInputError(f"{where}, of type text, has no text")
        return _with_texts(where, part)
    if kind not in _KEYS:
        return part
    _check_keys(where, part, _KEYS[kind])
    given = [source for source in SOURCES if source in part]
    if len(given) != 1:
        raise InvalidInputError(
            f"{where}, of type {kind}, must have exactly one of {', '.join(SOURCES)}; it has {' and '.join(given) or 'none'}"
        )
    match given[0]:
        case "path":
            return _with_texts(where, {**part, "path": _local(where, part["path"])})
        case "data" if isinstance(part["data"], bytes | bytearray | memoryview):
            return _with_texts(where, with_data(where, part, bytes(part["data"])))
        case "data":
            needed = "format" if kind == "audio" else "media_type"
            if needed not in part:
                raise InvalidInputError(
                    f"{where}, of type {kind}: data (base64) and {needed}, such as {_SUCH_AS[kind]!r}, go together"
                )
        case _:
            pass  # an address or an id, which the provider looks at
    return _with_texts(where, part)


_SUCH_AS = {"image": "image/png", "file": "application/pdf", "audio": "wav"}


def _check_keys(where: str, part: JSONObject, allowed: frozenset[str]) -> None:
    if unknown := part.keys() - allowed - {"type"}:
        raise InvalidInputError(
            f"{where}, of type {part['type']}, has the unknown key {min(unknown, key=str)!r}; "
            f"it may have {', '.join(sorted(allowed))}"
        )


def _with_texts(where: str, part: JSONObject) -> JSONObject:
    for key, value in part.items():
        if not isinstance(value, str) or not value:
            raise InvalidInputError(f"{where}.{key} must be a non-empty string, and is {shown(value)}")
    return part


def _local(where: str, path: Any) -> LocalPath:
    if isinstance(path, Path):
        return LocalPath(path)
    if isinstance(path, LocalPath):
        return path
    hint = (
        "; a text may come from data, and must not choose a file of this machine"
        if isinstance(path, str)
        else ""
    )
    raise InvalidInputError(
        f"{where}.path must be a pathlib.Path, such as Path('a.png'), and is {shown(path)}{hint}"
    )


def with_data(where: str, part: JSONObject, content: bytes, name: str = "") -> JSONObject:
    """A part with this content as base64, its media type, and of a file its name.

    Raises:
        InvalidInputError: The content is empty, not of the part's type, or it can't be told what it is.
    """
    kind = part["type"]
    what = f"{where}, of type {kind}: " + (f"the file {part['path']}" if "path" in part else "data")
    if not content:
        raise InvalidInputError(f"{what} is empty")
    made = {key: value for key, value in part.items() if key != "path"}
    media_type = made.get("media_type") or media_type_of(content[:LOOKED_AT], name)
    if kind == "audio":
        made.setdefault("format", None if media_type is None else audio_format_of(media_type))
        if made["format"] is None:
            raise InvalidInputError(
                f"{what} is {media_type or 'of an unknown type'}; if it is audio, give its format, such as 'wav'"
            )
    elif media_type is None:
        raise InvalidInputError(
            f"{what} is of an unknown type; give its media_type, such as {_SUCH_AS[kind]!r}"
        )
    elif kind == "image" and not media_type.startswith("image/"):
        raise InvalidInputError(f"{what} is {media_type}, not an image")
    if media_type is not None:
        made["media_type"] = media_type
    if kind == "file" and name:
        made.setdefault("name", name)
    made["data"] = b64encode(content).decode()
    return made


def parts_of(messages: Sequence[JSONObject]) -> Iterator[JSONObject]:
    """The parts of checked messages whose contents are lists."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, list | tuple):
            yield from content


def encoded_chars(messages: Sequence[JSONObject]) -> int:
    """Characters of base64 in checked messages."""
    return sum(
        len(part["data"]) for part in parts_of(messages) if part.get("type") in _KEYS and "data" in part
    )
