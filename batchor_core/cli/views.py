"""The state of a run as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from batchor_core.cli.findings import Quarantined
from batchor_core.core.models import RunSummary
from batchor_core.core.pricing import Cost, Unpriced, cost_text
from batchor_core.core.words import moment, usd_text


def summary_lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    yield "run", summary.run_id
    yield "state", state(summary)
    yield "created", created(summary.created_at)
    yield "items", f"{summary.total_items:,}" + ("" if summary.ingestion_complete else " so far")
    for status, count in summary.status_counts.items():
        if count:
            yield f"  {status.value}", f"{count:,}"
    for name in ("reused", "deduplicated", "following"):
        if count := getattr(summary, f"{name}_items"):
            yield f"  {name}", f"{count:,}"
    if summary.queue_limit:
        yield "queue limit", f"{summary.queue_limit:,} tokens in flight"
    if summary.repairs:
        yield "asked again", f"{summary.repairs:,} with the reason, {summary.repaired_items:,} then completed"
    yield "active batches", f"{summary.active_batches:,}"
    if summary.backoff_remaining_sec:
        yield "backs off for", f"{summary.backoff_remaining_sec:,.0f} s"
    if summary.trouble:
        yield "trouble", summary.trouble
    if summary.unknown_batches:
        yield "being looked up", f"{summary.unknown_batches:,} batches of unknown outcome"
    if summary.late_batches:
        yield (
            "late",
            f"waiting for {summary.late_rows:,} rows of {summary.late_batches:,} batches that have ended",
        )
    if summary.overdue_batches:
        yield "overdue", f"{summary.overdue_batches:,} batches should have ended by now"
    if summary.orphan_batches:
        yield "orphans", f"{summary.orphan_batches:,} batches at the provider that belong to no submission"
    yield "tokens", tokens(summary)
    if summary.usage.cached_tokens or summary.usage.cache_write_tokens:
        yield "prompt cache hits", f"{summary.cache_hit_rate or 0:.1%} of the tokens in"
    match summary.cost:
        case Cost(_, missing):
            yield (
                "cost",
                cost_text(summary.cost) + (f" (not included: {'; '.join(missing)})" if missing else ""),
            )
        case Unpriced(reason):
            yield "cost", f"unknown: {reason}"
    if summary.usd_saved:
        yield "saved", usd_text(summary.usd_saved)


def summary_json(summary: RunSummary) -> dict[str, Any]:
    """A summary as JSON."""
    return asdict(summary) | {
        "cost": cost_json(summary.cost),
        "usd_saved": float(summary.usd_saved),
        "cache_hit_rate": summary.cache_hit_rate,
    }


def cost_json(cost: Cost | Unpriced) -> dict[str, Any]:
    """A cost as JSON: ``usd``, null where there is no figure, and ``missing``, what it leaves out or why there is none."""
    if isinstance(cost, Unpriced):
        return {"usd": None, "missing": [cost.reason]}
    return {"usd": float(cost.usd), "missing": list(cost.missing)}


def tokens(summary: RunSummary) -> str:
    """Tokens billed so far."""
    return f"{summary.usage.input_tokens:,} in, {summary.usage.output_tokens:,} out"


def state(summary: RunSummary) -> str:
    parts = [summary.status.value]
    if summary.status.value == "running" and summary.control_state.value != "running":
        parts = [summary.control_state.value]
    if summary.control_reason:
        parts.append(f"({summary.control_reason})")
    if summary.quarantined_batches:
        parts.append(f"{summary.quarantined_batches} in quarantine")
    return " ".join(parts)


def created(seconds: float) -> str:
    """When a run was created; empty if the store does not keep it."""
    return moment(seconds) if seconds else ""


def share(part: int, whole: int) -> str:
    """A part in percent, rounded down, so that 100 % is all of it."""
    return f"{part * 100 // whole if whole else 0} %"


def choices(run_id: str, found: list[Quarantined], *, options: str) -> Iterator[str]:
    """What needs a decision, where to look, and the commands to choose from."""
    for one in found:
        batch = f" --batch {shlex.quote(one.local_batch_id)}" if len(found) > 1 else ""
        command = f"batchor doctor {shlex.quote(run_id)}"
        yield f"  {one.local_batch_id}: {one.item_count:,} rows need a decision, since {one.reason}"
        yield (
            f"    look in the provider's console for: metadata batchor_local_batch_id = {one.local_batch_id}"
            + (f", input file {one.input_file_id}" if one.input_file_id else "")
            + (f", batch {one.provider_batch_id}" if one.provider_batch_id else "")
        )
        if one.is_late:
            yield f"    keep waiting:                {command} wait{batch}{options}"
            yield f"    send the rest again, paid:   {command} resubmit{batch}{options}"
            yield f"    fail the rest:               {command} fail{batch}{options}"
            continue
        yield f"    it exists:       {command} adopt PROVIDER_BATCH_ID{batch}{options}"
        yield f"    it does not:     {command} resubmit{batch}{options}"
        yield f"    fail its rows:   {command} fail{batch}{options}"
