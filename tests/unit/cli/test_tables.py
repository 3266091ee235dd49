"""A table that does not fit on a narrow terminal is shown as lines."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.table import Column, Table

from batchor_core.cli.console import text
from batchor_core.cli.tables import show_table


def shown(width: int, *cells: str) -> list[str]:
    table = Table(Column("Run", no_wrap=True), "State", "Left")
    table.add_row(text("reviews-2026-11-01"), text(cells[0]), *cells[1:])
    table.add_row(text("other"), text("done"), "")
    console = Console(file=StringIO(), width=width)
    show_table(table, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_each_row_becomes_lines_without_its_empty_cells() -> None:
    assert shown(40, "paused: the cap of 2 rows is reached, raise it", "about 2 h") == [
        "Run   reviews-2026-11-01",
        "State paused: the cap of 2 rows is",
        "      reached, raise it",
        "Left  about 2 h",
        "",
        "Run   other",
        "State done",
    ]


@pytest.mark.parametrize(("width", "state"), [(50, "done"), (80, "long " * 30)])
def test_a_table_stays_one_where_it_fits_or_there_is_room_to_wrap(width: int, state: str) -> None:
    assert any("┃ Run" in line for line in shown(width, state, ""))
