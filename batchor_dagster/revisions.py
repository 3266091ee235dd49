"""Decides what materializing a partition again does: keep its run, retry the failed rows, or start a new revision.

A partition's runs are numbered by revision, and the newest counts. Every decision that may cost money is made here, by pure
functions. A partition never has a second active run, and an answered row is only paid for again if the job has changed or an
operator requests it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, assert_never

from batchor_core import BatchItem, BatchJob, PromptParts
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import RunConfigMismatchError
from batchor_core.core.models import RunSummary
from batchor_core.core.spending import ASSET_EXTRA, PARTITION_EXTRA
from batchor_core.core.types import JSONObject
from batchor_core.core.words import counted
from batchor_core.runtime.stored_job import check_same_job, persisted_config
from batchor_core.storage.state import PersistedRunConfig, RunListing

REVISION_EXTRA = "generation"  # a stored name, which stays
ASKED_BY_EXTRA = "asked_by"
ROWS_EXTRA = "rows_digest"
PROMPTS_EXTRA = "prompts_digest"


class Rerun(StrEnum):
    """What to do with a partition whose run is finished.

    ``auto`` keeps it if the job is the same, and starts a new revision if it has changed. ``failed`` tries the failed rows
    again. ``all`` starts a new revision whatever the job is. Run config spells enums by member name, so the names are
    lower case.
    """

    auto = "auto"
    failed = "failed"
    all = "all"


class OnChange(StrEnum):
    """What happens if the job of a finished partition has changed: a new revision that is paid for, or an error that names the change."""

    new_revision = "new_revision"
    refuse = "refuse"
    new_generation = new_revision  # its name in earlier releases

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls(cls.new_revision) if value == "new_generation" else None


class Move(StrEnum):
    """What to do with a partition's run."""

    create = "create"
    attach = "attach"
    read_on = "read_on"
    keep = "keep"
    retry_failed = "retry_failed"
    compare = "compare"
    refuse = "refuse"

    @property
    def needs_the_job(self) -> bool:
        """Whether the job's rows have to be read."""
        match self:
            case Move.create | Move.read_on | Move.compare:
                return True
            case Move.attach | Move.keep | Move.retry_failed | Move.refuse:
                return False
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """A move, and the sentence that explains it to the operator.

    Attributes:
        move: What to do.
        revision: The revision that it applies to.
        reason: Why, in words for the operator.
    """

    move: Move
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class Newest:
    """What is known of a partition's newest run.

    Attributes:
        revision: Its number.
        is_finished: Whether all of its items have ended.
        is_read: Whether all of its items have been read.
        is_cancelled: Whether an operator cancelled it.
        failed_items: Rows without an answer.
        is_asked_for: Whether this very request has started it, which is so if the step is being retried.
    """

    revision: int
    is_finished: bool
    is_read: bool = True
    is_cancelled: bool = False
    failed_items: int = 0
    is_asked_for: bool = False

    @classmethod
    def of(cls, summary: RunSummary, revision: int, *, is_asked_for: bool) -> Self:
        """Put together what the store knows."""
        return cls(
            revision=revision,
            is_finished=summary.status is not RunLifecycleStatus.RUNNING,
            is_read=summary.ingestion_complete,
            is_cancelled=summary.control_state is RunControlState.CANCEL_REQUESTED,
            failed_items=summary.failed_items,
            is_asked_for=is_asked_for,
        )


def decide(newest: Newest | None, rerun: Rerun) -> Decision:
    """What to do about a partition, as far as it can be decided without reading the job's rows."""
    if newest is None:
        return Decision(Move.create, 1, "this is the first run")
    here = newest.revision
    if not newest.is_finished:
        if newest.is_read:
            return Decision(Move.attach, here, "the run is still active, so nothing new was started")
        return Decision(
            Move.read_on, here, "the run is still active; reading its rows continues where it stopped"
        )
    if newest.is_asked_for:
        return Decision(Move.keep, here, "the run that this Dagster run started has finished")
    match rerun:
        case Rerun.all:
            return Decision(Move.create, here + 1, "an operator requested a new run of all rows")
        case Rerun.failed:
            if not newest.failed_items:
                return Decision(
                    Move.keep, here, "an operator requested a retry of the failed rows, but no row has failed"
                )
            if newest.is_cancelled:
                return Decision(
                    Move.refuse,
                    here,
                    "the run was cancelled and can't be retried; use rerun: all to start a new one",
                )
            return Decision(
                Move.retry_failed,
                here,
                f"retrying {counted(newest.failed_items, 'failed row')}, as requested",
            )
        case Rerun.auto:
            return Decision(Move.compare, here, "it depends on whether the job has changed")
        case _:
            assert_never(rerun)


