"""``python -m benchmarks [--rows 20000] [--stores sqlite,memory,postgres]``: each measurement in a process of its own."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.workload import write_csv


def main() -> int:
    """Measure, print a table of rows per second, ratios to the floor and peak memory, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--rows", default="10000,50000", help="sizes, separated by commas")
    parser.add_argument("--stores", default="sqlite,memory,postgres")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here as well")
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "FOLDER", "SOURCE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure_here(*arguments.one)))
        return 0
    figures = []
    for rows in (int(size) for size in arguments.rows.split(",")):
        figures += _measure(rows, ["floor", *arguments.stores.split(",")])
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _measure(rows: int, subjects: list[str]) -> list[dict[str, Any]]:
    figures = []
    with tempfile.TemporaryDirectory(prefix="batchor-bench-") as folder:
        source = write_csv(Path(folder) / "rows.csv", rows)
        print(f"\n{rows:,} rows of 500 bytes, answers of 1.2 KB, structured output")
        print(
            f"{'':10}{'rows/s':>10}{'x floor':>9}{'peak MB':>9}{'pages/s':>10}{'jsonl/s':>10}{'summary':>10}"
        )
        for subject in subjects:
            home = Path(folder) / subject
            home.mkdir()
            command = [sys.executable, "-m", "benchmarks", "--one", subject, str(home), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.stderr.write(done.stderr)
                raise SystemExit(f"measuring {subject} failed")
            figure = {"subject": subject, "rows": rows, **json.loads(done.stdout.splitlines()[-1])}
            figures.append(figure)
            _print(figure, figures[0])
    return figures


def _print(figure: dict[str, Any], floor: dict[str, Any]) -> None:
    rows, seconds = figure["rows"], figure["seconds"]
    line = f"{figure['subject']:10}{rows / seconds:>10,.0f}{seconds / floor['seconds']:>9.2f}{figure['peak_mb']:>9.0f}"
    phases = figure["phases"]
    if "typed pages" in phases:
        line += f"{rows / phases['typed pages']:>10,.0f}{rows / phases['jsonl export']:>10,.0f}{phases['summary'] * 1e3:>7.1f} ms"
    print(line, flush=True)
    print("          " + ", ".join(f"{name} {value:.2f} s" for name, value in phases.items()), flush=True)


def _measure_here(what: str, folder: str, source: str) -> dict[str, Any]:
    if what == "floor":
        from benchmarks import floor

        phases = floor.run(Path(folder), Path(source))
    else:
        from benchmarks import engine

        phases = engine.run(Path(folder), Path(source), what)
    timed = sum(phases[name] for name in phases if name in ("ingest", "submit", "harvest", "ingest+submit"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": timed, "phases": phases, "peak_mb": peak}


if __name__ == "__main__":
    sys.exit(main())
