"""What the commands say of a run, as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from batchor_core.cli.findings import Quarantined
from batchor_core.core.models import RunSummary
from batchor_core.core.words import moment


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
    yield "active batches", f"{summary.active_batches:,}"
    if summary.backoff_remaining_sec:
        yield "holds back for", f"{summary.backoff_remaining_sec:,.0f} s"
    if summary.trouble:
        yield "trouble", summary.trouble
    if summary.unknown_batches:
        yield "being looked up", f"{summary.unknown_batches:,} batches of unknown outcome"
    if summary.late_batches:
        yield (
            "late",
            f"{summary.late_rows:,} rows of {summary.late_batches:,} batches that are over are waited for",
        )
    if summary.overdue_batches:
        yield "overdue", f"{summary.overdue_batches:,} batches should have ended by now"
    if summary.orphan_batches:
        yield "orphans", f"{summary.orphan_batches:,} batches at the provider that nobody waits for"
    yield "tokens", tokens(summary)


def tokens(summary: RunSummary) -> str:
    """Tokens billed so far. What they cost belongs behind them."""
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
    """When a run was created; nothing where the store does not keep it."""
    return moment(seconds) if seconds else ""


def share(part: int, whole: int) -> str:
    """A part in percent, rounded down, so that 100 % is all of it."""
    return f"{part * 100 // whole if whole else 0} %"


def duration(seconds: float) -> str:
    """A time to wait, as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def choices(run_id: str, found: list[Quarantined], *, options: str) -> Iterator[str]:
    """What waits for a decision, where to look, and the commands to choose from."""
    for one in found:
        batch = f" --batch {shlex.quote(one.local_batch_id)}" if len(found) > 1 else ""
        command = f"batchor doctor {shlex.quote(run_id)}"
        yield f"  {one.local_batch_id}: {one.item_count:,} rows wait for a decision, since {one.reason}"
        yield (
            f"    look in the provider's console for: metadata batchor_local_batch_id = {one.local_batch_id}"
            + (f", input file {one.input_file_id}" if one.input_file_id else "")
            + (f", batch {one.provider_batch_id}" if one.provider_batch_id else "")
        )
        if one.is_late:
            yield f"    wait on:                     {command} wait{batch}{options}"
            yield f"    send the rest again, paid:   {command} resubmit{batch}{options}"
            yield f"    fail the rest:               {command} fail{batch}{options}"
            continue
        yield f"    it exists:       {command} adopt PROVIDER_BATCH_ID{batch}{options}"
        yield f"    it does not:     {command} resubmit{batch}{options}"
        yield f"    leave its rows:  {command} fail{batch}{options}"
