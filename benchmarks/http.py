"""The whole path over HTTP: the local server as the provider, in a process of its own, its time shown beside ours."""

from __future__ import annotations

import os
from pathlib import Path

from batchor_core import BatchRunner, OpenAIProviderConfig
from benchmarks.clock import EventClock, Lap
from benchmarks.engine import RUN_ID, job
from benchmarks.place import Place
from benchmarks.server import local_server
from benchmarks.workload import csv_source


def end_to_end(place: Place) -> dict[str, Lap]:
    """Every row through the OpenAI SDK, uploads and downloads included; ``server`` is the server's CPU."""
    with local_server(place.home, batch_seconds=0) as (base_url, pid), place.open_store() as store:
        clock = EventClock()
        config = OpenAIProviderConfig(model="gpt-5-mini", api_key="none", base_url=base_url)
        with BatchRunner(storage=store, temp_root=place.home / "artifacts", observer=clock) as runner:
            clock.watch.start()
            run = runner.start(job(csv_source(place.source), config), run_id=RUN_ID)
            clock.watch.lap("submit")
            run.wait(poll_interval=0.05)
            clock.watch.lap("collect")
            done = run.summary()
        assert done.completed_items == done.total_items > 0
        laps = clock.watch.laps
        laps["server"] = Lap(0.0, _cpu_of(pid))
    return laps


def _cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used so far; 0 where there is no /proc to look it up in."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
