"""Shows the roles of docstrings (``:class:`Run```) as code, which Markdown has no other word for."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Reads a docstring as Markdown: roles become code, and a line that opens a literal block ends with one colon."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = _ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(
                r"(?m)^( *)::$|::$", lambda found: "" if found[1] is not None else ":", text
            )
