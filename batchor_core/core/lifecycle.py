"""The rules of an item's life, and the status of a run that follows from its items.

Every store applies these functions and no rule of its own. ``A -> B`` moves only happen through them::

    PENDING ──claim──> QUEUED_LOCAL ──registered──> SUBMITTED ──answered──> COMPLETED | FAILED_PERMANENT
       ^                    │                           │
       ├──released/dropped──┘                           ├──failed, attempts left──> FAILED_RETRYABLE ──claim──> ...
       └──────────────batch lost, row missing───────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from batchor_core.core.enums import ItemStatus, RunLifecycleStatus, SubmissionState

CLAIMABLE = (ItemStatus.PENDING, ItemStatus.FAILED_RETRYABLE)
TERMINAL = (ItemStatus.COMPLETED, ItemStatus.FAILED_PERMANENT)
IN_FLIGHT = (ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED)

OPEN_SUBMISSIONS = (
    SubmissionState.CLAIMED,
    SubmissionState.UPLOADED,
    SubmissionState.SENDING,
    SubmissionState.UNKNOWN,
    SubmissionState.QUARANTINED,
)
"""Submissions that still own QUEUED_LOCAL items, or whose batch is lost."""

UNSENT = (SubmissionState.CLAIMED, SubmissionState.UPLOADED)
"""Submissions for which no request was sent to the provider, unless the database was restored from a backup."""

CAN_BE_QUARANTINED = (*OPEN_SUBMISSIONS, SubmissionState.REGISTERED)
"""A registered batch too, if the provider has lost it."""

IN_DOUBT = (SubmissionState.UNKNOWN, SubmissionState.QUARANTINED)
"""Submissions that are no longer being sent and whose outcome is unknown: an operator may settle only these."""

MAYBE_SENT = (SubmissionState.SENDING, *IN_DOUBT)
"""Submissions whose batch may exist at the provider: their items are never sent again before that is known."""

LOST_BATCH = "lost"
"""The engine's own status of a batch that the provider can't find any more, once an operator has given it up."""

TERMINAL_BATCH_STATUSES = frozenset({"completed", "failed", "expired", "cancelled", LOST_BATCH})
"""Batch statuses after which nothing more happens at the provider; compare lower-cased."""


def is_terminal_batch(status: str) -> bool:
    """Whether a batch status is final. An unknown status is not."""
    return status.lower() in TERMINAL_BATCH_STATUSES


def status_to_register(status: str) -> str:
    """The status under which a batch is first recorded: its end is stored with its results, not before."""
    return "in_progress" if is_terminal_batch(status) else status.lower()


class ItemState(NamedTuple):
    """What the rules need to know of an item.

    Attributes:
        status: Its status.
        attempt_count: Answered attempts.
        generation: How many times it has been put into a batch and come back; part of its custom_id.
    """

    status: ItemStatus
    attempt_count: int
    generation: int


def can_claim(state: ItemState, *, max_attempts: int) -> bool:
    """Whether the item may be put into a new batch."""
    return state.status in CLAIMABLE and state.attempt_count < max_attempts


def claimed(state: ItemState) -> ItemState:
    """The item is taken for a batch that the provider has not confirmed."""
    return ItemState(ItemStatus.QUEUED_LOCAL, state.attempt_count, state.generation)


def submitted(state: ItemState) -> ItemState:
    """The provider has confirmed the batch."""
    return ItemState(ItemStatus.SUBMITTED, state.attempt_count, state.generation)


def released(state: ItemState, *, used_custom_id: bool) -> ItemState:
    """The item comes back without an answer: its batch was not created, was lost, or did not contain it.

    No attempt is counted. ``used_custom_id`` says whether a provider may have seen its custom_id.
    """
    return ItemState(ItemStatus.PENDING, state.attempt_count, state.generation + used_custom_id)


@lru_cache(maxsize=128)  # few different ones for very many items
def completed(state: ItemState) -> ItemState:
    """The item was answered well."""
    return ItemState(ItemStatus.COMPLETED, state.attempt_count + 1, state.generation)


def reused(state: ItemState) -> ItemState:
    """The item got an answer that was there already."""
    return ItemState(ItemStatus.COMPLETED, state.attempt_count, state.generation)


def failed(state: ItemState, *, retryable: bool, count_attempt: bool, max_attempts: int) -> ItemState:
    """The item was answered, but the answer is not usable.

    A failure that another attempt can't fix is permanent at once; so is that of the last attempt.
    """
    attempts = state.attempt_count + count_attempt
    if not retryable or attempts >= max_attempts:
        return ItemState(ItemStatus.FAILED_PERMANENT, attempts, state.generation)
    return ItemState(ItemStatus.FAILED_RETRYABLE, attempts, state.generation + 1)


def is_repaired(after: ItemState, *, repairs: int, most: int) -> bool:
    """Whether an item that got a bad answer is asked again with the reason; ``repairs`` is how often it was before."""
    return after.status is ItemStatus.FAILED_RETRYABLE and repairs < most


def cancelled(state: ItemState) -> ItemState:
    """The run was cancelled before the item was answered."""
    return ItemState(ItemStatus.FAILED_PERMANENT, state.attempt_count, state.generation)


def reopened(state: ItemState) -> ItemState:
    """An operator wants a permanently failed item tried again."""
    return ItemState(ItemStatus.PENDING, 0, state.generation + 1)


def run_status(counts: Mapping[ItemStatus, int], *, ingestion_complete: bool) -> RunLifecycleStatus:
    """Derive a run's status. A run whose items are not all read is never finished."""
    total = sum(counts.values())
    ended = sum(counts.get(status, 0) for status in TERMINAL)
    if not ingestion_complete or ended < total:
        return RunLifecycleStatus.RUNNING
    if counts.get(ItemStatus.FAILED_PERMANENT, 0):
        return RunLifecycleStatus.COMPLETED_WITH_FAILURES
    return RunLifecycleStatus.COMPLETED


def why_kept(*, is_finished: bool, was_sent: bool, in_flight: bool, is_driven: bool) -> str | None:
    """Why a run may not be deleted; None if it may be.

    Args:
        is_finished: Whether all its items have ended.
        was_sent: Whether any batch of it exists, or may have been asked for.
        in_flight: Whether one of them may still be at the provider, or its results on their way.
        is_driven: Whether somebody drives it just now.
    """
    if is_driven:
        return "it is driven just now; pause it, or wait for its end"
    if in_flight:
        return "batches of it are, or may be, at the provider, and deleting it would lose what they bring; cancel it, and let it end"
    if was_sent and not is_finished:
        return "it is not finished; cancel it, and let it end"
    return None
