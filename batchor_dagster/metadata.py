"""Metadata of runs and results for the Dagster UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never
from urllib.parse import quote, urlencode

import dagster as dg

from batchor_core import RunSummary
from batchor_core.core.markdown import MOST_CHARS, plain, table
from batchor_core.core.models import ProviderConfig
from batchor_core.core.pricing import BatchRates, Cost, Rates, Unpriced
from batchor_core.core.run_report import RunReport
from batchor_core.core.turnaround import BatchTime
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.core.words import counted, dollars, duration
from batchor_core.runtime.estimate import TokenEstimate
from batchor_core.tables import ErrorCount, TableReport
from batchor_core.tables.result_columns import DESCRIPTIONS
from batchor_dagster.run_states import state_of

Metadata: TypeAlias = dict[str, dg.MetadataValue[Any]]

RESULTS_END = "batchor/results_up_to"
"""The last sequence of the results that a file holds; it grows when rows are tried again."""

_EARLIER_RESULTS_END = "batchor/revision"  # its name in materializations of earlier builds

_ERROR_CLASSES = 10
_ERROR_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Links:
    """The links in a run's metadata.

    Attributes:
        controls: Markdown with the links of :func:`~batchor_dagster.control.control_links`.
        runs: The page with the Dagster runs of this batch run.
        batches: Markdown with links to the batches in the provider's console.
    """

    controls: str
    runs: str
    batches: str = ""

    @property
    def metadata(self) -> Metadata:
        """As entries, without those that are empty."""
        entries: Metadata = {
            "batchor/dagster_runs": dg.MetadataValue.md(f"[every Dagster run of this batch run]({self.runs})")
        }
        if self.controls:
            entries["batchor/controls"] = dg.MetadataValue.md(self.controls)
        if self.batches:
            entries["batchor/batches"] = dg.MetadataValue.md(self.batches)
        return entries


def runs_url(run_id: str, *, webserver_url: str = "") -> str:
    """The page with every Dagster run that has to do with a batch run, as dagster-webserver 1.13.27 spells it."""
    query = urlencode({"q[0]": f"tag:batchor/run_id={run_id}"}, quote_via=quote)
    return f"{webserver_url.rstrip('/')}/runs?{query}"


def submission_metadata(
    summary: RunSummary,
    config: ProviderConfig,
    *,
    estimate: TokenEstimate,
    rates: Rates,
    revision: int,
    links: Links,
    reason: str = "",
) -> Metadata:
    """Metadata of a submission.

    Args:
        summary: The run's state.
        config: Its provider.
        estimate: What its requests in flight will be billed.
        rates: What its tokens cost.
        revision: The number of the partition's run, from 1.
        links: The links to show.
        reason: Why the run was started, continued or kept.
    """
    metadata = {
        **_identity(summary.run_id, revision, links, config),
        "batchor/items": dg.MetadataValue.int(summary.total_items),
        "batchor/active_batches": dg.MetadataValue.int(summary.active_batches),
        "batchor/estimated_input_tokens": dg.MetadataValue.int(estimate.requests),
        "batchor/estimated_input_tokens_low": dg.MetadataValue.int(estimate.texts),
        **reuse_metadata(summary),
        **progress_metadata(summary),
    }
    if reason:
        metadata["batchor/decision"] = dg.MetadataValue.text(reason)
    return {**metadata, **_estimate_metadata(summary, estimate, rates)}


def progress_metadata(summary: RunSummary) -> Metadata:
    """A run's progress; Dagster plots the numbers."""
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
        metadata["batchor/percent_done"] = dg.MetadataValue.float(_percent(done, summary.total_items))
    if summary.late_rows:
        metadata["batchor/late_rows"] = dg.MetadataValue.int(summary.late_rows)
    if summary.control_reason:
        metadata["batchor/paused_because"] = dg.MetadataValue.text(summary.control_reason)
    warning = unknown_outcome(summary)
    if warning:
        metadata["batchor/warning"] = dg.MetadataValue.text(warning)
    return metadata


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def unknown_outcome(summary: RunSummary) -> str:
    """Describes batches that may have been paid for without an answer; empty if there are none."""
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
    batches: Sequence[BatchTime],
    config: ProviderConfig,
    revision: int,
    links: Links,
    cache: str = "",
) -> Metadata:
    """Metadata of results that were written.

    Args:
        report: What was written.
        summary: The state of the run that it was written from; its tokens and its cost include attempts that were tried again.
        batches: The run's batches.
        config: Its provider.
        revision: The number of the partition's run, from 1.
        links: The links to show.
        cache: What the prompt cache has cost more than it has saved, in words.
    """
    billed = summary.usage
    of_run = RunReport(
        summary,
        report.errors,
        batches,
        getattr(config, "model", None),
        [("every Dagster run of this batch run", links.runs)],
        cache,
    )
    metadata: Metadata = {
        "dagster/partition_row_count": dg.MetadataValue.int(report.row_count),
        "dagster/column_schema": dg.MetadataValue.table_schema(table_schema(report)),
        "dagster/uri": dg.MetadataValue.text(report.uri),
        **_identity(summary.run_id, revision, links, config),
        RESULTS_END: dg.MetadataValue.text(str(report.last_sequence)),
        "batchor/size_bytes": dg.MetadataValue.int(report.size_bytes),
        "batchor/rows": dg.MetadataValue.int(report.row_count),
        "batchor/completed": dg.MetadataValue.int(report.row_count - report.failed_count),
        "batchor/failed": dg.MetadataValue.int(report.failed_count),
        "batchor/failed_percent": dg.MetadataValue.float(_percent(report.failed_count, report.row_count)),
        **{f"batchor/{kind}": dg.MetadataValue.int(getattr(billed, kind)) for kind in TOKEN_KINDS},
        **reuse_metadata(summary),
        "batchor/saved_usd": dg.MetadataValue.float(dollars(summary.usd_saved)),
        "preview": dg.MetadataValue.md(markdown_table(report.preview)),
    }
    for name, seconds in (("p50", of_run.turnaround_p50_sec), ("p95", of_run.turnaround_p95_sec)):
        if seconds is not None:
            metadata[f"batchor/turnaround_{name}_minutes"] = dg.MetadataValue.float(round(seconds / 60, 1))
    if report.errors:
        metadata["batchor/errors"] = error_table(report.errors)
    if report.unfitting_count:
        metadata["batchor/unfitting"] = dg.MetadataValue.int(report.unfitting_count)
    if summary.usage.cached_tokens or summary.usage.cache_write_tokens:
        hits = _percent(summary.usage.cached_tokens, summary.usage.input_tokens)
        metadata["batchor/cache_hit_percent"] = dg.MetadataValue.float(hits)
    unknown = unknown_outcome(summary)
    metadata |= _cost_metadata(summary.cost, unknown=unknown)
    if warning := "; ".join(filter(None, [unknown, cache])):
        metadata["batchor/warning"] = dg.MetadataValue.text(warning)
    metadata["batchor/report"] = dg.MetadataValue.md(of_run.markdown())  # last, as it is long
    return metadata


