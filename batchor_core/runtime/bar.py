"""A run's progress as a bar in a terminal. It draws with rich, which is an extra, and is imported when a bar is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from batchor_core.core.models import RunSummary

if TYPE_CHECKING:
    from rich.console import Console


class RunBar:
    """A line with a name, a bar, the share that has ended, rows, more facts and the time it has taken.

    Args:
        console: Where to draw; stderr by default.

    Raises:
        ImportError: rich is missing.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            console=console or Console(stderr=True),
        )
        self._task = self._bars.add_task("", total=None, facts="")
        self._bars.start()

    def show(self, summary: RunSummary, name: str, facts: Iterable[str]) -> None:
        """Draw where the run stands; empty facts are left out. Texts must be safe for a terminal."""
        ended, total = summary.completed_items + summary.failed_items, f"{summary.total_items:,}"
        is_read = summary.ingestion_complete
        rows = f"{ended:,}/{total} rows" if is_read else f"{total} rows"
        self._bars.update(
            self._task,
            description=name,
            total=summary.total_items if is_read else None,
            completed=ended,
            facts=", ".join(fact for fact in (rows, *facts) if fact),
        )

    def close(self) -> None:
        """Leave the bar as it is and give the line back."""
        self._bars.stop()
