"""No statement reads through the items of a database: each finds its rows by an index that was made for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, inspect

from batchor_core.core.enums import ItemStatus
from batchor_core.core.models import ItemFailure
from batchor_core.core.reuse import Reuse
from batchor_core.storage.postgres import PostgresStorage
from batchor_core.storage.session import Followed, ReuseTerms
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import (
    BatchEnd,
    CompletedItemRecord,
    DriverSession,
    ItemFailureRecord,
    MaterializedItem,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
)
from tests.contract.stores.kit import MAX, RUN, config, drive, registry, send, submit, take, tokens, upload
from tests.postgres_server import postgres_dsn, postgres_schema

COUNT = 40
LARGE = ("items", "item_contents", "item_results", "request_pointers", "reuse_index")
ERROR = ItemFailure("provider_item_error", "no", True)


def _items(*indexes: int) -> list[MaterializedItem]:
    return [MaterializedItem(f"item-{i}", i, {}, {}, "", None, b"{}", 10) for i in indexes]


def _drive_everything(store: SQLiteStorage) -> None:
    """One run through every session method, and the documented ones beside it."""
    store.create_run(run_id=RUN, config=config(budget_key="k"), items=_items(0))
    session = drive(store)
    arguments: dict[str, Any] = {"checkpoint_payload": None, "ingestion_complete": True}
    session.append(_items(*range(1, COUNT)), next_item_index=COUNT, **arguments)
    session.append(_items(*range(1, COUNT)), next_item_index=COUNT, **arguments)
    custom_ids = take(session, *range(10), allowances=[tokens("k", 1_000)])
    upload(session)
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    session.submitted_items(provider_batch_id="p1")
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[CompletedItemRecord(custom_id, "{}", text_is_json=True) for custom_id in custom_ids[:5]],
        failures=[ItemFailureRecord(custom_id, ERROR) for custom_id in custom_ids[5:8]],
        released_custom_ids=[*custom_ids[8:], "nobody"],
        max_attempts=1,
        end=BatchEnd("completed"),
    )
    take(session, 11, 13, 17, local="b2")
    session.drop(local_batch_id="b2", error_class="x")
    send(session, 20, 22, local="b3")
    session.mark_unknown(local_batch_id="b3", error_class="x", next_check_at=0)
    session.open_submissions()
    session.requeue_local()
    session.drop(local_batch_id="b3", error_class="x")
    session.fail_unsubmitted([(30, ERROR), (31, ERROR)])
    session.close()
    store.claim_items_for_submission(run_id=RUN, max_attempts=MAX, limit=4)
    names = [PreparedSubmission("item-8", "mine-8", 5), PreparedSubmission("item-9", "mine-9", 6)]
    store.register_batch(
        run_id=RUN, local_batch_id="h", provider_batch_id="p2", status="validating", custom_ids=["mine-8"]
    )
    store.mark_items_submitted(run_id=RUN, provider_batch_id="p2", submissions=names)
    store.mark_items_completed(run_id=RUN, completions=[CompletedItemRecord("mine-8", "x")])
    store.reset_batch_items_to_pending(run_id=RUN, provider_batch_id="p2", error=ERROR)
    store.mark_queued_items_failed(
        run_id=RUN, failures=[QueuedItemFailureRecord("item-10", ERROR)], max_attempts=MAX
    )
    store.release_items_to_pending(run_id=RUN, item_ids=["item-11"])
    store.record_request_artifacts(run_id=RUN, pointers=[RequestArtifactPointer("item-1", "a.jsonl", 1, "0")])
    store.get_artifact_inventory(run_id=RUN)
    store.clear_request_artifact_pointers(run_id=RUN, artifact_paths=["a.jsonl"])
    store.get_run_summary(run_id=RUN)
    store.list_runs()
    store.get_item_records(run_id=RUN)
    store.get_terminal_item_records(run_id=RUN, after_sequence=2, limit=3)
    store.reopen_failed_items(run_id=RUN)
    store.requeue_local_items(run_id=RUN)
    drive(store).cancel_remaining(error=ERROR)
    store.mark_nonterminal_items_cancelled(run_id=RUN, error=ERROR)
    _reuse(store)


def _reuse(store: SQLiteStorage) -> None:
    """Three runs that share answers; the one that has paid is deleted."""
    for run_id in ("paid", "waits", "reuses"):
        store.create_run(run_id=run_id, config=replace(config(), reuse=Reuse("store", "k")), items=[])

    def read(run_id: str) -> DriverSession:
        session = drive(store, run_id=run_id)
        items = [item._replace(content_address=bytes([item.item_index] * 20)) for item in _items(*range(4))]
        arguments: dict[str, Any] = {"checkpoint_payload": None, "ingestion_complete": True}
        session.append(items, next_item_index=4, reuse=ReuseTerms(), **arguments)
        session.claim(
            local_batch_id="b", artifact_key="k", item_indexes=range(4), max_attempts=MAX, reuse=ReuseTerms()
        )
        return session

    paid, waits = read("paid"), read("waits")
    assert store.get_run_summary(run_id="waits").following_items == 4
    upload(paid, local="b")
    paid.mark_sending(local_batch_id="b", ttl_sec=60)
    paid.register(local_batch_id="b", provider_batch_id="p", status="validating")
    names = paid.submitted_items(provider_batch_id="p")
    answers = [CompletedItemRecord(custom_id, "yes") for custom_id in names]
    paid.apply_outcome(provider_batch_id="p", completions=answers, max_attempts=1, end=BatchEnd("completed"))
    paid.close()
    assert store.can_follow(run_id="waits")
    assert waits.follow(ReuseTerms()) == Followed(completed=4)
    waits.cancel_remaining(error=ERROR)
    read("reuses").close()
    assert store.get_run_summary(run_id="reuses").reused_items == 4
    store.delete_run(run_id="paid")


@pytest.fixture
def plans(tmp_path: Path) -> list[tuple[str, str]]:
    """Each statement of the run above with SQLite's plan for it."""
    store = SQLiteStorage(path=tmp_path / "store.sqlite3", provider_registry=registry())
    seen: dict[str, Any] = {}

    def record(_connection: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, many: bool) -> None:
        if re.match("SELECT|UPDATE|DELETE", sql):
            seen.setdefault(sql, parameters[0] if many else parameters)

    event.listen(store.engine, "before_cursor_execute", record)
    _drive_everything(store)
    event.remove(store.engine, "before_cursor_execute", record)
    explained = []
    with store.database.read() as connection:
        for sql, parameters in seen.items():
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
            explained.append((sql, "\n".join(step[3] for step in steps)))
    store.close()
    return explained


