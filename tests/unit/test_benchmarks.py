"""The benchmarks run, and their figures are turned into ratios, a table and a chart without a slip."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report

ROOT = Path(__file__).parents[2]


def _laps(ingest: float, submit: float, collect: float, **more: float) -> dict[str, list[float]]:
    named = {"ingest": ingest, "submit": submit, "collect": collect, **more}
    return {name: [seconds, seconds / 2] for name, seconds in named.items()}


def _figures() -> dict[str, Any]:
    figures = []
    for rows, slower in ((1_000, 1.0), (10_000, 10.0)):
        floor = _laps(0.02 * slower, 0.01 * slower, 0.01 * slower, pages=0.01 * slower)
        sqlite = _laps(0.04 * slower, 0.02 * slower, 0.02 * slower, pages=0.02 * slower, summary=0.001)
        lean = _laps(0.02 * slower, 0.0, 0.012 * slower)
        # measured at a moment when the machine was twice as busy
        postgres, busy_floor = (
            _laps(0.1 * slower, 0.1 * slower, 0.04 * slower),
            _laps(*[0.08 / 3 * slower] * 3),
        )
        figures += [
            {"subject": "floor", "rows": rows, "laps": floor, "peak_mb": {"drive": 50.0}},
            {
                "subject": "sqlite",
                "rows": rows,
                "laps": sqlite,
                "floor": floor,
                "lean_floor": lean,
                "peak_mb": {"drive": 90.0},
            },
            {
                "subject": "postgres",
                "rows": rows,
                "laps": postgres,
                "floor": busy_floor,
                "peak_mb": {"drive": 91.0},
            },
        ]
    figures.append({"subject": "start", "rows": None, "laps": {"import": [0.4, 0.0]}, "peak_mb": {"x": 9.0}})
    return {"machine": report.machine(), "command": "-m benchmarks", "figures": figures}


def _row(name: str) -> list[str]:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in report.table(_figures()).splitlines()
    ]
    return next(cells[1:] for cells in rows if cells[0] == name)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("engine on SQLite, rows/s", ["20,000", "12,500", "12,500"]),
        ("its time beside the floor's", ["2.5 x", "2.00 x", "2.00 x"]),
        ("its time beside the lean floor's", ["2.5 x", "2.50 x", "2.50 x"]),
        ("its time beside SQLite's", ["1.5 x", "1.50 x", "1.50 x"]),
        ("pages of 1,000 typed results on SQLite, rows/s", ["60,000", "50,000", "50,000"]),
        ("`summary()` on SQLite", ["5 ms; 20 ms at 1,000,000", "1.0 ms", "1.0 ms"]),
        ("`import batchor_core`", ["0.5 s", "0.40 s", ""]),
    ],
)
def test_the_table_tells(name: str, cells: list[str]) -> None:
    assert _row(name) == cells


def test_what_was_not_measured_has_no_row() -> None:
    assert "memory store" not in report.table(_figures())


def test_the_chart_is_svg_with_a_line_for_each_subject() -> None:
    root = ET.fromstring(report.chart(_figures()))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3
    assert all(len(line.attrib["points"].split()) == 2 for line in lines)


def test_the_page_keeps_its_words_around_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in (("PAGE", "p.md"), ("CHART", "p.svg"), ("DATA", "p.json")):
        monkeypatch.setattr(report, name, tmp_path / place)
    report.PAGE.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    for _ in range(2):  # the second time in place of the first
        report.update_docs(_figures())
        page = report.PAGE.read_text()
        assert page.startswith("before\n\n")
        assert page.endswith("\n\nafter\n")
        assert page.count("engine on SQLite") == 1
        assert "old" not in page
    assert json.loads(report.DATA.read_text()) == _figures()


def test_every_row_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--rows",
        "1500",
        "--only",
        "memory,resume",
        "--json",
        str(figures),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    memory, resume = json.loads(figures.read_text())["figures"]
    assert memory["rows"] == resume["rows"] == 1_500
    assert {"ingest", "submit", "collect", "pages", "jsonl"} == set(memory["laps"])
    assert all(wall > 0 for wall, _ in memory["laps"].values())
    assert {"ingest", "submit", "collect"} == set(memory["floor"])
    assert {"resume csv", "resume jsonl", "resume parquet", "fingerprint"} == set(resume["laps"])
