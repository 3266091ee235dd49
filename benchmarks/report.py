"""Figures as lines, as a table beside what is aimed at, as a chart, and as the page of the documentation.

``python -m benchmarks.report [FILE]`` writes the page from a file of figures, measured elsewhere or before.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Figure: TypeAlias = "dict[str, Any]"

DOCS = Path(__file__).parents[1] / "docs" / "explanation"
PAGE, CHART, DATA = DOCS / "performance.md", DOCS / "performance.svg", DOCS / "performance.json"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

ENGINE = ("ingest", "submit", "collect")
READS = ("pages", "jsonl", "parquet")


def machine() -> dict[str, str]:
    """What measured."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# --- lines -----------------------------------------------------------------------------------------------------------


def line(figure: Figure) -> str:
    """One subject at one size: rows per second, ratio to the floor beside it, time by phase on the wall and of CPU."""
    rows, laps = figure["rows"], figure["laps"]
    peak = max(figure["peak_mb"].values())
    text = f"{figure['subject']:11}"
    if rows and _has_engine(figure):
        text += f"{rows / _wall(laps, ENGINE):>8,.0f} rows/s"
        if "floor" in figure:
            text += f"  {_ratio(figure, 0):.2f} x floor ({_ratio(figure, 1):.2f} x in CPU)"
        if "lean_floor" in figure:
            text += f", {_ratio(figure, 0, 'lean_floor'):.2f} x lean floor ({_ratio(figure, 1, 'lean_floor'):.2f} x in CPU)"
    text += f"  {peak:.0f} MB  "
    if rows and figure["subject"] not in ("idle", "resume"):
        return text + ", ".join(
            f"{name} {_micro(lap[0], rows)}/{_micro(lap[1], rows)} us" for name, lap in laps.items()
        )
    return text + ", ".join(f"{name} {lap[0] * 1e3:.1f}/{lap[1] * 1e3:.1f} ms" for name, lap in laps.items())


def _micro(seconds: float, rows: int) -> str:
    return f"{seconds / rows * 1e6:.1f}"


def _has_engine(figure: Figure) -> bool:
    return all(phase in figure["laps"] for phase in ENGINE)


def _wall(laps: dict[str, list[float]], phases: Iterable[str], which: int = 0) -> float:
    return sum(laps[phase][which] for phase in phases)


def _ratio(figure: Figure, which: int, floor: str = "floor") -> float:
    return _wall(figure["laps"], ENGINE, which) / _wall(figure[floor], ENGINE, which)


# --- the table -------------------------------------------------------------------------------------------------------

Value: TypeAlias = Callable[[Callable[[str], "Figure | None"]], "str | None"]
"""Makes a cell of the figures of one size, which it asks for by subject."""


def table(result: dict[str, Any]) -> str:
    """What was measured beside what is aimed at, a column for each size."""
    figures: list[Figure] = result["figures"]
    sizes = sorted({figure["rows"] for figure in figures if figure["rows"]})
    lines = [["", "aim", *(f"{size:,} rows" for size in sizes)]]
    for name, aim, value in _ROWS:
        cells = [_cell(value, figures, size) for size in sizes]
        if any(cells):
            lines.append([name, aim, *(cell or "" for cell in cells)])
    for name, aim, value in _SIZELESS:
        cell = _cell(value, figures, None)
        if cell:
            lines.append([name, aim, cell, *[""] * (len(sizes) - 1)])
    head, *rest = lines
    return "\n".join(_row(cells) for cells in [head, ["---", *["---:"] * (len(head) - 1)], *rest])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Value, figures: list[Figure], size: int | None) -> str | None:
    def of(subject: str) -> Figure | None:
        found = [one for one in figures if one["subject"] == subject and one["rows"] == size]
        return found[-1] if found else None

    return value(of)


def _rate(subject: str, *phases: str) -> Value:
    def value(of: Callable[[str], Figure | None]) -> str | None:
        figure = of(subject)
        if figure is None or not all(phase in figure["laps"] for phase in phases):
            return None
        return f"{figure['rows'] / _wall(figure['laps'], phases):,.0f}"

    return value


