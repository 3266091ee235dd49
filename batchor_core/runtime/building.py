"""Folders in which bundles are built, beside the place that they go to.

Whoever builds holds a lock on his folder, which ends with his process. So what a killed export has left is told from what
another process is building right now, and the next export of the run removes it, or puts a bundle back that had been set
aside. Where folders can't be locked, as on some network file systems, it stays.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batchor_core.core.boundaries import Boundary, at

_ASIDE = ".old"


@contextmanager
def building_folder(bundle: Path) -> Iterator[Path]:
    """A new folder beside ``bundle``, which is gone when the block ends unless it was put in place."""
    building = bundle.with_name(f".tmp-{bundle.name}-{uuid.uuid4().hex}")
    with _locked(bundle.parent) as alone:
        if alone:
            _tidy_up(bundle)
        building.mkdir()
        held = os.open(building, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)
        os.close(held)


def put_in_place(building: Path, bundle: Path) -> None:
    """Let the finished folder take the place of the bundle that is there, durably."""
    old = building.with_name(building.name + _ASIDE)
    sync_folder(building)
    with _locked(bundle.parent):
        if bundle.exists():
            with at(Boundary.SET_BUNDLE_ASIDE):
                bundle.rename(old)
        try:
            with at(Boundary.PLACE_BUNDLE):
                building.rename(bundle)
        except OSError:
            if old.exists():
                with at(Boundary.PLACE_BUNDLE):
                    old.rename(bundle)
            raise
        sync_folder(bundle.parent)  # what the bundle holds may be pruned next: it has to be there for good
        shutil.rmtree(old, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy_up(bundle: Path) -> None:
    """Remove what killed exports of this run have left. Nobody may be putting a bundle in place meanwhile."""
    name = re.compile(rf"\.tmp-{re.escape(bundle.name)}-[0-9a-f]{{32}}({re.escape(_ASIDE)})?")
    for folder in bundle.parent.iterdir():
        found = name.fullmatch(folder.name)
        if found is None:
            continue
        if found[1] and not bundle.exists():
            with at(Boundary.PLACE_BUNDLE):
                folder.rename(bundle)
        elif found[1] or _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
        return free


@contextmanager
def _locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[bool]:
    """Hold a folder's lock during the block; False if somebody else has it, or it has none."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, how)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
