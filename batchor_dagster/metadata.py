"""What the Dagster UI shows of a run and of its results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never
from urllib.parse import quote, urlencode

import dagster as dg

from batchor_core import ItemStatus, RunSummary
from batchor_core.core.models import ProviderConfig
from batchor_core.core.pricing import BatchRates, Cost, Rates, Unpriced
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.core.words import counted
from batchor_core.tables import ErrorCount, TableReport
from batchor_core.tables.result_columns import DESCRIPTIONS
from batchor_dagster.numbers import dollars, duration
from batchor_dagster.run_states import state_of

Metadata: TypeAlias = dict[str, dg.MetadataValue[Any]]

RESULTS_END = "batchor/revision"
"""The last sequence of the results that a file holds: it grows when rows are tried again. No revision of the partition."""

_PREVIEW_CELL = 80
_ERROR_CLASSES = 10
_ERROR_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Links:
    """Where an operator goes from a run's metadata.

    Attributes:
        controls: Markdown with the links of :func:`~batchor_dagster.control.control_links`.
        runs: The page with the Dagster runs of this batch run.
    """

    controls: str
    runs: str

    @property
    def metadata(self) -> Metadata:
        """As entries; controls are left out where there is nothing to control."""
        entries: Metadata = {
            "batchor/dagster_runs": dg.MetadataValue.md(f"[every Dagster run of this batch run]({self.runs})")
        }
        if self.controls:
            entries["batchor/controls"] = dg.MetadataValue.md(self.controls)
        return entries


def runs_url(run_id: str, *, webserver_url: str = "") -> str:
    """The page with every Dagster run that has to do with a batch run, as dagster-webserver 1.13.27 spells it."""
    query = urlencode({"q[0]": f"tag:batchor/run_id={run_id}"}, quote_via=quote)
    return f"{webserver_url.rstrip('/')}/runs?{query}"


def submission_metadata(
    summary: RunSummary,
    config: ProviderConfig,
    *,
    rates: Rates,
    revision: int,
    links: Links,
    reason: str = "",
) -> Metadata:
    """What to show of a run that has been started or found again.

    Args:
        summary: Where the run stands.
        config: Whom it asks.
        rates: What its tokens cost.
        revision: The number of the partition's run, from 1.
        links: Where to go from here.
        reason: Why this run, and not another.
    """
    metadata = {
        **_identity(summary.run_id, revision, links, config),
        "batchor/items": dg.MetadataValue.int(summary.total_items),
        "batchor/active_batches": dg.MetadataValue.int(summary.active_batches),
        "batchor/estimated_input_tokens": dg.MetadataValue.int(summary.estimated_tokens),
        **progress_metadata(summary),
    }
    if reason:
        metadata["batchor/decision"] = dg.MetadataValue.text(reason)
    return {**metadata, **_estimate_metadata(summary, rates)}


def progress_metadata(summary: RunSummary) -> Metadata:
    """How far a run has come, in a few entries; Dagster plots the numbers."""
    metadata: Metadata = {
        "batchor/status": dg.MetadataValue.text(describe(summary)),
        "batchor/completed": dg.MetadataValue.int(summary.completed_items),
        "batchor/failed": dg.MetadataValue.int(summary.failed_items),
        "batchor/input_tokens": dg.MetadataValue.int(summary.usage.input_tokens),
        "batchor/output_tokens": dg.MetadataValue.int(summary.usage.output_tokens),
    }
    if isinstance(summary.cost, Cost) and summary.cost.usd:
        # not cost_usd: whoever sums that up over an asset's events counts each run once
        metadata["batchor/cost_so_far_usd"] = dg.MetadataValue.float(dollars(summary.cost.usd))
    if summary.total_items and summary.ingestion_complete:
        done = summary.completed_items + summary.failed_items
        metadata["batchor/percent_done"] = dg.MetadataValue.float(round(100 * done / summary.total_items, 1))
    if summary.late_rows:
        metadata["batchor/late_rows"] = dg.MetadataValue.int(summary.late_rows)
    if summary.control_reason:
        metadata["batchor/paused_because"] = dg.MetadataValue.text(summary.control_reason)
    warning = unknown_outcome(summary)
    if warning:
        metadata["batchor/warning"] = dg.MetadataValue.text(warning)
    return metadata


def unknown_outcome(summary: RunSummary) -> str:
    """What is known of batches that may have been paid for without an answer; empty if there are none."""
    parts = []
    if summary.unknown_batches:
        parts.append(f"{counted(summary.unknown_batches, 'submission')} of unknown outcome, being looked up")
    if summary.quarantined_batches:
        asked = counted(summary.quarantined_batches, "submission")
        if summary.late_batches or summary.overdue_batches:
            parts.append(f"{asked} waiting for a person: see batchor doctor")
        else:
            parts.append(f"{asked} of unknown outcome, waiting for adopt_batch, resubmit_batch or fail_batch")
    if summary.late_batches:
        parts.append(
            f"{counted(summary.late_rows, 'row')} of {counted(summary.late_batches, 'ended batch', 'ended batches')} "
            "whose results are late, waited for"
        )
    if summary.overdue_batches:
        parts.append(f"{counted(summary.overdue_batches, 'batch', 'batches')} that should have ended by now")
    if summary.orphan_batches:
        parts.append(
            f"{counted(summary.orphan_batches, 'batch', 'batches')} at the provider that this run never registered"
        )
    return "; ".join(parts)


def result_metadata(
    report: TableReport,
    *,
    summary: RunSummary,
    config: ProviderConfig,
    revision: int,
    links: Links,
) -> Metadata:
    """What to show of results that were written.

    Args:
        report: What was written.
        summary: Of the run that it was written from; its tokens and its cost include attempts that were tried again.
        config: Whom the run asked.
        revision: The number of the partition's run, from 1.
        links: Where to go from here.
    """
    billed = summary.usage
    metadata: Metadata = {
        "dagster/partition_row_count": dg.MetadataValue.int(report.row_count),
        "dagster/column_schema": dg.MetadataValue.table_schema(table_schema(report)),
        "dagster/uri": dg.MetadataValue.text(report.uri),
        **_identity(summary.run_id, revision, links, config),
        RESULTS_END: dg.MetadataValue.int(report.last_sequence),
        "batchor/size_bytes": dg.MetadataValue.int(report.size_bytes),
        "batchor/completed": dg.MetadataValue.int(report.row_count - report.failed_count),
        "batchor/failed": dg.MetadataValue.int(report.failed_count),
        **{f"batchor/{kind}": dg.MetadataValue.int(getattr(billed, kind)) for kind in TOKEN_KINDS},
        "preview": dg.MetadataValue.md(markdown_table(report.preview)),
    }
    if report.errors:
        metadata["batchor/errors"] = error_table(report.errors)
    if report.unfitting_count:
        metadata["batchor/unfitting"] = dg.MetadataValue.int(report.unfitting_count)
    warning = unknown_outcome(summary)
    metadata |= _cost_metadata(summary.cost, unknown=warning)
    if warning:
        metadata["batchor/warning"] = dg.MetadataValue.text(warning)
    return metadata


def error_table(errors: Mapping[str, ErrorCount]) -> dg.TableMetadataValue:
    """The error classes that occur most, with how often and an example of each."""
    records = [
        dg.TableRecord(
            {
                "error_class": error_class,
                "rows": error.rows,
                "example_item": error.item_id[:_PREVIEW_CELL],
                "example": error.message[:_ERROR_MESSAGE],
            }
        )
        for error_class, error in list(errors.items())[:_ERROR_CLASSES]
    ]
    columns = [
        dg.TableColumn("error_class", "string"),
        dg.TableColumn("rows", "int"),
        dg.TableColumn("example_item", "string"),
        dg.TableColumn("example", "string"),
    ]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns=columns))


def describe(summary: RunSummary) -> str:
    """One line about a run: ``running: 40 of 1,200 items done, 2 failed, 3 batches at the provider``."""
    done = summary.completed_items + summary.failed_items
    total = f"{summary.total_items:,}" + ("" if summary.ingestion_complete else " so far")
    parts = [f"{state_of(summary).replace('_', ' ')}: {done:,} of {total} items done"]
    if summary.failed_items:
        parts.append(f"{summary.failed_items:,} failed")
    if summary.active_batches:
        parts.append(f"{counted(summary.active_batches, 'batch', 'batches')} at the provider")
    if summary.unknown_batches:
        parts.append(f"{summary.unknown_batches:,} of unknown outcome being looked up")
    if summary.late_batches:
        parts.append(f"{summary.late_rows:,} rows late")
    if summary.overdue_batches:
        parts.append(f"{summary.overdue_batches:,} overdue")
    if summary.quarantined_batches:
        parts.append(f"{summary.quarantined_batches:,} waiting for a person")
    if summary.backoff_remaining_sec > 0:
        parts.append(f"next submission in {duration(summary.backoff_remaining_sec)}")
    if summary.control_reason:
        parts.append(summary.control_reason)
    return ", ".join(parts)


def _cost_metadata(cost: Cost | Unpriced, *, unknown: str = "") -> Metadata:
    match cost:
        case Unpriced(reason):
            return {"batchor/cost_note": dg.MetadataValue.text(reason)}
        case Cost(usd, missing):
            metadata: Metadata = {"batchor/cost_usd": dg.MetadataValue.float(dollars(usd))}
            if left_out := [*missing, *([unknown] if unknown else [])]:
                note = f"at least; not included: {'; '.join(left_out)}"
                metadata["batchor/cost_note"] = dg.MetadataValue.text(note)
            return metadata
        case _:
            assert_never(cost)


def _estimate_metadata(summary: RunSummary, rates: Rates) -> Metadata:
    match rates:
        case Unpriced():
            return _cost_metadata(rates)
        case BatchRates():
            in_flight = (ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED)
            requests = sum(summary.status_counts.get(status, 0) for status in in_flight)
            usd = rates.estimate(input_tokens=summary.estimated_tokens, requests=requests)
            return {"batchor/estimated_input_cost_usd": dg.MetadataValue.float(dollars(usd))} if usd else {}
        case _:
            assert_never(rates)


def table_schema(report: TableReport) -> dg.TableSchema:
    """The columns as Dagster shows them, with the descriptions of the model's fields, and of our own columns."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=str(field.type),
                description=(field.metadata or {}).get(b"description", b"").decode()
                or DESCRIPTIONS.get(field.name),
            )
            for field in report.schema
        ]
    )


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A few rows as a Markdown table; long cells are cut, columns without any value are left out."""
    if not rows:
        return "no rows"
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = (
        json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    )
    if len(text) > _PREVIEW_CELL:
        text = text[: _PREVIEW_CELL - 1] + "…"
    # in this order, so that the backslash of an escape is not escaped again
    return (
        text.replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("\r", " ")
        .replace("\n", " ")
    )


def _identity(run_id: str, revision: int, links: Links, config: ProviderConfig) -> Metadata:
    metadata: Metadata = {
        "batchor/run_id": dg.MetadataValue.text(run_id),
        "batchor/generation": dg.MetadataValue.int(revision),
        **links.metadata,
    }
    model = getattr(config, "model", None)
    return {**metadata, "batchor/model": dg.MetadataValue.text(str(model))} if model else metadata
