"""Arrow rows as dicts of Python values, with the place of a value that Python has no form for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from batchor_core.core.exceptions import SourceRowError

if TYPE_CHECKING:
    import pyarrow as pa

Problem = Callable[..., SourceRowError]
"""Makes the error: called with a message, and with ``line`` and ``column`` where they are known."""


def check_columns(names: Sequence[str], problem: Problem) -> None:
    """Refuse columns that no dict can hold.

    Raises:
        SourceRowError: Two columns have one name.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise problem("there are two columns of this name; rename one of them", column=repeated[0])


def dicts(batch: pa.RecordBatch, *, first_line: int, problem: Problem) -> list[dict[str, Any]]:
    """The rows of a batch.

    Args:
        batch: Its columns have different names.
        first_line: 1-based number of its first row, for error messages.
        problem: Makes the error.

    Raises:
        SourceRowError: Python has no form for a value, such as a date beyond the year 9999 in its time zone.
    """
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ArithmeticError, ValueError, LookupError, NotImplementedError) as error:
        raise _located(batch, error, first_line, problem) from error
    return rows


def _located(batch: pa.RecordBatch, error: Exception, first_line: int, problem: Problem) -> SourceRowError:
    for field, column in zip(batch.schema, batch.columns, strict=True):
        for row in range(len(column)):
            try:
                column[row].as_py()
            except (ArithmeticError, ValueError, LookupError, NotImplementedError) as found:
                return problem(
                    f"Python has no form for this value of type {field.type} ({_reason(found)}); {_fix(found)}",
                    line=first_line + row,
                    column=field.name,
                )
    return problem(f"Python has no form for the rows from here on ({_reason(error)})", line=first_line)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _fix(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8: cast the column to binary, and decode it"
    if isinstance(error, LookupError):
        return "its time zone is not known here: cast the column to UTC"
    return "clip or clean the column, or cast it to integers or strings"
