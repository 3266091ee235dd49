"""Garbage is collected less often within the block, and as before after it, whoever else is in one meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from batchor_core.core.garbage_collection import NEW_OBJECTS, collecting_less


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_it_is_put_back_at_the_end() -> None:
    gc.set_threshold(701, 11, 12)
    with collecting_less():
        assert gc.get_threshold() == (NEW_OBJECTS, 11, 12)
    assert gc.get_threshold() == (701, 11, 12)


def test_it_is_put_back_when_the_block_raises() -> None:
    gc.set_threshold(701, 11, 12)
    with pytest.raises(ZeroDivisionError), collecting_less():
        raise ZeroDivisionError
    assert gc.get_threshold() == (701, 11, 12)


def test_overlapping_blocks_end_with_the_last_one() -> None:
    gc.set_threshold(701, 11, 12)
    first, second = collecting_less(), collecting_less()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() == (NEW_OBJECTS, 11, 12)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (701, 11, 12)


@pytest.mark.parametrize("thresholds", [(0, 10, 10), (NEW_OBJECTS * 2, 10, 10)])
def test_a_collector_that_is_off_or_rarer_stays_as_it_is(thresholds: tuple[int, int, int]) -> None:
    gc.set_threshold(*thresholds)
    with collecting_less():
        assert gc.get_threshold() == thresholds
    assert gc.get_threshold() == thresholds