def _beside_floor(subject: str, which: int, floor: str = "floor") -> Value:
    def value(of: Callable[[str], Figure | None]) -> str | None:
        figure = of(subject)
        return None if figure is None or floor not in figure else f"{_ratio(figure, which, floor):.2f} x"

    return value


def _beside_sqlite(subject: str, phases: Sequence[str]) -> Value:
    """By their ratios to the floors beside them, where there are: the machine may have been busier for one of them."""

    def value(of: Callable[[str], Figure | None]) -> str | None:
        figure, sqlite = of(subject), of("sqlite")
        if figure is None or sqlite is None:
            return None
        mine, its = (_wall(one["laps"], phases) / _wall(one["floor"], phases) for one in (figure, sqlite))
        return f"{mine / its:.2f} x"

    return value


def _time(subject: str, lap: str, *, unit: str = "ms") -> Value:
    def value(of: Callable[[str], Figure | None]) -> str | None:
        figure = of(subject)
        if figure is None or lap not in figure["laps"]:
            return None
        seconds = figure["laps"][lap][0]
        return f"{seconds:.2f} s" if unit == "s" else f"{seconds * 1e3:.1f} ms"

    return value


def _peak(subject: str, step: str) -> Value:
    def value(of: Callable[[str], Figure | None]) -> str | None:
        figure = of(subject)
        return (
            None if figure is None or step not in figure["peak_mb"] else f"{figure['peak_mb'][step]:.0f} MB"
        )

    return value


def _server_share(of: Callable[[str], Figure | None]) -> str | None:
    figure = of("http")
    if figure is None:
        return None
    laps = figure["laps"]
    return f"{_wall(laps, ENGINE):.1f} s, {_wall(laps, ENGINE, 1):.1f} s, {laps['server'][1]:.1f} s"


_ROWS: list[tuple[str, str, Value]] = [
    ("engine on SQLite, rows/s", "20,000", _rate("sqlite", *ENGINE)),
    ("its time beside the floor's", "2.5 x", _beside_floor("sqlite", 0)),
    ("its CPU beside the floor's", "", _beside_floor("sqlite", 1)),
    ("its time beside the lean floor's", "2.5 x", _beside_floor("sqlite", 0, "lean_floor")),
    ("its CPU beside the lean floor's", "", _beside_floor("sqlite", 1, "lean_floor")),
    ("its peak memory", "300 MB", _peak("sqlite", "drive")),
    ("engine on Postgres, rows/s", "", _rate("postgres", *ENGINE)),
    ("its time beside SQLite's", "1.5 x", _beside_sqlite("postgres", ENGINE)),
    ("its peak memory", "300 MB", _peak("postgres", "drive")),
    ("engine on the memory store, rows/s", "", _rate("memory", *ENGINE)),
    ("its time beside SQLite's", "1 x", _beside_sqlite("memory", ENGINE)),
    ("floor, rows/s", "", _rate("floor", *ENGINE)),
    ("lean floor, rows/s", "", _rate("lean", *ENGINE)),
    ("its peak memory", "", _peak("lean", "drive")),
    ("pages of 1,000 typed results on SQLite, rows/s", "60,000", _rate("sqlite", "pages")),
    ("the same on Postgres", "", _rate("postgres", "pages")),
    ("the same by the floor, without metadata", "", _rate("floor", "pages")),
    ("JSONL export from SQLite, rows/s", "100,000", _rate("sqlite", "jsonl")),
    ("the same from Postgres", "", _rate("postgres", "jsonl")),
    ("the same by the floor", "", _rate("floor", "jsonl")),
    ("its peak memory", "300 MB", _peak("sqlite", "jsonl")),
    ("Parquet of a partition from SQLite, rows/s", "80,000", _rate("sqlite", "parquet")),
    ("the same from Postgres", "", _rate("postgres", "parquet")),
    ("the same by the floor", "", _rate("floor", "parquet")),
    ("its peak memory, Dagster loaded", "300 MB", _peak("sqlite", "parquet")),
    ("`summary()` on SQLite", "5 ms; 20 ms at 1,000,000", _time("sqlite", "summary")),
    ("`summary()` on Postgres", "5 ms; 20 ms at 1,000,000", _time("postgres", "summary")),
    ("idle `refresh()` with 20 batches", "20 ms; 40 ms at 1,000,000", _time("idle", "refresh")),
    ("a provider of the eight methods, rows/s", "", _rate("documented", *ENGINE)),
    ("its time beside the lean floor's", "3.5 x", _beside_floor("documented", 0, "lean_floor")),
    ("its peak memory", "250 MB", _peak("documented", "drive_documented")),
    ("ingestion without token counts, rows/s", "", _rate("sqlite", "ingest")),
    ("ingestion with tiktoken's counts, rows/s", "half of it", _rate("tokens", "ingest")),
    ("over HTTP through the local server, rows/s", "", _rate("http", *ENGINE)),
    ("its time, our CPU, the server's CPU", "", _server_share),
    ("resume at the last row: CSV", "no growth", _time("resume", "resume csv")),
    ("resume at the last row: JSONL", "no growth", _time("resume", "resume jsonl")),
    ("resume at the last row: Parquet", "no growth", _time("resume", "resume parquet")),
    ("fingerprint of the file", "", _time("resume", "fingerprint")),
]
_SIZELESS: list[tuple[str, str, Value]] = [
    ("`import batchor_core`", "0.5 s", _time("start", "import", unit="s")),
    ("tokenizer that can't be had: first look-up", "once, quick", _time("start", "failed look-up", unit="s")),
    ("sensor tick with 100 idle runs, HTTP included", "2 s", _time("tick", "tick", unit="s")),
]


