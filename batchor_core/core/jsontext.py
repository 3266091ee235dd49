"""JSON of values that came from a provider, whatever they hold."""

from __future__ import annotations

import json

import orjson

from batchor_core.core.types import JSONValue


def to_json(value: JSONValue) -> bytes:
    """JSON text of any value that a JSON parser gave, such as integers beyond 64 bits, which orjson reads as floats or refuses.

    Deep nesting that no encoder follows is named instead of raised: a result must stay readable.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b'"[nested too deeply to be shown]"'
