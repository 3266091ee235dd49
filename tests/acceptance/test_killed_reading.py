"""A process that is killed while it reads a query: the next one goes on, and never mixes rows of two readings."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

COUNT = 2_500

DRIVER = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa
from batchor_core import BatchJob, BatchRunner, FrameItemSource, LocalArtifactStore, SQLiteStorage, SqlItemSource
from batchor_core.core import boundaries
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import FakeProvider, register_fake_provider
from batchor_core.testing.kill import Kill

folder, spec = Path(sys.argv[1]), sys.argv[2]
callbacks = {"item_id_from_row": lambda row: str(row["id"]), "payload_from_row": lambda row: row["text"]}
source = SqlItemSource(f"sqlite:///{folder}/source.sqlite3", "select id, text from rows", **callbacks)
if spec == "half":
    stream = source.stream

    def half():
        def batches():
            for number, batch in enumerate(stream().batches):
                if number == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch
        return stream()._replace(batches=batches())

    source.stream = half
elif spec:
    boundaries.install(Kill(spec))
provider = FakeProvider()
registry = register_fake_provider(provider=provider)
store = SQLiteStorage(path=folder / "runs.sqlite3", provider_registry=registry)
with BatchRunner(storage=store, artifact_store=LocalArtifactStore(folder / "artifacts"), provider_registry=registry) as runner:
    job = BatchJob(items=source, build_prompt=lambda item: item.payload, provider_config=FakeProviderConfig())
    run = runner.run_and_wait(job, run_id="run")
    assert [result.item_id for result in run.iter_results()] == [str(n) for n in range(2500)]
    lines = [str(line) for batch in provider.batches.values() for line in batch.lines]
    old = sum("of then" in line for line in lines)
    print(old, len(lines) - old)
    run.prune_artifacts()
store.close()
"""


def fill(folder: Path, text: str) -> None:
    with closing(sqlite3.connect(folder / "source.sqlite3")) as connection, connection:
        connection.execute("drop table if exists rows")
        connection.execute("create table rows (id integer, text text)")
        rows = [(n, f"{n} {text}") for n in range(COUNT)]
        connection.executemany("insert into rows values (?, ?)", rows)


def drive(folder: Path, spec: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DRIVER, folder, spec], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("spec", "is_kept"),
    [
        ("half", False),
        ("rename_file:before", False),
        ("rename_file:after", True),
        ("append_items:after:2", True),
    ],
)
def test_rows_are_those_of_one_reading(spec: str, is_kept: bool, tmp_path: Path) -> None:
    fill(tmp_path, "of then")
    killed = drive(tmp_path, spec)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert bool(list(tmp_path.rglob("*.arrow"))) is is_kept
    fill(tmp_path, "of now")
    finished = drive(tmp_path)
    assert finished.returncode == 0, finished.stderr
    old, new = map(int, finished.stdout.split())
    assert (old, new) == ((COUNT, 0) if is_kept else (0, COUNT))
    left = [path for path in (tmp_path / "artifacts" / "run").rglob("*") if path.is_file()]
    assert {path.parent.name for path in left} == {"responses"}
