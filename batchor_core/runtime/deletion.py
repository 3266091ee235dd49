"""Deleting a run: its files first, then its rows in the store, so that no unreferenced file is left."""

from __future__ import annotations

from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.lifecycle import MAYBE_SENT, why_kept
from batchor_core.runtime.engine import Engine
from batchor_core.runtime.forgotten_batches import LATE_SEC, may_turn_up_late
from batchor_core.runtime.pending_work import is_driven
from batchor_core.runtime.snapshots import snapshot_keys


def delete_run(engine: Engine, run_id: str) -> list[str]:
    """Delete a run; what ``BatchRunner.delete_run`` documents. Repeated after a crash, it deletes the rest."""
    _check_deletable(engine, run_id)
    inventory = engine.store.get_artifact_inventory(run_id=run_id)
    keys = [
        *reversed(snapshot_keys(engine, run_id)),
        *inventory.request_artifact_paths,
        *inventory.output_artifact_paths,
        *inventory.error_artifact_paths,
    ]
    deleted = [key for key in dict.fromkeys(keys) if engine.artifacts.delete(key)]
    engine.store.delete_run(run_id=run_id)
    engine.emit(run_id, "run_deleted", count=len(deleted))
    return deleted


def _check_deletable(engine: Engine, run_id: str) -> None:
    """Refuse before the first file is deleted; the store checks again in its transaction."""
    store = engine.store
    submissions, now = store.list_submissions(run_id=run_id), store.now()
    if any(may_turn_up_late(one, now=now) for one in submissions):
        hours = LATE_SEC / 3_600
        raise RunStateError(
            run_id,
            "can't delete it: one of its batches was given up in doubt, may still turn up, and could not be assigned to a run then; "
            f"{hours:.0f} hours after it was sent, that is impossible",
        )
    reason = why_kept(
        is_finished=store.get_run_summary(run_id=run_id).status is not RunLifecycleStatus.RUNNING,
        was_sent=any(one.sending_at is not None for one in submissions)
        or bool(store.get_batches(run_id=run_id)),
        in_flight=bool(store.get_active_batches(run_id=run_id))
        or any(one.state in MAYBE_SENT for one in submissions),
        is_driven=is_driven(store, run_id),
    )
    if reason is not None:
        raise RunStateError(run_id, f"can't delete it: {reason}")
