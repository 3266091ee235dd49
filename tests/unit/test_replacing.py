"""Finished files take the place of others: links stay links, modes stay, and what a killed process left goes."""

from __future__ import annotations

import stat
from pathlib import Path

from batchor_core.artifacts.locks import lock_of, locked
from batchor_core.artifacts.replacing import replacing

LEFT, OTHERS = ".out.csv." + "a" * 32 + ".tmp", ".other.csv." + "a" * 32 + ".tmp"


def write(target: Path, text: str = "new") -> None:
    with replacing(target) as (temporary, final):
        temporary.write_text(text)
        temporary.replace(final)


def test_a_link_stays_one_and_its_file_is_replaced(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "out.csv"
    kept.parent.mkdir()
    link = tmp_path / "out.csv"
    link.symlink_to(kept)
    for text in ("first", "second"):  # it may point to nothing yet
        write(link, text)
        assert link.is_symlink()
        assert kept.read_text() == text
    assert [path.name for path in kept.parent.iterdir()] == ["out.csv"]


def test_the_mode_of_a_file_stays(tmp_path: Path) -> None:
    target, fresh, usual = tmp_path / "out.csv", tmp_path / "new.csv", tmp_path / "usual"
    target.touch()
    target.chmod(0o640)
    usual.touch()
    write(target)
    write(fresh)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert fresh.stat().st_mode == usual.stat().st_mode


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    left = [tmp_path / name for name in (LEFT, f"{LEFT}.lock", OTHERS)]
    for path in left:
        path.touch()
    with locked(lock_of(tmp_path / LEFT)):
        write(target)
        assert (tmp_path / LEFT).exists()
    write(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == [OTHERS, "out.csv"]
