"""Bundles that a killed export has half built, or set aside, and those that somebody is building just now."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from batchor_core.runtime.bundle_folder import building_folder, put_in_place

LEFT = "0123456789abcdef" * 2


def made(folder: Path, content: str = "x") -> Path:
    folder.mkdir()
    (folder / "file").write_text(content)
    return folder


def test_what_a_killed_export_has_left_is_removed(tmp_path: Path) -> None:
    bundle = made(tmp_path / "run", "whole")
    half, aside = made(tmp_path / f".tmp-run-{LEFT}"), made(tmp_path / f".tmp-run-{LEFT}.old")
    with building_folder(bundle):
        assert not half.exists()
        assert not aside.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".batchor.lock", "run"]


def test_a_bundle_that_was_set_aside_is_put_back_if_nothing_took_its_place(tmp_path: Path) -> None:
    made(tmp_path / f".tmp-run-{LEFT}.old", "the only copy")
    with building_folder(tmp_path / "run"):
        assert (tmp_path / "run" / "file").read_text() == "the only copy"


@pytest.mark.parametrize("name", [f".tmp-run-2-{LEFT}", f".tmp-run-{LEFT}.older", ".tmp-run-x", "notes"])
def test_what_belongs_to_others_stays(tmp_path: Path, name: str) -> None:
    others = made(tmp_path / name)
    with building_folder(tmp_path / "run"):
        assert others.exists()


def test_what_somebody_is_building_stays(tmp_path: Path) -> None:
    bundle = tmp_path / "run"
    with building_folder(bundle) as first, building_folder(bundle) as second:
        assert first.exists()
        (first / "file").write_text("first")
        (second / "file").write_text("second")
        put_in_place(first, bundle)
        put_in_place(second, bundle)
    assert (bundle / "file").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".batchor.lock", "run"]


def test_where_folders_can_not_be_locked_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    half = made(tmp_path / f".tmp-run-{LEFT}")
    with building_folder(tmp_path / "run") as building:
        (building / "file").write_text("new")
        put_in_place(building, tmp_path / "run")
    assert half.exists()
    assert (tmp_path / "run" / "file").read_text() == "new"


def test_a_bundle_is_durable_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    with building_folder(tmp_path / "run") as building:
        inode = building.stat().st_ino
        put_in_place(building, tmp_path / "run")
    assert synced == [inode, tmp_path.stat().st_ino]
