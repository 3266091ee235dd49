"""The write-ahead log: who carries it over, how long it gets, and what is said of a writer that stands still."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from batchor_core.core.exceptions import StorageError
from batchor_core.storage import sqlite, sqlite_wal
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.sqlite_wal import holder_of, reaches, writer_of
from tests.contract.stores.kit import RUN, create

PAGE = 16_384
COMMITS = 120


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A file whose log nobody carries over unasked; each insertion writes one page."""
    with closing(sqlite3.connect(tmp_path / "plain.sqlite3", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE t (x)")
        yield connection


def test_the_length_of_a_log_is_seen_without_asking_sqlite(plain: sqlite3.Connection, tmp_path: Path) -> None:
    wal = tmp_path / "plain.sqlite3-wal"
    for _ in range(10):
        plain.execute("INSERT INTO t VALUES (1)")
    _, frames, copied = plain.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert frames == copied > 10
    assert [reaches(wal, frames), reaches(wal, frames + 1)] == [True, False]
    plain.execute("INSERT INTO t VALUES (1)")  # starts the log anew, over the old one
    assert wal.stat().st_size > frames * PAGE
    assert [reaches(wal, 1), reaches(wal, frames)] == [True, False]
    assert not reaches(tmp_path / "nowhere", 1)


def test_the_log_is_carried_over_while_nobody_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite before 3.51.3 may lose what others write at that very moment."""
    monkeypatch.setattr(sqlite_wal, "LONG_LOG_FRAMES", 3)
    path = tmp_path / "runs.sqlite3"
    store = SQLiteStorage(path=path)
    could_write: list[bool] = []

    def look(statement: str) -> None:
        if "wal_checkpoint" in statement:
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    could_write.append(False)
                else:
                    could_write.append(True)

    store.engine.dispose()
    event.listen(store.engine, "connect", lambda raw, record: raw.set_trace_callback(look))
    create(store, 5)
    assert could_write
    assert not any(could_write)
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one() == 0
    store.close()


def test_a_log_that_can_not_be_carried_over_costs_nobody_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_wal, "LONG_LOG_FRAMES", 1)
    store = SQLiteStorage(path=tmp_path / "runs.sqlite3")

    def refuse(raw: Any, record: object) -> None:
        raw.set_authorizer(
            lambda action, name, *_: sqlite3.SQLITE_DENY if name == "wal_checkpoint" else sqlite3.SQLITE_OK
        )

    store.engine.dispose()
    event.listen(store.engine, "connect", refuse)
    create(store, 5)
    assert "could not be carried over" in caplog.text
    assert store.get_run_summary(run_id=RUN).total_items == 5
    store.close()


def test_reading_carries_nothing_over_and_an_old_reader_only_delays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_wal, "LONG_LOG_FRAMES", 20)
    path, wal = tmp_path / "runs.sqlite3", tmp_path / "runs.sqlite3-wal"
    store = SQLiteStorage(path=path)
    create(store, 5)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        for _ in range(60):
            _count(store)
        assert reaches(wal, 60), "what the reader sees has to stay"
        reader.execute("COMMIT")
    before = wal.stat().st_mtime_ns
    for _ in range(50):
        store.get_run_summary(run_id=RUN)
    assert wal.stat().st_mtime_ns == before
    _count(store)
    _count(store)
    assert not reaches(wal, 20)
    store.close()


def _count(store: SQLiteStorage) -> None:
    store.record_batch_retry_failure(run_id=RUN, error_class="x", base_delay_sec=0, max_delay_sec=0)


COUNTS = """
import sys
from batchor_core.storage import sqlite_wal
from batchor_core.storage.sqlite import SQLiteStorage
sqlite_wal.LONG_LOG_FRAMES = 50
store = SQLiteStorage(path=sys.argv[1])
while True:
    store.record_batch_retry_failure(run_id="run-1", error_class="x" * 20_000, base_delay_sec=0, max_delay_sec=0)
    print("+", flush=True)
"""
LOOKS = """
import sys, time
from batchor_core.storage.sqlite import SQLiteStorage
store = SQLiteStorage(path=sys.argv[1])
while True:
    store.get_run_summary(run_id="run-1")
    time.sleep(0.002)
"""


def test_with_processes_that_write_read_and_are_killed_the_log_stays_short(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite3"
    store = SQLiteStorage(path=path)
    create(store, 1)
    acknowledged = largest = 0
    readers = [_process(LOOKS, path, tmp_path / "read")]
    try:
        for round_ in range(2):
            said = [tmp_path / f"{round_}-{n}" for n in range(2)]
            writers = [_process(COUNTS, path, output) for output in said]
            deadline = time.monotonic() + 60
            while sum(output.stat().st_size for output in said) < 2 * COMMITS:
                assert time.monotonic() < deadline
                largest = max(largest, (tmp_path / "runs.sqlite3-wal").stat().st_size)
                time.sleep(0.01)
            for writer in writers:
                _kill(writer)
            acknowledged += sum(output.stat().st_size // 2 for output in said)
            with closing(sqlite3.connect(path)) as look:
                assert look.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        for reader in readers:
            _kill(reader)
    counted = store.get_retry_backoff(run_id=RUN).total_failures
    assert acknowledged <= counted <= acknowledged + 4, "each of four may have died before it said so"
    assert largest < 150 * PAGE, f"the log grew through all {counted} commits"
    store.close()


def _process(script: str, path: Path, output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=file)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_the_warning_is_for_those_who_bring_an_engine_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    sqlite._warn_of_wal_reset_bug.cache_clear()
    SQLiteStorage(path=tmp_path / "a.sqlite3").close()
    SQLiteStorage(engine=create_engine("sqlite://")).close()
    assert "WAL-reset" not in caplog.text
    for _ in range(2):
        SQLiteStorage(engine=create_engine(f"sqlite:///{tmp_path / 'b.sqlite3'}")).close()
    assert len([record for record in caplog.records if "WAL-reset" in record.message]) == 1


# --- a writer that stands still --------------------------------------------------------------------------------------

LOCKS = """
1: POSIX  ADVISORY  READ 10 08:01:77 124 124
2: POSIX  ADVISORY  WRITE 11 08:01:77 121 121
3: FLOCK  ADVISORY  WRITE 12 08:01:77 0 EOF
4: POSIX  ADVISORY  WRITE 13 08:01:78 120 120
4: -> POSIX  ADVISORY  WRITE 14 08:01:77 120 120
5: POSIX  ADVISORY  WRITE 15 08:01:77 120 120
6: POSIX  ADVISORY  WRITE 16 08:01:79 0 EOF
7: POSIX  ADVISORY  WRITE 0 08:01:80 120 120
broken
"""


@pytest.mark.parametrize(
    ("inode", "pid"),
    [(77, 15), (78, 13), (79, 16), (80, None), (7, None)],
    ids=["among others", "alone", "the whole file", "of another namespace", "nobody"],
)
def test_the_holder_of_the_write_lock_is_found(inode: int, pid: int | None) -> None:
    assert holder_of(inode, LOCKS) == pid


WRITES = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("writing", flush=True)
sys.stdin.read()
connection.execute("COMMIT")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_stopped_writer_is_named_and_all_goes_on_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SEC", 0.2)
    path = tmp_path / "runs.sqlite3"
    store = SQLiteStorage(path=path)
    create(store, 1)
    assert writer_of(path) is None
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        with pytest.raises(StorageError, match=rf"process {writer.pid}: if it hangs") as caught:
            _count(store)
        assert caught.value.is_passing
        os.kill(writer.pid, signal.SIGSTOP)
        os.waitpid(writer.pid, os.WUNTRACED)
        with pytest.raises(StorageError, match=rf"kill -CONT {writer.pid}") as caught:
            _count(store)
        assert caught.value.is_passing, "wait() goes on"
        store.get_run_summary(run_id=RUN)  # reading does not wait
        os.kill(writer.pid, signal.SIGCONT)
        writer.stdin.close()
        writer.wait()
    _count(store)
    store.close()
