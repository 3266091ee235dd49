"""What the crash harness takes away in a power cut, and what it leaves."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.power import forget_unsynced, noting, tear_log


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", noting(os.fsync, tmp_path / "notes"))
    return tmp_path / "notes"


def write(path: Path, text: str, *, synced: bool = True) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        if synced:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_files_stay_that_were_synced_with_their_folders(root: Path, notes: Path) -> None:
    (root / "sub").mkdir()
    sync_folder(root)
    write(root / "sub" / "kept", "whole")
    sync_folder(root / "sub")
    forget_unsynced(notes, [root])
    assert contents(root) == {"sub/kept": "whole"}


def test_a_name_that_was_not_synced_is_gone_and_so_is_unsynced_content(root: Path, notes: Path) -> None:
    write(root / "empty", "never synced", synced=False)
    sync_folder(root)
    write(root / "nameless", "synced")
    forget_unsynced(notes, [root])
    assert contents(root) == {"empty": ""}


def test_deletions_and_renames_that_were_not_synced_are_undone(root: Path, notes: Path) -> None:
    write(root / "deleted", "back")
    write(root / "old", "name")
    sync_folder(root)
    (root / "deleted").unlink()
    (root / "old").rename(root / "new")
    forget_unsynced(notes, [root])
    assert contents(root) == {"deleted": "back", "old": "name"}


def test_of_a_log_all_commits_stay_and_what_follows_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("CREATE TABLE t (x)")
        live.execute("INSERT INTO t VALUES (1)")
        lost = tmp_path / "lost"
        for suffix in ("", "-wal"):
            Path(f"{lost}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    whole = len(Path(f"{lost}-wal").read_bytes())
    with Path(f"{lost}-wal").open("ab") as log:
        log.write(b"an uncommitted frame" * 1_000)
    tear_log(lost)
    assert whole < len(Path(f"{lost}-wal").read_bytes()) < whole + 20_000
    with closing(sqlite3.connect(lost)) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
