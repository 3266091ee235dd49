"""Databases that released revisions wrote are opened, read as their writers read them, and their runs driven to the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchor_core import (
    BatchJob,
    ChunkPolicy,
    QuarantinedBatchError,
    Run,
    RunConfigMismatchError,
    RunIngestionSourceRequiredError,
    SourceMismatchError,
)
from batchor_core.storage.migrations import HEAD, KNOWN
from tests.data.stored import jobs
from tests.support.stored import STORED, Site, Unpacked, unpacked

POLL = 30.0
"""Seconds of the copy's clock between two cycles; a batch takes sixty."""

NAMES = sorted(path.name.removesuffix(".tar.gz") for path in STORED.glob("*-*.tar.gz"))
DATABASES = [
    pytest.param(name, marks=pytest.mark.postgres) if name.endswith("-postgres") else name
    for name in NAMES
    if name.endswith(("-sqlite", "-postgres"))
]


@pytest.fixture(params=DATABASES)
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Unpacked]:
    with unpacked(request.param, tmp_path) as copy:
        yield copy


# --- seeing ----------------------------------------------------------------------------------------------------------


def test_each_revision_but_the_first_is_stored_from_both_databases() -> None:
    stored = {tuple(name.split("-")) for name in NAMES}
    released = set(KNOWN) - {"0001", HEAD} | {"0002"}
    assert {(revision, kind) for revision in released for kind in ("sqlite", "postgres")} <= stored


