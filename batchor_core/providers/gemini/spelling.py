"""Names of fields: the SDK writes them as Python does, the API and the lines of request files in camel case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError

BUILT_FIELDS = frozenset({"contents", "content", "model", "key", "systemInstruction"})
"""Fields of a request that the provider fills."""

REQUEST_FIELDS = frozenset(
    {
        "generationConfig",
        "safetySettings",
        "tools",
        "toolConfig",
        "cachedContent",
        "labels",
        "serviceTier",
        "store",
    }
)
"""Fields beside ``contents``; every other setting belongs into ``generationConfig``."""

TOOL_FIELDS = frozenset({"tools", "toolConfig"})
"""Fields that hold the tools of the job's output."""

SCHEMA_FIELDS = frozenset({"responseMimeType", "responseJsonSchema", "responseSchema"})
"""Fields of ``generationConfig`` that hold the schema of the job's output."""

_UNDERSCORE = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")


def camel(name: str) -> str:
    """``max_output_tokens`` as ``maxOutputTokens``; a name in camel case stays as it is."""
    return _UNDERSCORE.sub(lambda found: found.group(1).upper(), name)


def worded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as fields of a request: those of ``generationConfig`` may be given beside it, and have a home in it.

    Raises:
        InvalidInputError: ``generationConfig`` is no object.
    """
    made: dict[str, Any] = {}
    for given, value in options.items():
        name = camel(given)
        if name == "generationConfig":
            if not isinstance(value, Mapping):
                raise InvalidInputError(f"{given} must be an object, not {shown(value)}")
            inner = {camel(key): part for key, part in value.items()}
            made[name] = made.get(name, {}) | inner
        elif name in REQUEST_FIELDS:
            made[name] = value
        else:
            made["generationConfig"] = made.get("generationConfig", {}) | {name: value}
    return made
