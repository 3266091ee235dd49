"""The snapshots that a run keeps of the rows of frames and queries: files among its artifacts.

They are named by the run's id and the moment of its creation, so that a run that was withdrawn leaves none to a later one of the
same id. Only the driver that holds the run's lease writes them, when it reads the first row of a source. They are exported and
pruned with the run's other artifacts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any, BinaryIO

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.models import BatchJob
from batchor_core.runtime.engine import Engine
from batchor_core.sources.base import CheckpointedItemSource


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One artifact, as a source sees it."""

    artifacts: ArtifactStore
    key: str

    def exists(self) -> bool:
        """Whether it is there."""
        return self.artifacts.exists(self.key)

    def reading(self) -> AbstractContextManager[Path]:
        """A local file with its content."""
        return self.artifacts.stage_local_copy(self.key)

    def writing(self) -> AbstractContextManager[BinaryIO]:
        """Write it piece by piece."""
        return self.artifacts.open_writer(self.key)


class RunSnapshots:
    """A run's snapshots, one after the other."""

    def __init__(self, artifacts: ArtifactStore, run_id: str, created_at: float) -> None:
        self._artifacts = artifacts
        self._keys = _keys(run_id, created_at)

    def file(self) -> ArtifactFile:
        """The next one."""
        return ArtifactFile(self._artifacts, next(self._keys))


def with_snapshots(engine: Engine, run_id: str, job: BatchJob[Any, Any]) -> BatchJob[Any, Any]:
    """The job, with items that are read from the snapshots of the run where they need some.

    A run that is finished needs none: what its rows are compared with, when it is started again, is what the job gives now.
    """
    if not isinstance(job.items, CheckpointedItemSource):
        return job
    summary = engine.store.get_run_summary(run_id=run_id)
    if summary.status is not RunLifecycleStatus.RUNNING:
        return job
    items = job.items.with_snapshots(RunSnapshots(engine.artifacts, run_id, summary.created_at))
    return job if items is job.items else replace(job, items=items)


def snapshot_keys(engine: Engine, run_id: str) -> list[str]:
    """The keys of a run's snapshots that are there. They are written in order, and to be deleted in reverse."""
    return _there(engine, run_id, engine.store.get_run_summary(run_id=run_id).created_at)


def forget_snapshots(engine: Engine, run_id: str, created_at: float) -> None:
    """Delete the snapshots of a run that was withdrawn."""
    with suppress(Exception):  # no other run will look at them, and why this one was withdrawn matters more
        for key in reversed(_there(engine, run_id, created_at)):
            engine.artifacts.delete(key)


def _there(engine: Engine, run_id: str, created_at: float) -> list[str]:
    return list(takewhile(engine.artifacts.exists, _keys(run_id, created_at)))


def _keys(run_id: str, created_at: float) -> Iterator[str]:
    mark = hashlib.blake2b(f"{run_id}\0{created_at!r}".encode(), digest_size=4).hexdigest()
    return (f"{run_id}/rows/{mark}-{number}.arrow" for number in count())
