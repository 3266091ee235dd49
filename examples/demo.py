"""A whole batch run through Dagster, on your machine: ``make demo``.

Starts a local server of OpenAI's API, submits three partitions, ticks the sensor until their batches have ended,
materializes the results, and shows the Parquet files. Needs no key and costs nothing.

``make demo PROVIDER=anthropic`` or ``PROVIDER=gemini`` does the same with another API.

``LIVE=1 OPENAI_API_KEY=sk-... make demo`` does it with OpenAI itself. It submits 3,163 short rows, which cost a few cents
and may take hours; interrupt it whenever you like, and run it again to go on where it stopped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from examples._local_server import local_server  # noqa: E402

LIVE = os.environ.get("LIVE", "") not in ("", "0")
PROVIDER = os.environ.get("PROVIDER") or "openai"
HOME = Path(os.environ.get("DEMO_HOME", PROJECT / ".demo")) / ("live" if LIVE else "local")
BATCH_SECONDS = float(os.environ.get("DEMO_BATCH_SECONDS", "4"))
FAULT_RATE = 0.01
GIVE_UP_AFTER = 24 * 3600 * 1.5 if LIVE else 180.0
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def main() -> int:
    """Run the demo; the exit status is 0 only if every partition was written."""
    began = time.monotonic()
    logging.disable(logging.WARNING)  # what matters is printed here; errors still show
    with _provider():
        os.environ["DAGSTER_HOME"] = str(_dagster_home())
        os.environ["BATCHOR_ROOT"] = str(HOME / "batchor")

        import dagster as dg

        from examples.dagster_project.definitions import TOPICS, cards, defs

        with dg.DagsterInstance.get() as instance:
            topics = TOPICS.get_partition_keys()
            _submit(dg, defs, cards, topics, instance)
            written = _drive(dg, defs, topics, instance)
        _show([written[topic] for topic in topics])
    print(f"\ndone in {time.monotonic() - began:.0f} s")
    return 0


def _submit(dg: Any, defs: Any, cards: Any, topics: Sequence[str], instance: Any) -> None:
    print("\nsubmitting")
    for topic in topics:
        result = dg.materialize(
            [cards.assets[0]],
            partition_key=topic,
            instance=instance,
            resources=defs.resources,
            run_config=QUIET,
            raise_on_error=True,
        )
        [event] = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        print(f"  {cards.submission_key.to_user_string()} [{topic}]: {metadata['batchor/status'].value}")


def _drive(dg: Any, defs: Any, topics: Sequence[str], instance: Any) -> dict[str, Any]:
    """Tick the sensor as Dagster's daemon would, and launch what it asks for."""
    sensor = defs.resolve_sensor_def("batchor_sensor")
    written: dict[str, Any] = {}
    cursor, said = None, ""
    stop_at = time.monotonic() + GIVE_UP_AFTER
    print("\nticking the sensor")
    while len(written) < len(topics):
        if time.monotonic() > stop_at:
            raise SystemExit(f"error: no end after {GIVE_UP_AFTER:.0f} s; last heard:\n{said}")
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, resources=dict(defs.resources)
        ) as context:
            tick = sensor(context)
        cursor = tick.cursor
        if tick.skip_reason is not None and tick.skip_reason.skip_message != said:
            said = tick.skip_reason.skip_message
            print("  " + said.replace("\n", "\n  "))
        for request in tick.run_requests:
            print(f"  run request {request.run_key}")
            written[request.partition_key] = _materialize(defs, request, instance)
        if not tick.run_requests:
            time.sleep(30.0 if LIVE else 0.7)
    return written


def _materialize(defs: Any, request: Any, instance: Any) -> Any:
    job = defs.resolve_job_def(request.job_name)
    result = job.execute_in_process(
        partition_key=request.partition_key,
        asset_selection=request.asset_selection,
        instance=instance,
        tags=request.tags,
        run_config=QUIET,
    )
    [event] = result.get_asset_materialization_events()
    for check in result.get_asset_check_evaluations():
        print(f"  check {check.check_name} [{request.partition_key}]: {check.description}")
    return event.materialization


def _show(materializations: list[Any]) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    print("\nresults")
    for materialization in materializations:
        metadata = materialization.metadata
        path = Path(metadata["dagster/uri"].value)
        table = pq.read_table(path)
        rows, failed = metadata["dagster/partition_row_count"].value, metadata["batchor/failed"].value
        if table.num_rows != rows or rows == 0:
            raise SystemExit(f"error: {path} has {table.num_rows} rows, and {rows} were announced")
        cost = metadata.get("batchor/cost_usd")
        price = f", about ${cost.value:.4f} at the batch price" if cost is not None else ""
        print(f"  {os.path.relpath(path)}: {rows} rows, {failed} failed{price}")
    _show_rows(table.filter(pc.equal(table.column("status"), "completed")).slice(0, 4).to_pylist())


def _show_rows(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="a few rows, typed", title_justify="left", show_lines=True)
    for name in ("item_id", "definition", "level", "concrete", "related_words"):
        table.add_column(name)
    for row in rows:
        related = ", ".join(row["related_words"])
        table.add_row(row["item_id"], row["definition"], row["level"], str(row["concrete"]), related)
    Console(width=None if sys.stdout.isatty() else 120).print("\n", table)


@contextlib.contextmanager
def _provider() -> Iterator[None]:
    os.environ["EXAMPLE_PROVIDER"] = PROVIDER
    key, base_url = f"{PROVIDER.upper()}_API_KEY", f"{PROVIDER.upper()}_BASE_URL"
    if LIVE:
        if not os.environ.get(key):
            raise SystemExit(f"error: LIVE=1 needs {key}")
        print(f"using {PROVIDER} itself")
        yield
        return
    shutil.rmtree(HOME, ignore_errors=True)
    with local_server(batch_seconds=BATCH_SECONDS, fault_rate=FAULT_RATE, provider=PROVIDER) as url:
        print(f"local server of {PROVIDER} at {url}; {FAULT_RATE:.0%} of its rows go wrong on purpose")
        os.environ.update({base_url: url, key: "local"})
        yield


def _dagster_home() -> Path:
    home = HOME / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    return home


if __name__ == "__main__":
    sys.exit(main())
