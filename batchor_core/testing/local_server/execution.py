"""Runs the rows of a batch: a slice at a time, streaming from its input to its output and error files."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import orjson

from batchor_core.testing.local_server.faults import Faults
from batchor_core.testing.local_server.protocol import Protocol, WrittenRow
from batchor_core.testing.local_server.records import Batch
from batchor_core.testing.local_server.replies import Reply, ReplyKind, Responder
from batchor_core.testing.local_server.store import Execution, Store

_SLICE = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Row:
    """A request of the batch and where its line ends in the input."""

    custom_id: str
    body: dict[str, Any]
    end: int


class RowRunner:
    """Executes rows with a responder, under row faults, and keeps the books.

    A slice of rows is written to the files first and then registered together with the new progress, in one
    transaction. A process killed in between writes the same slice again over the unregistered bytes.
    """

    def __init__(
        self, store: Store, faults: Faults, responder: Responder, protocol: Protocol, *, seed: int
    ) -> None:
        self.responder = responder
        self._protocol = protocol
        self._store = store
        self._faults = faults
        self._seed = seed

    def take_input(self, batch: Batch) -> None:
        """Keep the input for the batch, so that its file may be deleted while it runs."""
        source, kept = self._store.content_path(batch.input_file_id), self._store.work_path(batch.id, "input")
        kept.unlink(missing_ok=True)
        try:
            os.link(source, kept)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, kept)

    def drop_input(self, batch: Batch) -> None:
        """The batch ended: forget its input."""
        self._store.work_path(batch.id, "input").unlink(missing_ok=True)

    def run(self, batch: Batch, *, until_row: int, now: float) -> Batch:
        """Execute rows until ``until_row`` of them are done."""
        while batch.progress.rows < until_row:
            rows = self._next_rows(batch, min(_SLICE, until_row - batch.progress.rows))
            if not rows:
                break
            batch = self._run_slice(batch, rows, now)
        return batch

    def give_up(self, batch: Batch, reply: Reply, *, now: float) -> Batch:
        """Write ``reply``, an error, for every row that was not executed."""
        while rows := self._next_rows(batch, _SLICE):
            written = [self._write(batch, row, reply, now) for row in rows]
            batch = self._register(batch, rows, written, [])
        return batch

    def _next_rows(self, batch: Batch, count: int) -> list[_Row]:
        path = self._store.work_path(batch.id, "input")
        return list(islice(_rows(path, batch.progress.input_offset), count))

    def _run_slice(self, batch: Batch, rows: list[_Row], now: float) -> Batch:
        faults = self._faults.row_faults()
        before = self._store.times_executed([row.custom_id for row in rows])
        written, executions = [], []
        for row in rows:
            reply = self._answer(row, batch.endpoint)
            fault = (
                self._faults.for_row(faults, row.custom_id, row.body, before[row.custom_id])
                if faults
                else None
            )
            if fault is not None:
                reply = fault.spoil(reply)
            written.append(self._write(batch, row, reply, now))
            if reply.kind is not ReplyKind.NOT_RUN:
                executions.append(Execution(batch.id, row.custom_id, body_hash(row.body), reply.kind.value))
        return self._register(batch, rows, written, executions)

    def _answer(self, row: _Row, endpoint: str) -> Reply:
        if refusal := self._protocol.refusal(row.body, endpoint):
            return refusal
        try:
            reply = self.responder(row.body, endpoint, row.custom_id)
        except Exception as error:
            # the user's function must not stop the server; the row shows what happened
            _log.exception("the responder failed for %r", row.custom_id)
            return Reply.http_error(500, "responder_failed", f"The responder raised {error!r}")
        return Reply.answer(reply) if isinstance(reply, str) else reply

    def _write(self, batch: Batch, row: _Row, reply: Reply, now: float) -> WrittenRow:
        return self._protocol.write_row(
            reply, request=row.body, batch=batch, custom_id=row.custom_id, now=now
        )

    def _register(
        self, batch: Batch, rows: list[_Row], written: list[WrittenRow], executions: list[Execution]
    ) -> Batch:
        done = batch.progress
        # The live service promises no order, so clients must not be given one to lean on.
        shuffled = Random(f"{self._seed}:{batch.id}:{done.rows}").sample(written, len(written))  # noqa: S311
        output = b"".join(row.line for row in shuffled if not row.in_error_file)
        errors = b"".join(row.line for row in shuffled if row.in_error_file)
        _write_at(self._store.work_path(batch.id, "output"), done.output_bytes, output)
        _write_at(self._store.work_path(batch.id, "error"), done.error_bytes, errors)
        failed = sum(row.failed for row in written)
        progress = replace(
            done,
            rows=done.rows + len(rows),
            completed=done.completed + len(rows) - failed,
            failed=done.failed + failed,
            input_offset=rows[-1].end,
            output_bytes=done.output_bytes + len(output),
            error_bytes=done.error_bytes + len(errors),
        )
        tokens = batch.tokens
        for row in written:
            tokens = tokens + row.tokens
        batch = replace(batch, progress=progress, tokens=tokens)
        with self._store.transaction():
            self._store.add_executions(executions)
            self._store.save_batch(batch)
        return batch


def body_hash(body: dict[str, Any]) -> str:
    """SHA-256 of a request body, whatever the order of its keys: the same work has the same hash."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _request_lines(path: Path, offset: int) -> Iterator[tuple[int, bytes]]:
    """``(offset after the line, line)`` for each line from ``offset`` on that is not blank."""
    with path.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            offset += len(line)
            if line.strip():
                yield offset, line


def _rows(path: Path, offset: int) -> Iterator[_Row]:
    for end, line in _request_lines(path, offset):
        row = orjson.loads(line)
        yield _Row(row["custom_id"], row["body"], end)


def _write_at(path: Path, offset: int, content: bytes) -> None:
    """Write ``content`` at ``offset`` and drop whatever lay beyond it."""
    if not content:
        return
    with path.open("r+b" if path.exists() else "wb") as stream:
        stream.truncate(offset)
        stream.seek(offset)
        stream.write(content)
