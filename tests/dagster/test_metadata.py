"""What the UI shows of runs and files is right, short and safe."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from pydantic import BaseModel

from batchor_core import ItemStatus, OpenAIProviderConfig, RunControlState, RunLifecycleStatus, RunSummary
from batchor_core.core.plan import CapForecast, Plan, Range, RefusedRow
from batchor_core.core.pricing import Cost, Unpriced
from batchor_core.core.turnaround import BatchTime
from batchor_core.core.usage import TokenUsage
from batchor_core.runtime.estimate import TokenEstimate
from batchor_core.tables import ErrorCount, PartitionFacts, TableReport
from batchor_core.tables.result_columns import DESCRIPTIONS, OWN_COLUMNS, result_schema
from batchor_dagster.answers_digest import ANSWERS_DIGEST
from batchor_dagster.backfills import HOLD_TAG
from batchor_dagster.checks import completion_result, judge, judge_schema, schema_result
from batchor_dagster.control import ACTION_TAG, APPLIED_TAG, CONTROL_TAG, RUN_ID_TAG, STATE_TAG, offered
from batchor_dagster.facts import SINK_METADATA, BatchFacts
from batchor_dagster.metadata import (
    Links,
    describe,
    markdown_table,
    progress_metadata,
    result_metadata,
    runs_url,
    submission_metadata,
    table_schema,
    unknown_outcome,
)
from batchor_dagster.observations import in_flight
from batchor_dagster.plan_metadata import plan_metadata
from batchor_dagster.sensor.drive_job import DRIVEN_TAG
from batchor_dagster.steps.links import batch_links
from batchor_dagster.steps.submission import RERUN_APPLIED_TAG, RERUN_TAG

SUMMARY = RunSummary(
    run_id="facts--birds",
    status=RunLifecycleStatus.RUNNING,
    control_state=RunControlState.RUNNING,
    total_items=100,
    completed_items=38,
    failed_items=2,
    status_counts=dict.fromkeys(ItemStatus, 0),
    active_batches=3,
    backoff_remaining_sec=0.0,
    estimated_tokens=1234,
)
REPORT = TableReport(
    uri="s3://bucket/facts/birds.parquet",
    row_count=100,
    failed_count=2,
    errors={"refusal": ErrorCount(2, "row-7", "I can not")},
    usage=TokenUsage(10, 0, 5, 0),
    schema=pa.schema(
        [pa.field("stars", pa.int64(), metadata={"description": "One to five"}), ("text", pa.string())]
    ),
    preview=[{"stars": 5, "text": None}, {"stars": 4, "text": None}],
    last_sequence=102,
)
LINKS = Links(controls="[pause](/guess)", runs="/runs?q")
MINI = OpenAIProviderConfig(model="gpt-4.1-mini")
PLAN = Plan(
    rows=2,
    rows_new=1,
    rows_reused=0,
    rows_following=0,
    rows_duplicate=0,
    rows_refused=1,
    refused=(RefusedRow("a", "too large"),),
    input_tokens=Range(1, 2, 3),
    output_tokens=Range(0, 4, 4),
    output_basis="a default",
    cost=Range(Decimal(0), Decimal(1), Decimal(1)),
    not_included=(),
    batches=1,
    waves=1,
    queue_limit=100,
    caps=(CapForecast("$1.00 for store", "$0.50", "yes"),),
    warnings=("1 row over the limits",),
)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
COST = Cost(Decimal("1.50"))
BATCHES = [BatchTime("b-1", "completed", 60, 0.0, 600.0), BatchTime("b-2", "completed", 40, 0.0, 5400.0)]
RATES = MINI.batch_rates(at=NOVEMBER)


def priced(summary: RunSummary, cost: Cost | Unpriced = COST) -> RunSummary:
    return dataclasses.replace(summary, cost=cost)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "running: 40 of 100 items done, 2 failed, 3 batches at the provider"),
        ({"active_batches": 1, "failed_items": 0}, "running: 38 of 100 items done, 1 batch at the provider"),
        (
            {"ingestion_complete": False, "active_batches": 0, "failed_items": 0},
            "running: 38 of 100 so far items done",
        ),
        (
            {"control_state": RunControlState.PAUSED, "control_reason": "401: no key", "active_batches": 0},
            "paused: 40 of 100 items done, 2 failed, 401: no key",
        ),
        (
            {
                "status": RunLifecycleStatus.COMPLETED_WITH_FAILURES,
                "completed_items": 98,
                "active_batches": 0,
            },
            "completed with failures: 100 of 100 items done, 2 failed",
        ),
        (
            {
                "failed_items": 0,
                "active_batches": 0,
                "backoff_remaining_sec": 12.4,
                "unknown_batches": 2,
                "quarantined_batches": 1,
            },
            (
                "running: 38 of 100 items done, 2 of unknown outcome being looked up, 1 waiting for a person, "
                "next submission in 12 s"
            ),
        ),
    ],
)
def test_a_run_is_described_in_one_line(changes: dict[str, Any], text: str) -> None:
    assert describe(dataclasses.replace(SUMMARY, **changes)) == text


def test_results_carry_what_dagster_knows_by_name() -> None:
    summary = dataclasses.replace(SUMMARY, usage=TokenUsage(1000, 200, 100, 0))
    metadata = result_metadata(
        REPORT, summary=priced(summary), batches=BATCHES, config=MINI, revision=2, links=LINKS
    )
    assert metadata["dagster/partition_row_count"] == dg.MetadataValue.int(100)
    assert metadata["dagster/uri"] == dg.MetadataValue.text("s3://bucket/facts/birds.parquet")
    assert metadata["dagster/column_schema"] == dg.MetadataValue.table_schema(table_schema(REPORT))
    assert metadata["batchor/failed"].value == 2
    assert [record.data for record in metadata["batchor/errors"].value.records] == [
        {"error_class": "refusal", "rows": 2, "example_item": "row-7", "example": "I can not"}
    ]
    assert metadata["batchor/partition_revision"].value == "2"
    assert metadata["batchor/run_id"].value == "facts--birds"
    assert metadata["batchor/controls"].value == "[pause](/guess)"
    assert metadata["batchor/dagster_runs"].value == "[every Dagster run of this batch run](/runs?q)"
    assert "batchor/warning" not in metadata
    assert metadata["batchor/input_tokens"].value == 1000
    assert metadata["batchor/results_up_to"].value == "102"
    assert metadata["preview"].value.splitlines()[0] == "| stars |"


def test_column_descriptions_come_from_the_model() -> None:
    stars, text = table_schema(REPORT).columns
    assert (stars.name, stars.type, stars.description) == ("stars", "int64", "One to five")
    assert text.description is None


def test_a_submission_shows_its_run_and_its_links() -> None:
    metadata = submission_metadata(
        SUMMARY,
        MINI,
        estimate=TokenEstimate(400, 1234),
        rates=RATES,
        revision=1,
        links=LINKS,
        reason="it is new",
    )
    assert metadata["batchor/run_id"].value == "facts--birds"
    assert metadata["batchor/controls"] == dg.MetadataValue.md("[pause](/guess)")
    assert (metadata["batchor/items"].value, metadata["batchor/active_batches"].value) == (100, 3)
    assert metadata["batchor/estimated_input_tokens"].value == 1234
    assert metadata["batchor/estimated_input_tokens_low"].value == 400
    assert metadata["batchor/model"].value == "gpt-4.1-mini"
    assert metadata["batchor/provider"].value == "openai"
    assert metadata["batchor/decision"].value == "it is new"
    # 1,234 tokens at half of $0.40 for a million
    assert metadata["batchor/estimated_input_cost_usd"].value == 0.0002


def test_progress_is_made_of_numbers_that_dagster_plots() -> None:
    summary = dataclasses.replace(SUMMARY, usage=TokenUsage(1000, 0, 100, 0))
    metadata = progress_metadata(summary)
    plotted = {name: value.value for name, value in metadata.items() if isinstance(value.value, int | float)}
    assert plotted == {
        "batchor/completed": 38,
        "batchor/failed": 2,
        "batchor/input_tokens": 1000,
        "batchor/output_tokens": 100,
        "batchor/percent_done": 40.0,
    }


def test_a_share_of_rows_that_are_not_counted_yet_is_not_shown() -> None:
    reading = dataclasses.replace(SUMMARY, ingestion_complete=False)
    assert "batchor/percent_done" not in progress_metadata(reading)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ""),
        ({"unknown_batches": 1}, "1 submission of unknown outcome, being looked up"),
        (
            {"quarantined_batches": 2},
            "2 submissions of unknown outcome, waiting for adopt_batch, resubmit_batch or fail_batch",
        ),
        (
            {"late_batches": 1, "late_rows": 9},
            "9 rows of 1 ended batch whose results are late, waited for",
        ),
        ({"overdue_batches": 2}, "2 batches that should have ended by now"),
        (
            {"quarantined_batches": 1, "late_batches": 1, "late_rows": 1},
            "1 submission waiting for a person: see batchor doctor; 1 row of 1 ended batch whose results are late, waited for",
        ),
        ({"orphan_batches": 1}, "1 batch at the provider that this run never registered"),
        ({"orphan_batches": 3}, "3 batches at the provider that this run never registered"),
    ],
)
def test_what_may_have_been_paid_for_nothing_is_told_everywhere(changes: dict[str, Any], text: str) -> None:
    summary = dataclasses.replace(SUMMARY, status=RunLifecycleStatus.COMPLETED, failed_items=0, **changes)
    assert unknown_outcome(summary) == text
    assert ("batchor/warning" in progress_metadata(summary)) is bool(text)
    check = completion_result(summary, threshold=0.0)
    assert (check.passed, check.severity.value) == (not text, "WARN")
    assert text in str(check.description)


def test_the_runs_page_is_filtered_by_the_batch_run() -> None:
    assert runs_url("facts--birds", webserver_url="https://dagster.example.org/") == (
        "https://dagster.example.org/runs?q%5B0%5D=tag%3Abatchor%2Frun_id%3Dfacts--birds"
    )


def test_what_a_run_has_cost_so_far_is_never_taken_for_its_cost() -> None:
    metadata = progress_metadata(priced(SUMMARY))
    assert {name: entry.value for name, entry in metadata.items() if "cost" in name} == {
        "batchor/cost_so_far_usd": 1.5
    }
    assert not any("cost" in name for name in progress_metadata(priced(SUMMARY, Unpriced("no list"))))


@pytest.mark.parametrize(
    ("cost", "entries"),
    [
        (COST, {"batchor/cost_usd": 1.5}),
        (
            Cost(Decimal("1.50"), ("2 answers without token counts", "calls of the tool web_search")),
            {
                "batchor/cost_usd": 1.5,
                "batchor/cost_note": "at least; not included: 2 answers without token counts; calls of the tool web_search",
            },
        ),
        (Unpriced("no batch price known for x"), {"batchor/cost_note": "no batch price known for x"}),
    ],
)
def test_a_cost_is_shown_with_what_it_leaves_out(cost: Cost | Unpriced, entries: dict[str, object]) -> None:
    metadata = result_metadata(
        REPORT, summary=priced(SUMMARY, cost), batches=BATCHES, config=MINI, revision=1, links=LINKS
    )
    assert {name: entry.value for name, entry in metadata.items() if "cost" in name} == entries


def test_batches_of_unknown_outcome_may_cost_more() -> None:
    summary = dataclasses.replace(SUMMARY, orphan_batches=1)
    metadata = result_metadata(
        REPORT, summary=priced(summary), batches=BATCHES, config=MINI, revision=1, links=LINKS
    )
    assert metadata["batchor/cost_note"].value == f"at least; not included: {unknown_outcome(summary)}"


def test_the_estimate_of_a_submission_is_at_batch_rates() -> None:
    statuses = {ItemStatus.SUBMITTED: 700, ItemStatus.QUEUED_LOCAL: 300, ItemStatus.PENDING: 1_000}
    summary = dataclasses.replace(
        SUMMARY, created_at=NOVEMBER.timestamp(), estimated_tokens=1_000_000, status_counts=statuses
    )
    million = TokenEstimate(texts=500_000, requests=1_000_000)
    metadata = submission_metadata(summary, MINI, estimate=million, rates=RATES, revision=1, links=LINKS)
    assert metadata["batchor/estimated_input_cost_usd"].value == 0.2
    assert metadata["batchor/estimated_input_cost_usd_low"].value == 0.1
    # a thousand requests of a thousand tokens reach no long-context price together
    config = OpenAIProviderConfig(model="gpt-5.4")
    rates = config.batch_rates(at=NOVEMBER)
    tiered = submission_metadata(summary, config, estimate=million, rates=rates, revision=1, links=LINKS)
    assert tiered["batchor/estimated_input_cost_usd"].value == 1.25
    unpriced = submission_metadata(
        summary,
        config,
        estimate=million,
        rates=Unpriced("no batch price known"),
        revision=1,
        links=LINKS,
    )
    assert "batchor/estimated_input_cost_usd" not in unpriced
    assert unpriced["batchor/cost_note"].value == "no batch price known"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("a|b", "a\\|b"),
        ("a\nb", "a b"),
        ("<script>", "&lt;script>"),
        ("a\\|b", "a\\\\\\|b"),
        ("x" * 200, "x" * 79 + "…"),
        ({"é": [1]}, '{"é": \\[1\\]}'),
        (None, ""),
    ],
)
def test_preview_cells_can_not_break_the_table(value: object, cell: str) -> None:
    table = markdown_table([{"first": 1, "cell": value}, {"first": 2, "cell": "x"}])
    assert table.splitlines()[2] == f"| 1 | {cell} |"


def test_an_empty_preview_says_so() -> None:
    assert markdown_table([]) == "no rows"


@pytest.mark.parametrize(
    ("total", "failed", "threshold", "passed", "severity"),
    [
        (100, 0, 0.05, True, "WARN"),
        (0, 0, 0.0, True, "WARN"),
        (100, 1, 0.05, False, "WARN"),
        (100, 5, 0.05, False, "WARN"),
        (100, 6, 0.05, False, "ERROR"),
        (100, 1, 0.0, False, "ERROR"),
        (100, 100, 1.0, False, "WARN"),
    ],
)
def test_failed_rows_are_a_warning_up_to_the_threshold(
    total: int, failed: int, threshold: float, passed: bool, severity: str
) -> None:
    verdict = judge(total=total, failed=failed, threshold=threshold)
    assert (verdict.passed, verdict.severity.value) == (passed, severity)
    assert str(total) in verdict.message


def test_an_active_run_is_never_reported_as_answered() -> None:
    check = completion_result(SUMMARY, threshold=1.0)
    assert not check.passed
    assert "facts--birds is not finished" in str(check.description)


@pytest.mark.parametrize(
    ("rows", "unfitting", "threshold", "passed", "severity"),
    [
        (100, 0, 0.0, True, "WARN"),
        (0, 0, 0.0, True, "WARN"),
        (100, 5, 0.05, False, "WARN"),
        (100, 6, 0.05, False, "ERROR"),
    ],
)
def test_unfitting_answers_are_a_warning_up_to_the_threshold(
    rows: int, unfitting: int, threshold: float, passed: bool, severity: str
) -> None:
    verdict = judge_schema(rows=rows, unfitting=unfitting, wrong_columns=[], threshold=threshold)
    assert (verdict.passed, verdict.severity.value) == (passed, severity)
    assert f"{rows}" in verdict.message


class Stars(BaseModel):
    stars: int
    text: str


def test_a_file_with_other_columns_is_an_error_whatever_the_threshold() -> None:
    schema = result_schema(Stars)
    stars = schema.get_field_index("stars")
    retyped = schema.set(stars, pa.field("stars", pa.string()))
    columns = [schema, retyped, schema.remove(stars)]
    files = [PartitionFacts(found, 3, 3, 0, 1000) for found in columns]
    check = schema_result(files, schema, threshold=1.0)
    assert (check.passed, check.severity.value) == (False, "ERROR")
    assert "stars is string, not int64; stars is missing" in str(check.description)
    assert schema_result(files[:1], schema, threshold=0.0).passed


def test_a_file_that_is_not_there_conforms_to_nothing() -> None:
    check = schema_result([], result_schema(Stars), threshold=1.0)
    assert (check.passed, check.severity.value) == (False, "ERROR")
    assert "there are no results" in str(check.description)


def test_every_entry_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "dagster.md").read_text(encoding="utf-8")
    usage = dataclasses.replace(SUMMARY.usage, cached_tokens=1)
    summary = dataclasses.replace(
        SUMMARY, control_reason="401", quarantined_batches=1, repairs=1, usage=usage
    )
    report = dataclasses.replace(REPORT, unfitting_count=1)
    cost = Cost(Decimal(3), ("calls of the tool web_search",))
    links = dataclasses.replace(LINKS, batches="[batch_1](https://example.com)")
    shown = {
        **submission_metadata(
            summary,
            MINI,
            estimate=TokenEstimate(1, 2),
            rates=RATES,
            revision=1,
            links=links,
            reason="new",
        ),
        **progress_metadata(priced(summary)),
        **result_metadata(
            report,
            summary=priced(summary, cost),
            batches=BATCHES,
            config=MINI,
            revision=1,
            links=LINKS,
        ),
    }
    shown |= plan_metadata(PLAN)
    listed = set(re.findall(r"`((?:batchor|dagster)/\w+|preview)`", page))
    assert set(shown) <= listed
    facts = BatchFacts(dg.AssetKey("facts"), dg.AssetKey("facts_submission"), None, None, "batchor")
    coming = in_flight(facts, None, dataclasses.replace(summary, created_at=1.0), LINKS)
    assert coming is not None
    shown |= coming.metadata
    tags = {
        ACTION_TAG,
        HOLD_TAG,
        APPLIED_TAG,
        CONTROL_TAG,
        RUN_ID_TAG,
        STATE_TAG,
        DRIVEN_TAG,
        RERUN_TAG,
        RERUN_APPLIED_TAG,
    }
    assert tags <= listed
    assert listed - {SINK_METADATA, ANSWERS_DIGEST, "dagster/partition"} <= set(shown) | tags
    assert all(f"`{column}`" in page for column in OWN_COLUMNS)


@pytest.mark.parametrize(
    ("changes", "actions"),
    [
        ({}, ["pause", "cancel"]),
        ({"control_state": RunControlState.PAUSED}, ["resume", "cancel"]),
        ({"control_state": RunControlState.CANCEL_REQUESTED}, []),
        ({"status": RunLifecycleStatus.COMPLETED, "failed_items": 0}, []),
        ({"status": RunLifecycleStatus.COMPLETED_WITH_FAILURES, "failed_items": 2}, ["retry_failed"]),
        (
            {
                "status": RunLifecycleStatus.COMPLETED_WITH_FAILURES,
                "failed_items": 2,
                "control_state": RunControlState.CANCEL_REQUESTED,
            },
            [],
        ),
    ],
)
def test_controls_that_make_no_sense_in_a_state_are_not_offered(
    changes: dict[str, Any], actions: list[str]
) -> None:
    assert [str(action) for action in offered(dataclasses.replace(SUMMARY, **changes))] == actions


def test_without_a_control_there_is_no_entry() -> None:
    assert set(Links("", "/runs?q").metadata) == {"batchor/dagster_runs"}


def test_our_own_columns_are_described() -> None:
    assert set(DESCRIPTIONS) == set(OWN_COLUMNS)
    described = {column.name: column.description for column in table_schema(REPORT).columns}
    assert all(described[name] for name in described if name in OWN_COLUMNS)


def test_the_newest_batches_are_linked_where_the_provider_has_pages_for_them() -> None:
    batches = [BatchTime(f"batch_{number}", "completed", 1, 0.0, url=f"u{number}") for number in range(12)]
    assert batch_links(batches).startswith("[batch_11](u11), [batch_10](u10), ")
    assert batch_links(batches).endswith("[batch_2](u2), and 2 more")
    assert batch_links(BATCHES) == ""
