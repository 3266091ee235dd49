"""Prepares docstrings for the pages: roles (``:class:`Run```) become code, and inherited arguments are listed."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`~?([^`]+)`")
_BESIDES = re.compile(
    r"(?m)^(Arguments|Attributes),? besides those of :class:`~?(?:[\w.]+\.)?(\w+)`:\n((?: .*\n?)*)"
)
_SECTION = re.compile(r"(?m)^(?:Args|Attributes):\n((?: .*\n?)*)")
_ENTRY = re.compile(r"(?m)^ {4}(\w+)(?: \(.*?\))?:.*\n?(?: {5,}.*\n?)*")


class Roles(griffe.Extension):
    """Reads a docstring as Markdown: roles become code, and a line that opens a literal block ends with one colon."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = _BESIDES.sub(lambda found: _with_inherited(obj, found), obj.docstring.value)
            text = _ROLE.sub(r"`\1`", text)
            obj.docstring.value = re.sub(
                r"(?m)^( *)::$|::$", lambda found: "" if found[1] is not None else ":", text
            )


def _with_inherited(obj: griffe.Object, found: re.Match[str]) -> str:
    """A section with the entries of the named base class before a class's own."""
    kind, base_name, own = found.groups()
    thing = getattr(importlib.import_module(obj.module.path), obj.name)
    [base] = [base for base in thing.__mro__ if base.__name__ == base_name]
    section = _SECTION.search(f"{inspect.getdoc(base)}\n")
    if section is None:
        raise ValueError(f"{obj.path}: the docstring of {base_name} lists no arguments and no attributes")
    names = {entry[1] for entry in _ENTRY.finditer(own)}
    inherited = [entry[0] for entry in _ENTRY.finditer(section[1]) if entry[1] not in names]
    title = "Args" if kind == "Arguments" else kind
    return f"{title}:\n{''.join(inherited)}{own}"