def test_no_statement_scans_a_large_table(plans: list[tuple[str, str]]) -> None:
    assert len(plans) > 40
    scan = re.compile(rf"SCAN ({'|'.join(LARGE)})\b")
    assert [(sql, plan) for sql, plan in plans if scan.search(plan)] == []


def test_no_update_of_items_searches_a_whole_run(plans: list[tuple[str, str]]) -> None:
    """Finding items by their run alone is a scan with another name."""
    whole_run = re.compile(r"SEARCH items USING \S+(?: \S+)*? \(run_key=\?\)")
    updates = [(sql, plan) for sql, plan in plans if sql.startswith("UPDATE items")]
    assert updates
    for sql, plan in updates:
        assert not whole_run.search(plan), f"{sql}\n{plan}"


def test_candidates_come_from_the_index_alone(plans: list[tuple[str, str]]) -> None:
    wanted = [
        plan
        for sql, plan in plans
        if "request_bytes" in sql.partition("FROM")[0] and sql.startswith("SELECT")
    ]
    assert wanted == ["SEARCH items USING COVERING INDEX items_queued (run_key=? AND queue=?)"]


def test_pages_of_results_follow_the_primary_key(plans: list[tuple[str, str]]) -> None:
    pages = [plan for sql, plan in plans if "item_results.sequence > ?" in sql]
    assert pages
    for plan in pages:
        assert "SEARCH item_results USING PRIMARY KEY (run_key=? AND sequence>?)" in plan
        assert "TEMP B-TREE" not in plan


def test_a_cycle_with_nothing_to_give_back_reads_no_items(tmp_path: Path) -> None:
    """Otherwise each look at a large run that waits would read everything that it has in flight."""
    store = SQLiteStorage(path=tmp_path / "store.sqlite3", provider_registry=registry())
    store.create_run(run_id=RUN, config=config(), items=_items(*range(COUNT)))
    session = drive(store)
    submit(session, *range(COUNT))
    seen: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    assert session.requeue_local() == 0
    assert seen
    assert [sql for sql in seen if re.search(r"\b(FROM|UPDATE|JOIN) items\b", sql)] == []
    store.close()


