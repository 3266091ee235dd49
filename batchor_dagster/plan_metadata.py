"""Metadata of a plan for the Dagster UI."""

from __future__ import annotations

import dagster as dg

from batchor_core.core.markdown import plain
from batchor_core.core.plan import Plan, Range
from batchor_core.core.pricing import Unpriced
from batchor_core.core.words import dollars
from batchor_dagster.metadata import Metadata

_MOST_CHARS = 1_000
"""Of a sentence."""


def plan_metadata(plan: Plan, note: str | None = None) -> Metadata:
    """A plan's figures, which Dagster plots, and its warnings.

    Args:
        plan: The plan.
        note: What to know of the partition besides.
    """
    metadata: Metadata = {
        "batchor/plan": dg.MetadataValue.text("nothing was sent"),
        "batchor/planned_rows": dg.MetadataValue.int(plan.rows),
        "batchor/planned_rows_new": dg.MetadataValue.int(plan.rows_new),
        "batchor/planned_rows_reused": dg.MetadataValue.int(plan.rows_reused),
        "batchor/planned_rows_following": dg.MetadataValue.int(plan.rows_following),
        "batchor/planned_rows_duplicate": dg.MetadataValue.int(plan.rows_duplicate),
        "batchor/planned_rows_refused": dg.MetadataValue.int(plan.rows_refused),
        "batchor/planned_input_tokens": _shown(plan.input_tokens),
        "batchor/planned_output_tokens": dg.MetadataValue.text(
            f"{_shown(plan.output_tokens).value}, by {plan.output_basis}"
        ),
        "batchor/planned_batches": dg.MetadataValue.int(plan.batches),
        "batchor/planned_cost": dg.MetadataValue.text(plan.cost_text),
    }
    if not isinstance(plan.cost, Unpriced):
        metadata["batchor/planned_cost_usd"] = dg.MetadataValue.float(dollars(plan.cost.expected))
    if plan.queue_limit is not None:
        metadata["batchor/planned_waves"] = dg.MetadataValue.int(plan.waves)
    if plan.refused:
        metadata["batchor/planned_refusals"] = dg.MetadataValue.md(
            "\n".join(f"- {plain(row.item_id)}: {plain(row.reason, _MOST_CHARS)}" for row in plan.refused)
        )
    if plan.caps:
        metadata["batchor/planned_caps"] = dg.MetadataValue.md(
            "\n".join(f"- {plain(cap, _MOST_CHARS)}" for cap in plan.caps)
        )
    if warnings := [*plan.warnings, *([] if note is None else [note])]:
        metadata["batchor/plan_warnings"] = dg.MetadataValue.md(
            "\n".join(f"- {plain(warning, _MOST_CHARS)}" for warning in warnings)
        )
    return metadata


def _shown(found: Range[int]) -> dg.TextMetadataValue:
    return dg.MetadataValue.text(f"{found.expected:,} (from {found.low:,} to {found.high:,})")
