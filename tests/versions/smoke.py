"""What must work with every version that an install may bring: run as a script, with warnings as errors.

It knows nothing of pytest and of this repository: it is run in an environment that holds the wheel and its dependencies only.
``BATCHOR_TEST_POSTGRES_DSN`` names the PostgreSQL to use.
"""

import gzip
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import batchor_core as batchor
from batchor_core.testing.anthropic_server import AnthropicServer
from batchor_core.testing.gemini_server import GeminiServer
from batchor_core.testing.openai_server import OpenAIServer

ROWS = 20


class Review(BaseModel):
    sentiment: str
    score: float
    words: list[str]


def job(server: OpenAIServer, items: Any) -> batchor.BatchJob[Any, Any]:
    return batchor.BatchJob(
        items=items,
        build_prompt=lambda item: f"Judge this: {item.payload}",
        provider_config=batchor.OpenAIProviderConfig(
            model="gpt-5-mini", base_url=server.base_url, api_key="any", poll_interval_sec=0.05
        ),
        structured_output=Review,
        chunk_policy=batchor.ChunkPolicy(max_requests=ROWS // 2),
    )


def whole_run(server: OpenAIServer, storage: batchor.StateStore, folder: Path) -> None:
    """From a file to typed results, an export, a retry, and a second process that finds it finished."""
    rows = folder / "rows.csv"
    rows.write_text("id,text\n" + "".join(f"{n},text {n}\n" for n in range(ROWS)))
    items = batchor.CsvItemSource(
        rows, item_id_from_row=lambda row: str(row["id"]), payload_from_row=lambda row: row["text"]
    )
    with batchor.BatchRunner(storage=storage, temp_root=folder / "artifacts") as runner:
        run = runner.run_and_wait(job(server, items), run_id="smoke")
        assert run.status is batchor.RunLifecycleStatus.COMPLETED, run
        assert all(isinstance(result.output, Review) for result in run.results())
        run.export_artifacts(folder / "bundle")
        created = len(server.books.batches)
        assert runner.run_and_wait(job(server, items), run_id="smoke").is_finished
        assert len(server.books.batches) == created


def anthropic(server: OpenAIServer, folder: Path) -> None:
    config = batchor.AnthropicProviderConfig(model="claude-sonnet-4-5", api_key="any", poll_interval_sec=0.05)
    with (
        AnthropicServer(batch_seconds=0) as elsewhere,
        batchor.BatchRunner(storage=batchor.MemoryStateStore()) as runner,
    ):
        there = replace(
            job(server, [batchor.BatchItem("a", 1)]),
            provider_config=replace(config, base_url=elsewhere.base_url),
        )
        assert runner.run_and_wait(there).summary().completed_items == 1


def gemini(server: OpenAIServer, folder: Path) -> None:
    with (
        GeminiServer(batch_seconds=0) as elsewhere,
        batchor.BatchRunner(storage=batchor.MemoryStateStore()) as runner,
    ):
        config = batchor.GeminiProviderConfig(
            model="gemini-3-flash", api_key="any", base_url=elsewhere.base_url, poll_interval_sec=0.05
        )
        there = replace(job(server, [batchor.BatchItem("a", 1)]), provider_config=config)
        assert runner.run_and_wait(there).summary().completed_items == 1


def sqlite(server: OpenAIServer, folder: Path) -> None:
    path = folder / "runs.sqlite3"
    store = batchor.SQLiteStorage(path=path)
    whole_run(server, store, folder)
    store.close()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "batchor_core.cli", "runs", "--db", str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "smoke" in done.stdout, done.stdout


def postgres(server: OpenAIServer, folder: Path) -> None:
    import psycopg

    dsn, schema = os.environ["BATCHOR_TEST_POSTGRES_DSN"], f"smoke_{uuid.uuid4().hex[:12]}"
    store = batchor.PostgresStorage(dsn=dsn, schema=schema)
    try:
        whole_run(server, store, folder)
        with psycopg.connect(dsn) as connection:
            found = connection.execute(
                "SELECT reloptions FROM pg_class WHERE oid = %s::regclass", [f"{schema}.items"]
            ).fetchone()
        assert found == (["fillfactor=50"],), found
    finally:
        store.close()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


def command_line(server: OpenAIServer, folder: Path) -> None:
    command = Path(sys.executable).with_name("batchor")
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout, done.stdout


def dagster(server: OpenAIServer, folder: Path) -> None:
    import dagster as dg
    import pyarrow.parquet as pq

    from batchor_dagster import BatchorResource, batch_asset, build_batch_definitions

    @batch_asset(partitions_def=dg.StaticPartitionsDefinition(["birds"]), output=Review, wait=True)
    def reviews(context: dg.AssetExecutionContext) -> batchor.BatchJob[Any, Any]:
        return job(server, [batchor.BatchItem(f"{context.partition_key}-{n}", n) for n in range(3)])

    resource = BatchorResource(root=str(folder))
    build_batch_definitions(assets=[reviews], resources={"batchor": resource}).get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            reviews.assets, partition_key="birds", instance=instance, resources={"batchor": resource}
        )
    assert done.success
    materialized = done.asset_materializations_for_node("reviews")[-1].metadata
    assert "batchor/run_id" in materialized, materialized
    (file,) = (folder / "results").rglob("*.parquet")
    assert pq.read_table(file).num_rows == 3
    assert pq.read_table(file)["words"].type.value_type == "string"


