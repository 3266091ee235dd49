"""Disks that are full or fail: nothing is corrupt, nothing is paid twice, and the run goes on once there is room."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from sqlalchemy import event

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import StorageError
from batchor_core.core.models import BatchJob
from batchor_core.runtime.run import Run
from batchor_core.storage.sqlite import SQLiteStorage
from tests.support.world import RUN, World, text_job

ROWS = 6


class FailingDisk(LocalArtifactStore):
    """An artifact store of which the ``nth`` write, half done, meets an error."""

    def __init__(self, root: Path, *, nth: int, code: int) -> None:
        super().__init__(root)
        self.left, self.code, self.failed = nth, code, False

    def _fail(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.failed = True
            raise OSError(self.code, "told to fail")

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BinaryIO]:
        self._fail()
        with super().open_writer(key) as file:
            yield _Failing(file, self._fail)  # type: ignore[misc]

    def put_file(self, key: str, path: str | Path) -> None:
        self._fail()
        super().put_file(key, path)
        self._fail()

    def delete(self, key: str) -> bool:
        self._fail()
        return super().delete(key)


class _Failing:
    def __init__(self, file: BinaryIO, fail: Callable[[], None]) -> None:
        self._file, self._fail = file, fail

    def write(self, data: bytes) -> int:
        half = len(data) // 2
        self._file.write(data[:half])
        self._fail()
        return half + self._file.write(data[half:])


@pytest.mark.parametrize(
    ("kind", "code"), [("memory", errno.EIO), ("sqlite", errno.ENOSPC)], ids=["EIO", "ENOSPC, SQLite"]
)
def test_each_write_of_a_file_may_fail(make_world: Callable[..., World], kind: str, code: int) -> None:
    for nth in range(1, 200):
        world = make_world(kind=kind)
        disk = FailingDisk(world.folder / "artifacts", nth=nth, code=code)
        job = text_job(ROWS, per_batch=2)
        with suppress(OSError):
            world.start(job, artifact_store=disk).wait()
        run = world.start(job)  # there is room again
        run.wait()
        assert run.status is RunLifecycleStatus.COMPLETED, nth
        assert len(run.results()) == ROWS
        assert all(result.raw_response for result in run.results())
        assert set(world.provider.paid.values()) == {1}, nth
        assert sum(world.provider.paid.values()) == ROWS, nth
        run.export_artifacts(world.folder / "out")
        if not disk.failed:
            break
    else:
        pytest.fail("the disk failed every time")
    assert nth > 10, "there are more writes than this"


def _full_store(world: World, pages: int) -> SQLiteStorage:
    """Another store on the world's file, which may grow to so many pages."""
    store = SQLiteStorage(
        path=world.folder / "runs.sqlite3", now=world.clock, provider_registry=world.registry()
    )

    def limit(raw: Any, record: object) -> None:
        raw.execute(f"PRAGMA max_page_count = {pages}")

    store.engine.dispose()
    event.listen(store.engine, "connect", limit)
    return store


def _driven(world: World, job: BatchJob[Any, Any], store: SQLiteStorage) -> Run:
    return world.start(job, storage=store).wait()


def _pages(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        count: int = connection.execute("PRAGMA page_count").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return count


def test_a_database_that_is_full_rolls_back_and_goes_on_when_there_is_room(
    make_world: Callable[..., World],
) -> None:
    job = text_job(ROWS, per_batch=2, build_prompt=lambda item: f"{item.payload['text']} {'x' * 30_000}")
    failures = []
    for extra in range(0, 60, 2):
        world = make_world(kind="sqlite")
        path = world.folder / "runs.sqlite3"
        full = _full_store(world, _pages(path) + extra)
        error = _error_of(partial(_driven, world, job, full))
        full.close()
        if error is None:
            break
        failures.append(error)
        _pages(path)
        run = world.start(job)
        run.wait()
        assert run.status is RunLifecycleStatus.COMPLETED, extra
        assert sum(world.provider.paid.values()) == ROWS, extra
    else:
        pytest.fail("the database never had room enough")
    assert len(failures) > 3, "it was never full in the middle of the run"
    assert all("full" in str(error) for error in failures)
    assert not any(error.is_passing for error in failures), "waiting makes no room"


def _error_of(attempt: Callable[[], object]) -> StorageError | None:
    try:
        attempt()
    except StorageError as error:
        return error
    return None


def test_a_full_database_is_told_from_the_wait_not_retried(make_world: Callable[..., World]) -> None:
    world = make_world(kind="sqlite")
    run = world.start(text_job(ROWS))
    with world.store.engine.connect() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("PRAGMA query_only = 1")
    with pytest.raises(StorageError, match="readonly"):
        run.wait()
    world.store.engine.dispose()  # type: ignore[attr-defined]
    run.wait()
    assert world.store.get_run_summary(run_id=RUN).completed_items == ROWS
