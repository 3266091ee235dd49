"""Which submission a batch of the provider's list belongs to, and which batches belong to a submission.

Where batches carry tags, each names its submission. Where they don't, only the rows of an ended batch do; a batch that still
runs could be anybody's, and what can't be told yet is said to be so, never taken for an answer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import assert_never

from batchor_core.core.answers import parse_line
from batchor_core.core.custom_ids import mark_of, submission_of, unmarked
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.providers.api import BatchState, FoundBy
from batchor_core.runtime.batch_list import LIST_MARGIN_SEC, Listing, read_list
from batchor_core.runtime.drive import Drive
from batchor_core.storage.session import SubmissionRecord

TAG = "batchor_local_batch_id"

LATE_MARGIN_SEC = 2 * 3_600.0
"""How much longer than its lifetime a batch is looked for that nothing could have kept from being created."""


@dataclass(frozen=True, slots=True)
class Found:
    """The batches of a submission, oldest first; more than one if the provider created it twice."""

    batches: list[BatchState]


@dataclass(frozen=True, slots=True)
class Absent:
    """Every batch that the provider lists was seen, and none belongs to the submission."""


@dataclass(frozen=True, slots=True)
class Unknowable:
    """The provider's list can't tell.

    Attributes:
        error_class: Why not.
        may_pass: Whether a later look may tell.
    """

    error_class: str
    may_pass: bool = False


LookUp = Found | Absent | Unknowable


def sent_at(submission: SubmissionRecord) -> float:
    """When a submission was sent, or could have been at the earliest."""
    return submission.created_at if submission.sending_at is None else submission.sending_at


def over_in_sec(drive: Drive, submission: SubmissionRecord) -> float:
    """Seconds until no batch can come of a submission any more, by the lifetime of batches; 0 from then on."""
    lasts = drive.api.limits.lifetime_sec + LATE_MARGIN_SEC
    return max(0.0, sent_at(submission) + lasts - drive.store.now())


def look_for(drive: Drive, submission: SubmissionRecord) -> LookUp:
    """Look for the batches of one submission. Raises what the provider raises."""
    match drive.api.limits.found_by:
        case FoundBy.NOTHING:
            return Unknowable("look_up_unsupported")
        case FoundBy.TAGS:
            return _look_by_tags(drive, submission)
        case FoundBy.ROWS:
            return _look_by_rows(drive, submission)
        case _:
            assert_never(drive.api.limits.found_by)


def server_skew(drive: Drive) -> float:
    """The provider's clock minus the store's, according to its last response; 0 if unknown."""
    offset = drive.api.clock_offset()
    return 0.0 if offset is None else offset + time.time() - drive.store.now()


def _look_by_tags(drive: Drive, submission: SubmissionRecord) -> LookUp:
    def wanted(batch: BatchState, oldest: float) -> bool:
        return _is_named(batch, submission) or (
            _is_nameless(batch) and (batch.created_at or oldest) >= oldest
        )

    listing = _read(drive, wanted, sent_at(submission), submission.server_date_skew)
    found = [batch for batch in listing.found if _is_named(batch, submission)]
    if not found and listing.found:
        # a gateway may list less of a batch than it shows of it by its id
        unnamed = [batch for batch in listing.found if not batch.batch_id]
        shown = [
            drive.api.poll(batch.batch_id)
            for batch in _not_registered(drive, listing.found)
            if batch.batch_id
        ]
        found = [batch for batch in shown if _is_named(batch, submission)]
        if not found and (unnamed or any(map(_is_nameless, shown))):
            return Unknowable("nameless_batches_listed")
    return Found(found) if found else _absent(listing)


def _look_by_rows(drive: Drive, submission: SubmissionRecord) -> LookUp:
    sent, skew = sent_at(submission), submission.server_date_skew
    listing = _read(drive, lambda batch, oldest: _could_be(batch, submission, oldest), sent, skew)
    candidates = _not_registered(drive, listing.found)
    owners = owners_by_rows(drive, candidates)
    mark = mark_of(submission.local_batch_id)
    found = [batch for batch in candidates if owners.get(batch.batch_id) == mark]
    if found:
        return Found(found)
    undecided = [batch for batch in candidates if batch.batch_id not in owners]
    is_over = over_in_sec(drive, submission) == 0
    if is_over:
        # what was created so much later is somebody else's; at a busy account there is always some
        latest = sent + max(skew, server_skew(drive)) + LATE_MARGIN_SEC + LIST_MARGIN_SEC
        undecided = [batch for batch in undecided if (batch.created_at or latest) <= latest]
    if undecided:
        return Unknowable("batches_still_running", may_pass=not is_over)
    return _absent(listing)


def _absent(listing: Listing) -> Absent | Unknowable:
    return Absent() if listing.is_complete else Unknowable("too_many_batches_to_list")


def _read(
    drive: Drive, wanted: Callable[[BatchState, float], bool], since: float, skew: float = 0.0
) -> Listing:
    """What the list has since a moment of the store's time.

    Batches carry the server's time, and a create without an upload may have been sent before any response told it. So the first
    page comes first, and the earlier of both moments counts.
    """
    pages = drive.api.list_batches()
    first = next(pages, [])
    oldest = since + min(skew, server_skew(drive)) - LIST_MARGIN_SEC
    return read_list(
        chain([first], pages),
        wanted=lambda batch: wanted(batch, oldest),
        oldest=oldest,
        page_cap=drive.settings.list_page_cap,
    )


def _is_named(batch: BatchState, submission: SubmissionRecord) -> bool:
    if not batch.batch_id:
        return False  # an entry that can't be adopted
    # each submission uploads its own file, so the file alone identifies it, even through a gateway that drops metadata
    if submission.input_file_id and batch.handle == submission.input_file_id:
        return True
    return (batch.tags or {}).get(TAG) == submission.local_batch_id


def _is_nameless(batch: BatchState) -> bool:
    """Whether nothing shows whose batch it is: it might be the one we are looking for."""
    if batch.is_foreign:
        return False
    return not batch.batch_id or (not batch.handle and not (batch.tags or {}).get(TAG))


def _not_registered(drive: Drive, batches: list[BatchState]) -> list[BatchState]:
    """The batches that belong to no known submission of any run."""
    known = drive.store.registered_batches([batch.batch_id for batch in batches])
    return [batch for batch in batches if batch.batch_id not in known]


def _could_be(batch: BatchState, submission: SubmissionRecord, oldest: float) -> bool:
    total = batch.counts.total
    return (batch.created_at or oldest) >= oldest and total in (None, 0, submission.item_count)


@dataclass(frozen=True, slots=True)
class Named:
    """A batch and the name of its submission."""

    batch: BatchState
    local_batch_id: str


@dataclass(frozen=True, slots=True)
class Strangers:
    """Batches of the run that no submission of the store accounts for.

    Attributes:
        batches: Oldest first.
        undecided: Batches that may be the run's or anybody else's, since they still run and carry no tags. They were created
            before this process first looked: what a restored store has forgotten is older.
    """

    batches: list[Named]
    undecided: list[BatchState]


def strangers(drive: Drive, *, prefix: str, since: float, accounted: Callable[[str, str], bool]) -> Strangers:
    """Look for batches of the run by the prefix of its submissions' names.

    Args:
        drive: The driver.
        prefix: How the names of the run's submissions begin.
        since: When the run was created.
        accounted: Says of a batch id and the name of its submission whether the store knows of it; the name is empty where
            there is no telling.
    """
    found_by = drive.api.limits.found_by
    if found_by is FoundBy.NOTHING:
        return Strangers([], [])
    if found_by is FoundBy.TAGS:

        def name(batch: BatchState) -> str:
            return (batch.tags or {}).get(TAG, "")

        listing = _read(
            drive,
            lambda batch, _: name(batch).startswith(prefix) and not accounted(batch.batch_id, name(batch)),
            since,
        )
        return Strangers([Named(batch, name(batch)) for batch in listing.found], [])
    listing = _read(
        drive,
        lambda batch, oldest: (batch.created_at or oldest) >= oldest and not accounted(batch.batch_id, ""),
        since,
    )
    candidates = _not_registered(drive, listing.found)
    owners = owners_by_rows(drive, candidates)
    if drive.sweeping.first_at is None:
        drive.sweeping.first_at = drive.store.now()
    latest = drive.sweeping.first_at + max(0.0, server_skew(drive)) + LIST_MARGIN_SEC
    named = [
        Named(batch, submission_of(mark))
        for batch in candidates
        if (mark := owners.get(batch.batch_id)) is not None
    ]
    return Strangers(
        [
            entry
            for entry in named
            if entry.local_batch_id.startswith(prefix)
            and not accounted(entry.batch.batch_id, entry.local_batch_id)
        ],
        [
            batch
            for batch in candidates
            if batch.batch_id not in owners and (batch.created_at or latest) <= latest
        ],
    )


def owners_by_rows(drive: Drive, batches: list[BatchState]) -> dict[str, str | None]:
    """The marks of the submissions that ended batches belong to, by batch id; None for batches that are nobody's here.

    A batch that still runs is left out, and so is one whose results are not there yet: there is no telling.
    """
    known = drive.sweeping.owners
    for batch in batches:
        if batch.batch_id in known:
            continue
        if batch.status == "failed" and not batch.results:
            known[batch.batch_id] = None  # refused as a whole: nothing was run, whoever sent it
        elif batch.has_ended and (custom_id := _first_custom_id(drive, batch)) is not None:
            parts = unmarked(custom_id)
            known[batch.batch_id] = None if parts is None else parts[1]
    return {batch.batch_id: known[batch.batch_id] for batch in batches if batch.batch_id in known}


def _first_custom_id(drive: Drive, batch: BatchState) -> str | None:
    """The custom_id of the first result; None if there is no result to read, or not yet."""
    try:
        return next(custom_ids_in(drive, batch), None)
    except ProviderError as error:
        if error.kind is not ProviderErrorKind.NOT_FOUND:
            raise
        return None  # not there yet, or deleted since the list was read: the next list tells


def wire_mark(drive: Drive, local_batch_id: str) -> str | None:
    """What the custom_ids of a submission are sent behind; None where its batch carries tags."""
    return mark_of(local_batch_id) if drive.api.limits.found_by is FoundBy.ROWS else None


def bare_id(drive: Drive, sent_as: str) -> str:
    """A custom_id as the store knows it."""
    if drive.api.limits.found_by is not FoundBy.ROWS:
        return sent_as
    parts = unmarked(sent_as)
    return sent_as if parts is None else parts[0]


def custom_ids_in(drive: Drive, batch: BatchState) -> Iterator[str]:
    """The custom_ids in a batch's result files, as they were sent."""
    with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
        for number, file in enumerate(batch.results):
            path = Path(folder) / f"{number}.jsonl"
            drive.api.fetch(file, path)
            with path.open("rb") as lines:
                for line in lines:
                    record = parse_line(line)
                    if record is not None and (custom_id := drive.api.custom_id_of(record)):
                        yield custom_id
