"""The component: a YAML file with model, prompt, source and output schema becomes batch assets."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import ConfigDict, Field

from batchor_core import (
    BatchItem,
    BatchJob,
    CsvItemSource,
    JsonlItemSource,
    OpenAIProviderConfig,
    ParquetItemSource,
    PromptParts,
)
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.sources.rows import Row, json_safe
from batchor_dagster.assets import batch_asset
from batchor_dagster.batch import BatchAsset
from batchor_dagster.components.scaffold import BatchScaffolder
from batchor_dagster.components.schema import output_model
from batchor_dagster.control import build_control_job
from batchor_dagster.resource import BatchorResource
from batchor_dagster.sensors import build_batch_sensor

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_SOURCES: dict[str, Any] = {
    ".csv": CsvItemSource,
    ".jsonl": JsonlItemSource,
    ".ndjson": JsonlItemSource,
    ".parquet": ParquetItemSource,
}


class Source(dg.Model, dg.Resolvable):
    """The rows: a CSV, JSONL or Parquet file."""

    path: str = Field(
        description="A .csv, .jsonl or .parquet file, relative to this YAML file; {partition} stands for the partition key."
    )
    id_column: str = Field(
        default="id", description="Column with the id of each row, unique within the file."
    )


class Partitions(dg.Model, dg.Resolvable):
    """Which partitions there are."""

    type: Literal["hourly", "daily", "weekly", "monthly", "static", "dynamic"]
    start_date: str | None = Field(default=None, description="First partition of time partitions.")
    end_date: str | None = None
    timezone: str | None = None
    keys: list[str] | None = Field(default=None, description="All keys of static partitions.")
    name: str | None = Field(default=None, description="Name of dynamic partitions.")

    def definition(self) -> dg.PartitionsDefinition[str]:
        """As Dagster has it.

        Raises:
            InvalidInputError: What this type needs is missing.
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
    """Settings of OpenAIProviderConfig; what is left out keeps its default."""

    model: str = Field(description="The model, such as gpt-5-mini.")
    endpoint: str | None = Field(default=None, description="/v1/responses or /v1/chat/completions.")
    reasoning_effort: str | None = None
    max_output_tokens: int | None = None
    request_options: dict[str, Any] | None = Field(
        default=None, description="Put into every request as they are, such as temperature."
    )

    def config(self) -> OpenAIProviderConfig:
        """As the engine has it."""
        return OpenAIProviderConfig(**self.model_dump(exclude_none=True))


class Batch(dg.Model, dg.Resolvable):
    """One batch job per partition."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # for the automation condition

    name: str = Field(description="Asset key of the results, with slashes for prefixes.")
    openai: OpenAI
    prompt: str = Field(description="Prompt of a row; {column} stands for the row's value.")
    system_prompt: str | None = Field(default=None, description="Instructions; {column} works here too.")
    source: Source
    output: str | dict[str, Any] | None = Field(
        default=None,
        description="package.module.Model, or a mapping of fields to string, integer, number, boolean, list[...], a list of "
        "allowed values or further fields; a ? lets it be null. Plain text without it.",
    )
    partitions: Partitions | None = None
    wait: bool = Field(default=False, description="Submit, wait and write in one step: for small jobs.")
    on_change: Literal["new_generation", "refuse"] = "new_generation"
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

    def asset(self, folder: Path) -> BatchAsset:
        """The batch asset. Its source is looked for in ``folder``."""
        *prefix, name = self.name.split("/")

        @batch_asset(
            name=name,
            key_prefix=prefix or None,
            partitions_def=self.partitions.definition() if self.partitions else None,
            output=output_model(name, self.output) if self.output is not None else None,
            wait=self.wait,
            on_change=self.on_change,
            failure_threshold=self.failure_threshold,
            blocking=self.blocking,
            group_name=self.group_name,
            description=self.description or f"{self.openai.model} on {self.source.path}",
            owners=self.owners,
            tags=self.tags,
            kinds=self.kinds,
            deps=[dg.AssetKey.from_user_string(key) for key in self.deps or []],
            code_version=self.code_version,
            pool=self.pool,
            automation_condition=self.automation_condition,
        )
        def batch(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            return self.job(folder, context.partition_key if self.partitions else None)

        return batch

    def job(self, folder: Path, partition_key: str | None) -> BatchJob[Any, Any]:
        """The job of one partition."""
        path = folder / self.source.path.replace("{partition}", partition_key or "")
        return BatchJob(
            items=self._source(path),
            build_prompt=self._prompt,
            provider_config=self.openai.config(),
        )

    def _source(self, path: Path) -> CheckpointedItemSource[Any]:
        kind = _SOURCES.get(path.suffix.lower())
        if kind is None:
            raise InvalidInputError(f"source: {path.name} is none of {', '.join(_SOURCES)}")
        source: CheckpointedItemSource[Any] = kind(
            path, item_id_from_row=lambda row: str(row[self.source.id_column]), payload_from_row=json_safe
        )
        return source

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
                f"the prompt wants a column {column!r}, and there are {', '.join(map(repr, row))}"
            )
        return "" if row[column] is None else str(row[column])

    return _PLACEHOLDER.sub(value, template)


class Resource(dg.Model, dg.Resolvable):
    """The batchor resource, for a project that does not define it elsewhere."""

    root: str = Field(default=".batchor", description="Folder for the database, artifacts and results.")
    storage: str = Field(default="sqlite", description="sqlite or postgres.")
    artifacts: str | None = Field(
        default=None, description="Folder or fsspec URL for request and output files."
    )
    parquet_base: str | None = Field(default=None, description="Folder or fsspec URL for result files.")
    base_url: str | None = Field(default=None, description="Another OpenAI-compatible server.")

    def made(self) -> BatchorResource:
        """The key and the database's DSN come from the environment, so that no secret stands in YAML."""
        return BatchorResource(**self.model_dump(exclude_none=True))


@dg.scaffold_with(BatchScaffolder)
class BatchComponent(dg.Component, dg.Model, dg.Resolvable):
    """Batch jobs as assets, described in YAML: model, prompt, source file, output schema, partitions.

    Each batch becomes a submission, its results, their checks; the component adds the sensor that drives them, and the
    control job.
    """

    batches: list[Batch] = Field(description="The jobs; one sensor drives them all.")
    resource: Resource | None = Field(
        default=None,
        description="The batchor resource. Leave it out where the project defines a resource named batchor elsewhere, and in "
        "all but one component.",
    )
    control_job: bool | None = Field(
        default=None,
        description="Whether to define the job behind pause, resume, cancel and retry, of which a project has one. By default "
        "the component that defines the resource does.",
    )
    sensor_name: str | None = Field(
        default=None, description="By default the first batch's name and _sensor."
    )
    sensor_interval_seconds: int = Field(default=30, gt=0, description="Between two looks at the runs.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """What the YAML file means."""
        assets = [batch.asset(context.path) for batch in self.batches]
        if not assets:
            raise InvalidInputError("a BatchComponent needs at least one batch")
        sensor = build_batch_sensor(
            assets=assets,
            name=self.sensor_name or f"{assets[0].key.to_python_identifier()}_sensor",
            minimum_interval_seconds=self.sensor_interval_seconds,
        )
        has_control = self.control_job if self.control_job is not None else self.resource is not None
        return dg.Definitions(
            assets=[definition for asset in assets for definition in asset.assets],
            asset_checks=[check for asset in assets for check in asset.checks],
            jobs=[build_control_job()] if has_control else [],
            sensors=[sensor],
            resources={"batchor": self.resource.made()} if self.resource is not None else {},
        )
