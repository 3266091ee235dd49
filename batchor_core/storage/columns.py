"""How values become columns, and columns values again.

JSON is kept as text, encoded once. Databases refuse some strings that models do produce: Postgres takes no NUL, neither
takes a lone surrogate. Such a text is stored as ``\\x1a`` and its JSON form, in which both are escapes, and comes back as
it was. JSON that the fast encoder can't write or would not read back exactly (integers beyond 64 bits, lone surrogates,
keys that are not strings) is written by the standard one and marked by a leading space, which JSON permits.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import orjson

from batchor_core.core.enums import ItemStatus
from batchor_core.core.jsontext import all_numbers_fit, minified, standard_json
from batchor_core.core.models import ItemFailure
from batchor_core.core.plain import stored_as_json
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage, counts
from batchor_core.storage.records import RawResponseRef

STATUS: Final = {status.value: status for status in ItemStatus}
"""Statuses by their stored names; quicker than calling the enum."""

STATUS_NAME: Final = {status: status.value for status in ItemStatus}
"""The other way; ``value`` of an enum is a property that takes half a microsecond."""

LONG_TEXT = 1 << 20
"""Characters of an answer from which on it is written by itself."""

_ESCAPED = "\x1a"
_MARK = " "
_LONG_NUMBER = re.compile(r"\d{19}")  # from here on orjson reads a float
_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
)

_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode_text(text: str) -> str:
    """A text that both databases take, and that :func:`decode_text` turns back."""
    if "\0" in text or text[:1] == _ESCAPED or not _is_unicode(text):
        return _ESCAPED + json.dumps(text)
    return text


def decode_text(stored: str) -> str:
    """The text that :func:`encode_text` was given."""
    if stored[:1] == _ESCAPED:
        return str(json.loads(stored[1:]))
    return stored


def any_escaped(stored: Iterable[str | None]) -> bool:
    """Whether :func:`decode_text` would give another text for one of them."""
    return _ESCAPED in {text[:1] for text in stored if text}


def encode_optional_text(text: str | None) -> str | None:
    """The same, None staying None."""
    return None if text is None else encode_text(text)


def decode_optional_text(stored: str | None) -> str | None:
    """The same, None staying None."""
    return None if stored is None else decode_text(stored)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_json(value: JSONValue) -> str:
    """JSON text; raises TypeError for what is not JSON."""
    try:
        return orjson.dumps(value, option=_OPTIONS).decode()
    except TypeError:
        return _MARK + standard_json(value)


def encode_strictly(value: Any) -> str:
    """JSON text of what has to come back as the same value; null for what stands for no value, such as NaN.

    Raises:
        TypeError: A part is no JSON value, such as a date, which would come back as a string. Says where it is.
    """
    try:
        return orjson.dumps(value, option=_STRICT).decode()
    except (TypeError, ValueError, RecursionError):
        pass  # integers beyond 64 bits, halves of surrogate pairs, numpy's numbers, or what is no JSON at all
    try:
        return encode_json(stored_as_json(value))
    except RecursionError:
        raise TypeError("it contains itself, or is nested too deeply") from None


def decode_json(stored: str) -> Any:
    """The value that :func:`encode_json` was given."""
    return json.loads(stored) if stored[:1] == _MARK else orjson.loads(stored)


def encode_optional_json(value: JSONValue | None) -> str | None:
    """The same, None staying None (SQL NULL, not JSON null)."""
    return None if value is None else encode_json(value)


def decode_optional_json(stored: str | None) -> Any:
    """The same, None staying None."""
    return None if stored is None else decode_json(stored)


def decode_answer(text: str) -> Any:
    """A model's JSON answer as a value. The text is the model's own, so that it may hold anything that JSON may."""
    if _LONG_NUMBER.search(text):
        return json.loads(text)
    try:
        return orjson.loads(text)
    except ValueError:  # lone surrogates, NaN
        return json.loads(text)


def answer_json(text: str) -> bytes:
    """The JSON of an answer, on one line and without what the model put between the values; its numbers as written."""
    try:
        compact = orjson.dumps(orjson.loads(text))
    except (ValueError, TypeError):
        decode_answer(text)  # raises if it is no JSON
        return minified(text)
    # text that comes out as it went in holds no number that was changed; to search it for one would take far longer
    written = text.encode()
    return compact if compact == written or all_numbers_fit(written) else minified(text)


def plain_json(stored: str) -> str:
    """What :func:`encode_json` wrote, without our mark."""
    return stored[1:] if stored[:1] == _MARK else stored


def encode_failure(failure: ItemFailure) -> str:
    """A failure as JSON; ``raw_error`` that is not JSON is kept as its repr rather than losing the failure."""
    payload: JSONObject = {
        "error_class": failure.error_class,
        "message": failure.message,
        "retryable": failure.retryable,
        "raw_error": failure.raw_error,
    }
    try:
        return encode_json(payload)
    except (TypeError, ValueError):
        return encode_json({**payload, "raw_error": repr(failure.raw_error)})


def decode_failure(stored: str | None) -> ItemFailure | None:
    """The failure that :func:`encode_failure` was given."""
    return None if stored is None else ItemFailure.from_payload(decode_json(stored))


def pack_response(response: JSONObject | None) -> bytes | None:
    """A raw response, compressed."""
    # level 1: three times as fast as the default on such records, for a tenth more bytes
    return None if response is None else zlib.compress(encode_json(response).encode(), 1)


def unpack_response(packed: bytes | None) -> JSONObject | None:
    """The response that :func:`pack_response` was given."""
    stored = unpacked(packed)
    return None if stored is None else decode_json(stored)


def unpacked(packed: bytes | None) -> str | None:
    """The response that :func:`pack_response` was given, as JSON text."""
    return None if packed is None else zlib.decompress(packed).decode()


def raw_columns(raw: RawResponseRef | None) -> tuple[bool | None, int | None, int | None]:
    """Where a raw response lies, as columns: in the error file or not, offset and length."""
    return (None, None, None) if raw is None else raw


_Count: TypeAlias = "int | None"
_UsageColumns: TypeAlias = tuple[_Count, _Count, _Count, _Count, _Count]  # one for each of TOKEN_KINDS

_NO_USAGE: Any = (None,) * len(TOKEN_KINDS)


def usage_columns(usage: TokenUsage | None) -> _UsageColumns:
    """The tokens of each kind, as columns; all None if unknown."""
    columns: _UsageColumns = _NO_USAGE if usage is None else counts(usage)
    return columns


def usage_from_columns(*stored: int | None) -> TokenUsage | None:
    """The usage that :func:`usage_columns` was given. A kind that an earlier version did not keep counts 0."""
    return None if stored[0] is None else TokenUsage(*[count or 0 for count in stored])
