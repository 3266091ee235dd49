"""What this process remembers of a run whose store can't hold it: submissions, poll failures, what is waited for."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from batchor_core.core.admission import Place
from batchor_core.core.enums import SubmissionState
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.rendered import RenderedChunk
from batchor_core.storage.documented_store import DocumentedStore
from batchor_core.storage.late_batches import late_fields
from batchor_core.storage.records import ActiveBatchRecord, ClaimedItem, RequestArtifactPointer
from batchor_core.storage.session import RequestDraft, ResultsWait, SubmissionRecord


@dataclass(frozen=True, slots=True)
class Held:
    """An item that this driver has claimed."""

    item_index: int
    tokens: int
    item: ClaimedItem


class Submitted(NamedTuple):
    """An item that a batch owns."""

    item_index: int
    attempt_count: int


def generation_of(local_batch_id: str) -> int:
    """A number that differs in each submission, since the store does not count how often an item was sent."""
    return int.from_bytes(hashlib.blake2b(local_batch_id.encode(), digest_size=6).digest(), "big")


@dataclass(slots=True)
class Submission:
    """A batch on its way, which the documented methods have no place for."""

    record: SubmissionRecord
    lines: list[tuple[str, Held]]
    """custom_id and item of each line, in line order."""

    def drafts(self) -> list[RequestDraft]:
        """The lines that are to be written."""
        generation = generation_of(self.record.local_batch_id)
        return [
            RequestDraft(
                item_id=held.item.item_id,
                item_index=held.item_index,
                custom_id=custom_id,
                generation=generation,
                line_number=line_number,
                prompt=held.item.prompt,
                system_prompt=held.item.system_prompt,
                request_line=None,
            )
            for line_number, (custom_id, held) in enumerate(self.lines, 1)
        ]

    def pointers(self, sha256: str) -> list[RequestArtifactPointer]:
        """Where its items' lines lie, in a file of this digest."""
        path = self.record.artifact_key or ""
        return [
            RequestArtifactPointer(held.item.item_id, path, line_number, sha256)
            for line_number, (_, held) in enumerate(self.lines, 1)
        ]


@dataclass(slots=True)
class Book:
    """What this process remembers of a run that its store can't hold."""

    run_id: str
    lock: threading.RLock = field(default_factory=threading.RLock)
    held: dict[int, Held] = field(default_factory=dict)
    submissions: dict[str, Submission] = field(default_factory=dict)
    poll_failures: dict[str, int] = field(default_factory=dict)
    next_poll_at: dict[str, float] = field(default_factory=dict)
    due_at: dict[str, float] = field(default_factory=dict)
    waits: dict[str, ResultsWait] = field(default_factory=dict)
    stated: dict[str, int] = field(default_factory=dict)
    index_of: dict[str, int] = field(default_factory=dict)
    tokens_of: dict[str, int] = field(default_factory=dict)
    submitted: dict[str, Submitted] = field(default_factory=dict)
    place: Place | None = None
    rendered: dict[int, RenderedChunk] = field(default_factory=dict)
    may_back_off: bool = True
    """Whether the store's backoff may need clearing; not known at first."""

    def submission(self, local_batch_id: str, allowed: Sequence[SubmissionState]) -> Submission:
        """The submission, if it is in one of these states, or RunStateError."""
        found = self.submissions.get(local_batch_id)
        if found is None:
            raise RunStateError(self.run_id, f"this process knows no submission {local_batch_id!r}")
        if found.record.state not in allowed:
            raise RunStateError(self.run_id, f"submission {local_batch_id!r} is {found.record.state}")
        return found

    def keep_stated(self, name: str, stated: int | None) -> None:
        """Keep how many answered rows of a batch were stated at the most."""
        if stated is not None:
            self.stated[name] = max(stated, self.stated.get(name, 0))

    def remembered(self, batch: ActiveBatchRecord) -> ActiveBatchRecord:
        """A batch with what its store does not keep."""
        name = batch.provider_batch_id
        own = [one.record for one in self.submissions.values() if one.record.provider_batch_id == name]
        known = replace(
            batch,
            item_count=batch.item_count or sum(record.item_count for record in own),
            poll_failures=self.poll_failures.get(name, batch.poll_failures),
            next_poll_at=self.next_poll_at.get(name, batch.next_poll_at),
            due_at=self.due_at.get(name, batch.due_at),
            stated_completed=self.stated.get(name, batch.stated_completed),
        )
        wait = self.waits.get(name)
        if wait is None:
            return known
        return replace(
            known,
            status=wait.status,
            output_file_id=wait.output_file_id or known.output_file_id,
            error_file_id=wait.error_file_id or known.error_file_id,
            **late_fields(wait),
        )


def rendered_in_this_process(store: DocumentedStore, run_id: str) -> list[RenderedChunk]:
    """What this process has had a store's items rendered to, in item order."""
    rendered = book_of(store, run_id).rendered
    return [rendered[first_index] for first_index in sorted(rendered)]


_books: dict[int, dict[str, Book]] = {}
_books_lock = threading.Lock()


def book_of(store: DocumentedStore, run_id: str) -> Book:
    """The book of a store's run; forgotten with the store. By identity, since a store need not be hashable."""
    with _books_lock:
        if id(store) not in _books:
            _books[id(store)] = {}
            weakref.finalize(store, _books.pop, id(store), None)
        return _books[id(store)].setdefault(run_id, Book(run_id))
