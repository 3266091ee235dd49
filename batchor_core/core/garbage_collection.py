"""Running the garbage collector less often while rows stream through.

A row is a dozen small objects that are freed without the collector when its chunk is stored. But some thousands of them
are always alive. By default the collector searches for cycles after every 700 new objects, so it treats them as
long-lived and scans everything that the process has imported every few thousand rows: 12 of 80 us per row when
measured.
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
    """Collect garbage less often, in the whole process, during the block.

    Blocks may be nested and may overlap in several threads: the first to begin saves the thresholds, and the last to
    end restores them. Larger thresholds, and a collector that is switched off, are left as they are.
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
