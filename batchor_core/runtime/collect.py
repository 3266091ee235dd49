"""Collecting the results of an ended batch from its files, line by line.

A batch's lines are matched by ``custom_id`` with the items that the batch still owns, so that doing it again after a crash
changes nothing. Results are stored in chunks, and the batch's own end with the last chunk: only then is it over. Where rows
have no line and may yet get one, the lines that are there are stored, and the batch stays; see late_results.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, assert_never

from batchor_core.core.custom_ids import without_mark
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.failures import ItemFailure
from batchor_core.core.lateness import AtHand, Cause, Decision, Move
from batchor_core.core.outputs import Kept, OutputSpec
from batchor_core.core.pricing import WITHIN
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage
from batchor_core.providers.api import BatchFailure, BatchState
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.files import Download
from batchor_core.runtime.late_results import judge, most_stated, wait_for_results
from batchor_core.runtime.line_size import LONG_LINE_BYTES
from batchor_core.runtime.lookup import wire_mark
from batchor_core.runtime.pricing import BatchPricing
from batchor_core.runtime.repair import with_reasons
from batchor_core.runtime.result_lines import Line, Reading, read_lines
from batchor_core.storage.records import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    CompletedItemRecord,
    ItemFailureRecord,
)
from batchor_core.storage.session import AppliedOutcome, BatchEnd

CHUNK = 2_000
"""Results stored per transaction, unless LONG_LINE_BYTES are reached before. Of half as many, each row takes a twentieth
longer."""

_REPAIR_CHUNK = 200
"""Failures stored per transaction where the requests that ask again come with them, which may be long."""

_MOST_OTHERS = 100_000
"""Lines that are not the batch's open items' and are told apart; a batch has half as many rows."""

_BAD_BYTES = 32 * 1024 * 1024
"""Bad answers wait for the end of the files. Of so many the words are kept; of any more only what went wrong, besides the
line in the artifact."""

_USAGE = CompletedItemRecord._fields.index("usage")
_completed: Callable[[tuple[Any, ...]], CompletedItemRecord] = partial(tuple.__new__, CompletedItemRecord)


def collect(
    drive: Drive, batch: ActiveBatchRecord, state: BatchState, download: Download, *, gives_up: bool = True
) -> None:
    """Store every result that an ended batch has brought, and its end, unless some are still to come.

    With ``gives_up=False`` rows without a line stay with the batch, whatever speaks for giving them up.
    """
    _record_artifacts(drive, batch, download)
    owned = drive.session.submitted_items(provider_batch_id=batch.provider_batch_id)
    intake = _Intake(drive, batch, owned, drive.output, BatchPricing(drive, batch))
    mark, reading = wire_mark(drive, batch.local_batch_id), Reading()
    for line in read_lines(drive, download, reading):
        reading.found(line.answer.custom_id)
        intake.take(line if mark is None else _unmarked(line, mark))
        del line  # a giant one must not stay while the next is read
    reading.end()
    if state.failure is not None and batch.status == "failed":
        _fail_bad_lines(intake, state.failure)
    hand = intake.at_hand(reading, files=len(download.files), gone=len(download.gone))
    state = replace(state, counts=most_stated(batch, state.counts))
    decision = judge(drive, batch, state, hand)
    if hand.missing and not gives_up and decision.move is Move.COLLECT:
        decision = Decision(Move.WAIT, Cause.UNCONFIRMED)
    match decision.move:
        case Move.COLLECT:
            is_refused = batch.status == "failed"
            if is_refused and state.failure is not None:  # while its rows still count as in flight
                drive.queue_was(batch.local_batch_id, error_class=state.failure.error_class)
            _collect(drive, batch, state, intake)
            if not is_refused:
                drive.queue_was(batch.local_batch_id, error_class=None)
        case Move.WAIT | Move.ASK:
            intake.keep(holds_failures=decision.holds_failures)
            wait_for_results(
                drive, batch, decision=decision, counts=state.counts, hand=hand, gone=download.gone
            )
            if intake.pause_reason is not None and drive.is_running():
                drive.pause(intake.pause_reason)
        case _:
            assert_never(decision.move)


def give_up(drive: Drive, batch: ActiveBatchRecord) -> None:
    """End a batch of a cancelled run that can't be asked after, without what it may have brought."""
    owned = drive.session.submitted_items(provider_batch_id=batch.provider_batch_id)
    intake = _Intake(drive, batch, owned, drive.output, BatchPricing(drive, batch))
    _collect(drive, batch, BatchState(batch.provider_batch_id, batch.status), intake)


