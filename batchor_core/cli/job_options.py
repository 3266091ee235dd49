"""The options of the commands that make a job, ``run`` and ``plan``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from batchor_core.cli.caps import Usd, dollars_given
from batchor_core.cli.jobs import JobOptions, ReuseChoice
from batchor_core.cli.rows import RowFormat, RowOptions
from batchor_core.cli.stores import Stores

RunName = Annotated[
    str | None,
    typer.Option(
        "--run-id", metavar="ID", help="Name of the run. Default: derived from rows, prompt and settings."
    ),
]
Prices = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="Your own prices, before the public price list: TOML."),
]


def takes_job(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose parameter ``given`` stands for the options that describe a job.

    ``stores`` has the prices that are named.
    """
    own, described = inspect.signature(function, eval_str=True), inspect.signature(_given, eval_str=True)
    options = {name: one for name, one in described.parameters.items() if name != "stores"}

    def command(*, stores: Stores, prices: Path | None, **values: Any) -> None:
        given = _given(stores, **{name: values.pop(name) for name in options})
        function(stores=replace(stores, prices=prices), given=given, **values)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = inspect.Parameter("prices", kind, default=None, annotation=Prices)
    parameters = [
        *(one for one in own.parameters.values() if one.name == "stores"),
        *options.values(),
        named,
        *(one for one in own.parameters.values() if one.name not in ("stores", "given")),
    ]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _given(
    stores: Stores,
    rows: Annotated[
        str | None,
        typer.Argument(metavar="ROWS", help="CSV, JSONL or Parquet: a file, folder, pattern or URL."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", metavar="FILE", help="Jinja2 template of the prompt, over a row's fields."
        ),
    ] = None,
    prompt_text: Annotated[
        str | None,
        typer.Option("--prompt-text", metavar="TEXT", help="The template itself, instead of its file."),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", metavar="FILE", help="Template of the system prompt.")
    ] = None,
    system_text: Annotated[
        str | None,
        typer.Option("--system-text", metavar="TEXT", help="The template itself, instead of its file."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="The provider's model.")
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            metavar="FILE.py:MODEL",
            help="Pydantic model of every answer; also MODULE:MODEL, or a JSON schema in FILE.json. Default: answers are text.",
        ),
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            "--tool",
            metavar="FILE.py:MODEL",
            help="Pydantic model of a tool's arguments: every answer is a call of one tool. Repeatable.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="TEXT",
            help="Template of an image's path or URL, such as '{{ photo }}'; rows for which it is empty have none. Repeatable.",
        ),
    ] = None,
    document: Annotated[
        list[str] | None,
        typer.Option("--document", metavar="TEXT", help="The same for a PDF or another document."),
    ] = None,
    embed: Annotated[
        str | None,
        typer.Option(
            "--embed",
            metavar="TEXT",
            help="Ask for a vector of this text instead of an answer to a prompt: a template, such as '{{ text }}'.",
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option("--dimensions", min=1, metavar="N", help="Length of each vector; with --embed."),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Column of the row ids. Default: the column id, or else row numbers.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="COLUMN", help="Keep a column in the result's metadata; repeatable."),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            "--sql", metavar="QUERY", help="Read the rows of a query, or of one in FILE.sql; needs --from."
        ),
    ] = None,
    sql_url: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", envvar="BATCHOR_FROM", help="SQLAlchemy URL of the database."),
    ] = None,
    row_format: Annotated[
        RowFormat | None,
        typer.Option("--format", help="Format of the row files, if their names don't show it."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", metavar="CHARACTER", help="Of CSV. Default: a comma.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", metavar="NAME", help="Of CSV and JSONL. Default: UTF-8.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="KIND", help="Kind of the provider. Default: openai."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="The provider's server.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="Profile of a server that speaks OpenAI's API with differences, such as azure; with --base-url.",
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="PATH", help="Endpoint of the requests, such as /v1/responses."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="Setting of the provider, or a field of each request such as temperature=0; repeatable.",
        ),
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option(
            "--max-attempts", min=1, metavar="N", help="Most answered attempts per row. Default: 3."
        ),
    ] = None,
    repair: Annotated[
        int | None,
        typer.Option(
            "--repair",
            min=0,
            metavar="N",
            help="Attempts per row that show the model its rejected answer and why. Default: 0.",
        ),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option("--max-requests", min=1, metavar="N", help="Most rows in one batch. Default: 50,000."),
    ] = None,
    reuse: Annotated[
        ReuseChoice,
        typer.Option(
            "--reuse",
            help="Take answers to equal requests from other runs of the store; send equal rows once.",
        ),
    ] = ReuseChoice.OFF,
    max_age_days: Annotated[
        float | None,
        typer.Option(
            "--max-age-days", metavar="DAYS", help="Reuse no older answers. Default: answers of any age."
        ),
    ] = None,
    cap: Usd = None,
) -> JobOptions:
    """The options as they were typed."""
    return JobOptions(
        rows=rows,
        sql=sql,
        sql_url=sql_url,
        row_options=RowOptions(
            id_column=id_column or stores.profile.id,
            keep=tuple(keep or ()),
            format=row_format,
            delimiter=delimiter,
            encoding=encoding,
        ),
        prompt=prompt,
        prompt_text=prompt_text,
        system=system,
        system_text=system_text,
        schema=schema,
        tools=tuple(tool or ()),
        images=tuple(image or ()),
        documents=tuple(document or ()),
        embed=embed,
        dimensions=dimensions,
        provider=provider,
        model=model,
        base_url=base_url,
        host=host,
        endpoint=endpoint,
        options=tuple(option or ()),
        max_attempts=max_attempts,
        repair=repair,
        max_requests=max_requests,
        cap=dollars_given(cap),
        reuse=reuse,
        max_age_days=max_age_days,
    )