def test_a_cycle_beside_a_submission_in_doubt_reads_no_items(tmp_path: Path) -> None:
    """A submission may be in doubt for minutes, and in quarantine for days: each look must not cost the whole run."""
    store = SQLiteStorage(path=tmp_path / "store.sqlite3", provider_registry=registry())
    store.create_run(run_id=RUN, config=config(), items=_items(*range(COUNT)))
    session = drive(store)
    submit(session, *range(30), local="b1", batch="p1")
    send(session, 30, 31, 32, local="b2")
    session.mark_unknown(local_batch_id="b2", error_class="x", next_check_at=0)
    submit(session, 33, 34, local="b3", batch="p3")
    session.quarantine(local_batch_id="b3", error_class="batch_not_found")  # its items are SUBMITTED
    seen: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    assert session.requeue_local() == 0
    assert seen
    assert [sql for sql in seen if re.search(r"\b(FROM|UPDATE|JOIN) items\b", sql)] == []
    # what has to be given back is still found beside it
    store.claim_items_for_submission(run_id=RUN, max_attempts=MAX, limit=2)
    assert session.requeue_local() == 2
    store.close()


def test_a_new_file_has_pages_that_hold_a_row_with_its_prompt(tmp_path: Path) -> None:
    """A quarter of a page has to do: what is longer gets pages of its own."""
    store = SQLiteStorage(path=tmp_path / "store.sqlite3", provider_registry=registry())
    with store.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA page_size").scalar_one() == 16_384
    store.close()


def test_a_batch_is_recorded_without_a_touch_to_its_items(tmp_path: Path) -> None:
    """Between the provider's answer and the row that remembers it nothing may take long."""
    store = SQLiteStorage(path=tmp_path / "store.sqlite3", provider_registry=registry())
    store.create_run(run_id=RUN, config=config(), items=_items(*range(COUNT)))
    session = drive(store)
    send(session, *range(COUNT), local="b1")
    seen: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    assert [sql for sql in seen if sql.startswith("UPDATE items")] == []
    assert list(session.submitted_items(provider_batch_id="p1").values()) == list(range(COUNT))
    assert store.get_run_summary(run_id=RUN).status_counts[ItemStatus.SUBMITTED] == COUNT
    store.close()


@pytest.fixture
def on_postgres() -> Iterator[PostgresStorage]:
    with postgres_schema() as schema:
        store = PostgresStorage(dsn=postgres_dsn(), schema=schema, provider_registry=registry())
        yield store
        store.close()


@pytest.mark.postgres
def test_postgres_indexes_nothing_that_changes_at_an_items_end(on_postgres: PostgresStorage) -> None:
    """Otherwise each end would be entered into every index of the table."""
    indexes = inspect(on_postgres.engine).get_indexes("items", on_postgres.schema)
    assert len(indexes) == 3
    for index in indexes:
        where = str(index["dialect_options"]["postgresql_where"])
        held = {*index["column_names"], *re.findall(r"\w+", where)}
        assert not held & {"status", "attempt_count", "terminal_sequence", "last_error"}, index


@pytest.mark.postgres
def test_postgres_finds_each_row_of_a_page_by_its_key_before_it_has_statistics(
    on_postgres: PostgresStorage,
) -> None:
    count = 3_000
    on_postgres.create_run(run_id=RUN, config=config(), items=_items(*range(count)))
    session = drive(on_postgres)
    custom_ids = submit(session, *range(count), local="b1", batch="p1")
    answers = [CompletedItemRecord(custom_id, "{}", text_is_json=True) for custom_id in custom_ids]
    session.apply_outcome(provider_batch_id="p1", completions=answers, max_attempts=MAX)
    seen: list[tuple[str, Any]] = []
    event.listen(on_postgres.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2:4]))
    assert len(on_postgres.get_result_rows(run_id=RUN, after_sequence=500, limit=1_000)) == 1_000
    ((sql, values),) = [(sql, values) for sql, values in seen if "item_results.sequence >" in sql]
    with on_postgres.database.read() as connection:
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {sql}", values))
    assert "Materialize" not in plan
    assert re.search(r"Index Cond: .*item_index = item_results.item_index", plan), plan
