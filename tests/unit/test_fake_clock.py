from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from batchor_core.testing import FakeClock


def test_it_stands_still_until_it_is_moved() -> None:
    clock = FakeClock()
    assert clock() == clock() == datetime(2026, 1, 1, tzinfo=UTC)
    clock.advance(90)
    assert clock() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)


def test_sleeping_moves_it_and_is_remembered() -> None:
    clock = FakeClock()
    before = clock.time()
    clock.sleep(2.5)
    clock.sleep(1)
    assert clock.time() == before + 3.5
    assert clock.sleeps == [2.5, 1]


def test_it_gives_utc_whatever_it_starts_in() -> None:
    clock = FakeClock(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert clock() == datetime(2026, 1, 1, tzinfo=UTC)
    assert clock().tzinfo is UTC


def test_a_naive_start_and_going_back_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)
