"""The engine's way through the rows by phase, and its ways to read them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchor_core import (
    BatchJob,
    BatchProvider,
    BatchRunner,
    ChunkPolicy,
    CsvItemSource,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    Run,
    StateStore,
)
from benchmarks.clock import EventClock, Lap, Stopwatch
from benchmarks.place import Place
from benchmarks.providers import Desk, DocumentedProvider, InstantProvider
from benchmarks.workload import Verdict, csv_source

RUN_ID = "bench"
CONFIG = OpenAIProviderConfig(model="gpt-5-mini", api_key="none")
COUNTING = OpenAIProviderConfig(
    model="gpt-5-mini",
    api_key="none",
    enqueue_limits=OpenAIEnqueueLimitConfig(enqueued_token_limit=2_000_000_000),
)
"""A limit that is never met, but has tokens counted by tiktoken."""

SUMMARIES = 20


def job(
    source: CsvItemSource[Any], config: OpenAIProviderConfig = CONFIG, *, max_requests: int = 50_000
) -> BatchJob[Any, Any]:
    """What is asked for each row."""
    return BatchJob(
        items=source,
        build_prompt=lambda item: f"Judge: {item.payload['text']}",
        provider_config=config,
        structured_output=Verdict,
        chunk_policy=ChunkPolicy(max_requests=max_requests),
    )


def drive(place: Place) -> dict[str, Lap]:
    """From the source to the results, with the provider that has every hook."""
    with place.open_store() as store:
        return _drive(place.home, place.source, store, InstantProvider(CONFIG, Desk(place.home / "desk")))[1]


def drive_documented(place: Place) -> dict[str, Lap]:
    """The same with a provider of the eight documented methods."""
    with place.open_store() as store:
        return _drive(place.home, place.source, store, DocumentedProvider(Desk(place.home / "desk")))[1]


def drive_counting(place: Place) -> dict[str, Lap]:
    """The same with tokens counted by tiktoken."""
    with place.open_store() as store:
        provider = InstantProvider(COUNTING, Desk(place.home / "desk"))
        return _drive(place.home, place.source, store, provider, COUNTING)[1]


def in_memory(place: Place) -> dict[str, Lap]:
    """Everything in one process: the memory store ends with it."""
    with place.open_store() as store:
        provider = InstantProvider(CONFIG, Desk(place.home / "desk"))
        run, laps = _drive(place.home, place.source, store, provider)
        watch = Stopwatch(laps)
        _pages(run)
        watch.lap("pages")
        run.export_terminal_results(place.home / "results.jsonl", append=False)
        watch.lap("jsonl")
        return watch.laps


def pages(place: Place) -> dict[str, Lap]:
    """Typed results, 1,000 at a time."""
    return _reading(place, "pages", lambda run: _pages(run))


def jsonl(place: Place) -> dict[str, Lap]:
    """Every result as a line of a file."""
    return _reading(
        place, "jsonl", lambda run: run.export_terminal_results(place.home / "results.jsonl", append=False)
    )


def parquet(place: Place) -> dict[str, Lap]:
    """Every result in the file of a Dagster partition."""
    from batchor_core.tables import write_results_parquet

    return _reading(
        place, "parquet", lambda run: write_results_parquet(run, place.home / "results.parquet", Verdict)
    )


def summary(place: Place) -> dict[str, Lap]:
    """Summaries, one after the other."""

    def ask(run: Run) -> None:
        for _ in range(SUMMARIES):
            run.summary()

    laps = _reading(place, "summary", ask)
    return {name: Lap(lap.wall / SUMMARIES, lap.cpu / SUMMARIES) for name, lap in laps.items()}


def _reading(place: Place, name: str, read: Any) -> dict[str, Lap]:
    with (
        place.open_store() as store,
        BatchRunner(storage=store, temp_root=place.home / "artifacts") as runner,
    ):
        run = runner.get_run(RUN_ID)
        watch = Stopwatch()
        read(run)
        watch.lap(name)
        return watch.laps


def _pages(run: Run) -> None:
    count, cursor = 0, 0
    while (page := run.read_terminal_results(after_sequence=cursor, limit=1_000)).items:
        count, cursor = count + len(page.items), page.next_after_sequence
    assert count == run.summary().total_items


def _drive(
    home: Path,
    source: Path,
    store: StateStore,
    provider: InstantProvider | DocumentedProvider,
    config: OpenAIProviderConfig = CONFIG,
) -> tuple[Run, dict[str, Lap]]:
    clock = EventClock()

    def make(_: Any) -> BatchProvider:
        return provider

    runner = BatchRunner(storage=store, provider_factory=make, temp_root=home / "artifacts", observer=clock)
    clock.watch.start()
    run = runner.start(job(csv_source(source), config), run_id=RUN_ID)
    clock.watch.lap("submit")
    laps = clock.watch.laps
    own = provider.desk.own
    laps["submit"].add(-own.wall, -own.cpu)  # answers are made while the batch is created
    run.wait(poll_interval=0)
    clock.watch.lap("collect")
    assert run.summary().completed_items == run.summary().total_items > 0
    return run, laps
