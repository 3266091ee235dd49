"""A job from the command line: rows, templates, schema, provider; and the id of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from batchor_core.cli.profiles import Profile
from batchor_core.cli.provider_options import config_of, parsed_options
from batchor_core.cli.rows import RowOptions, file_rows, query_rows, text_of
from batchor_core.cli.run_ids import derived_run_id
from batchor_core.cli.schemas import model_named
from batchor_core.cli.templates import Attachment, Prompts, RowTemplate
from batchor_core.cli.trust import check_server
from batchor_core.core.caps import Cap
from batchor_core.core.enums import OpenAIEndpoint, ProviderKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchJob, ChunkPolicy, ProviderConfig, RetryPolicy
from batchor_core.core.outputs import VectorOutput
from batchor_core.core.tools import ToolOutput
from batchor_core.sources.base import CheckpointedItemSource


class ReuseChoice(StrEnum):
    """Whose answers a run may have."""

    OFF = "off"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of ``batchor run`` as they were typed; their help describes each."""

    rows: str | None = None
    sql: str | None = None
    sql_url: str | None = None
    row_options: RowOptions = field(default_factory=RowOptions)
    prompt: str | None = None
    prompt_text: str | None = None
    system: str | None = None
    system_text: str | None = None
    schema: str | None = None
    tools: Sequence[str] = ()
    images: Sequence[str] = ()
    documents: Sequence[str] = ()
    embed: str | None = None
    dimensions: int | None = None
    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    host: str | None = None
    endpoint: str | None = None
    options: Sequence[str] = ()
    max_attempts: int | None = None
    repair: int | None = None
    max_requests: int | None = None
    cap: Decimal | None = None
    reuse: ReuseChoice = ReuseChoice.OFF
    max_age_days: float | None = None


@dataclass(frozen=True, slots=True)
class NamedJob:
    """A job and the name of its run.

    Attributes:
        job: The job.
        run_id: As it was given, or made of the job.
        is_derived: Whether it was made of the job.
    """

    job: BatchJob[Any, Any]
    run_id: str
    is_derived: bool


def named_job(given: JobOptions, profile: Profile, run_id: str | None) -> NamedJob:
    """Make the job. Every mistake in it is reported here, before anything is stored or sent.

    Raises:
        InvalidInputError: Something is missing, is given twice or can't be used; or only a file names the server.
        SourceRowError: The rows can't be read.
    """
    source = _source(given)
    output = _output(given)
    prompt = (
        _template("prompt", given.prompt, given.prompt_text)
        if given.embed is None
        else _embedded(given.embed)
    )
    if prompt is None:
        raise InvalidInputError(
            "no prompt: give --prompt FILE or --prompt-text TEXT, with {{ fields }} of the rows, or --embed TEXT"
        )
    system = _template("system", given.system, given.system_text)
    kind = given.provider or profile.provider or ProviderKind.OPENAI.value
    settings = _settings(given, profile, kind)
    typed = parsed_options(given.options)
    options = {**_without_typed(profile.options, given, typed), **typed}
    config = _config(kind, settings, options, profile)
    if not given.base_url:  # an empty one, of a variable that is not set, is none
        check_server(config.server_url(), profile, typed=typed)
    job: BatchJob[Any, Any] = BatchJob(
        items=source,
        build_prompt=Prompts(prompt[0], None if system is None else system[0], _attachments(given)),
        provider_config=config,
        structured_output=None if given.schema is None else model_named(given.schema),
        output=output,
        retry_policy=_retry_policy(given, profile),
        chunk_policy=ChunkPolicy()
        if given.max_requests is None
        else ChunkPolicy(max_requests=given.max_requests),
        caps=[] if given.cap is None else [Cap(usd=given.cap)],
        reuse="store" if given.reuse is ReuseChoice.STORE else "off",
        max_age=None if given.max_age_days is None else timedelta(days=given.max_age_days),
    )
    if run_id is not None:
        return NamedJob(job, run_id, is_derived=False)
    derived = derived_run_id(
        given.rows or "query",
        source,
        job,
        texts={
            "prompt": prompt[1],
            "system": None if system is None else system[1],
            **_named_attachments(given),
        },
        settings={**settings, **options},
        mapping={"id": given.row_options.id_column, "keep": list(given.row_options.keep)},
    )
    return NamedJob(job, derived, is_derived=True)


def _retry_policy(given: JobOptions, profile: Profile) -> RetryPolicy:
    repair = given.repair if given.repair is not None else profile.repair or 0
    if given.max_attempts is None:
        return RetryPolicy(repair=repair)
    return RetryPolicy(max_attempts=given.max_attempts, repair=repair)


