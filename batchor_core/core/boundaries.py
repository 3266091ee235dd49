"""The places where a crash has different effects: every transaction, artifact operation and provider call, by name.

Each is passed twice: *before*, when everything is prepared, and *after*, when it has happened. In production, passing
one only reads a global that is None. Only :func:`install` sets it, and only the driver process of a crash test calls
that, see :mod:`batchor_core.testing.kill`: no environment variable, setting or file can stop a production process at a
boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Literal, TypeAlias

When = Literal["before", "after"]


class Boundary(StrEnum):
    """Every boundary. Transactions come first, then files, then calls."""

    # transactions: the run
    MIGRATE = "migrate"
    CREATE_RUN = "create_run"
    SET_CHECKPOINT = "set_checkpoint"
    APPEND_ITEMS = "append_items"
    SET_CONTROL_STATE = "set_control_state"
    KEEP_CAPS = "keep_caps"
    PAUSE = "pause"
    FOLLOW = "follow"
    CANCEL_REMAINING = "cancel_remaining"
    REOPEN_FAILED = "reopen_failed"
    DISCARD_RUN = "discard_run"
    # transactions: the lease
    OPEN_SESSION = "open_session"
    RENEW_LEASE = "renew_lease"
    CLOSE_SESSION = "close_session"
    # transactions: submission
    CLAIM = "claim"
    KEEP_PLACE = "keep_place"
    MARK_WRITTEN = "mark_written"
    MARK_UPLOADED = "mark_uploaded"
    MARK_SENDING = "mark_sending"
    POSTPONE = "postpone"
    REGISTER = "register"
    MARK_SUBMITTED = "mark_submitted"
    DROP = "drop"
    MARK_UNKNOWN = "mark_unknown"
    RECORD_LOOK_UP = "record_look_up"
    QUARANTINE = "quarantine"
    SETTLE_SUBMISSION = "settle_submission"
    REQUEUE_LOCAL = "requeue_local"
    RELEASE_ITEMS = "release_items"
    FAIL_UNSUBMITTED = "fail_unsubmitted"
    RECORD_FAILURE = "record_failure"
    CLEAR_BACKOFF = "clear_backoff"
    COUNT_ORPHANS = "count_orphans"
    RECORD_SWEEP = "record_sweep"
    # transactions: consumption
    UPDATE_BATCH = "update_batch"
    RECORD_POLL_FAILURE = "record_poll_failure"
    RECORD_WAIT = "record_wait"
    RECORD_BATCH_FILES = "record_batch_files"
    APPLY_OUTCOME = "apply_outcome"
    RESET_BATCH = "reset_batch"
    # transactions: artifacts
    RECORD_REQUEST_FILES = "record_request_files"
    CLEAR_REQUEST_FILES = "clear_request_files"
    CLEAR_BATCH_FILES = "clear_batch_files"
    MARK_EXPORTED = "mark_exported"
    # files
    WRITE_ARTIFACT = "write_artifact"
    TAKE_ARTIFACT = "take_artifact"
    DELETE_ARTIFACT = "delete_artifact"
    EXPORT_ARTIFACT = "export_artifact"
    RENAME_FILE = "rename_file"
    WRITE_RESULTS = "write_results"
    WRITE_MANIFEST = "write_manifest"
    SET_BUNDLE_ASIDE = "set_bundle_aside"
    PLACE_BUNDLE = "place_bundle"
    # files: tables of results
    WRITE_TABLE = "write_table"
    # calls of the provider
    UPLOAD_FILE = "upload_file"
    DELETE_FILE = "delete_file"
    REMOVE_FILE = "remove_file"
    FIND_FILES = "find_files"
    LOOK_AT_FILE = "look_at_file"
    CREATE_BATCH = "create_batch"
    GET_BATCH = "get_batch"
    CANCEL_BATCH = "cancel_batch"
    LIST_BATCHES = "list_batches"
    DOWNLOAD_FILE = "download_file"


Faults: TypeAlias = Callable[[Boundary, When], None]

_faults: Faults | None = None


def boundary(name: Boundary, when: When) -> None:
    """Pass one side of a boundary."""
    if _faults is not None:
        _faults(name, when)


@contextmanager
def at(name: Boundary) -> Iterator[None]:
    """Pass both sides of a boundary around a block, even if it raises, since it may have done its work anyway."""
    boundary(name, "before")
    try:
        yield
    finally:
        boundary(name, "after")


def install(faults: Faults | None) -> None:
    """Call a function at each boundary from now on; None stops that. For tests."""
    global _faults
    _faults = faults
