"""``python -m benchmarks``: the engine beside a pipeline written by hand, each measurement in a process of its own.

    python -m benchmarks                                   two small sizes, about two minutes
    python -m benchmarks --rows 10000,100000,1000000       all of it, about half an hour
    python -m benchmarks --only sqlite,http --rows 50000   a part of it
    python -m benchmarks --docs                            and write the page in docs/explanation anew

Rows are of 500 bytes, answers of 1.2 KB with structured output; making the answers is left out. Every measurement of a
store comes right after one of each floor, and its ratios are to those, so that they hold on a busy machine too. Each line
is printed as soon as it is known, and the JSON file is written after each size: what was measured is not lost when the
rest is interrupted. Token counts need tiktoken's vocabulary: set TIKTOKEN_CACHE_DIR where there is no network.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.clock import Lap
from benchmarks.place import Place, postgres_server
from benchmarks.workload import write_csv

SMALL = "5000,20000"
RESULTS = Path(".benchmarks/results.json")
READS = ("pages", "jsonl", "parquet")
AT_MOST = {"memory": 100_000, "documented": 100_000, "tokens": 100_000, "http": 100_000}
"""Rows up to which a subject is measured: beyond, it would say nothing new or not fit into memory."""

STEPS: dict[str, list[str]] = {
    "floor": [f"floor.{step}" for step in ("drive", *READS)],
    "lean": ["lean_floor.drive"],
    "sqlite": [f"engine.{step}" for step in ("drive", *READS, "summary")],
    "postgres": [f"engine.{step}" for step in ("drive", *READS, "summary")],
    "memory": ["engine.in_memory"],
    "documented": ["engine.drive_documented"],
    "tokens": ["engine.drive_counting"],
    "http": ["http.end_to_end"],
    "idle": ["idle.refresh"],
    "resume": ["sources.resume"],
    "start": ["startup.importing", "startup.no_tokenizer"],
    "tick": ["sensor.tick"],
}
"""What is measured of each subject, one process after the other in the same folder."""

BESIDE_FLOOR = ("sqlite", "postgres", "memory", "documented", "tokens")
ONCE = ("start", "tick")
"""Subjects that have no size."""


def main() -> int:
    """Measure, print, write JSON, and the page if asked to."""
    arguments = _arguments()
    if arguments.step:
        print(json.dumps(_measure_here(*arguments.step)))
        return 0
    sizes = [int(size) for size in arguments.rows.split(",")]
    subjects = arguments.only.split(",") if arguments.only else list(STEPS)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "machine": report.machine(),
        "command": " ".join(sys.orig_argv[1:]),
        "figures": [],
    }
    with (
        tempfile.TemporaryDirectory(prefix="batchor-bench-", dir=arguments.folder) as folder,
        ExitStack() as stack,
    ):
        dsn = stack.enter_context(postgres_server(Path(folder) / "pg")) if "postgres" in subjects else ""
        for rows in [None, *sizes]:
            for figure in _figures(Path(folder), rows, subjects, dsn):
                result["figures"].append(figure)
                print(report.line(figure), flush=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{report.table(result)}\nwritten to {arguments.json}")
    if arguments.docs:
        report.update_docs(result)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=SMALL, help=f"sizes, separated by commas; {SMALL} by default")
    parser.add_argument("--only", default="", help=f"of {','.join(STEPS)}; all by default")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, help=f"where the figures go; {RESULTS} by default"
    )
    parser.add_argument(
        "--folder", type=Path, default=None, help="on the disk to measure; the system's for temporary files"
    )
    parser.add_argument("--docs", action="store_true", help="write table and chart of the documentation anew")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "PLACE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _figures(folder: Path, rows: int | None, subjects: list[str], dsn: str) -> Iterator[dict[str, Any]]:
    """Measure every subject at one size, or those without a size."""
    chosen = [subject for subject in subjects if (subject in ONCE) == (rows is None)]
    source = folder / "rows.csv"
    if rows is not None:
        write_csv(source, rows)
        print(f"\n{rows:,} rows", flush=True)
    for subject in chosen:
        if rows is not None and rows > AT_MOST.get(subject, rows):
            continue
        beside: dict[str, Any] = {}
        if subject in BESIDE_FLOOR:
            for name in ("floor", "lean_floor"):
                beside[name] = _measure(folder, name, source, rows or 0, steps=[f"{name}.drive"])["laps"]
        store = subject if subject in ("postgres", "memory") else "sqlite"
        figure = _measure(folder, subject, source, rows or 0, steps=STEPS[subject], store=store, dsn=dsn)
        yield {**figure, **beside}


def _measure(
    folder: Path,
    subject: str,
    source: Path,
    rows: int,
    *,
    steps: list[str],
    store: str = "sqlite",
    dsn: str = "",
) -> dict[str, Any]:
    """Run the steps in processes of their own; their laps together, and the peak memory of each."""
    laps: dict[str, Any] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix=f"{subject}_", dir=folder) as home:
        place = Place(Path(home), source, rows, store, dsn)
        for step in steps:
            command = [sys.executable, "-m", "benchmarks", "--step", step, place.dump()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.stderr.write(done.stderr)
                raise SystemExit(f"measuring {subject} failed in {step}")
            found = json.loads(done.stdout.splitlines()[-1])
            laps |= found["laps"]
            peaks[step.partition(".")[2]] = found["peak_mb"]
    return {"subject": subject, "rows": rows or None, "laps": laps, "peak_mb": peaks}


def _measure_here(step: str, place: str) -> dict[str, Any]:
    module, _, name = step.partition(".")
    laps: dict[str, Lap] = getattr(importlib.import_module(f"benchmarks.{module}"), name)(Place.load(place))
    return {"laps": {name: [lap.wall, lap.cpu] for name, lap in laps.items()}, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    """The most memory that this process ever had; ``getrusage`` would count its parent's at the fork as well."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1 << 20 if sys.platform == "darwin" else 1 << 10
        )
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