# --- the chart -------------------------------------------------------------------------------------------------------

_LINES = {"floor": "#888888", "sqlite": "#1f77b4", "postgres": "#d62728", "memory": "#2ca02c"}
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 340, 70, 40, 110, 50


def chart(result: dict[str, Any]) -> str:
    """Rows per second through the engine by size, as SVG: what bends downward would be seen."""
    series = {
        subject: sorted(
            (figure["rows"], figure["rows"] / _wall(figure["laps"], ENGINE))
            for figure in result["figures"]
            if figure["subject"] == subject and _has_engine(figure)
        )
        for subject in _LINES
    }
    sizes = sorted({size for points in series.values() for size, _ in points})
    top = max((rate for points in series.values() for _, rate in points), default=1.0)
    step = 5_000 if top < 40_000 else 10_000
    top = (int(top) // step + 1) * step

    def x(size: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * sizes.index(size) / max(1, len(sizes) - 1)

    def y(rate: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - rate / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">Rows per second from source to result, by size of the run</text>',
    ]
    for rate in range(0, top + 1, step):
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(rate):.1f}" y2="{y(rate):.1f}" stroke="#dddddd"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:,}</text>')
    parts += [
        f'<text x="{x(size):.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{size:,} rows</text>'
        for size in sizes
    ]
    for subject, points in series.items():
        if not points:
            continue
        color = _LINES[subject]
        path = " ".join(f"{x(size):.1f},{y(rate):.1f}" for size, rate in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(size):.1f}" cy="{y(rate):.1f}" r="3" fill="{color}"/>' for size, rate in points
        ]
        size, rate = points[-1]
        parts.append(f'<text x="{x(size) + 8:.1f}" y="{y(rate) + 4:.1f}" fill="{color}">{subject}</text>')
    return "\n".join([*parts, "</svg>", ""])


# --- the page --------------------------------------------------------------------------------------------------------


def update_docs(result: dict[str, Any]) -> None:
    """Write the measured part of the page, its chart, and the figures themselves."""
    about = result["machine"]
    measured = (
        f"{BEGIN}\n\n{table(result)}\n\nMeasured on {about['cores']} cores ({about['processor']}), Python {about['python']}, "
        f"SQLite {about['sqlite']}, with `{result['command'].replace('-m ', 'python -m ', 1)}`.\n\n{END}"
    )
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + measured + after, encoding="utf-8")
    CHART.write_text(chart(result), encoding="utf-8")
    DATA.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    update_docs(
        json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else ".benchmarks/results.json").read_text())
    )