def _collect(drive: Drive, batch: ActiveBatchRecord, state: BatchState, intake: _Intake) -> None:
    if batch.input_file_id:
        # before the batch is over: after a crash in between, the next driver is here again, and deletes it again
        with suppress(Exception):  # tidying up; the file expires by itself
            drive.api.discard(batch.input_file_id)
    intake.finish(batch.status, state.usage)
    _report(drive, batch, state, intake)


def _record_artifacts(drive: Drive, batch: ActiveBatchRecord, download: Download) -> None:
    keys = {file.is_error_file: file.artifact_key for file in download.files}
    if any(keys.values()):
        pointer = BatchArtifactPointer(batch.provider_batch_id, keys.get(False), keys.get(True))
        if not drive.session.record_files(pointer):
            drive.store.record_batch_artifacts(run_id=drive.run_id, pointers=[pointer])


def _unmarked(line: Line, mark: str) -> Line:
    """The line with the custom_id that the store knows: without the submission's mark, if rows are sent with one."""
    custom_id = without_mark(line.answer.custom_id, mark=mark)
    return line._replace(answer=line.answer._replace(custom_id=custom_id))


def _fail_bad_lines(intake: _Intake, failure: BatchFailure) -> None:
    """Fail lines that the provider will never accept: they would fail every batch that contains them."""
    bad_lines = failure.bad_lines
    # nothing of a failed batch was run, so its items are all still there, in the order of its lines; if some are gone,
    # a crash came between, their lines are dealt with, and the numbers fit the rest no more
    if not bad_lines or intake.batch.item_count not in (0, len(intake.open)):
        return
    for number, custom_id in enumerate(sorted(intake.open, key=intake.open.__getitem__), 1):
        if number in bad_lines:
            error = ItemFailure("provider_item_error", bad_lines[number], retryable=False)
            intake.fail(ItemFailureRecord(custom_id, error), is_error=True)


