"""What a run costs while nothing happens: cycles that find every batch still going."""

from __future__ import annotations

import statistics
from time import perf_counter

from batchor_core import BatchRemoteRecord, BatchRunner
from benchmarks.clock import Lap, Stopwatch
from benchmarks.engine import CONFIG, job
from benchmarks.place import Place
from benchmarks.providers import Desk, InstantProvider
from benchmarks.workload import csv_source

BATCHES = 20
CYCLES = 15


class _Busy(InstantProvider):
    """No batch ever ends."""

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Still at it."""
        return {"id": batch_id, "status": "in_progress"}


def refresh(place: Place) -> dict[str, Lap]:
    """A cycle of a run with 20 active batches, the median of fifteen."""
    with place.open_store() as store:
        provider = _Busy(CONFIG, Desk(place.home / "desk"))
        runner = BatchRunner(
            storage=store, provider_factory=lambda _: provider, temp_root=place.home / "artifacts"
        )
        size = max(1, place.rows // BATCHES)
        run = runner.start(job(csv_source(place.source), max_requests=size), run_id="idle")
        assert run.summary().active_batches >= BATCHES
        watch, walls = Stopwatch(), []
        for _ in range(CYCLES):
            began = perf_counter()
            run.refresh()
            walls.append(perf_counter() - began)
        watch.lap("all")
        return {"refresh": Lap(statistics.median(walls), watch.laps["all"].cpu / CYCLES)}