def as_written(rows: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many rows as the writer saw, with the fields that it knew."""
    return [{name: row.get(name) for name in known} for row, known in zip(rows, earlier, strict=False)]


def test_every_run_looks_as_it_did_to_the_version_that_wrote_it(copy: Unpacked) -> None:
    """Status, counts, reasons, and results with raw responses: what is exported."""
    listed = {listing.run_id for listing in copy.site.store.list_runs()}
    assert listed == set(copy.wrote)
    for run_id, wrote in copy.wrote.items():
        seen = copy.site.seen(run_id)
        assert seen | {"results": []} == wrote | {"results": []}, run_id
        assert as_written(seen["results"], wrote["results"]) == wrote["results"], run_id
    assert copy.site.server.books.requests == []  # reading asks nobody


def test_stored_answers_are_still_objects_of_their_model(copy: Unpacked) -> None:
    run = copy.site.run("finished-structured")
    results = {result.item_id: result for result in run.results()}
    assert [results[f"finished-structured/{n}"].status.value for n in range(6)] == [
        "completed",
        "failed_permanent",
        "failed_permanent",
        "completed",
        "failed_permanent",
        "completed",
    ]
    first = results["finished-structured/0"].output
    assert type(first) is jobs.Review
    (exported,) = [
        row for row in copy.wrote["finished-structured"]["results"] if row["item_id"].endswith("/0")
    ]
    assert json.loads(first.model_dump_json()) == exported["output_json"]
    classes = {item_id[-1]: result.error.error_class for item_id, result in results.items() if result.error}
    assert classes == {
        "1": "refusal",
        "2": "provider_item_error",
        "4": "structured_output_validation_failed",
    }
    assert {item_id[-1]: result.attempt_count for item_id, result in results.items()} == {
        "0": 1, "1": 1, "2": 1, "3": 2, "4": 3, "5": 2,
    }  # fmt: skip


def test_a_finished_run_is_exported_and_its_failed_rows_are_tried_again(
    copy: Unpacked, tmp_path: Path
) -> None:
    site = copy.site
    bundle = site.run("finished-structured").export_artifacts(tmp_path / "bundles")
    assert bundle.exported_artifact_paths
    run = site.runner().retry_failed("finished-structured").wait(poll_interval=POLL)
    assert (run.summary().completed_items, run.summary().failed_items) == (6, 0)
    assert rows_sent(copy) == {"finished-structured": 3}


# --- going on --------------------------------------------------------------------------------------------------------


class End(NamedTuple):
    """How a run ends, and how many rows the provider executes until then: each row that had no answer, once."""

    completed: int
    failed: int
    executed: int


def _go_on(site: Site, run_id: str) -> Run:
    return site.run(run_id).wait(poll_interval=POLL)


def _resume(site: Site, run_id: str) -> Run:
    run = site.run(run_id)
    run.resume()
    return run.wait(poll_interval=POLL)


def _read_on(site: Site, run_id: str) -> Run:
    job = jobs.from_file(run_id.removeprefix("reading-"), site.input)
    return site.runner().start(job, run_id=run_id).wait(poll_interval=POLL)


def _adopt(site: Site, run_id: str) -> Run:
    with pytest.raises(QuarantinedBatchError) as raised:
        site.run(run_id).wait()
    (local_batch_id,) = raised.value.local_batch_ids
    (batch,) = [b for b in site.server.books.batches if (b.metadata or {}).get("batchor_run_id") == run_id]
    return site.runner().adopt_batch(run_id, local_batch_id, batch.id).wait(poll_interval=POLL)


GOING_ON: dict[str, tuple[Callable[[Site, str], Run], End]] = {
    "cancelling": (_go_on, End(0, 4, 0)),  # before the clock has moved, and its rows are answered
    "answered": (_go_on, End(6, 0, 0)),
    "by-hand": (_go_on, End(4, 0, 4)),
    "doubt-created": (_go_on, End(4, 0, 4)),
    "doubt-never-created": (_go_on, End(4, 0, 4)),
    "driven-by-a-dead-process": (_go_on, End(4, 0, 4)),
    "failed-retryable": (_go_on, End(4, 0, 2)),
    "in-flight": (_go_on, End(5, 0, 5)),
    "in-flight-chat": (_go_on, End(3, 0, 3)),
    "killed-after-create": (_go_on, End(4, 0, 4)),
    "killed-before-create": (_go_on, End(4, 0, 4)),
    "killed-before-upload": (_go_on, End(4, 0, 4)),
    "paused": (_resume, End(4, 0, 4)),
    "paused-by-the-engine": (_resume, End(4, 0, 4)),
    "quarantined": (_adopt, End(4, 0, 4)),
    "reading-composite": (_read_on, End(80, 0, 80)),
    "reading-csv": (_read_on, End(40, 0, 40)),
    "reading-jsonl": (_read_on, End(40, 0, 40)),
    "reading-parquet": (_read_on, End(40, 0, 40)),
    "retry-waiting": (_go_on, End(4, 0, 2)),
    "retrying": (_go_on, End(4, 0, 2)),
}
CANNOT_GO_ON = {"reading-generator"}


def rows_executed(site: Site) -> dict[str, int]:
    """By run, how many rows the provider has executed since the copy was opened."""
    runs = {batch.id: (batch.metadata or {})["batchor_run_id"] for batch in site.server.books.batches}
    return dict(Counter(runs[execution.batch_id] for execution in site.server.books.executions()))


def rows_sent(copy: Unpacked) -> dict[str, int]:
    """By run, how many rows were put into batches since the copy was opened."""
    known = {batch["id"] for batch in copy.books["batches"]}
    sent: Counter[str] = Counter()
    for batch in copy.site.server.books.batches:
        if batch.id not in known:
            sent[(batch.metadata or {})["batchor_run_id"]] += batch.total
    return dict(sent)


def to_the_end() -> Iterator[Any]:
    """Each database; those between the oldest and the newest revision on SQLite, and in the long form on Postgres too."""
    revisions = sorted({name.partition("-")[0] for name in NAMES})
    for name in NAMES:
        revision, _, kind = name.partition("-")
        if kind == "postgres":
            is_between = revision not in (revisions[0], revisions[-1])
            yield pytest.param(
                name, marks=[pytest.mark.postgres, *([pytest.mark.long] if is_between else [])]
            )
        elif kind == "sqlite":
            yield name


@pytest.mark.parametrize("copy", list(to_the_end()), indirect=True)
def test_every_unfinished_run_goes_on_to_its_end_and_buys_no_row_twice(copy: Unpacked) -> None:
    site = copy.site
    unfinished = {run_id for run_id, seen in copy.wrote.items() if seen["status"] == "running"}
    assert unfinished == set(GOING_ON) | CANNOT_GO_ON
    for run_id, (go_on, _) in GOING_ON.items():
        go_on(site, run_id)
    ends, executed = {}, rows_executed(site)
    for run_id in GOING_ON:
        summary = site.run(run_id).summary()
        ends[run_id] = End(summary.completed_items, summary.failed_items, executed.pop(run_id, 0))
    assert ends == {run_id: end for run_id, (_, end) in GOING_ON.items()}
    assert executed == {}
    for run_id in GOING_ON:
        results = site.exported(run_id)
        earlier = copy.wrote[run_id]["results"]
        assert as_written(results, earlier) == earlier, run_id  # what there was is there, and in its place
        assert len({row["item_id"] for row in results}) == len(results), run_id


def test_a_run_of_rows_that_are_gone_says_that_it_needs_them(copy: Unpacked) -> None:
    with pytest.raises(RunIngestionSourceRequiredError, match="reading-generator"):
        copy.site.runner().start(jobs.generated("reading-generator"), run_id="reading-generator").wait()


# --- the same job, and another ---------------------------------------------------------------------------------------

JOBS: dict[str, Callable[[Site], BatchJob[Any, Any]]] = {
    "finished-structured": lambda site: jobs.structured("finished-structured"),
    "finished-text": lambda site: jobs.plain("finished-text"),
    "finished-chat": lambda site: jobs.chat("finished-chat"),
    "finished-without-raw-files": lambda site: jobs.without_raw_files("finished-without-raw-files"),
    "finished-csv": lambda site: jobs.from_file("csv", site.input),
    "finished-pruned": lambda site: jobs.plain("finished-pruned"),
    "in-flight": lambda site: jobs.structured("in-flight", 5, chunk_policy=ChunkPolicy(max_requests=2)),
    "doubt-created": lambda site: jobs.plain("doubt-created"),
    "retrying": lambda site: jobs.structured("retrying", 4),
}


def test_the_same_job_attaches_to_the_run_it_once_started(copy: Unpacked) -> None:
    for run_id, job in JOBS.items():
        run = copy.site.runner().start(job(copy.site), run_id=run_id).wait(poll_interval=POLL)
        earlier = copy.wrote[run_id]["results"]
        assert as_written(copy.site.exported(run_id), earlier) == earlier, run_id
        assert len(run.results()) == run.summary().total_items, run_id
    assert rows_sent(copy) == {}  # whose batches were there: nothing is asked that was asked before


def test_another_model_or_another_file_is_refused(copy: Unpacked) -> None:
    site = copy.site
    with pytest.raises(RunConfigMismatchError, match="finished-chat"):
        site.runner().start(jobs.plain("finished-chat"), run_id="finished-chat")
    with (site.input / "rows.csv").open("a") as file:
        file.write("row-40,one more,40\n")
    with pytest.raises(SourceMismatchError, match="reading-csv"):
        site.runner().start(jobs.from_file("csv", site.input), run_id="reading-csv")
    assert rows_sent(copy) == {}
