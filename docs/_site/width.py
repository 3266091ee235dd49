"""Hides the list of pages on pages that are a section by themselves, which leaves more room for their code."""

from __future__ import annotations

from typing import Any


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The list would have one entry: the page itself."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    return markdown
