"""SQLite's file: where it may lie, who may read it, how safely it is written, and what a fork does to it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.storage import sqlite
from batchor_core.storage.sqlite import OVERRIDE, SQLiteStorage, filesystem_of, has_wal_reset_bug
from tests.contract.stores.kit import RUN, create

MOUNTS = r"""
22 1 0:21 / / rw - ext4 /dev/sda1 rw
30 22 0:25 / /mnt rw - nfs4 server:/export rw
31 30 0:26 / /mnt/local rw shared:3 - xfs /dev/sdb rw
32 22 0:27 / /mnt/with\040blank rw - cifs //server/share rw
33 22 0:28 / /home rw - ext4 /dev/sdc rw
34 22 0:29 / /home rw - fuse.sshfs host:/home rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/runs.sqlite3", "ext4"),
        ("/mnt/runs.sqlite3", "nfs4"),
        ("/mnt", "nfs4"),
        ("/mnt/local/deep/er/runs.sqlite3", "xfs"),
        ("/mnt/with blank/runs.sqlite3", "cifs"),
        ("/mnt/with", "nfs4"),
        ("/mntx/runs.sqlite3", "ext4"),
        ("/home/me/runs.sqlite3", "fuse.sshfs"),  # of two mounts on one point the later one is seen
    ],
)
def test_the_file_system_of_a_path_is_found(path: str, kind: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_unless_insisted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "filesystem_of", lambda path, mounts: "nfs4")
    path = tmp_path / "runs.sqlite3"
    with pytest.raises(StorageError, match=rf"nfs4.*PostgresStorage.*{OVERRIDE}"):
        SQLiteStorage(path=path)
    assert not path.exists()
    monkeypatch.setenv(OVERRIDE, "1")
    SQLiteStorage(path=path).close()
    assert path.exists()


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(version: tuple[int, int, int], affected: bool) -> None:
    assert has_wal_reset_bug(version) is affected


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_files_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    with umask(0o000):
        store = SQLiteStorage(path=tmp_path / "made" / "runs.sqlite3")
        create(store, 3)
        artifacts = LocalArtifactStore(tmp_path / "made" / "artifacts")
        artifacts.write_text("run/requests/a.jsonl", "{}")
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in sorted((tmp_path / "made").rglob("*"))
            if path.is_file()
        }
        folders = [
            stat.S_IMODE(path.stat().st_mode)
            for path in [tmp_path / "made", *(tmp_path / "made").rglob("*")]
            if path.is_dir()
        ]
        store.close()
    assert {"runs.sqlite3", "runs.sqlite3-wal", "runs.sqlite3-shm", "a.jsonl"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    assert set(folders) == {0o700}


def test_commits_are_synced_and_writers_lock_at_once(tmp_path: Path) -> None:
    store = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    create(store, 1)
    statements: list[str] = []
    with store.engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
        raw: Any = connection.connection.driver_connection
        raw.set_trace_callback(statements.append)
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 60_000}
    store.clear_batch_retry_backoff(run_id=RUN)
    store.record_batch_retry_failure(run_id=RUN, error_class="x", base_delay_sec=1, max_delay_sec=1)
    begins = {statement for statement in statements if statement.startswith("BEGIN")}
    assert "BEGIN IMMEDIATE" in begins
    assert all(statement in ("BEGIN", "BEGIN IMMEDIATE") for statement in begins)
    store.close()


def test_what_one_file_has_compiled_no_other_compiles_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live(path: Path) -> None:
        with closing(SQLiteStorage(path=path)) as store:
            create(store, 2)
            store.get_item_records(run_id=RUN)

    live(tmp_path / "first.sqlite3")
    monkeypatch.setattr(SQLiteCompiler, "__init__", lambda *_arguments, **_options: pytest.fail("compiled"))
    live(tmp_path / "second.sqlite3")


