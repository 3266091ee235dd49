"""What the Dagster UI shows of a run and of its result file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import dagster as dg

from batchor_core import RunSummary
from batchor_core.core.models import ProviderConfig
from batchor_core.core.usage import TokenUsage
from batchor_dagster.parquet import ParquetReport

Metadata: TypeAlias = dict[str, dg.MetadataValue[Any]]

BATCH_DISCOUNT = Decimal("0.5")
"""OpenAI bills batches at half the list price: https://platform.openai.com/docs/guides/batch"""

_PREVIEW_CELL = 80


def submission_metadata(summary: RunSummary, config: ProviderConfig, *, controls: str) -> Metadata:
    """What to show of a run that has been started.

    Args:
        summary: Where the run stands.
        config: Whom it asks.
        controls: Markdown with the links of :func:`~batchor_dagster.control.control_links`.
    """
    return {
        "batchor/run_id": dg.MetadataValue.text(summary.run_id),
        "batchor/controls": dg.MetadataValue.md(controls),
        **_model(config),
        "batchor/items": dg.MetadataValue.int(summary.total_items),
        "batchor/active_batches": dg.MetadataValue.int(summary.active_batches),
        "batchor/estimated_input_tokens": dg.MetadataValue.int(summary.estimated_tokens),
        **progress_metadata(summary),
    }


def progress_metadata(summary: RunSummary) -> Metadata:
    """How far a run has come, in a few entries."""
    metadata: Metadata = {
        "batchor/status": dg.MetadataValue.text(describe(summary)),
        "batchor/completed": dg.MetadataValue.int(summary.completed_items),
        "batchor/failed": dg.MetadataValue.int(summary.failed_items),
    }
    if summary.control_reason:
        metadata["batchor/paused_because"] = dg.MetadataValue.text(summary.control_reason)
    return metadata


def result_metadata(
    report: ParquetReport, *, run_id: str, config: ProviderConfig, billed: TokenUsage
) -> Metadata:
    """What to show of a result file.

    Args:
        report: What was written.
        run_id: The batch run.
        config: Whom it asked; its model decides the price.
        billed: Tokens of all attempts, failed ones included.
    """
    metadata: Metadata = {
        "dagster/partition_row_count": dg.MetadataValue.int(report.row_count),
        "dagster/column_schema": dg.MetadataValue.table_schema(table_schema(report)),
        "dagster/uri": dg.MetadataValue.text(report.uri),
        "batchor/run_id": dg.MetadataValue.text(run_id),
        "batchor/revision": dg.MetadataValue.int(report.last_sequence),
        **_model(config),
        "batchor/failed": dg.MetadataValue.int(report.failed_count),
        "batchor/input_tokens": dg.MetadataValue.int(billed.input_tokens),
        "batchor/cached_tokens": dg.MetadataValue.int(billed.cached_tokens),
        "batchor/output_tokens": dg.MetadataValue.int(billed.output_tokens),
        "batchor/reasoning_tokens": dg.MetadataValue.int(billed.reasoning_tokens),
        "preview": dg.MetadataValue.md(markdown_table(report.preview)),
    }
    if report.errors:
        metadata["batchor/errors"] = dg.MetadataValue.json(report.errors)
    cost = batch_cost(config, billed)
    if cost is not None:
        metadata["batchor/cost_usd"] = dg.MetadataValue.float(float(cost))
    return metadata


def describe(summary: RunSummary) -> str:
    """One line about a run: ``running: 40 of 100 items done, 2 failed, 3 batches at the provider``."""
    state = summary.status.value if summary.status.value != "running" else summary.control_state.value
    done = summary.completed_items + summary.failed_items
    total = f"{summary.total_items}" if summary.ingestion_complete else f"{summary.total_items} so far"
    parts = [f"{state.replace('_', ' ')}: {done} of {total} items done"]
    if summary.failed_items:
        parts.append(f"{summary.failed_items} failed")
    if summary.active_batches:
        parts.append(
            f"{summary.active_batches} batch{'es' if summary.active_batches > 1 else ''} at the provider"
        )
    if summary.quarantined_batches:
        parts.append(f"{summary.quarantined_batches} waiting for a person")
    if summary.backoff_remaining_sec > 0:
        parts.append(f"next submission in {summary.backoff_remaining_sec:.0f} s")
    if summary.control_reason:
        parts.append(summary.control_reason)
    return ", ".join(parts)


def batch_cost(config: ProviderConfig, usage: TokenUsage) -> Decimal | None:
    """US dollars at half the list price that genai-prices knows, or None where it knows none or is not installed.

    Prices are those of the installed genai-prices release; nothing is looked up online. Compatible servers bill as they like,
    so there is a figure for OpenAI's own API only.
    """
    model = getattr(config, "model", None)
    if config.provider_kind != "openai" or not isinstance(model, str) or getattr(config, "base_url", None):
        return None
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    try:
        price = calc_price(
            Usage(
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
            ),
            model_ref=model,
            provider_id="openai",
        )
    except LookupError:
        return None
    return price.total_price * BATCH_DISCOUNT


def table_schema(report: ParquetReport) -> dg.TableSchema:
    """The file's columns as Dagster shows them, with the descriptions of the model's fields."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=str(field.type),
                description=(field.metadata or {}).get(b"description", b"").decode() or None,
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


def _model(config: ProviderConfig) -> Metadata:
    model = getattr(config, "model", None)
    return {"batchor/model": dg.MetadataValue.text(str(model))} if model else {}