@dataclass(slots=True)
class _Intake:
    """Collects answers and stores them in chunks.

    Lines that belong to no open item of the batch are counted by name. Most belong to items that were stored when the
    files were first read.
    """

    drive: Drive
    batch: ActiveBatchRecord
    open: dict[str, int]
    """Indexes of the items that the batch still owns and that have no good answer yet, by custom_id."""
    output: OutputSpec
    """What answers are checked with."""
    pricing: BatchPricing
    total: AppliedOutcome = field(default_factory=AppliedOutcome)
    pause_reason: str | None = None
    strangers: int = 0
    missing: int = 0
    again: Counter[str] = field(default_factory=Counter)
    """Error classes of the rows that go back for another try."""
    _mine: frozenset[str] = frozenset()
    _others: dict[int, bool] = field(default_factory=dict)
    """Whether the lines of a row that is not ours, or no longer, are all errors; by hash, since names may be of any length."""
    _error_rows: set[str] = field(default_factory=set)
    _good: list[tuple[Any, ...]] = field(default_factory=list)
    """Records of good answers, but for what they cost: that is found out for many at once."""
    _good_bytes: int = 0
    _bad: dict[str, ItemFailureRecord] = field(default_factory=dict)
    _bad_bytes: int = 0

    def __post_init__(self) -> None:
        self._mine = frozenset(self.open)

    @property
    def size(self) -> int:
        """Rows of the batch."""
        return max(self.batch.item_count, len(self._mine))

    def take(self, line: Line) -> None:
        """One line of a file. The first good answer of a row wins, and any good answer over a bad one."""
        answer = line.answer
        if answer.custom_id not in self.open:
            self.strangers += 1
            if answer.custom_id and answer.custom_id not in self._mine and len(self._others) < _MOST_OTHERS:
                is_error = self.drive.api.is_failure(line.record, answer)
                name = hash(answer.custom_id)
                self._others[name] = self._others.get(name, True) and is_error
            return
        kept = answer.failure or self.output.check(answer)
        # what is as long is kept in its file or not at all: compressing it would take as much memory again
        raw_response = line.record if line.raw is None and line.length < LONG_LINE_BYTES else None
        if isinstance(kept, Kept):
            self.open.pop(answer.custom_id)
            self._bad.pop(answer.custom_id, None)
            # full chunks are stored when there is more to come: the last rows have to take the batch's end with them
            if len(self._good) >= CHUNK:
                self._store_good()
            self._good.append(
                (
                    answer.custom_id,
                    kept.text,
                    raw_response,
                    None,
                    answer.usage,
                    line.raw,
                    kept.text_is_json,
                    kept.data,
                )
            )
            self._good_bytes += line.length
            if self._good_bytes >= LONG_LINE_BYTES and self.open:  # there is more to come here too
                self._store_good()
            return
        self.pause_reason = self.pause_reason or answer.pause_reason
        self._bad_bytes += line.length
        if self._bad_bytes >= _BAD_BYTES:
            kept, raw_response = replace(kept, raw_error=None), None
            answer = answer._replace(text=None)
        self.fail(
            ItemFailureRecord(
                answer.custom_id,
                kept,
                count_attempt=answer.count_attempt,
                output_text=answer.text,
                raw_response=raw_response,
                usage=answer.usage,
                raw=line.raw,
                cost=self.pricing.of_failure(answer.usage),
            ),
            is_error=self.drive.api.is_failure(line.record, answer),
        )

    def _store_good(self) -> None:
        self._store(completions=self._priced())
        self._good, self._good_bytes = [], 0

    def _priced(self) -> list[CompletedItemRecord]:
        costs = self.pricing.of_answers([answer[_USAGE] for answer in self._good])
        return [_completed((*answer, cost)) for answer, cost in zip(self._good, costs, strict=True)]

    def fail(self, record: ItemFailureRecord, *, is_error: bool) -> None:
        """Keep a bad answer until the files have been read: a good one may follow."""
        if record.custom_id not in self._bad:
            self._bad[record.custom_id] = record
            if is_error:
                self._error_rows.add(record.custom_id)

    def at_hand(self, reading: Reading, *, files: int, gone: int) -> AtHand:
        """What the files hold, once they have been read."""
        errors = [record for name, record in self._bad.items() if name in self._error_rows]
        good = len(self._mine) - len(self.open)
        # rows that the batch owns no more had a line when the files were read before. Of the lines of other rows no more can
        # be theirs, errors first: a row too few among the answered ones is waited for, one too many is bought again
        settled = self.size - len(self._mine)
        settled_errors = min(sum(self._others.values()), settled)
        settled_answers = min(len(self._others) - sum(self._others.values()), settled - settled_errors)
        lost = len(self._others) < min(settled, _MOST_OTHERS)
        return AtHand(
            submitted=self.size,
            missing=len(self.open) - len(self._bad),
            answered=good + len(self._bad) - len(errors) + settled_answers,
            failed=len(errors) + settled_errors,
            would_go_again=sum(record.error.retryable for record in errors),
            unreadable=reading.unreadable,
            strangers=max(0, len(self._others) - settled),
            files=files,
            gone=gone or int(lost),
            is_cut=reading.is_cut,
            is_replaced=reading.is_replaced,
            names_output=bool(self.batch.output_file_id),
        )

    def keep(self, *, holds_failures: bool) -> None:
        """Store what the files hold, and leave the batch as it is."""
        if self._good:
            self._store_good()
        bad = [] if holds_failures else list(self._bad.values())
        for chunk in self._chunks(bad):
            self._store(failures=chunk)

    def _chunks(self, bad: Sequence[ItemFailureRecord]) -> Iterator[Sequence[ItemFailureRecord]]:
        """Failures to be stored together: fewer where each may bring a request along."""
        size = _REPAIR_CHUNK if self.drive.config.retry_policy.repair else CHUNK
        return (bad[start : start + size] for start in range(0, len(bad), size))

    def finish(self, status: str, usage: TokenUsage | None) -> None:
        """Store what is left, give back what no line mentioned, and end the batch."""
        bad = list(self._bad.values())
        missing = [custom_id for custom_id in self.open if custom_id not in self._bad]
        self.missing = len(missing)
        self.again.update(record.error.error_class for record in bad if record.error.retryable)
        if missing:
            self.again[_missing_class(self.batch)] += len(missing)
        steps: list[dict[str, Any]] = [{"completions": self._priced()}] if self._good else []
        steps += [{"failures": chunk} for chunk in self._chunks(bad)]
        steps += [
            {"released_custom_ids": missing[start : start + CHUNK]} for start in range(0, len(missing), CHUNK)
        ]
        end = BatchEnd(status, usage, self.pricing.notes())
        for step in steps[:-1]:
            self._store(**step)
        # the end comes in the same transaction as the last results: a batch is never over before its rows are
        self._store(**(steps[-1] if steps else {}), end=end)

    def _store(self, **what: Any) -> None:
        if "failures" in what:
            what["failures"] = with_reasons(self.drive, what["failures"], self.open)
        done = self.drive.session.apply_outcome(
            provider_batch_id=self.batch.provider_batch_id, max_attempts=self.drive.max_attempts, **what
        )
        self.total = AppliedOutcome(
            self.total.completed + done.completed,
            self.total.failed + done.failed,
            self.total.retrying + done.retrying,
            self.total.released + done.released,
            done.billed,
            self.total.asked_again + done.asked_again,
        )
        if done.completed:
            self.drive.emit(
                "items_completed", provider_batch_id=self.batch.provider_batch_id, count=done.completed
            )
        if done.failed:
            self.drive.emit("items_failed", provider_batch_id=self.batch.provider_batch_id, count=done.failed)
        if done.asked_again:
            self.drive.emit(
                "items_asked_again", provider_batch_id=self.batch.provider_batch_id, count=done.asked_again
            )