def test_a_child_process_uses_connections_of_its_own(tmp_path: Path) -> None:
    """POSIX locks belong to a process: a connection that both use is a corrupt file some day."""
    store = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    create(store, 1)
    assert store.engine.pool.checkedin() > 0  # type: ignore[attr-defined]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        try:
            inherited = store.engine.pool.checkedin()  # type: ignore[attr-defined]
            store.record_batch_retry_failure(
                run_id=RUN, error_class="child", base_delay_sec=1, max_delay_sec=1
            )
            os.write(writing, b"%d" % inherited)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 10) == b"0"
    os.close(reading)
    assert store.get_retry_backoff(run_id=RUN).last_error_class == "child"
    store.record_batch_retry_failure(run_id=RUN, error_class="parent", base_delay_sec=1, max_delay_sec=1)
    store.close()


def test_threads_take_turns_without_being_told_that_it_is_locked(tmp_path: Path) -> None:
    stores = [SQLiteStorage(path=tmp_path / "runs.sqlite3") for _ in range(4)]
    create(stores[0], 0)
    failures: list[BaseException] = []

    def count(store: SQLiteStorage) -> None:
        try:
            for _ in range(25):
                store.record_batch_retry_failure(
                    run_id=RUN, error_class="x", base_delay_sec=0, max_delay_sec=0
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=count, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stores[0].get_retry_backoff(run_id=RUN).total_failures == 100
    for store in stores:
        store.close()


def test_a_lock_that_does_not_come_in_time_is_a_passing_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SEC", 0.05)
    store = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    create(store, 1)
    other = sqlite3.connect(tmp_path / "runs.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError) as caught:
        create(store, 1, run_id="another")
    assert caught.value.is_passing
    other.execute("ROLLBACK")
    other.close()
    create(store, 1, run_id="another")
    store.close()


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "a\0b", "..", "."])
def test_a_store_name_is_no_path(name: str) -> None:
    with pytest.raises(InvalidInputError):
        SQLiteStorage.default_path(name)


LIMITED = """
import resource, sys
from batchor_core.core.exceptions import StorageError
from batchor_core.storage.sqlite import SQLiteStorage
from tests.contract.stores.kit import RUN, create

def count():
    store.record_batch_retry_failure(run_id=RUN, error_class="x" * 30_000, base_delay_sec=0, max_delay_sec=0)

store = SQLiteStorage(path=sys.argv[1])
create(store, 1)
count()
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
counted = 1
try:
    while counted < 1_000:
        count()
        counted += 1
except StorageError as error:
    assert "ulimit -f" in str(error) and not error.is_passing, error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
count()
assert store.get_retry_backoff(run_id=RUN).total_failures == counted + 1 < 1_000
with store.database.read() as connection:
    assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
"""

READ_ONLY = """
import os, sys
from pathlib import Path
from batchor_core.core.exceptions import StorageError
from batchor_core.storage.sqlite import SQLiteStorage
from tests.contract.stores.kit import RUN, create

path = Path(sys.argv[1])
store = SQLiteStorage(path=path)
create(store, 1)
store.close()
path.chmod(0o444)
path.parent.chmod(0o555)
if os.getuid() == 0:
    path.parent.parent.chmod(0o755)
    os.setgid(65534)
    os.setuid(65534)
for name in (path.name, "new.sqlite3"):
    try:
        create(SQLiteStorage(path=path.parent / name), 1, run_id="another")
    except StorageError as error:
        assert "may not write" in str(error) or "may write to" in str(error), error
        print(name)
"""


def _in_a_process(script: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_limit_on_the_size_of_files_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    _in_a_process(LIMITED, tmp_path / "runs.sqlite3")


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_what_may_not_be_written_is_named() -> None:
    # outside of pytest's folders, which nobody else may enter
    with tempfile.TemporaryDirectory() as folder:
        said = _in_a_process(READ_ONLY, Path(folder) / "made" / "runs.sqlite3")
        (Path(folder) / "made").chmod(0o700)
    assert said.split() == ["runs.sqlite3", "new.sqlite3"]
