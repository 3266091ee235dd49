"""Writes a Dagster deployment as this version leaves it behind: its home, the resource's root and the result files.

    python -m tests.data.stored.build_dagster 0004

makes ``0004-dagster.tar.gz``; see README.md.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import dagster as dg

from batchor_core.storage.migrations import HEAD
from batchor_core.testing.openai_server import OpenAIServer
from tests.data.stored.deployment import ENDED, SUBMITTED, WRITTEN, Deployment, deployed
from tests.support import stored
from tests.support.stored import KEY, MINUTE


def build(folder: Path) -> None:
    """Write the deployment into a folder."""
    with OpenAIServer(manual=True, timing=MINUTE) as server, deployed(folder, server) as deployment:
        for partition in WRITTEN:
            assert deployment.submit(partition).success
        server.advance(120)
        for request in _requests(deployment, len(WRITTEN)):
            assert deployment.launch(request).success
        assert deployment.submit(ENDED).success
        server.advance(120)
        with deployment.resource.runner() as runner:
            runner.get_run(f"shop.reviews--{ENDED}").wait(poll_interval=0.01)
        assert deployment.submit(SUBMITTED).success
        books = stored.books_of(server)
        with deployment.resource.runner() as runner:
            run_ids = sorted(listing.run_id for listing in runner.list_runs())
    files = sorted(path.relative_to(folder).as_posix() for path in (folder / "root").rglob("*.parquet"))
    seen = {"run_ids": run_ids, "files": files}
    (folder / "books.json").write_text(json.dumps(books, indent=1), encoding="utf-8")
    (folder / "seen.json").write_text(json.dumps(seen, indent=1, ensure_ascii=False), encoding="utf-8")
    shutil.rmtree(folder / "home" / "storage")  # what the steps printed
    for path in [*(folder / "home").rglob("*.db"), *(folder / "root").glob("*.sqlite3")]:
        _tidy(path)


def _requests(deployment: Deployment, count: int) -> list[dg.RunRequest]:
    for _ in range(50):
        requests = deployment.tick()
        if len(requests) == count:
            return requests
    raise AssertionError(f"{count} results were not requested")


def _tidy(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def main(revision: str) -> None:
    if revision != HEAD:
        sys.exit(f"this version writes revision {HEAD}, not {revision}")
    name = f"{revision}-dagster"
    if (stored.STORED / f"{name}.tar.gz").exists():
        sys.exit(f"{name}.tar.gz is there, and it is what an earlier version wrote: it is not written again")
    os.environ["OPENAI_API_KEY"] = KEY
    with tempfile.TemporaryDirectory(prefix="stored-") as temporary:
        folder = Path(temporary)
        build(folder)
        target = stored.pack(name, folder)
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
