"""What reuse costs, and saves: ``python -m benchmarks.reuse [ROWS] [ANSWERS] [TIMES]``.

An index of ANSWERS answers is made first, at least ROWS. Then there are runs of ROWS rows: with reuse off, and with so many hits in
a hundred. The kinds take turns, TIMES times; the medians of their CPU seconds are shown, with their ratios to reuse off: for
ingestion alone, and from the rows to the results.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from batchor_core import BatchJob, BatchRunner, SQLiteStorage
from benchmarks.clock import EventClock, Lap
from benchmarks.engine import CONFIG
from benchmarks.providers import Desk, InstantProvider
from benchmarks.workload import Verdict, csv_source, write_csv

KINDS: dict[str, int | None] = {"off": None, "0 % hits": 0, "50 % hits": 50, "100 % hits": 100}


def job(source: Path, hits: int | None, salt: object = "") -> BatchJob[Any, Any]:
    """Rows of which so many in a hundred ask what was asked before; None without reuse."""

    def prompt(item: Any) -> str:
        number = int(item.item_id.rpartition("-")[2])
        asked_before = hits is not None and number % 100 < hits
        return f"Judge: {item.payload['text']}" + ("" if asked_before else f" {salt}")

    return BatchJob(
        items=csv_source(source),
        build_prompt=prompt,
        provider_config=CONFIG,
        structured_output=Verdict,
        reuse="off" if hits is None else "store",
    )


def drive(
    runner: BatchRunner, clock: EventClock, own: Lap, source: Path, hits: int | None, number: int
) -> tuple[float, float]:
    """CPU seconds that it takes to store the rows of a run, and to bring it to its end; then it is deleted."""
    clock.watch.laps.clear()
    clock.watch.start()
    answering = own.cpu
    run = runner.run_and_wait(job(source, hits, salt=f"again {number}"), run_id=f"run-{number}")
    laps = clock.watch.laps
    whole = sum(lap.cpu for lap in laps.values()) - (own.cpu - answering)
    runner.delete_run(run.run_id)
    return laps["ingest"].cpu, whole


def main() -> None:
    """Measure, and print a line for each kind."""
    rows, answers, times = (*map(int, sys.argv[1:]), *(20_000, 50_000, 3)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory(prefix="batchor-bench-") as folder:
        home, clock = Path(folder), EventClock()
        asked, source = write_csv(home / "asked.csv", answers), write_csv(home / "rows.csv", rows)
        provider = InstantProvider(CONFIG, Desk(home / "desk"))
        with (
            closing(SQLiteStorage(path=home / "bench.sqlite3")) as store,
            BatchRunner(
                storage=store,
                provider_factory=lambda config: provider,
                temp_root=home / "artifacts",
                observer=clock,
            ) as runner,
        ):
            runner.run_and_wait(job(asked, 100), run_id="asked")
            spent: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
            for turn in range(times + 1):
                for number, (kind, hits) in enumerate(KINDS.items()):
                    seconds = drive(
                        runner, clock, provider.desk.own, source, hits, turn * len(KINDS) + number
                    )
                    if turn:  # the first one warms up
                        spent[kind].append(seconds)
    for part, name in enumerate(("ingestion", "whole run")):
        for kind, measured in spent.items():
            cpu, off = (median(each[part] for each in found) for found in (measured, spent["off"]))
            print(
                f"{rows:,} rows, {answers:,} answers, {kind:10} {name:9} {cpu:6.2f} s CPU, {cpu / off:.2f} of off"
            )


if __name__ == "__main__":
    main()
