"""Writes docs/reference/cli.md from the commands themselves: ``python -m tests.unit.cli.reference`` after a change of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from typer.models import ArgumentInfo, CommandInfo

from batchor_core.cli.app import app

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"

HEAD = """# The command line

Every command of `batchor`, which comes with the `cli` extra. [Use the command line](../how-to/use-the-command-line.md) shows a whole
job. `batchor COMMAND --help` prints the same as this page.

## Exit codes

| Code | |
|---|---|
| 0 | success; of `run`: every row has its answer, or was sent with `--detach` |
| 1 | rows failed, or something needs a decision (a paused run, a batch in quarantine); of `plan`: rows would be refused, or the run would stop at a cap; or you declined a confirmation |
| 2 | the command can't be carried out: its options, input, key, store or run are wrong |
| 130 | interrupted by Ctrl-C; 143 by SIGTERM. `watch` ends with 0, since Ctrl-C is the way to leave it |

## Output

Results go to stdout; notes, progress and errors go to stderr. With `--json`, stdout has one JSON value; `results` and `watch` print
JSON lines. JSON is ASCII, and control characters in stored text are escaped on a terminal.

## Environment

| Variable | |
|---|---|
| `OPENAI_API_KEY` | the API key. No option and no profile takes one |
| `OPENAI_BASE_URL` | the server, if neither `--base-url` nor a profile names one |
| `BATCHOR_PROFILE` | the profile, instead of `--profile` |
| `BATCHOR_TRUSTED_HOSTS` | hosts, separated by commas, that the `base_url` of a profile may name; your key is sent there. This machine needs none |
| `BATCHOR_FROM` | the database of `run --sql`, instead of `--from`: its URL may hold a password |
| `BATCHOR_POSTGRES_DSN`, `BATCHOR_POSTGRES_SCHEMA` | the database of `--postgres` |

## Profiles

The nearest `batchor.toml`, or `pyproject.toml` with a table `[tool.batchor]`, from the working directory upwards, holds defaults. Options override
a profile, and a profile overrides the file's own settings.

| Setting | |
|---|---|
| `db`, `postgres`, `postgres_schema` | the store. A store named on the command line replaces all three |
| `artifacts` | folder or URL of the runs' files |
| `prices` | TOML file with [prices of your own](../how-to/know-what-it-costs.md#your-own-table), for all commands that collect results |
| `provider`, `model`, `base_url`, `host`, `endpoint` | of new runs |
| `id` | column of the rows' ids |
| `repair` | what `--repair` sets |
| `options` | a table of what `--option` sets |
| `profiles` | tables of the same settings by name: `[profiles.local]`, chosen with `--profile local` |

`db`, `artifacts` and `prices` are relative to the file.
"""

STORE_OPTIONS = ("db", "postgres", "postgres_schema", "artifacts", "profile")

STORE_HEAD = """
## The store

Every command except `serve` takes these. For `run`, `plan` and `export`, `--schema` names the output's model, and Postgres's schema is
`--postgres-schema`; all other commands accept both spellings.

| Option | |
|---|---|
"""


def page() -> str:
    """The page as it should be."""
    commands = {str(one.name): one for one in app.registered_commands}
    shared = [one for one in _parameters(commands["runs"]) if one.name in STORE_OPTIONS]
    parts = [HEAD, STORE_HEAD, *map(_row, shared)]
    for command in commands.values():
        parts += _command(command)
    return "".join(parts)


def _parameters(command: CommandInfo) -> list[inspect.Parameter]:
    assert command.callback is not None
    return list(inspect.signature(command.callback, eval_str=True).parameters.values())


def _command(command: CommandInfo) -> Iterator[str]:
    parameters = [
        one for one in _parameters(command) if one.name not in STORE_OPTIONS and not _info(one).hidden
    ]
    words = [str(command.name), *(_argument(one) for one in parameters if _is_argument(one))]
    yield f"\n## batchor {command.name}\n\n`batchor {' '.join(words)}`\n\n"
    for paragraph in inspect.cleandoc(command.help or command.callback.__doc__ or "").split("\n\n"):
        yield " ".join(paragraph.split()) + "\n\n"
    if parameters:
        yield "| | |\n|---|---|\n"
        yield from map(_row, parameters)


def _info(parameter: inspect.Parameter) -> Any:
    """What typer was told of it."""
    (info,) = parameter.annotation.__metadata__
    return info


def _is_argument(parameter: inspect.Parameter) -> bool:
    return isinstance(_info(parameter), ArgumentInfo)


def _argument(parameter: inspect.Parameter) -> str:
    name = _metavar(parameter)
    return name if parameter.default is parameter.empty else f"[{name}]"


def _metavar(parameter: inspect.Parameter) -> str:
    return str(_info(parameter).metavar or parameter.name.upper())


def _row(parameter: inspect.Parameter) -> str:
    info, kind = _info(parameter), parameter.annotation.__origin__
    kinds = get_args(kind) or (kind,)
    choices = [
        one.value for each in kinds if isinstance(each, type) and issubclass(each, Enum) for one in each
    ]
    if _is_argument(parameter):
        names = f"`{_metavar(parameter)}`"
    else:
        # typer keeps the first of an annotated option's names as its default
        given = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
        value = "" if kind is bool or choices else f" {_metavar(parameter)}"
        names = ", ".join(f"`{one}{value}`" for one in sorted(given, key=len, reverse=True))
    notes = [str(info.help or "")]
    if choices:
        notes.append("One of " + ", ".join(f"`{one}`" for one in choices) + ".")
    default = getattr(parameter.default, "value", parameter.default)
    if isinstance(default, str | int | float) and not isinstance(default, bool):
        notes.append(f"By default `{default}`.")
    return f"| {names} | {' '.join(notes)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
