"""What the UI shows of runs and files is right, short and safe."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import dagster as dg
import pyarrow as pa
import pytest

from batchor_core import ItemStatus, OpenAIProviderConfig, RunControlState, RunLifecycleStatus, RunSummary
from batchor_core.core.usage import TokenUsage
from batchor_dagster.checks import judge
from batchor_dagster.metadata import (
    batch_cost,
    describe,
    markdown_table,
    result_metadata,
    submission_metadata,
    table_schema,
)
from batchor_dagster.parquet import ParquetReport

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
REPORT = ParquetReport(
    uri="s3://bucket/facts/birds.parquet",
    row_count=100,
    failed_count=2,
    errors={"refusal": 2},
    usage=TokenUsage(10, 0, 5, 0),
    schema=pa.schema(
        [pa.field("stars", pa.int64(), metadata={"description": "One to five"}), ("text", pa.string())]
    ),
    preview=[{"stars": 5, "text": None}, {"stars": 4, "text": None}],
    last_sequence=102,
)
MINI = OpenAIProviderConfig(model="gpt-4.1-mini")


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
            {"failed_items": 0, "active_batches": 0, "backoff_remaining_sec": 12.4, "quarantined_batches": 1},
            "running: 38 of 100 items done, 1 waiting for a person, next submission in 12 s",
        ),
    ],
)
def test_a_run_is_described_in_one_line(changes: dict[str, object], text: str) -> None:
    assert describe(dataclasses.replace(SUMMARY, **changes)) == text


def test_results_carry_what_dagster_knows_by_name() -> None:
    metadata = result_metadata(
        REPORT, run_id="facts--birds", config=MINI, billed=TokenUsage(1000, 200, 100, 0)
    )
    assert metadata["dagster/partition_row_count"] == dg.MetadataValue.int(100)
    assert metadata["dagster/uri"] == dg.MetadataValue.text("s3://bucket/facts/birds.parquet")
    assert metadata["dagster/column_schema"] == dg.MetadataValue.table_schema(table_schema(REPORT))
    assert metadata["batchor/failed"].value == 2
    assert metadata["batchor/errors"].value == {"refusal": 2}
    assert metadata["batchor/input_tokens"].value == 1000
    assert metadata["batchor/revision"].value == 102
    assert metadata["preview"].value.splitlines()[0] == "| stars |"


def test_column_descriptions_come_from_the_model() -> None:
    stars, text = table_schema(REPORT).columns
    assert (stars.name, stars.type, stars.description) == ("stars", "int64", "One to five")
    assert text.description is None


def test_a_submission_shows_its_run_and_its_links() -> None:
    metadata = submission_metadata(SUMMARY, MINI, controls="[pause](/guess)")
    assert metadata["batchor/run_id"].value == "facts--birds"
    assert metadata["batchor/controls"] == dg.MetadataValue.md("[pause](/guess)")
    assert (metadata["batchor/items"].value, metadata["batchor/active_batches"].value) == (100, 3)
    assert metadata["batchor/estimated_input_tokens"].value == 1234
    assert metadata["batchor/model"].value == "gpt-4.1-mini"


def test_batches_cost_half_the_list_price() -> None:
    # gpt-4.1-mini lists $0.40 for a million input tokens, $0.10 cached, $1.60 output
    usage = TokenUsage(input_tokens=1_000_000, cached_tokens=500_000, output_tokens=1_000_000)
    assert batch_cost(MINI, usage) == Decimal("0.925")


@pytest.mark.parametrize(
    "config",
    [
        OpenAIProviderConfig(model="no-such-model-anywhere"),
        OpenAIProviderConfig(model="gpt-4.1-mini", base_url="https://other.example.org/v1"),
    ],
)
def test_where_no_price_is_known_none_is_shown(config: OpenAIProviderConfig) -> None:
    assert batch_cost(config, TokenUsage(1000)) is None
    assert "batchor/cost_usd" not in result_metadata(
        REPORT, run_id="r", config=config, billed=TokenUsage(1000)
    )


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("a|b", "a\\|b"),
        ("a\nb", "a b"),
        ("<script>", "&lt;script>"),
        ("a\\|b", "a\\\\\\|b"),
        ("x" * 200, "x" * 79 + "…"),
        ({"é": [1]}, '{"é": [1]}'),
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
