"""The server's memory: files on disk, everything else in one SQLite database beside them.

A state directory that is kept lets a new process carry on where the last one was killed. Writes are not
synced: the state survives the end of the process, not the end of the machine.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter

from batchor_core.testing.local_server.records import OPEN, Batch, StoredFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, purpose TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0, fields BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at REAL NOT NULL,
    open INTEGER NOT NULL, fields BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS executions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, batch_id TEXT NOT NULL, custom_id TEXT NOT NULL,
    body_sha256 TEXT NOT NULL, outcome TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS executions_by_custom_id ON executions (custom_id);
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    status INTEGER, fault TEXT);
"""
_PAGE = 1_000
_BATCH = TypeAdapter(Batch)


class Execution(NamedTuple):
    """A row that was really executed, hence paid unless ``outcome`` is an error of its own.

    ``outcome`` is a value of :class:`~batchor_core.testing.local_server.replies.ReplyKind`.
    """

    batch_id: str
    custom_id: str
    body_sha256: str
    outcome: str


class LoggedRequest(NamedTuple):
    """A request that reached the server. ``status`` is None if it was cut off unanswered."""

    at: float
    method: str
    path: str
    status: int | None
    fault: str | None


class Store:
    """Files, batches, executions and requests of one server.

    ``lock`` makes a sequence of calls one step; every method takes it by itself.
    """

    def __init__(self, directory: Path) -> None:
        self.lock = threading.RLock()
        self._contents = directory / "files"
        self._work = directory / "work"
        for folder in (directory, self._contents, self._work):
            folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            directory / "state.db", isolation_level=None, check_same_thread=False, timeout=30
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database. The directory stays."""
        with self.lock:
            self._db.close()

    def clear(self) -> None:
        """Forget everything."""
        with self.transaction():
            for table in ("files", "batches", "executions", "requests"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608
            for folder in (self._contents, self._work):
                for path in folder.iterdir():
                    path.unlink()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing for the writes inside."""
        with self.lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # -- files -------------------------------------------------------------------------------------

    def content_path(self, file_id: str) -> Path:
        """Where the bytes of a file are."""
        return self._contents / file_id

    def work_path(self, batch_id: str, name: str) -> Path:
        """Where a running batch keeps ``name``: ``input``, ``output`` or ``error``."""
        return self._work / f"{batch_id}.{name}"

    def add_file(self, file: StoredFile) -> None:
        """Register a file whose content is in place. Doing it again changes nothing."""
        with self.lock:
            self._db.execute(
                "INSERT OR IGNORE INTO files (id, purpose, fields) VALUES (?, ?, ?)",
                (file.id, file.purpose, orjson.dumps(file)),
            )

    def file(self, file_id: str) -> StoredFile | None:
        """The file, None if there is none or it was deleted."""
        rows = self._rows("SELECT fields FROM files WHERE id = ? AND NOT deleted", file_id)
        return StoredFile(**orjson.loads(rows[0][0])) if rows else None

    def delete_file(self, file_id: str) -> None:
        """Drop a file and its content."""
        with self.lock:
            self._db.execute("UPDATE files SET deleted = 1 WHERE id = ?", (file_id,))
            self.content_path(file_id).unlink(missing_ok=True)

    def files(self, *, purpose: str | None = None, deleted: bool = False) -> list[StoredFile]:
        """Files in the order of their creation; with ``deleted``, those that are gone as well."""
        rows = self._rows(
            "SELECT fields FROM files WHERE (? IS NULL OR purpose = ?) AND (? OR NOT deleted) ORDER BY seq",
            purpose,
            purpose,
            deleted,
        )
        return [StoredFile(**orjson.loads(fields)) for (fields,) in rows]

    # -- batches -----------------------------------------------------------------------------------

    def add_batch(self, batch: Batch) -> None:
        """Register a new batch."""
        with self.lock:
            self._db.execute(
                "INSERT INTO batches (id, created_at, open, fields) VALUES (?, ?, 1, ?)",
                (batch.id, batch.created_at, orjson.dumps(batch)),
            )

    def save_batch(self, batch: Batch) -> None:
        """Replace what is known of a batch."""
        with self.lock:
            self._db.execute(
                "UPDATE batches SET open = ?, fields = ? WHERE id = ?",
                (batch.status in OPEN, orjson.dumps(batch), batch.id),
            )

    def batch(self, batch_id: str) -> Batch | None:
        """The batch as last saved."""
        rows = self._rows("SELECT fields FROM batches WHERE id = ?", batch_id)
        return _BATCH.validate_json(rows[0][0]) if rows else None

    def batches(self, *, only_open: bool = False, oldest_first: bool = False) -> Iterator[Batch]:
        """Batches, newest first unless told otherwise, read one by one."""
        direction = "ASC" if oldest_first else "DESC"
        statement = f"SELECT id FROM batches WHERE open OR NOT ? ORDER BY seq {direction}"  # noqa: S608
        ids = self._rows(statement, only_open)
        for (batch_id,) in ids:
            batch = self.batch(batch_id)
            if batch is not None:
                yield batch

    def batches_created_since(self, instant: float) -> int:
        """How many batches are younger than ``instant``."""
        return int(self._rows("SELECT count(*) FROM batches WHERE created_at > ?", instant)[0][0])

    # -- books -------------------------------------------------------------------------------------

    def add_executions(self, executions: Iterable[Execution]) -> None:
        """Write down rows that were executed."""
        with self.lock:
            self._db.executemany(
                "INSERT INTO executions (batch_id, custom_id, body_sha256, outcome) VALUES (?, ?, ?, ?)",
                executions,
            )

    def times_executed(self, custom_ids: Sequence[str]) -> Counter[str]:
        """How often each of the ids was executed so far."""
        rows = self._rows(
            "SELECT custom_id, count(*) FROM executions"
            " WHERE custom_id IN (SELECT value FROM json_each(?)) GROUP BY custom_id",
            orjson.dumps(custom_ids).decode(),
        )
        return Counter(dict(rows))

    def count_executions_by(self, column: str, *, more_than: int = 0) -> Counter[str]:
        """How many executions there were for each value of ``column``, where that exceeds ``more_than``."""
        _check_column(column)
        counts = f"SELECT {column}, count(*) FROM executions GROUP BY {column}"  # noqa: S608
        return Counter(dict(self._rows(f"{counts} HAVING count(*) > ?", more_than)))

    def count_executions_of(self, batch_id: str) -> int:
        """How many executions there were in a batch."""
        return int(self._rows("SELECT count(*) FROM executions WHERE batch_id = ?", batch_id)[0][0])

    def count_distinct(self, column: str) -> int:
        """How many different values of ``column`` the executions have."""
        _check_column(column)
        return int(self._rows(f"SELECT count(DISTINCT {column}) FROM executions")[0][0])  # noqa: S608

    def executions(self) -> Iterator[Execution]:
        """Every execution, in order, read by pages."""
        for row in self._pages("SELECT seq, batch_id, custom_id, body_sha256, outcome FROM executions"):
            yield Execution(*row)

    def log_request(self, request: LoggedRequest) -> None:
        """Write down a request."""
        with self.lock:
            self._db.execute(
                "INSERT INTO requests (at, method, path, status, fault) VALUES (?, ?, ?, ?, ?)", request
            )

    def requests(self) -> Iterator[LoggedRequest]:
        """Every request, in order, read by pages."""
        for row in self._pages("SELECT seq, at, method, path, status, fault FROM requests"):
            yield LoggedRequest(*row)

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.lock:
            return self._db.execute(statement, values).fetchall()

    def _pages(self, statement: str) -> Iterator[tuple[Any, ...]]:
        last = 0
        while rows := self._rows(f"{statement} WHERE seq > ? ORDER BY seq LIMIT {_PAGE}", last):
            last = rows[-1][0]
            yield from (row[1:] for row in rows)


def _check_column(column: str) -> None:
    """Names of columns become part of a statement, so only known ones may."""
    if column not in Execution._fields:
        raise ValueError(f"executions have no {column!r}")
