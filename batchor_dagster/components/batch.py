"""One batch as YAML describes it: model, prompt, source, output schema and partitions become a batch asset."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

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
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.sources.files import source_of
from batchor_core.sources.rows import Row, json_safe
from batchor_core.tables import sink_of
from batchor_dagster.asset import BatchAsset
from batchor_dagster.asset_decorator import batch_asset
from batchor_dagster.components.output_schema import output_model
from batchor_dagster.control import DEFAULT_RESOURCE
from batchor_dagster.translator import BatchTranslator

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class Source(dg.Model, dg.Resolvable):
    """The rows: CSV, JSONL or Parquet files."""

    path: str = Field(
        description="A .csv, .jsonl or .parquet file, or a pattern such as data/*.csv.gz, relative to this YAML file, or its URL; "
        "{partition} stands for the partition key."
    )
    id_column: str = Field(
        default="id", description="Column with the id of each row, unique within the file."
    )


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
            InvalidInputError: A field that this type needs is missing.
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
                made: dg.PartitionsDefinition[str] = kinds[self.type](
                    start_date=self._needed("start_date", self.start_date),
                    end_date=self.end_date,
                    timezone=self.timezone,
                )
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
    provider: dict[str, Any] | None = Field(
        default=None,
        description="Instead of openai: `kind`, and the settings of that provider's config. An installed package registers the "
        "kind under the entry point group batchor.providers.",
    )
    prompt: str = Field(description="Prompt of a row; {column} stands for the row's value.")
    system_prompt: str | None = Field(default=None, description="Instructions; {column} works here too.")
    source: Source
    output: str | dict[str, Any] | None = Field(
        default=None,
        description="package.module.Model, or a mapping of fields to string, integer, number, boolean, list[...], a list of "
        "allowed values or further fields; a ? lets it be null. {vector: 256} asks an embedding model for vectors of that length. "
        "Plain text without it.",
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
    failure_threshold: float = 0.05
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
            is_default = self._dimensions is not None and self.openai.endpoint is None
            endpoint = {"endpoint": OpenAIEndpoint.EMBEDDINGS.value} if is_default else {}
            return self.openai.model_copy(update=endpoint).config()
        settings = dict(self.provider or {})
        kind = settings.pop("kind", None)
        if not isinstance(kind, str):
            raise InvalidInputError(
                f"{self.name}: provider needs a kind, such as the name that a package registers"
            )
        try:
            return build_default_provider_registry().load_config({"provider_kind": kind, "config": settings})
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
        config, output, sink = self.config(), self._output(name), sink_of(self.sink)
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
            failure_threshold=self.failure_threshold,
            blocking=self.blocking,
            group_name=self.group_name,
            description=self.description or f"{model} on {self.source.path}",
            owners=self.owners,
            tags=self.tags,
            kinds=self.kinds or {str(config.provider_kind), sink.kind},
            deps=[dg.AssetKey.from_user_string(key) for key in self.deps or []],
            code_version=self.code_version,
            pool=self.pool,
            automation_condition=self.automation_condition,
            resource_key=resource_key,
            control_job=control_job,
            translator=translator,
        )
        def batch(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            return execute(context, self, folder) if execute is not None else self.execute(context, folder)

        return batch

    @property
    def _dimensions(self) -> int | None:
        """Those of ``output: {vector: 256}``."""
        given = self.output if isinstance(self.output, dict) and self.output.keys() == {"vector"} else {}
        dimensions = given.get("vector")
        return dimensions if isinstance(dimensions, int) else None

    def _output(self, name: str) -> type[BaseModel] | VectorOutput | None:
        if self._dimensions is not None:
            return VectorOutput(self._dimensions)
        return None if self.output is None else output_model(name, self.output)

    def execute(self, context: dg.AssetExecutionContext, folder: Path) -> BatchJob[Any, Any]:
        """The job of the context's partition."""
        return self.job(folder, context.partition_key if self.partitions else None)

    def job(self, folder: Path, partition_key: str | None) -> BatchJob[Any, Any]:
        """The job of one partition."""
        path = self.source.path.replace("{partition}", partition_key or "")
        return BatchJob(
            items=self._source(path if "://" in path else folder / path),
            build_prompt=self._prompt,
            provider_config=self.config(),
        )

    def _source(self, path: str | Path) -> CheckpointedItemSource[Any]:
        return source_of(
            path, item_id_from_row=lambda row: str(row[self.source.id_column]), payload_from_row=json_safe
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
