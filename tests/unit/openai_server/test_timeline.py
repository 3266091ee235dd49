"""A batch's steps are due when its timing says, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchor_core.testing.local_server.clock import ServerClock
from batchor_core.testing.local_server.records import Batch, BatchStatus, Fate, Lateness
from batchor_core.testing.local_server.store import Store
from batchor_core.testing.local_server.timeline import Step, StepKind, next_step, rows_due
from batchor_core.testing.openai_server import Timing

BATCH = Batch(
    id="batch_a",
    endpoint="/v1/responses",
    input_file_id="file-a",
    created_at=1_000.0,
    expires_at=2_000.0,
    timing=Timing(validating=10, running=100, finalizing=20, cancelling=30),
)
RUNNING = replace(BATCH, status=BatchStatus.IN_PROGRESS, in_progress_at=1_010.0, total=10)


@pytest.mark.parametrize(
    ("batch", "now", "step"),
    [
        (BATCH, 1_009, None),
        (BATCH, 1_010, Step(StepKind.VALIDATE, 1_010)),
        (BATCH, 9_999, Step(StepKind.VALIDATE, 1_010)),
        (RUNNING, 1_109, None),
        (RUNNING, 1_110, Step(StepKind.FINALIZE, 1_110)),
        (replace(RUNNING, expires_at=1_110.0), 1_110, Step(StepKind.EXPIRE, 1_110)),
        (replace(RUNNING, expires_at=1_050.0), 1_110, Step(StepKind.EXPIRE, 1_050)),
        (replace(RUNNING, fate=Fate(cancelled_by_provider=True)), 1_110, Step(StepKind.GIVE_UP, 1_110)),
        (
            replace(BATCH, status=BatchStatus.FINALIZING, finalizing_at=1_110.0),
            1_130,
            Step(StepKind.COMPLETE, 1_130),
        ),
        (
            replace(BATCH, status=BatchStatus.CANCELLING, cancelling_at=1_020.0),
            1_050,
            Step(StepKind.CANCEL, 1_050),
        ),
        (replace(BATCH, status=BatchStatus.COMPLETED), 9_999, None),
        (replace(BATCH, status=BatchStatus.FAILED), 9_999, None),
        (replace(BATCH, status=BatchStatus.EXPIRED), 9_999, None),
        (replace(BATCH, status=BatchStatus.CANCELLED), 9_999, None),
    ],
)
def test_the_next_step_is_due_when_its_phase_ends(batch: Batch, now: float, step: Step | None) -> None:
    assert next_step(batch, now) == step


@pytest.mark.parametrize(
    ("now", "limit", "rows"),
    [
        (1_010, None, 0),
        (1_019, None, 0),
        (1_020, None, 1),
        (1_060, None, 5),
        (1_110, None, 10),
        (9_999, None, 10),
        (1_020, 3, 1),
        (1_110, 3, 3),
        (1_110, 0, 0),
        (1_110, 99, 10),
    ],
)
def test_rows_are_spread_evenly_up_to_their_limit(now: float, limit: int | None, rows: int) -> None:
    assert rows_due(replace(RUNNING, fate=Fate(row_limit=limit)), now) == rows


def test_every_row_is_due_when_running_takes_no_time() -> None:
    assert rows_due(replace(RUNNING, timing=Timing(running=0)), 1_010) == 10


def test_a_batch_survives_being_written_down(tmp_path: Path) -> None:
    fate = Fate(row_limit=3, late={"output": Lateness(seconds=2.0)})
    batch = replace(RUNNING, fate=fate, metadata={"a": "b"}, errors=[{"code": "empty_file", "line": None}])
    store = Store(tmp_path)
    store.add_batch(batch)
    assert store.batch(batch.id) == batch
    store.close()


class TestClock:
    def test_it_reads_seconds_and_datetimes(self) -> None:
        assert ServerClock(lambda: 5)() == 5.0
        assert ServerClock(lambda: datetime(1970, 1, 2, tzinfo=UTC))() == 86_400.0

    def test_it_runs_ahead_of_its_source(self) -> None:
        source = [100.0]
        clock = ServerClock(lambda: source[0])
        clock.advance(5)
        source[0] = 200.0
        assert clock() == 205.0

    def test_it_can_stand_still(self) -> None:
        clock = ServerClock.standing_still()
        before = clock()
        clock.advance(2)
        assert clock() == before + 2

    def test_it_never_goes_back(self) -> None:
        with pytest.raises(ValueError, match="forward"):
            ServerClock().advance(-1)
