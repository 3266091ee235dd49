"""How commands end: their exit codes, and the errors that they end with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer

from batchor_core.cli.console import say
from batchor_core.core.exceptions import BatchorError


class ExitCode(IntEnum):
    """Exit codes; ``docs/reference/cli.md`` lists them."""

    DONE = 0
    """Success; of a run: every row has its answer."""
    ATTENTION = 1
    """Rows failed, or something needs a decision."""
    UNUSABLE = 2
    """The command can't be carried out: its options, input, key or store are wrong."""
    INTERRUPTED = 130
    """Ctrl-C; 143 after SIGTERM."""


def fail(message: str) -> NoReturn:
    """End with an error on stderr."""
    say(message)
    raise typer.Exit(ExitCode.UNUSABLE)


@contextmanager
def explained() -> Iterator[None]:
    """Print our own errors, file errors and missing extras as a line on stderr."""
    try:
        yield
    except (BatchorError, ImportError) as error:
        fail(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # whoever reads has seen enough
        where = f"{error.filename}: " if error.filename else ""
        fail(" ".join([f"{where}{error.strerror or error}", *getattr(error, "__notes__", ())]))