def object_store(server: OpenAIServer, folder: Path) -> None:
    from batchor_core.artifacts.object_store import ObjectStoreArtifactStore

    artifacts = ObjectStoreArtifactStore("memory://artifacts")
    items = [batchor.BatchItem(str(n), n) for n in range(3)]
    with batchor.BatchRunner(storage=batchor.MemoryStateStore(), artifact_store=artifacts) as runner:
        assert runner.run_and_wait(job(server, items)).export_artifacts(folder).exported_artifact_paths
    ObjectStoreArtifactStore("s3://bucket/prefix", key="k", secret="s")  # s3fs is there


def row_sources(server: OpenAIServer, folder: Path) -> None:
    """Frames and queries that are kept, and compressed files behind a URL."""
    import pyarrow as pa
    from upath import UPath

    functions: dict[str, Any] = {
        "item_id_from_row": lambda row: str(row["id"]),
        "payload_from_row": lambda row: row["text"],
    }
    text = pa.array([f"text {n}" for n in range(ROWS)])
    ids = pa.array([str(n) for n in range(ROWS)])
    table = pa.table({"id": ids.dictionary_encode(), "text": text.cast(pa.string_view())})
    day = UPath("memory://smoke/day=1")
    day.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{n},text {n}\n" for n in range(ROWS))
    (day / "a.csv.gz").write_bytes(gzip.compress(f"id,text\n{lines}".encode()))
    query = (
        "with recursive n(id) as (select 0 union all select id + 1 from n where id + 1 < 20) "
        "select id, 'text ' || id as text from n"
    )
    sources = [
        batchor.FrameItemSource(table, **functions),
        batchor.SqlItemSource("sqlite://", query, **functions),
        batchor.CsvItemSource("memory://smoke/*/*.csv.gz", **functions),
    ]
    with batchor.BatchRunner(storage=batchor.MemoryStateStore(), temp_root=folder / "rows") as runner:
        for items in sources:
            run = runner.run_and_wait(job(server, items))
            assert sorted(result.item_id for result in run.results()) == sorted(map(str, range(ROWS)))


CHECKS: list[Callable[[OpenAIServer, Path], None]] = [
    anthropic,
    gemini,
    sqlite,
    postgres,
    command_line,
    object_store,
    row_sources,
    dagster,
]


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="smoke-") as temporary:
        yield Path(temporary)


def resolve_here(host: Any, *args: Any, **kwargs: Any) -> Any:
    """Names resolve to this machine or not at all, at once: looking for token tables would take half a minute."""
    if host not in ("localhost", "127.0.0.1", None):
        raise socket.gaierror(socket.EAI_NONAME, f"there is no network here: {host}")
    return _getaddrinfo(host, *args, **kwargs)


_getaddrinfo = socket.getaddrinfo


def main() -> None:
    socket.getaddrinfo = resolve_here
    for check in CHECKS:
        with folder() as place, OpenAIServer(batch_seconds=0.0) as server:
            began = time.monotonic()
            check(server, place)
            print(f"{check.__name__}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
