"""Taking in what an ended batch brought: its files, line by line, into results.

A batch's lines are matched by ``custom_id`` with the items that the batch still owns, so that doing it again after a crash
changes nothing. Results are stored in chunks, and the batch's own end with the last chunk: only then is it over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
from pydantic import BaseModel

from batchor_core.core.batch_failure import judge_failed_batch
from batchor_core.core.exceptions import ProviderError, StructuredOutputError
from batchor_core.core.jsontext import loads_exactly
from batchor_core.core.models import ItemFailure
from batchor_core.core.outcome import Answer, names_two_rows, parse_line
from batchor_core.core.structured import parse_structured_output
from batchor_core.core.types import BatchRemoteRecord, JSONObject
from batchor_core.core.usage import usage_from_body
from batchor_core.runtime.engine import Drive, as_provider_error, log
from batchor_core.runtime.line_size import LONG_LINE_BYTES, MAX_LINE_BYTES, fits_memory
from batchor_core.storage.state import (
    ActiveBatchRecord,
    AppliedOutcome,
    BatchArtifactPointer,
    BatchEnd,
    CompletedItemRecord,
    ItemFailureRecord,
    RawResponseRef,
)

CHUNK = 2_000
"""Results stored per transaction, unless LONG_LINE_BYTES are reached before. Of half as many, each row takes a twentieth
longer."""

_READ_BUFFER = 1 << 18
_SKIP_BYTES = 1024 * 1024
_BAD_BYTES = 32 * 1024 * 1024
"""Bad answers wait for the end of the files. Of so many the words are kept; of any more only what went wrong, besides the
line in the artifact."""


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One of a batch's two files, here on disk."""

    path: Path
    is_error_file: bool
    artifact_key: str | None
    """Where it is kept; None if the job keeps no raw files."""


@dataclass(frozen=True, slots=True)
class Download:
    """A batch's files, output first."""

    files: list[BatchFile]


def download(drive: Drive, batch: ActiveBatchRecord, folder: Path) -> Download:
    """Fetch the files of an ended batch, whole, and keep them as artifacts. May run in another thread."""
    wanted = (("output", batch.output_file_id), ("error", batch.error_file_id))
    keep = drive.config.artifact_policy.persist_raw_output_artifacts
    files = []
    for name, file_id in wanted:
        if not file_id:
            continue
        key = f"{drive.run_id}/responses/{batch.local_batch_id or batch.provider_batch_id}.{name}.jsonl"
        path = folder / f"{batch.provider_batch_id}.{name}.jsonl"
        # an artifact exists whole or not at all, so one from before a crash is as good as a new download
        if not (keep and drive.artifacts.exists(key)):
            _fetch(drive, file_id, path)
            if keep:
                drive.artifacts.put_file(key, path)
        files.append(BatchFile(path, name == "error", key if keep else None))
    return Download(files)


def _fetch(drive: Drive, file_id: str, path: Path) -> None:
    to_path = drive.hooks.download_to_path
    if to_path is not None:
        to_path(file_id, path)
    else:
        path.write_bytes(drive.provider.download_file_content(file_id).encode("utf-8", "surrogatepass"))


def harvest(drive: Drive, batch: ActiveBatchRecord, record: BatchRemoteRecord, download: Download) -> None:
    """Store every result of an ended batch, and its end."""
    _record_artifacts(drive, batch, download)
    owned = drive.session.submitted_items(provider_batch_id=batch.provider_batch_id)
    intake = _Intake(drive, batch, owned, drive.is_structured, drive.model() if drive.is_structured else None)
    for line in _streamed(drive, download) if drive.hooks.download_to_path else _parsed(drive, download):
        intake.take(line)
        del line  # a giant one must not stay while the next is read
    if batch.status == "failed":
        _fail_bad_lines(intake, record)
    if batch.input_file_id:
        # before the batch is over: after a crash in between, the next driver is here again, and deletes it again
        with suppress(Exception):  # tidying up; the file expires by itself
            drive.provider.delete_input_file(batch.input_file_id)
    intake.finish(BatchEnd(batch.status, usage_from_body(dict(record))))
    _report(drive, batch, record, intake)


def _record_artifacts(drive: Drive, batch: ActiveBatchRecord, download: Download) -> None:
    keys = {file.is_error_file: file.artifact_key for file in download.files}
    if any(keys.values()):
        pointer = BatchArtifactPointer(batch.provider_batch_id, keys.get(False), keys.get(True))
        drive.store.record_batch_artifacts(run_id=drive.run_id, pointers=[pointer])


class _Line(NamedTuple):
    """One line of a batch's files.

    ``raw`` says where it lies in the kept file; None if there is no such file, or if the line is not strict JSON and has
    to be kept as it was understood. ``length`` is about its share of memory.
    """

    answer: Answer
    record: JSONObject
    raw: RawResponseRef | None
    length: int


