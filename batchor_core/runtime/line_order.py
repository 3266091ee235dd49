"""Lines in the order of the input, which is not the order in which their items ended.

Few lines are sorted in memory. More of them go through a temporary file, of which only their places are held: sixteen bytes each.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise

IN_MEMORY_BYTES = 32 * 1024 * 1024


def in_input_order(lines: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """The lines by the index of their item, which is given with each."""
    indexes, ends = array("q"), array("q", [0])
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="batchor-") as spool:
        for index, line in lines:
            spool.write(line)
            indexes.append(index)
            ends.append(ends[-1] + len(line))
        for place in _sorted_places(indexes):
            spool.seek(ends[place])
            yield spool.read(ends[place + 1] - ends[place])


def _sorted_places(indexes: array[int]) -> Iterable[int]:
    if all(before < after for before, after in pairwise(indexes)):
        return range(len(indexes))
    import pyarrow as pa  # it sorts millions of numbers without an object for each
    import pyarrow.compute as pc

    # of the numbers as they lie there: pa.array() would import pandas to see whether it was given one of its series
    numbers = pa.Array.from_buffers(pa.int64(), len(indexes), [None, pa.py_buffer(indexes)])
    return memoryview(pc.sort_indices(numbers).buffers()[1]).cast("Q")
