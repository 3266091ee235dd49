"""What the commands have in common: the options that name a store, and how errors are shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from batchor_core.cli.exits import explained
from batchor_core.cli.profiles import load_profile
from batchor_core.cli.stores import Stores

Db = Annotated[
    Path | None,
    typer.Option("--db", metavar="FILE", help="SQLite file. Default: ~/.batchor/default.sqlite3."),
]
Postgres = Annotated[
    bool, typer.Option("--postgres", help="Use the database that BATCHOR_POSTGRES_DSN names.")
]
_SCHEMA_HELP = "Postgres schema; BATCHOR_POSTGRES_SCHEMA or batchor."
PostgresSchema = Annotated[str | None, typer.Option("--postgres-schema", metavar="NAME", help=_SCHEMA_HELP)]
EitherSchema = Annotated[
    str | None, typer.Option("--postgres-schema", "--schema", metavar="NAME", help=_SCHEMA_HELP)
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        metavar="FOLDER",
        help="Folder or URL of the runs' files. Default: beside the database.",
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        envvar="BATCHOR_PROFILE",
        help="Profile of batchor.toml or pyproject.toml.",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for other programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation.")]


def _stored_run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Run ids of the store that the line so far names; none if they can't be read."""
    try:
        given = context.params
        with _stores(given).store() as store:
            return [run.run_id for run in store.list_runs() if run.run_id.startswith(incomplete)]
    except Exception:  # nobody wants a traceback in the middle of a line
        return []


RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run.", autocompletion=_stored_run_ids)]


def takes_stores(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose parameter ``stores`` stands for the options that name a store.

    Typer reads the options of a command from its signature: here they are added to it, once for all commands.
    """
    own = inspect.signature(function, eval_str=True)
    # where --schema is the model's, it can't be the database's too
    schema = PostgresSchema if "schema" in own.parameters else EitherSchema
    named: dict[str, tuple[Any, Any]] = {
        "db": (Db, None),
        "postgres": (Postgres, False),
        "postgres_schema": (schema, None),
        "artifacts": (Artifacts, None),
        "profile": (ProfileName, None),
    }

    def command(**values: Any) -> None:
        with explained():
            stores = _stores(values)
            function(stores=stores, **{name: values[name] for name in values if name not in named})

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        *(one for one in own.parameters.values() if one.name != "stores"),
        *(
            inspect.Parameter(name, kind, default=default, annotation=hint)
            for name, (hint, default) in named.items()
        ),
    ]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _stores(values: dict[str, Any]) -> Stores:
    name = values.get("profile")
    return Stores(
        db=values.get("db"),
        postgres=bool(values.get("postgres")),
        schema=values.get("postgres_schema"),
        artifacts=values.get("artifacts"),
        profile=load_profile(name),
        profile_name=name,
    )
