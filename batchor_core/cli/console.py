"""What is printed where: results on stdout, everything about them on stderr."""

from __future__ import annotations

import json
import os

import typer
from rich.console import Console
from rich.text import Text

from batchor_core.cli.printable import printable

WIDE = 200
"""Columns of a table that goes into a file or a pipe, where nothing is gained by breaking lines."""


def stdout() -> Console:
    """What was asked for."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDE)


def stderr() -> Console:
    """What is said about it: notes, progress, errors."""
    return Console(stderr=True)


def text(value: str) -> Text:
    """What others wrote, without effects: neither the terminal's nor rich's own markup."""
    return Text(printable(value), overflow="fold")


def say(line: str) -> None:
    """A line on stderr, never broken: it may hold a command to copy."""
    stderr().print(text(line), soft_wrap=True)


def show(*lines: str) -> None:
    """Lines on stdout, never broken."""
    console = stdout()
    for line in lines:
        console.print(text(line), soft_wrap=True)


def show_json(value: object) -> None:
    """A JSON value on stdout, in ASCII, so that a terminal gets no control characters from it."""
    typer.echo(json.dumps(value, indent=2))


def show_json_line(value: object) -> None:
    """The same as one line."""
    typer.echo(json.dumps(value, separators=(",", ":")))
