"""The Batches half of the API.

Nothing happens in the background: a request for a batch first moves it to the present, step by step, and
each step bears the instant at which it was due. So the server's state depends on its clock alone.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, assert_never

from batchor_core.testing.openai_server.clock import ServerClock
from batchor_core.testing.openai_server.creation import check_create
from batchor_core.testing.openai_server.errors import (
    ApiError,
    bad_request,
    cannot_find_file,
    no_such_batch,
    no_such_file,
)
from batchor_core.testing.openai_server.execution import RowRunner
from batchor_core.testing.openai_server.fates import under_faults
from batchor_core.testing.openai_server.faults import Faults
from batchor_core.testing.openai_server.files import Files, read_lifetime
from batchor_core.testing.openai_server.paging import Page, page_of, read_limit
from batchor_core.testing.openai_server.records import Batch, BatchStatus
from batchor_core.testing.openai_server.replies import BATCH_CANCELLED, BATCH_EXPIRED, Reply
from batchor_core.testing.openai_server.settings import DAY, Settings
from batchor_core.testing.openai_server.store import Store
from batchor_core.testing.openai_server.timeline import Step, StepKind, next_step, rows_due
from batchor_core.testing.openai_server.validation import Report, batch_error, validate_input

_HOUR = 3_600
_MAX_PAGE = 100
_OUTPUT_LIFETIME = 30 * DAY


class Batches:
    """Creates batches, moves them along and shows them."""

    def __init__(
        self,
        store: Store,
        clock: ServerClock,
        settings: Settings,
        faults: Faults,
        files: Files,
        runner: RowRunner,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._faults = faults
        self._files = files
        self._runner = runner
        self._locks: dict[str, threading.RLock] = {}

    # -- the four requests -------------------------------------------------------------------------

    def create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create a batch.

        Raises:
            ApiError: A parameter is wrong, the file is not to be found, or the hour's batches are used up.
        """
        check_create(request)
        lifetime = read_lifetime(request.get("output_expires_after"), "output_expires_after")
        with self._store.lock:
            now = self._clock()
            self._check_rate(now)
            file = self._files.find(request["input_file_id"])
            if file is None:
                raise bad_request(cannot_find_file(request["input_file_id"]), param="file_id")
            if file.purpose != "batch":
                raise bad_request("The input file must have the purpose 'batch'.", param="input_file_id")
            batch = Batch(
                id=f"batch_{uuid.uuid4().hex}",
                endpoint=request["endpoint"],
                input_file_id=file.id,
                created_at=now,
                expires_at=now + DAY,
                metadata=request.get("metadata"),
                output_lifetime=lifetime or _OUTPUT_LIFETIME,
                timing=self._settings.timing,
            )
            batch = under_faults(batch, self._faults.for_batch())
            self._store.add_batch(batch)
        return self._shown(batch)

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of batches, newest first: ``after`` and ``limit`` as the API takes them."""
        limit = read_limit(query, default=20, most=_MAX_PAGE)
        page: Page[Batch] = page_of(self._listed(), after=query.get("after"), limit=limit)
        return replace(page, entries=[self._settled(batch) for batch in page.entries]).as_json(self._shown)

    def retrieve(self, batch_id: str) -> dict[str, Any]:
        """The batch as it is at present."""
        with self._lock(batch_id):
            batch = self._settled(self._existing(batch_id))
            if batch.ended_at is not None:
                batch = self._saved(replace(batch, looks=batch.looks + 1))
            return self._shown(batch)

    def content(self, file_id: str) -> tuple[Path, int | None]:
        """Where a file's bytes are, and how many of them a client gets; None for all.

        Raises:
            ApiError: There is no such file, or a fault of its batch hides it.
        """
        path = self._files.content(file_id)
        found = self._batch_of(file_id)
        if found is None:
            return path, None
        batch, name = found
        if not batch.has_come(batch.fate.gone, name, self._clock()):
            raise no_such_file(file_id)
        if batch.has_come(batch.fate.short, name, self._clock()):
            return path, None
        return path, int(path.stat().st_size * batch.fate.kept_share)

    def file(self, file_id: str) -> dict[str, Any]:
        """The file object. Of a file that is handed out short it does not say how long it is."""
        shown = self._files.retrieve(file_id)
        found = self._batch_of(file_id)
        if found is not None:
            batch, name = found
            if not batch.has_come(batch.fate.gone, name, self._clock()):
                raise no_such_file(file_id)
            if name in batch.fate.short:
                shown["bytes"] = None
        return shown

    def _batch_of(self, file_id: str) -> tuple[Batch, str] | None:
        """The batch whose result file this is, and which of them it is."""
        file = self._files.find(file_id)
        name, _, which = (file.filename if file is not None else "").removesuffix(".jsonl").rpartition("_")
        batch = self._store.batch(name) if which in ("output", "error") else None
        if batch is None or file_id not in (batch.output_file_id, batch.error_file_id):
            return None
        return batch, which

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Begin to cancel. A batch that is cancelling or cancelled already stays as it is.

        Raises:
            ApiError: The batch ended otherwise.
        """
        with self._lock(batch_id):
            batch = self._settled(self._existing(batch_id))
            match batch.status:
                case BatchStatus.VALIDATING | BatchStatus.IN_PROGRESS | BatchStatus.FINALIZING:
                    batch = self._saved(
                        replace(batch, status=BatchStatus.CANCELLING, cancelling_at=self._clock())
                    )
                case BatchStatus.CANCELLING | BatchStatus.CANCELLED:
                    pass
                case BatchStatus.COMPLETED | BatchStatus.FAILED | BatchStatus.EXPIRED:
                    raise ApiError(409, f"Cannot cancel a batch with status '{batch.status.value}'.")
                case _:
                    assert_never(batch.status)
            return self._shown(batch)

    def settle_all(self) -> None:
        """Move every batch to the present."""
        for batch in self._store.batches(only_open=True):
            self._settled(batch)

    # -- moving to the present ---------------------------------------------------------------------

    def _settled(self, batch: Batch, now: float | None = None) -> Batch:
        """The batch with every step taken that was due by ``now``, the present by default."""
        with self._lock(batch.id):
            now = self._clock() if now is None else now
            batch = self._store.batch(batch.id) or batch
            while step := next_step(batch, now):
                batch = self._saved(self._take(batch, step))
            if batch.status is BatchStatus.IN_PROGRESS:
                batch = self._runner.run(batch, until_row=rows_due(batch, now), now=now)
            return batch

    def _take(self, batch: Batch, step: Step) -> Batch:
        match step.kind:
            case StepKind.VALIDATE:
                return self._validate(batch, step.at)
            case StepKind.FINALIZE:
                batch = self._run_until(batch, step.at)
                return replace(batch, status=BatchStatus.FINALIZING, finalizing_at=step.at)
            case StepKind.COMPLETE:
                return self._publish(replace(batch, status=BatchStatus.COMPLETED, completed_at=step.at))
            case StepKind.EXPIRE:
                batch = self._abandon(self._run_until(batch, step.at), BATCH_EXPIRED, step.at)
                return self._publish(replace(batch, status=BatchStatus.EXPIRED, expired_at=step.at))
            case StepKind.GIVE_UP:
                batch = self._run_until(batch, step.at)
                return replace(batch, status=BatchStatus.CANCELLING, cancelling_at=step.at)
            case StepKind.CANCEL:
                batch = self._abandon(batch, BATCH_CANCELLED, step.at)
                return self._publish(replace(batch, status=BatchStatus.CANCELLED, cancelled_at=step.at))
            case _:
                assert_never(step.kind)

    def _run_until(self, batch: Batch, at: float) -> Batch:
        return self._runner.run(batch, until_row=rows_due(batch, at), now=at)

    def _validate(self, batch: Batch, at: float) -> Batch:
        errors, report = self._check_input(batch, at)
        if errors:
            return replace(batch, status=BatchStatus.FAILED, failed_at=at, errors=errors, model=report.model)
        self._runner.take_input(batch)
        return replace(
            batch,
            status=BatchStatus.IN_PROGRESS,
            in_progress_at=at,
            model=report.model,
            total=report.total,
            enqueued_tokens=report.tokens,
        )

    def _check_input(self, batch: Batch, at: float) -> tuple[list[dict[str, Any]], Report]:
        if batch.fate.rejection is not None:
            return [batch.fate.rejection], Report()
        if self._store.file(batch.input_file_id) is None:
            message = cannot_find_file(batch.input_file_id)
            return [batch_error("invalid_request", message, param="file_id")], Report()
        path = self._store.content_path(batch.input_file_id)
        report = validate_input(path, batch.endpoint, self._settings.limits)
        return report.errors or self._check_queue(batch, report, at), report

    def _check_queue(self, batch: Batch, report: Report, at: float) -> list[dict[str, Any]]:
        """The error of a batch that would overfill its model's queue."""
        limit = self._settings.limits.enqueued_tokens_of(report.model)
        if limit is None or self._waiting_tokens(batch, report.model, at) + report.tokens <= limit:
            return []
        message = (
            f"Enqueued token limit reached for {report.model} in organization org-local. Limit: {limit:,}"
            " enqueued tokens. Please try again once some in_progress batches have been completed."
        )
        return [batch_error("token_limit_exceeded", message)]

    def _waiting_tokens(self, batch: Batch, model: str | None, at: float) -> int:
        """Tokens of the open batches before ``batch``, once each stands where it stood at ``at``."""
        waiting = 0
        earlier = takewhile(lambda other: other.id != batch.id, self._store.batches(oldest_first=True))
        for other in earlier:  # oldest first, so that none has to settle those before it again
            if other.ended_at is None:
                other = self._settled(other, at)
                waiting += other.enqueued_tokens if other.ended_at is None and other.model == model else 0
        return waiting

    # -- ending ------------------------------------------------------------------------------------

    def _abandon(self, batch: Batch, reply: Reply, at: float) -> Batch:
        if batch.in_progress_at is None:  # its input was never read
            return batch
        return self._runner.give_up(batch, reply, now=at)

    def _publish(self, batch: Batch) -> Batch:
        """Turn what was written into files. A file without lines is none."""
        self._runner.drop_input(batch)
        output = self._adopted(batch, "output", batch.progress.output_bytes)
        error = self._adopted(batch, "error", batch.progress.error_bytes)
        if error is None and batch.status is BatchStatus.COMPLETED:
            error = self._settings.clean_error_file_id
        return replace(batch, output_file_id=output, error_file_id=error)

    def _adopted(self, batch: Batch, name: str, size: int) -> str | None:
        if not size:
            return None
        path = self._store.work_path(batch.id, name)
        key = f"{batch.id}_{name}"
        return self._files.adopt(path, key=key, filename=f"{key}.jsonl", lifetime=batch.output_lifetime)

    # -- small things ------------------------------------------------------------------------------

    def _check_rate(self, now: float) -> None:
        allowed = self._settings.limits.creates_per_hour
        if self._store.batches_created_since(now - _HOUR) >= allowed:
            message = f"Rate limit reached: at most {allowed:,} batches may be created per hour."
            raise ApiError(429, message, code="rate_limit_exceeded", headers={"retry-after": "60"})

    def _existing(self, batch_id: str) -> Batch:
        batch = self._store.batch(batch_id)
        if batch is None or not batch.found_at(self._clock()):
            raise no_such_batch(batch_id)
        return batch

    def _listed(self) -> Iterator[Batch]:
        now = self._clock()
        return (batch for batch in self._store.batches() if batch.listed_at(now))

    def _lock(self, batch_id: str) -> threading.RLock:
        """Held while a batch moves. Whoever holds one only ever waits for those of older batches."""
        return self._locks.setdefault(batch_id, threading.RLock())

    def _saved(self, batch: Batch) -> Batch:
        self._store.save_batch(batch)
        return batch

    def _shown(self, batch: Batch) -> dict[str, Any]:
        return batch.as_json(self._clock(), omit_nulls=self._settings.omit_nulls)
