"""Keeping the garbage collector out of the way while rows stream through.

A row is a dozen small objects that die by themselves when its chunk is stored. But there are always some thousands of them
alive, so that the collector, which by default looks for cycles after every 700 new objects, takes them for lasting ones and
every few thousand rows looks through everything that the process has ever imported: 12 us a row when measured, of 80.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 50_000
"""New objects between two collections: those of about two chunks. Cycles that user code leaves behind wait that long."""

_lock = threading.Lock()
_inside = 0
_before = (0, 0, 0)


@contextmanager
def collecting_less() -> Iterator[None]:
    """Have garbage collected less often, in the whole process, for the length of the block.

    Blocks may be nested and may overlap in several threads: the first to begin keeps the thresholds, and the last to end
    puts them back. Larger thresholds, and a collector that is switched off, are left as they are.
    """
    global _inside, _before
    with _lock:
        _inside += 1
        if _inside == 1:
            _before = gc.get_threshold()
            if 0 < _before[0] < NEW_OBJECTS:
                gc.set_threshold(NEW_OBJECTS, *_before[1:])
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                gc.set_threshold(*_before)
