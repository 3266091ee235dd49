"""Tables on narrow terminals, where columns would be a few characters wide: each row becomes a few lines."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table

NARROW = 80
"""Narrower terminals get lines instead of a table that does not fit; wider ones wrap its cells."""

_ANY_WIDTH = 10_000


def fitted(table: Table, console: Console) -> RenderableType:
    """The table, or, if it does not fit on a narrow terminal, a line for each cell that is not empty, with its column's name."""
    needed = console.measure(table, options=console.options.update(width=_ANY_WIDTH)).maximum
    if console.width >= NARROW or needed <= console.width:
        return table
    names = [str(column.header) for column in table.columns]
    lines: list[RenderableType] = []
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        record = Table.grid(padding=(0, 1))
        for name, cell in zip(names, cells, strict=True):
            if str(cell):
                record.add_row(name, cell)
        lines += [*([""] if lines else []), record]
    return Group(*lines)


def show_table(table: Table, console: Console) -> None:
    """Print a table, in whatever form fits."""
    console.print(fitted(table, console))