def _source(given: JobOptions) -> CheckpointedItemSource[Any]:
    if (given.rows is None) == (given.sql is None):
        raise InvalidInputError("name the rows: a file, folder, pattern or URL, or --sql QUERY --from URL")
    if given.rows is not None:
        return file_rows(given.rows, given.row_options)
    if not given.sql_url:
        raise InvalidInputError(
            "--sql needs --from URL, the database's SQLAlchemy URL such as sqlite:///shop.db, or BATCHOR_FROM in the environment"
        )
    return query_rows(given.sql or "", given.sql_url, given.row_options)


def _output(given: JobOptions) -> VectorOutput | ToolOutput | None:
    """The output of ``--embed`` or of ``--tool``.

    Raises:
        InvalidInputError: It is given with options that are for other outputs, or without the length of the vectors.
    """
    if given.tools:
        if given.schema is not None or given.embed is not None:
            raise InvalidInputError("--tool says what the answers are; leave out --schema and --embed")
        return ToolOutput([model_named(tool, option="--tool") for tool in given.tools])
    if given.embed is None:
        if given.dimensions is not None:
            raise InvalidInputError(
                "--dimensions goes with --embed TEXT, which asks for vectors instead of answers"
            )
        return None
    others = ("prompt", "prompt_text", "system", "system_text", "schema", "images", "documents")
    if typed := [f"--{name.removesuffix('s').replace('_', '-')}" for name in others if getattr(given, name)]:
        raise InvalidInputError(
            f"--embed sends a text of each row and nothing else; leave out {', '.join(typed)}"
        )
    if given.dimensions is None:
        raise InvalidInputError(
            "--embed needs --dimensions N, the length of each vector, such as 1536 for text-embedding-3-small"
        )
    return VectorOutput(given.dimensions)


def _attachments(given: JobOptions) -> list[Attachment]:
    return [
        Attachment(kind, RowTemplate(text, name=f"--{option}"))
        for kind, option, texts in (("image", "image", given.images), ("file", "document", given.documents))
        for text in texts
    ]


def _named_attachments(given: JobOptions) -> dict[str, Any]:
    """What of them makes another run; nothing where there are none, so that runs of earlier builds keep their ids."""
    named = {"images": list(given.images), "documents": list(given.documents), "tools": _tools(given)}
    return {name: value for name, value in named.items() if value}


def _tools(given: JobOptions) -> list[Any]:
    models = [model_named(tool, option="--tool") for tool in given.tools]
    return [[model.__name__, model.__doc__, model.model_json_schema()] for model in models]


def _embedded(text: str) -> tuple[RowTemplate, str]:
    return RowTemplate(text, name="--embed"), text


def _template(what: str, path: str | None, text: str | None) -> tuple[RowTemplate, str] | None:
    """The template of a file or an option, and its text."""
    if path is not None and text is not None:
        raise InvalidInputError(f"give --{what} or --{what}-text, not both")
    if path is not None:
        text = text_of(path, what=f"the {what}")
        return RowTemplate(text, name=str(Path(path))), text
    return None if text is None else (RowTemplate(text, name=f"--{what}-text"), text)


_EMBEDDING_ENDPOINTS = {
    ProviderKind.OPENAI.value: OpenAIEndpoint.EMBEDDINGS.value,
    "gemini": "embedContent",
}
"""By kind of the provider, the endpoint that gives vectors."""


def _settings(given: JobOptions, profile: Profile, kind: str) -> dict[str, Any]:
    endpoint = profile.endpoint
    if given.embed is not None:
        # that of the profile is for prompts
        endpoint = _EMBEDDING_ENDPOINTS.get(kind)
    named = {
        "model": given.model or profile.model,
        "base_url": given.base_url or profile.base_url,
        "endpoint": given.endpoint or endpoint,
        "profile": given.host or profile.host,
    }
    if named["model"] is None:
        raise InvalidInputError("no model: give --model, or set it in batchor.toml")
    return {name: value for name, value in named.items() if value is not None}


def _without_typed(
    defaults: Mapping[str, Any], given: JobOptions, typed: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of the file, without what has an option of its own that was typed: a file overrides nothing that is typed."""
    named = {"model": "model", "base_url": "base_url", "endpoint": "endpoint", "profile": "host"}
    own = {name for name, option in named.items() if getattr(given, option)}
    for name in sorted(own & typed.keys()):
        raise InvalidInputError(f"give --{named[name].replace('_', '-')} or --option {name}=..., not both")
    return {name: value for name, value in defaults.items() if name not in own}


def _config(kind: str, settings: dict[str, Any], options: dict[str, Any], profile: Profile) -> ProviderConfig:
    try:
        return config_of(kind, settings, options)
    except InvalidInputError as error:
        if not any(name in str(error) for name in profile.options):
            raise
        raise InvalidInputError(
            f"{error}. The options of {profile.source} count too: move those that are not for every run into a profile there"
        ) from error