def _report(drive: Drive, batch: ActiveBatchRecord, state: BatchState, intake: _Intake) -> None:
    """Emit how the batch ended, and apply the consequences for the run."""
    total = intake.total
    event = "batch_completed" if batch.status == "completed" else "batch_terminal_failure"
    drive.emit(
        event,
        provider_batch_id=batch.provider_batch_id,
        status=batch.status,
        completed=total.completed,
        failed=total.failed,
        retrying=total.retrying,
        missing=intake.missing,
        unknown_lines=intake.strangers,
        usage=None if state.usage is None else asdict(state.usage),
    )
    differing = _differing(state.usage, total.billed)
    if differing:
        drive.emit("batch_usage_differs", provider_batch_id=batch.provider_batch_id, differing=differing)
    if not drive.is_running():
        return
    if intake.pause_reason is not None:
        drive.pause(intake.pause_reason)
    elif total.completed or len(intake._mine) < batch.item_count:
        drive.session.clear_backoff()  # it has brought good answers, now or when its files were read before
    elif batch.status == "failed":
        failure = state.failure or BatchFailure(
            ProviderErrorKind.RETRY, "batch_terminal_failed", "the provider gave no reason"
        )
        # a status code marks it as answered, so that the ceiling applies
        drive.control_plane_failed(
            ProviderError(
                failure.message, kind=failure.kind, error_class=failure.error_class, status_code=400
            )
        )
    elif intake.again and (total.released or total.retrying):  # a row that asks otherwise now need not wait
        said = ", ".join(f"{count} {name}" for name, count in intake.again.most_common())
        drive.hold_back(
            intake.again.most_common(1)[0][0],
            f"batch {batch.provider_batch_id} ended as {batch.status} without a good answer; rows that go again: {said}",
        )


def _differing(stated: TokenUsage | None, billed: TokenUsage | None) -> dict[str, dict[str, int]]:
    """The kinds of tokens for which the provider's total for the batch differs from the sum of its answers."""
    if stated is None or billed is None:
        return {}
    pairs = {kind: (getattr(stated, kind), getattr(billed, kind)) for kind in TOKEN_KINDS}
    # a kind of part that one of them never states is no difference
    return {
        kind: {"stated": whole, "answers": rows}
        for kind, (whole, rows) in pairs.items()
        if whole != rows and ((whole and rows) or kind not in WITHIN)
    }


def _missing_class(batch: ActiveBatchRecord) -> str:
    return "batch_output_missing_row" if batch.status == "completed" else f"batch_terminal_{batch.status}"
