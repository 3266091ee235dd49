"""Record batches of Arrow as Python rows, with errors that name the row and column of a value that has no Python form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from batchor_core.core.exceptions import SourceRowError
from batchor_core.sources.rows import Row

Problem = Callable[..., SourceRowError]
"""Makes the error: called with a message, and with ``line`` and ``column`` where they are known."""


class UnfitValue(NamedTuple):
    """A value that Python has no form for.

    Attributes:
        row: 0-based row within the batch.
        column: Its column.
        problem: What is wrong, and what to do.
        cause: What Arrow raised.
    """

    row: int
    column: str
    problem: str
    cause: Exception


def python_rows(batch: Any, fail: Callable[[UnfitValue], Exception]) -> Iterator[Row]:
    """The rows of a pyarrow RecordBatch as dicts; nanoseconds are cut to the microseconds that ``datetime`` holds.

    Args:
        batch: The batch.
        fail: Makes the error that is raised for a value without a Python form, after the rows before it.
    """
    batch = _microseconds(batch)
    unfit = _first_unfit(batch)
    if unfit is not None:
        yield from python_rows(batch.slice(0, unfit.row), fail)
        raise fail(unfit) from unfit.cause
    batch = _periods_as_text(batch)
    try:
        rows = batch.to_pylist()
    except Exception as error:  # by type: OverflowError, ValueError, KeyError, and what extension types raise
        unfit = _unfit_value(batch, error)
        yield from batch.slice(0, unfit.row).to_pylist()
        raise fail(unfit) from unfit.cause
    yield from rows


def check_columns(names: Sequence[str], problem: Problem) -> None:
    """Refuse columns that no dict can hold.

    Raises:
        SourceRowError: Two columns have one name.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise problem("there are two columns of this name; rename one of them", column=repeated[0])


def _unfit_value(batch: Any, error: Exception) -> UnfitValue:
    found: UnfitValue | None = None
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for row in range(batch.num_rows if found is None else found.row):
            try:
                column[row].as_py()
            except Exception as cause:  # as above
                found = UnfitValue(row, name, _problem(column.type, cause), cause)
                break
    return found or UnfitValue(0, batch.schema.names[0], f"the rows have no Python form: {error}", error)


def _problem(kind: Any, cause: Exception) -> str:
    if isinstance(cause, OverflowError):
        why = "Python's dates are of the years 1 to 9999, in the column's time zone too, and its durations have a limit"
        fix = "Clip or clean the column, or cast it to integers or strings"
    elif isinstance(cause, KeyError):
        why = f"there is no time zone {getattr(kind, 'tz', None) or str(cause)!r} on this machine"
        fix = "Cast the column to UTC"
    elif isinstance(cause, UnicodeDecodeError):
        why = f"the text is not UTF-8 ({cause})"
        fix = "Cast the column to binary, and decode it"
    else:
        why = f"{type(cause).__name__}: {cause}"
        fix = "Cast the column to another type or a string, or leave it out"
    return f"this value of type {kind} has no Python form: {why}. {fix}"


def _microseconds(batch: Any) -> Any:
    # to_pylist refuses nanoseconds unless pandas happens to be installed, and gives its types then
    import pyarrow as pa

    coarser: dict[str, Callable[[Any], Any]] = {
        "timestamp[ns": lambda kind: pa.timestamp("us", tz=kind.tz),
        "duration[ns": lambda kind: pa.duration("us"),
        "time64[ns": lambda kind: pa.time64("us"),
    }
    for index, field in enumerate(batch.schema):
        make = coarser.get(str(field.type).partition(",")[0].rstrip("]"))
        if make is not None:
            values = batch.column(index).cast(make(field.type), safe=False)
            batch = batch.set_column(index, field.name, values)
    return batch


def _first_unfit(batch: Any) -> UnfitValue | None:
    """The first value that Arrow would turn into a wrong Python value without a word."""
    found = [
        unfit
        for index, field in enumerate(batch.schema)
        for unfit in (_no_time_of_day(batch, index, field), _no_period(batch, field))
        if unfit is not None
    ]
    return min(found, default=None, key=lambda unfit: unfit.row)


def _no_time_of_day(batch: Any, index: int, field: Any) -> UnfitValue | None:
    """25:00, which becomes 01:00."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_time(field.type):
        return None
    counted = batch.column(index).view(pa.int32() if pa.types.is_time32(field.type) else pa.int64())
    day = 86_400 * _PER_SECOND[field.type.unit]
    row = pc.index(pc.or_(pc.less(counted, 0), pc.greater_equal(counted, day)), True).as_py()
    if row < 0:
        return None
    seconds = counted[row].as_py() / _PER_SECOND[field.type.unit]
    problem = (
        f"this value of type {field.type} has no Python form: it is {seconds:g} seconds from midnight, and a day has 86,400. "
        "Clean the column, or cast it to integers"
    )
    return UnfitValue(row, field.name, problem, ValueError(problem))


_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _no_period(batch: Any, field: Any) -> UnfitValue | None:
    """A period of pandas, which is a number without pandas to say of what."""
    if _period_frequency(field) is None or not batch.num_rows:
        return None
    try:
        import pandas  # noqa: F401
    except ImportError as cause:
        problem = (
            "these are periods of pandas, which only pandas can read: install it, or write the column as text"
        )
        return UnfitValue(0, field.name, problem, cause)
    return None


def _period_frequency(field: Any) -> str | None:
    """The frequency of a column of pandas' periods; None for any other column. Without pandas the type is in the metadata."""
    if getattr(field.type, "extension_name", "") == "pandas.period":
        return str(field.type.freq)
    metadata = field.metadata or {}
    if metadata.get(b"ARROW:extension:name") != b"pandas.period":
        return None
    return str(json.loads(metadata[b"ARROW:extension:metadata"])["freq"])


def _periods_as_text(batch: Any) -> Any:
    """pandas' periods as pandas writes them (``2024Q1``), and not the numbers under them."""
    import pyarrow as pa

    for index, field in enumerate(batch.schema):
        frequency = _period_frequency(field)
        if frequency is None:
            continue
        import pandas as pd

        column = batch.column(index)
        ordinals = getattr(column, "storage", column).to_pylist()
        texts = [
            None if ordinal is None else str(pd.Period(ordinal=ordinal, freq=frequency))
            for ordinal in ordinals
        ]
        batch = batch.set_column(index, field.name, pa.array(texts, pa.string()))
    return batch