def results_end(shown: Mapping[str, Any]) -> int | None:
    """How far results go, from the values of a materialization's metadata; None if it does not say."""
    value = shown.get(RESULTS_END, shown.get(_EARLIER_RESULTS_END))
    return None if value is None else int(value)


def reuse_metadata(summary: RunSummary) -> Metadata:
    """How many rows were paid for and how many were not; Dagster plots the numbers over partitions."""
    reused, deduplicated = summary.reused_items, summary.deduplicated_items
    return {
        "batchor/rows_new": dg.MetadataValue.int(summary.total_items - reused - deduplicated),
        "batchor/rows_reused": dg.MetadataValue.int(reused),
        "batchor/rows_deduplicated": dg.MetadataValue.int(deduplicated),
        **({"batchor/repairs": dg.MetadataValue.int(summary.repairs)} if summary.repairs else {}),
    }


def error_table(errors: Mapping[str, ErrorCount]) -> dg.TableMetadataValue:
    """The most frequent error classes, with their counts and an example of each."""
    records = [
        dg.TableRecord(
            {
                "error_class": error_class,
                "rows": error.rows,
                "example_item": error.item_id[:MOST_CHARS],
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


def _estimate_metadata(summary: RunSummary, estimate: TokenEstimate, rates: Rates) -> Metadata:
    match rates:
        case Unpriced():
            return _cost_metadata(rates)
        case BatchRates():
            usd, low = (
                dg.MetadataValue.float(
                    dollars(rates.estimate(input_tokens=tokens, requests=summary.items_in_flight))
                )
                for tokens in (estimate.requests, estimate.texts)
            )
            if not estimate.requests:
                return {}
            return {"batchor/estimated_input_cost_usd": usd, "batchor/estimated_input_cost_usd_low": low}
        case _:
            assert_never(rates)


def table_schema(report: TableReport) -> dg.TableSchema:
    """The columns for Dagster, with descriptions of the model's fields and of the standard columns."""
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
    return table(names, ([plain(row[name]) for name in names] for row in rows))


def _identity(run_id: str, revision: int, links: Links, config: ProviderConfig) -> Metadata:
    metadata: Metadata = {
        "batchor/run_id": dg.MetadataValue.text(run_id),
        "batchor/partition_revision": dg.MetadataValue.text(str(revision)),  # a number would be plotted
        "batchor/provider": dg.MetadataValue.text(str(config.provider_kind)),
        **links.metadata,
    }
    model = getattr(config, "model", None)
    return {**metadata, "batchor/model": dg.MetadataValue.text(str(model))} if model else metadata
