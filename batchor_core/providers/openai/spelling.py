"""Names that other servers spell in their own way, in OpenAI's spelling."""

from __future__ import annotations

import re
from typing import Any

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def plain_name(value: Any) -> str:
    """A type, role, reason or code in lower case with underscores (``toolUse`` is ``tool_use``); empty if it is no string."""
    if not isinstance(value, str):
        return ""
    return value if value.islower() else _CAMEL.sub("_", value).casefold()
