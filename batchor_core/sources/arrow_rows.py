"""Record batches of Arrow as Python rows, with errors that name the row and column of a value that has no Python form."""

from __future__ import annotations

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
