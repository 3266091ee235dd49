"""The batches of an account, in whatever words a vendor shows them.

Nothing happens in the background: a request for a batch first moves it to the present, step by step, and
each step bears the instant at which it was due. So the server's state depends on its clock alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, assert_never

from batchor_core.testing.local_server.clock import ServerClock
from batchor_core.testing.local_server.errors import (
    ApiError,
    cannot_find_file,
    no_such_batch,
    no_such_file,
)
from batchor_core.testing.local_server.execution import RowRunner
from batchor_core.testing.local_server.fates import under_faults
from batchor_core.testing.local_server.faults import Faults
from batchor_core.testing.local_server.files import Files
from batchor_core.testing.local_server.protocol import Protocol, Report
from batchor_core.testing.local_server.records import Batch, BatchStatus, batch_error
from batchor_core.testing.local_server.replies import BATCH_CANCELLED, BATCH_EXPIRED, Reply
from batchor_core.testing.local_server.settings import DAY, Settings
from batchor_core.testing.local_server.store import Store
from batchor_core.testing.local_server.timeline import Step, StepKind, next_step, rows_due

_HOUR = 3_600
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
        protocol: Protocol,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._faults = faults
        self._files = files
        self._runner = runner
        self._protocol = protocol
        self._locks: dict[str, threading.RLock] = {}

    # -- what clients do ---------------------------------------------------------------------------

    def create(
        self,
        *,
        endpoint: str,
        input_file_id: str,
        total: int = 0,
        metadata: dict[str, str] | None = None,
        output_lifetime: float = _OUTPUT_LIFETIME,
        lifetime: float = DAY,
    ) -> Batch:
        """Create a batch from a file of the account.

        Args:
            endpoint: Where its requests are sent.
            input_file_id: The file, whose lines have ``custom_id`` and ``body``.
            total: How many requests it has, where that is known before its validation.
            metadata: What a client may give its batches; the books show it too.
            output_lifetime: Seconds for which its result files are kept.
            lifetime: Seconds after which it expires.

        Raises:
            ApiError: The hour's batches are used up.
        """
        with self._store.lock:
            now = self._clock()
            self._check_rate(now)
            batch = Batch(
                id=self._protocol.new_batch_id(),
                endpoint=endpoint,
                input_file_id=input_file_id,
                created_at=now,
                expires_at=now + lifetime,
                total=total,
                metadata=metadata,
                output_lifetime=output_lifetime,
                timing=self._settings.timing,
            )
            batch = under_faults(batch, self._faults.for_batch())
            self._store.add_batch(batch)
        return batch

    def listed(self) -> Iterator[Batch]:
        """The batches that lists show at present, newest first, each as it was when last requested."""
        now = self._clock()
        return (batch for batch in self._store.batches() if batch.listed_at(now))

    def look(self, batch_id: str) -> Batch:
        """The batch as it is at present, for a client that looks at it.

        Raises:
            ApiError: There is none to be found.
        """
        with self._lock(batch_id):
            batch = self.settled(self._existing(batch_id))
            if batch.ended_at is not None:
                batch = self._saved(replace(batch, looks=batch.looks + 1))
            return batch

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

    def hides_size_of(self, file_id: str) -> bool:
        """Whether a client that looks at a file does not learn its size, since it is handed out short.

        Raises:
            ApiError: A fault of its batch hides the file altogether.
        """
        found = self._batch_of(file_id)
        if found is None:
            return False
        batch, name = found
        if not batch.has_come(batch.fate.gone, name, self._clock()):
            raise no_such_file(file_id)
        return name in batch.fate.short

    def _batch_of(self, file_id: str) -> tuple[Batch, str] | None:
        """The batch whose result file this is, and which of them it is."""
        file = self._files.find(file_id)
        name, _, which = (file.filename if file is not None else "").removesuffix(".jsonl").rpartition("_")
        batch = self._store.batch(name) if which in ("output", "error") else None
        if batch is None or file_id not in (batch.output_file_id, batch.error_file_id):
            return None
        return batch, which

    def cancel(self, batch_id: str) -> Batch:
        """Begin to cancel. A batch that is cancelling or cancelled already stays as it is.

        Raises:
            ApiError: The batch ended otherwise.
        """
        with self._lock(batch_id):
            batch = self.settled(self._existing(batch_id))
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
            return batch

    def delete(self, batch_id: str) -> None:
        """Forget a batch, for clients; the books keep it.

        Raises:
            ApiError: There is none to be found.
        """
        with self._lock(batch_id):
            batch = self.settled(self._existing(batch_id))
            self._saved(replace(batch, fate=replace(batch.fate, found_until=self._clock())))

    def rows_run(self, batch_id: str) -> int:
        """How many rows of a batch were executed, whatever came of it."""
        return self._store.count_executions_of(batch_id)

    def settle_all(self) -> None:
        """Move every batch to the present."""
        for batch in self._store.batches(only_open=True):
            self.settled(batch)

    # -- moving to the present ---------------------------------------------------------------------

    def settled(self, batch: Batch, now: float | None = None) -> Batch:
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
        if errors and self._protocol.fails_whole_batches:
            return replace(batch, status=BatchStatus.FAILED, failed_at=at, errors=errors, model=report.model)
        self._runner.take_input(batch)
        batch = replace(
            batch,
            status=BatchStatus.IN_PROGRESS,
            in_progress_at=at,
            model=report.model,
            total=report.total or batch.total,
            enqueued_tokens=report.tokens,
        )
        if errors:
            reply = Reply.not_run(str(errors[0]["code"]), str(errors[0]["message"]))
            batch = self._runner.give_up(batch, reply, now=at)
        return batch

    def _check_input(self, batch: Batch, at: float) -> tuple[list[dict[str, Any]], Report]:
        if batch.fate.rejection is not None:
            return [batch.fate.rejection], Report()
        if self._store.file(batch.input_file_id) is None:
            message = cannot_find_file(batch.input_file_id)
            return [batch_error("invalid_request", message, param="file_id")], Report()
        path = self._store.content_path(batch.input_file_id)
        report = self._protocol.check(path, batch.endpoint, self._settings.limits)
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
                other = self.settled(other, at)
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

    def _lock(self, batch_id: str) -> threading.RLock:
        """Held while a batch moves. Whoever holds one only ever waits for those of older batches."""
        return self._locks.setdefault(batch_id, threading.RLock())

    def _saved(self, batch: Batch) -> Batch:
        self._store.save_batch(batch)
        return batch
