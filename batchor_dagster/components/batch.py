"""The component: a YAML file with model, prompt, source and output schema becomes batch assets."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from batchor_core import (
    BatchItem,
    BatchJob,
    OpenAIProviderConfig,
    PromptParts,
    ProviderConfig,
    build_default_provider_registry,
)
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.sources.files import source_of
from batchor_core.sources.rows import Row, json_safe
from batchor_dagster.assets import batch_asset
from batchor_dagster.batch import BatchAsset
from batchor_dagster.components.keys import checked
from batchor_dagster.components.resource import Resource
from batchor_dagster.components.scaffold import BatchScaffolder
from batchor_dagster.components.schema import output_model
from batchor_dagster.components.sharing import Asked, resource_keys
from batchor_dagster.control import DEFAULT_RESOURCE, build_control_job, name_for
from batchor_dagster.sensors import build_batch_sensor

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
    """Settings of OpenAIProviderConfig, and sampling; what is left out keeps its default."""

    model: str = Field(description="The model, such as gpt-5-mini.")
    endpoint: str | None = Field(default=None, description="/v1/responses or /v1/chat/completions.")
    reasoning_effort: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    request_options: dict[str, Any] | None = Field(
        default=None, description="Further fields of every request, put into it as they are."
    )

    def config(self) -> OpenAIProviderConfig:
        """As the engine has it.

        Raises:
            InvalidInputError: ``request_options`` says again what has a key of its own.
        """
        settings = self.model_dump(exclude_none=True)
        sampling: dict[str, Any] = {
            name: settings.pop(name) for name in ("temperature", "top_p") if name in settings
        }
        options = settings.pop("request_options", {})
        if sampling.keys() & options.keys():
            raise InvalidInputError(
                f"openai: {min(sampling.keys() & options.keys())} stands in request_options too; leave one of them out"
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

    @property
    def key(self) -> dg.AssetKey:
        """Asset key of the results."""
        return dg.AssetKey(self.name.split("/"))

    def config(self) -> ProviderConfig:
        """The provider's settings.

        Raises:
            InvalidInputError: There are none, or two; or they are none of that provider's.
        """
        if (self.openai is None) == (self.provider is None):
            raise InvalidInputError(f"{self.name}: give either openai or provider")
        if self.openai is not None:
            return self.openai.config()
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
        self, folder: Path, *, resource_key: str = DEFAULT_RESOURCE, control_job: str | None = None
    ) -> BatchAsset:
        """The batch asset. Its source is looked for in ``folder``."""
        *prefix, name = self.key.path
        config = self.config()
        model = getattr(config, "model", None) or str(config.provider_kind)

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
            description=self.description or f"{model} on {self.source.path}",
            owners=self.owners,
            tags=self.tags,
            kinds=self.kinds or {str(config.provider_kind), "parquet"},
            deps=[dg.AssetKey.from_user_string(key) for key in self.deps or []],
            code_version=self.code_version,
            pool=self.pool,
            automation_condition=self.automation_condition,
            resource_key=resource_key,
            control_job=control_job,
        )
        def batch(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            return self.job(folder, context.partition_key if self.partitions else None)

        return batch

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
                f"the prompt wants a column {column!r}, and there are {', '.join(map(repr, row))}"
            )
        return "" if row[column] is None else str(row[column])

    return _PLACEHOLDER.sub(value, template)


@dg.scaffold_with(BatchScaffolder)
class BatchComponent(dg.Component, dg.Model, dg.Resolvable):
    """Batch jobs as assets, described in YAML: model, prompt, source file, output schema, partitions.

    Each batch becomes a submission, its results, their checks. The components of a project whose resources agree share
    the resource, the sensor that drives their runs, and the control job.
    """

    batches: list[Batch] = Field(description="The jobs.")
    resource: Resource | None = Field(
        default=None,
        description="Where runs are kept. Components that say the same share it, and those that say nothing use it, or one "
        "named batchor that the project defines in Python.",
    )
    resource_key: str | None = Field(
        default=None,
        description="Name of the resource; batchor by default. With another database, batchor_ and the first batch's name.",
    )
    control_job: bool | None = Field(
        default=None,
        description="Whether to define the job behind pause, resume, cancel and retry. By default, it is defined; "
        "where the resource comes from Python it is named batchor_components_control, beside the job that Python may define.",
    )
    sensor_name: str | None = Field(
        default=None,
        description="A sensor of its own for this component's batches, instead of the one that all components of the resource "
        "share.",
    )
    sensor_interval_seconds: int = Field(
        default=30,
        gt=0,
        description="Between two looks at the runs; components that share a sensor get the shortest.",
    )

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The YAML's model, which names unknown keys."""
        return _checked_model(cls, super().model())

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """What the YAML file means.

        Raises:
            InvalidInputError: It has no batches, or disagrees with another component about the resource they share.
        """
        if not self.batches:
            raise InvalidInputError("a BatchComponent needs at least one batch")
        project = _components_of(context)
        is_known = any(one is self for one in project)
        everyone = project if is_known else [self]  # built by hand, outside a project
        keys = resource_keys([one.asked() for one in everyone])
        key = next(key for one, key in zip(everyone, keys, strict=True) if one is self)
        sharing = [one for one, its_key in zip(everyone, keys, strict=True) if its_key == key]
        resource = next((one.resource for one in sharing if one.resource is not None), None)
        wanted = {one.control_job for one in sharing}
        has_control = True in wanted or False not in wanted
        # the resource's Python definitions may bring the usual one, and Dagster refuses two jobs of one name
        own_control = (
            None
            if resource is not None or wanted & {True, False}
            else name_for("batchor_components_control", key)
        )
        assets = [
            batch.asset(context.path, resource_key=key, control_job=own_control) for batch in self.batches
        ]
        return dg.Definitions(
            assets=[definition for asset in assets for definition in asset.assets],
            asset_checks=[check for asset in assets for check in asset.checks],
            jobs=[build_control_job(resource_key=key, name=own_control)]
            if has_control and sharing[0] is self
            else [],
            sensors=self._sensors(
                sharing,
                key,
                name=name_for("batchor_components_sensor", key)
                if is_known
                else f"{self.asked().name}_sensor",
            ),
            resources={key: resource.made()} if resource is not None else {},
        )

    def asked(self) -> Asked:
        """What it says of its resource."""
        return Asked(
            name=self.batches[0].key.to_python_identifier() if self.batches else "",
            settings=self.resource.model_dump() if self.resource is not None else None,
            key=self.resource_key,
        )

    def _sensors(
        self, sharing: Sequence["BatchComponent"], key: str, *, name: str
    ) -> list[dg.SensorDefinition]:
        """Its own sensor, or, for the first of those that share one, the shared one."""
        if self.sensor_name is not None:
            together = [self]
        else:
            together = [one for one in sharing if one.sensor_name is None]
            if together[0] is not self:
                return []
        return [
            build_batch_sensor(
                # only their names and partitions count here, not where their sources lie
                assets=[batch.asset(Path(), resource_key=key) for one in together for batch in one.batches],
                name=self.sensor_name or name,
                minimum_interval_seconds=min(one.sensor_interval_seconds for one in together),
                resource_key=key,
            )
        ]


@functools.cache
def _checked_model(component: type[BaseModel], derived: type[BaseModel]) -> type[BaseModel]:
    return checked(derived, component)


def _components_of(context: dg.ComponentLoadContext) -> list[BatchComponent]:
    """Every component of the project, in an order that all of them see."""
    tree = getattr(context, "component_tree", None)
    found: list[BatchComponent] = tree.get_all_components(BatchComponent) if tree is not None else []
    return sorted((one for one in found if one.batches), key=lambda one: one.asked().name)