def _streamed(drive: Drive, download: Download) -> Iterator[_Line]:
    """Line by line, whatever the size of the files. Rows of lines that can't be read are found missing in the end."""
    read_record = drive.hooks.read_record
    for file in download.files:
        is_kept = file.artifact_key is not None
        with _local_path(drive, file) as path, path.open("rb", buffering=_READ_BUFFER) as lines:
            offset = 0
            while True:
                length, line = _bounded_line(lines)
                if not length:
                    break
                record, is_strict = (None, False) if line is None else _decoded(line)
                line = None  # a giant one must not stay beside what was made of it
                if record is not None:
                    try:
                        answer = read_record(record)
                    except Exception:  # one line that a provider's reader stumbles over is not the batch
                        log.debug("a line could not be read", exc_info=True)
                    else:
                        kept = is_kept and is_strict
                        raw = RawResponseRef(file.is_error_file, offset, length) if kept else None
                        yield _Line(answer, record, raw, length)
                        del answer  # as above
                record = None
                offset += length


def _bounded_line(file: BinaryIO) -> tuple[int, bytes | None]:
    """The next line with its length; of one that is too long the length alone, without ever having the whole in memory.

    The length is 0 at the end. Binary lines end at \\n alone; text lines would also end at U+2028 and U+0085, which models
    write.
    """
    line = file.readline(MAX_LINE_BYTES + 1)
    length = len(line)
    if length <= MAX_LINE_BYTES:
        return length, line if fits_memory(line) else None
    while not line.endswith(b"\n") and (line := file.readline(_SKIP_BYTES)):
        length += len(line)
    return length, None


def _decoded(line: bytes) -> tuple[JSONObject | None, bool]:
    if names_two_rows(line):
        return None, False
    try:
        record = orjson.loads(line)
    except ValueError:
        return None if len(line) >= LONG_LINE_BYTES else parse_line(line), False
    return (record if isinstance(record, dict) else None), True


def _parsed(drive: Drive, download: Download) -> Iterator[_Line]:
    """Both files at once, by the provider's own method: for providers that have the documented methods alone."""
    texts: dict[bool, str] = {}
    for file in download.files:
        with _local_path(drive, file) as path:
            texts[file.is_error_file] = path.read_bytes().decode("utf-8", "surrogatepass")
    try:
        successes, errors, _ = drive.provider.parse_batch_output(
            output_content=texts.get(False), error_content=texts.get(True)
        )
    except Exception as raised:
        raise as_provider_error(raised) from raised
    for custom_id, record in successes.items():
        yield _Line(drive.hooks.read_record(record)._replace(custom_id=custom_id), record, None, 0)
    for custom_id, record in errors.items():
        answer = drive.hooks.read_record(record)._replace(custom_id=custom_id)
        if answer.failure is None:  # the provider knows better
            failure = ItemFailure(
                "provider_item_error", "the provider reports an error", True, raw_error=record
            )
            answer = answer._replace(failure=failure)
        yield _Line(answer, record, None, 0)


@contextmanager
def _local_path(drive: Drive, file: BatchFile) -> Iterator[Path]:
    if file.artifact_key is None:
        yield file.path
    else:
        with drive.artifacts.stage_local_copy(file.artifact_key) as path:
            yield path


def _fail_bad_lines(intake: _Intake, record: BatchRemoteRecord) -> None:
    """Lines that the provider will never accept end here, since they would fail every batch they are in."""
    bad_lines = judge_failed_batch(record.get("errors")).bad_lines
    # nothing of a failed batch was run, so its items are all still there, in the order of its lines; if some are gone,
    # a crash came between, their lines are dealt with, and the numbers fit the rest no more
    if not bad_lines or intake.batch.item_count not in (0, len(intake.open)):
        return
    for number, custom_id in enumerate(sorted(intake.open, key=intake.open.__getitem__), 1):
        if number in bad_lines:
            failure = ItemFailure("provider_item_error", bad_lines[number], retryable=False)
            intake.fail(ItemFailureRecord(custom_id, failure))


