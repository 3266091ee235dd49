"""Runs and results as tables, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

MOST_ROWS = 20
MOST_CHARS = 300
"""Of a cell; what is longer is cut."""

_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap"


def facts(title: str, pairs: Iterable[tuple[str, object]], *, done: tuple[int, int] | None = None) -> str:
    """A table of names and values, without those that are empty; ``done`` of how many is a bar above them."""
    bar = ""
    if done is not None:
        bar = f'<progress value="{done[0]}" max="{max(done[1], 1)}" style="width:20em"></progress>'
    rows = "".join(
        f'<tr><th style="{_CELL}">{_text(name)}</th><td style="{_CELL}">{_text(value)}</td></tr>'
        for name, value in pairs
        if value not in (None, "", {}, 0)
    )
    return f"<div><strong>{_text(title)}</strong> {bar}<table>{rows}</table></div>"


def grid(header: Sequence[str], rows: Sequence[object], cells: Iterable[Sequence[object]]) -> str:
    """The first rows as a table; ``cells`` are made of them one by one."""
    head = "".join(f'<th style="{_CELL}">{_text(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{_text(value)}</td>' for value in row) + "</tr>"
        for row in islice(cells, MOST_ROWS)
    )
    shown = f"{MOST_ROWS:,} of " if len(rows) > MOST_ROWS else ""
    return f"<div><table><tr>{head}</tr>{body}</table>{shown}{len(rows):,} rows</div>"


def _text(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return escape(text if len(text) <= MOST_CHARS else text[:MOST_CHARS] + " ...")