def decide_changed(revision: int, changes: Iterable[str], on_change: OnChange) -> Decision:
    """What to do about a finished partition, now that its job has been compared with the current one."""
    what = ", ".join(changes)
    if not what:
        return Decision(
            Move.keep, revision, "the run is finished and the job has not changed, so nothing was sent"
        )
    match on_change:
        case OnChange.refuse:
            return Decision(
                Move.refuse,
                revision,
                f"the job has changed since the last run ({what}), and on_change is refuse; use rerun: all to run it anyway",
            )
        case OnChange.new_revision | OnChange.new_generation:  # one member, two names
            return Decision(Move.create, revision + 1, f"the job has changed since the last run: {what}")
        case _:
            assert_never(on_change)


# --- comparing jobs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobDigest:
    """Digests of a job's requests. The order and the metadata of its rows don't matter.

    Attributes:
        rows: Digest of the item ids.
        prompts: Digest of item ids with their prompts.
    """

    rows: str
    prompts: str

    @classmethod
    def of(cls, job: BatchJob[Any, Any]) -> Self:
        """Read all rows of a job and render their prompts. The rows must be readable a second time."""
        rows = prompts = 0
        items: Iterable[Any] = job.items
        for item in items:
            prompt: Any = job.build_prompt(item) if isinstance(item, BatchItem) else None
            parts = PromptParts(prompt) if isinstance(prompt, str) else prompt
            if not isinstance(parts, PromptParts):
                break  # the engine refuses it with an error of its own
            rows += _number(item.item_id)
            asked = f"{item.item_id}\0{parts.system_prompt}\0{parts.prompt}"
            if parts.features:  # what has none has the digest that it had before there were any
                asked += "\0" + json.dumps([parts.messages, parts.options])
            prompts += _number(asked)
        return cls(_hex(rows), _hex(prompts))

    def to_extras(self) -> JSONObject:
        """As it is stored with a run."""
        return {ROWS_EXTRA: self.rows, PROMPTS_EXTRA: self.prompts}


def _number(text: str) -> int:
    digest = hashlib.blake2b(str(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest, "big")


def _hex(total: int) -> str:
    return f"{total % 2**128:032x}"


def changes(run_id: str, stored: PersistedRunConfig, job: BatchJob[Any, Any], digest: JobDigest) -> list[str]:
    """What has changed in a job since its run was started, in words for an operator."""
    found = []
    try:
        check_same_job(run_id, stored, persisted_config(job))
    except RunConfigMismatchError as error:
        found += error.fields
    if stored.extras.get(ROWS_EXTRA, digest.rows) != digest.rows:
        found.append("rows")
    elif stored.extras.get(PROMPTS_EXTRA, digest.prompts) != digest.prompts:
        found.append("prompts")
    return found


# --- finding revisions -----------------------------------------------------------------------------------------------


def revision_of(extras: JSONObject) -> int:
    """The revision of a stored run; 1 where it does not say."""
    stored = extras.get(REVISION_EXTRA)
    return stored if isinstance(stored, int) and stored >= 1 else 1


def newest_revisions(listings: Iterable[RunListing]) -> list[RunListing]:
    """The listings without those that a newer revision of the same partition has superseded, in the same order."""
    kept = list(listings)
    newest: dict[tuple[str, str], int] = {}
    for listing in kept:
        partition = _partition(listing)
        newest[partition] = max(newest.get(partition, 0), revision_of(listing.extras))
    return [
        listing
        for listing in kept
        if ASSET_EXTRA not in listing.extras or revision_of(listing.extras) == newest[_partition(listing)]
    ]


def _partition(listing: RunListing) -> tuple[str, str]:
    return repr(listing.extras.get(ASSET_EXTRA)), repr(listing.extras.get(PARTITION_EXTRA))