@dataclass(slots=True)
class _Intake:
    """Collects answers and stores them in chunks."""

    drive: Drive
    batch: ActiveBatchRecord
    open: dict[str, int]
    """Indexes of the items that the batch still owns and that have no good answer yet, by custom_id."""
    is_structured: bool
    model: type[BaseModel] | None
    """What answers are checked with: see :meth:`Drive.model`."""
    total: AppliedOutcome = field(default_factory=AppliedOutcome)
    pause_reason: str | None = None
    strangers: int = 0
    missing: int = 0
    _good: list[CompletedItemRecord] = field(default_factory=list)
    _good_bytes: int = 0
    _bad: dict[str, ItemFailureRecord] = field(default_factory=dict)
    _bad_bytes: int = 0

    def take(self, line: _Line) -> None:
        """One line of a file. The first good answer of a row wins, and any good answer over a bad one."""
        answer = line.answer
        if answer.custom_id not in self.open:
            self.strangers += 1
            return
        failure = answer.failure or self._unusable(answer)
        # what is as long is kept in its file or not at all: compressing it would take as much memory again
        raw_response = line.record if line.raw is None and line.length < LONG_LINE_BYTES else None
        if failure is None:
            self.open.pop(answer.custom_id)
            self._bad.pop(answer.custom_id, None)
            # full chunks are stored when there is more to come: the last rows have to take the batch's end with them
            if len(self._good) >= CHUNK:
                self._store_good()
            self._good.append(
                CompletedItemRecord(
                    answer.custom_id,
                    answer.text,
                    raw_response,
                    None,
                    answer.usage,
                    line.raw,
                    self.is_structured,
                )
            )
            self._good_bytes += line.length
            if self._good_bytes >= LONG_LINE_BYTES and self.open:  # there is more to come here too
                self._store_good()
            return
        self.pause_reason = self.pause_reason or answer.pause_reason
        self._bad_bytes += line.length
        if self._bad_bytes >= _BAD_BYTES:
            failure, raw_response = replace(failure, raw_error=None), None
            answer = answer._replace(text=None)
        self.fail(
            ItemFailureRecord(
                answer.custom_id,
                failure,
                count_attempt=answer.count_attempt,
                output_text=answer.text,
                raw_response=raw_response,
                usage=answer.usage,
                raw=line.raw,
            )
        )

    def _store_good(self) -> None:
        self._store(completions=self._good)
        self._good, self._good_bytes = [], 0

    def fail(self, record: ItemFailureRecord) -> None:
        """Keep a bad answer until the files have been read: a good one may follow."""
        self._bad.setdefault(record.custom_id, record)

    def finish(self, end: BatchEnd) -> None:
        """Store what is left, give back what no line mentioned, and end the batch."""
        bad = list(self._bad.values())
        missing = [custom_id for custom_id in self.open if custom_id not in self._bad]
        self.missing = len(missing)
        steps: list[dict[str, Any]] = [{"completions": self._good}] if self._good else []
        steps += [{"failures": bad[start : start + CHUNK]} for start in range(0, len(bad), CHUNK)]
        steps += [
            {"released_custom_ids": missing[start : start + CHUNK]} for start in range(0, len(missing), CHUNK)
        ]
        for step in steps[:-1]:
            self._store(**step)
        # the end comes in the same transaction as the last results: a batch is never over before its rows are
        self._store(**(steps[-1] if steps else {}), end=end)

    def _unusable(self, answer: Answer) -> ItemFailure | None:
        """Why a good answer is not what the job wants, if it is not."""
        if not self.is_structured:
            return None
        text = answer.text or ""
        try:
            if self.model is not None:
                parse_structured_output(text, self.model)
            else:
                loads_exactly(text.encode())  # a number that a double can't hold is JSON too
        except StructuredOutputError as error:
            return ItemFailure(error.error_class, error.message, retryable=True, raw_error=error.raw_error)
        except ValueError as error:
            return ItemFailure("invalid_json", str(error), retryable=True)
        return None

    def _store(self, **what: Any) -> None:
        done = self.drive.session.apply_outcome(
            provider_batch_id=self.batch.provider_batch_id, max_attempts=self.drive.max_attempts, **what
        )
        self.total = AppliedOutcome(
            self.total.completed + done.completed,
            self.total.failed + done.failed,
            self.total.retrying + done.retrying,
            self.total.released + done.released,
        )
        if done.completed:
            self.drive.emit(
                "items_completed", provider_batch_id=self.batch.provider_batch_id, count=done.completed
            )
        if done.failed:
            self.drive.emit("items_failed", provider_batch_id=self.batch.provider_batch_id, count=done.failed)


def _report(drive: Drive, batch: ActiveBatchRecord, record: BatchRemoteRecord, intake: _Intake) -> None:
    """Say how the batch ended, and draw the consequences for the run."""
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
    )
    if not drive.is_running():
        return
    if intake.pause_reason is not None:
        drive.pause(intake.pause_reason)
    elif total.completed:
        drive.session.clear_backoff()
    elif batch.status == "failed":
        verdict = judge_failed_batch(record.get("errors"))
        # a status code marks it as answered, so that the ceiling applies
        drive.control_plane_failed(
            ProviderError(
                verdict.message, kind=verdict.kind, error_class=verdict.error_class, status_code=400
            )
        )
    elif total.released or total.retrying:
        error_class = (
            "batch_output_missing_row" if batch.status == "completed" else f"batch_terminal_{batch.status}"
        )
        drive.hold_back(
            error_class, f"batch {batch.provider_batch_id} ended as {batch.status} without a good answer"
        )
