"""Folders in which bundles are built, beside the place that they go to.

Whoever builds holds a lock for his folder, which ends with his process. So what a killed export has left is told from what
another process is building right now, and the next export of the run removes it, or puts a bundle back that had been set
aside. Where there are no locks, as on some network file systems, it stays. The locks are files: one for the place, which stays there,
and one for each folder, which goes with it.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from batchor_core.artifacts.locks import SUFFIX, lock_of, locked, remove_if_free
from batchor_core.core.boundaries import Boundary, at

_PLACE = ".batchor.lock"
_ASIDE = ".old"


@contextmanager
def building_folder(bundle: Path) -> Iterator[Path]:
    """A new folder beside ``bundle``, which is gone when the block ends unless it was put in place."""
    building = bundle.with_name(f".tmp-{bundle.name}-{uuid.uuid4().hex}")
    lock = lock_of(building)
    with ExitStack() as stack:
        with locked(bundle.parent / _PLACE) as alone:
            if alone:
                _tidy_up(bundle)
                stack.callback(lock.unlink, missing_ok=True)
                stack.enter_context(locked(lock))
            building.mkdir()
        stack.callback(shutil.rmtree, building, ignore_errors=True)
        yield building


def put_in_place(building: Path, bundle: Path) -> None:
    """Let the finished folder take the place of the bundle that is there, durably."""
    old = building.with_name(building.name + _ASIDE)
    sync_folder(building)
    with locked(bundle.parent / _PLACE):
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
    """Make the names in a folder durable, where the system lets a folder be opened for that; Windows does not."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy_up(bundle: Path) -> None:
    """Remove what killed exports of this run have left. No process may put a bundle in place at the same time."""
    name = re.compile(
        rf"\.tmp-{re.escape(bundle.name)}-[0-9a-f]{{32}}({re.escape(_ASIDE)}|{re.escape(SUFFIX)})?"
    )
    for path in bundle.parent.iterdir():
        found = name.fullmatch(path.name)
        if found is None:
            continue
        match found[1]:
            case ".old":
                if bundle.exists():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with at(Boundary.PLACE_BUNDLE):
                        path.rename(bundle)
            case ".lock":
                remove_if_free(path)
            case _:
                if remove_if_free(lock_of(path)):
                    shutil.rmtree(path, ignore_errors=True)
