"""What is printed where: results on stdout, everything about them on stderr."""

from __future__ import annotations

import json
import os

import typer
from rich.console import Console
from rich.text import Text

from batchor_core.cli.printable import printable

WIDE = 200
"""Width of a table that goes into a file or a pipe, where lines need no breaks."""


def stdout() -> Console:
    """The console for results."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDE)


def stderr() -> Console:
    """The console for notes, progress and errors."""
    return Console(stderr=True)


def text(value: str) -> Text:
    """Text that others wrote, without control sequences for the terminal and without rich's markup."""
    return Text(printable(value), overflow="fold")


def say(line: str) -> None:
    """Print a line on stderr without wrapping it, since it may hold a command to copy."""
    stderr().print(text(line), soft_wrap=True)


def show(*lines: str) -> None:
    """Print lines on stdout without wrapping them."""
    console = stdout()
    for line in lines:
        console.print(text(line), soft_wrap=True)


def show_json(value: object) -> None:
    """Print a JSON value on stdout, in ASCII, so that a terminal gets no control characters from it."""
    typer.echo(json.dumps(value, indent=2))


def show_json_line(value: object) -> None:
    """Print a JSON value as one line."""
    typer.echo(json.dumps(value, separators=(",", ":")))
