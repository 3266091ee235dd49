"""One batch as YAML describes it: model, prompt, source, output schema and partitions become a batch asset."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import dagster as dg
from pydantic import ConfigDict, Field, PrivateAttr

from batchor_core import (
    BatchItem,
    BatchJob,
    OpenAIEndpoint,
    OpenAIProviderConfig,
    PromptParts,
    ProviderConfig,
    VectorOutput,
    build_default_provider_registry,
)
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.sources.rows import Row
from batchor_core.tables import sink_of
from batchor_dagster.asset import BatchAsset
from batchor_dagster.asset_decorator import batch_asset
from batchor_dagster.components.output_schema import output_of, wants_vectors
from batchor_dagster.components.source import UPSTREAM, Source
from batchor_dagster.control import DEFAULT_RESOURCE
from batchor_dagster.translator import BatchTranslator

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class Partitions(dg.Model, dg.Resolvable):
    """The partitions of a batch."""

    type: Literal["hourly", "daily", "weekly", "monthly", "static", "dynamic"]
    start_date: str | None = Field(default=None, description="First partition of time partitions.")
    end_date: str | None = None
    timezone: str | None = None
    keys: list[str] | None = Field(default=None, description="All keys of static partitions.")
    name: str | None = Field(default=None, description="Name of dynamic partitions.")

    def definition(self) -> dg.PartitionsDefinition[str]:
        """As a Dagster partitions definition.

        Raises:
            InvalidInputError: A field that this type needs is missing, or a date or time zone is none.
        """
        match self.type:
            case "static":
                return dg.StaticPartitionsDefinition(self._needed("keys", self.keys))
            case "dynamic":
                return dg.DynamicPartitionsDefinition(name=self._needed("name", self.name))
            case "hourly" | "daily" | "weekly" | "monthly":
                kinds: dict[str, Any] = {
                    "hourly": dg.HourlyPartitionsDefinition,
                    "daily": dg.DailyPartitionsDefinition,
                    "weekly": dg.WeeklyPartitionsDefinition,
                    "monthly": dg.MonthlyPartitionsDefinition,
                }
                start = self._needed("start_date", self.start_date)
                try:
                    made: dg.PartitionsDefinition[str] = kinds[self.type](
                        start_date=start, end_date=self.end_date, timezone=self.timezone
                    )
                except (ValueError, KeyError) as error:  # a zone that there is not is a KeyError
                    reason = error.args[0] if error.args else error
                    raise InvalidInputError(f"partitions: {reason}") from error
                return made

    def _needed(self, name: str, value: Any) -> Any:
        if not value:
            raise InvalidInputError(f"partitions: {self.type} partitions need {name}")
        return value


class OpenAI(dg.Model):
    """Settings of OpenAIProviderConfig, and sampling; what is left out keeps its default."""

    model: str = Field(description="The model, such as gpt-5-mini.")
    endpoint: str | None = Field(
        default=None,
        description="/v1/responses or /v1/chat/completions; /v1/embeddings is the default for vectors.",
    )
    reasoning_effort: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    request_options: dict[str, Any] | None = Field(
        default=None, description="Further fields of every request, put into it as they are."
    )

    def config(self) -> OpenAIProviderConfig:
        """As the engine's config.

        Raises:
            InvalidInputError: ``request_options`` repeats a setting that has its own key.
        """
        settings = self.model_dump(exclude_none=True)
        sampling: dict[str, Any] = {
            name: settings.pop(name) for name in ("temperature", "top_p") if name in settings
        }
        options = settings.pop("request_options", {})
        if sampling.keys() & options.keys():
            raise InvalidInputError(
                f"openai: {min(sampling.keys() & options.keys())} is in request_options too; remove one of them"
            )
        return OpenAIProviderConfig(**settings, request_options={**options, **sampling})


class Batch(dg.Model, dg.Resolvable):
    """One batch job per partition."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # for the automation condition

    name: str = Field(description="Asset key of the results, with slashes for prefixes.")
    openai: OpenAI | None = None
    provider: str | dict[str, Any] | None = Field(
        default=None,
        description="Instead of openai: the name that a provider is registered under, or `kind`, which is that name, with the "
        "settings of the provider's config. Packages register providers under the entry point group batchor.providers.",
    )
    prompt: str = Field(description="Prompt of a row; {column} stands for the row's value.")
    system_prompt: str | None = Field(default=None, description="Instructions; {column} works here too.")
    source: Source
    output: str | dict[str, Any] | None = Field(
        default=None,
        description="text (the default); package.module.Model; a mapping of fields to string, integer, number, boolean, "
        "list[...], a list of allowed values or further fields, where a ? allows null; a JSON schema (`type: object` and "
        "`properties`); body, the whole response as JSON; or, of a provider that gives vectors, `{vector: 256}`, their dimensions.",
    )
    sink: str | dict[str, Any] | None = Field(
        default=None,
        description="The format of the results: parquet (the default), delta, or `kind` with the settings of that sink, such as "
        "`{kind: delta, url: s3://bucket/results}`.",
    )
    partitions: Partitions | None = None
    wait: bool = Field(default=False, description="Submit, wait and write in one step: for small jobs.")
    on_change: Literal["new_revision", "refuse", "new_generation"] = Field(
        default="new_revision",
        description="What a changed job does to a finished partition: run it again, or fail. new_generation is the old name of "
        "new_revision.",
    )
    reuse: Literal["off", "partition", "asset", "store"] | None = Field(
        default=None,
        description="Whose answers to equal requests a run may have instead of asking again: those of the asset by default.",
    )
    max_age_days: float | None = Field(
        default=None, description="Days after which an answer is not reused any more; none by default."
    )
    salt: str = Field(default="", description="Change it to have every row asked again.")
    failure_threshold: float = 0.05
    budget_usd: float | None = Field(
        default=None,
        description="US dollars that the run of a partition may cost; the check cost_within_budget fails above it.",
    )
    blocking: bool = False
    group_name: str | None = None
    description: str | None = None
    owners: list[str] | None = None
    tags: dict[str, str] | None = None
    kinds: list[str] | None = None
    deps: list[str] | None = None
    code_version: str | None = None
    pool: str | None = None
    automation_condition: Annotated[
        dg.AutomationCondition[Any] | None, dg.Resolver.default(model_field_type=str | None)
    ] = None

    _upstream: Any = PrivateAttr(default=None)

    @property
    def key(self) -> dg.AssetKey:
        """Asset key of the results."""
        return dg.AssetKey(self.name.split("/"))

    def config(self) -> ProviderConfig:
        """The provider's settings.

        Raises:
            InvalidInputError: There are no settings, or two kinds of them, or the provider does not accept them.
        """
        if (self.openai is None) == (self.provider is None):
            raise InvalidInputError(f"{self.name}: give either openai or provider")
        if self.openai is not None:
            is_default = wants_vectors(self.output) and self.openai.endpoint is None
            endpoint = {"endpoint": OpenAIEndpoint.EMBEDDINGS.value} if is_default else {}
            return self.openai.model_copy(update=endpoint).config()
        settings = {"kind": self.provider} if isinstance(self.provider, str) else dict(self.provider or {})
        registry = build_default_provider_registry()
        kind = settings.pop("kind", None)
        if not isinstance(kind, str):
            raise InvalidInputError(
                f"{self.name}: provider needs a kind, the name that it is registered under: {', '.join(registry.kinds())}"
            )
        try:
            return registry.load_config({"provider_kind": kind, "config": settings})
        except (TypeError, KeyError, ValueError) as error:
            raise InvalidInputError(f"{self.name}: provider {kind!r}: {error}") from error

    def asset(
        self,
        folder: Path,
        *,
        resource_key: str = DEFAULT_RESOURCE,
        control_job: str | None = None,
        translator: BatchTranslator | None = None,
        execute: Callable[[dg.AssetExecutionContext, "Batch", Path], BatchJob[Any, Any]] | None = None,
    ) -> BatchAsset:
        """The batch asset. Its source is relative to ``folder``; ``execute`` makes its jobs instead of :meth:`execute`."""
        *prefix, name = self.key.path
        self.source.check(self.name, is_partitioned=self.partitions is not None)
        config, output, sink = self.config(), output_of(name, self.output), sink_of(self.sink)
        if isinstance(output, VectorOutput):
            config.check_output(output)
        model = getattr(config, "model", None) or str(config.provider_kind)

        @batch_asset(
            name=name,
            key_prefix=prefix or None,
            partitions_def=self.partitions.definition() if self.partitions else None,
            output=output,
            sink=sink,
            wait=self.wait,
            on_change=self.on_change,
            reuse=self.reuse,
            failure_threshold=self.failure_threshold,
            budget_usd=self.budget_usd,
            blocking=self.blocking,
            group_name=self.group_name,
            description=self.description or f"{model} on {self.source.described}",
            owners=self.owners,
            tags=self.tags,
            kinds=self.kinds or {str(config.provider_kind), sink.kind},
            ins=self.source.inputs,
            deps=[dg.AssetKey.from_user_string(key) for key in self.deps or []],
            code_version=self.code_version,
            pool=self.pool,
            automation_condition=self.automation_condition,
            resource_key=resource_key,
            control_job=control_job,
            translator=translator,
        )
        def batch(context: dg.AssetExecutionContext, **given: Any) -> BatchJob[Any, Any]:
            described = self.reading(given.get(UPSTREAM))
            if execute is not None:
                return execute(context, described, folder)
            return described.execute(context, folder)

        return batch

    def reading(self, upstream: Any) -> Self:
        """The same batch with what its upstream asset holds, for :meth:`execute`."""
        made = self.model_copy()
        made._upstream = upstream
        return made

    def execute(self, context: dg.AssetExecutionContext, folder: Path) -> BatchJob[Any, Any]:
        """The job of the context's partition."""
        return self.job(folder, context.partition_key if self.partitions else None)

    def job(self, folder: Path, partition_key: str | None) -> BatchJob[Any, Any]:
        """The job of one partition."""
        return BatchJob(
            items=self.source.items(folder, partition_key, self._upstream),
            build_prompt=self._prompt,
            provider_config=self.config(),
            max_age=timedelta(days=self.max_age_days) if self.max_age_days is not None else None,
            salt=self.salt,
        )

    def _prompt(self, item: BatchItem[Row]) -> PromptParts:
        system = self.system_prompt
        return PromptParts(
            prompt=filled(self.prompt, item.payload),
            system_prompt=filled(system, item.payload) if system is not None else None,
        )


def filled(template: str, row: Mapping[str, Any]) -> str:
    """A template with ``{column}`` replaced by the row's values; ``{{`` and ``}}`` are not special, null is empty.

    Raises:
        InvalidInputError: The row has no such column; names those that there are.
    """

    def value(match: re.Match[str]) -> str:
        column = match[1].strip()
        if column not in row:
            raise InvalidInputError(
                f"the prompt uses a column {column!r}, but the columns are {', '.join(map(repr, row))}"
            )
        return "" if row[column] is None else str(row[column])

    return _PLACEHOLDER.sub(value, template)
