"""What the faults that strike a new batch mean for its life."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from batchor_core.testing.local_server.faults import BatchFault
from batchor_core.testing.local_server.records import FOREVER, Batch, Lateness, batch_error

_NEVER = 1e12
"""Running time of a batch that gets stuck, seconds; the completion window always ends first."""


def under_faults(batch: Batch, faults: Iterable[BatchFault]) -> Batch:
    """The new batch as it is when all of ``faults`` have struck it."""
    for fault in faults:
        batch = _struck(batch, fault)
    return batch


def _struck(batch: Batch, fault: BatchFault) -> Batch:
    until = FOREVER if fault.seconds is None else batch.created_at + fault.seconds
    match fault.kind:
        case "fail":
            rejection = batch_error(fault.code, fault.message, line=fault.line, param=fault.param)
            return _fated(batch, rejection=rejection)
        case "expire":
            rows_end = batch.created_at + batch.timing.validating + batch.timing.running
            return replace(_fated(batch, row_limit=fault.after_rows), expires_at=rows_end)
        case "cancel":
            return _fated(batch, row_limit=fault.after_rows, cancelled_by_provider=True)
        case "stuck":
            return replace(_fated(batch, row_limit=0), timing=replace(batch.timing, running=_NEVER))
        case "unlisted":
            return _fated(batch, listed_from=until)
        case "not_found":
            return _fated(batch, found_from=until)
        case "vanish":
            return _fated(batch, found_until=batch.created_at + (fault.seconds or 0.0))
        case "late_files":
            return _fated(batch, late=batch.fate.late | _lateness(fault))
        case "short_files":
            return _fated(batch, short=batch.fate.short | _lateness(fault), kept_share=fault.keep)
        case "gone_files":
            return _fated(batch, gone=batch.fate.gone | _lateness(fault))
        case "never_ends":
            return _fated(batch, never_ends=True)
        case _:
            assert_never(fault.kind)


def _lateness(fault: BatchFault) -> dict[str, Lateness]:
    seconds = fault.seconds
    if seconds is None:
        seconds = 0.0 if fault.polls else FOREVER
    files = ("output", "error") if fault.file == "both" else (fault.file,)
    return {file: Lateness(seconds, fault.polls) for file in files}


def _fated(batch: Batch, **changes: object) -> Batch:
    return replace(batch, fate=replace(batch.fate, **changes))  # type: ignore[arg-type]
