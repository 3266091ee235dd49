"""The component: a YAML file that describes batches becomes assets, a resource, a sensor and a control job."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import BaseModel, Field

from batchor_core import BatchJob
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.asset import BatchAsset
from batchor_dagster.components.batch import Batch
from batchor_dagster.components.misspelt_keys import checked
from batchor_dagster.components.resource import Resource
from batchor_dagster.components.resource_sharing import Asked, resource_keys
from batchor_dagster.components.scaffold import BatchScaffolder
from batchor_dagster.components.translation import Translation
from batchor_dagster.control import build_control_job, name_for
from batchor_dagster.sensor import build_batch_sensor
from batchor_dagster.translator import BatchTranslator, BatchTranslatorData


@dg.scaffold_with(BatchScaffolder)
class BatchComponent(dg.Component, dg.Model, dg.Resolvable):
    """Batch jobs as assets, described in YAML: model, prompt, source file, output schema, partitions.

    Each batch becomes a submission asset, a results asset and their checks. The components of a project whose resources
    agree share the resource, the sensor that drives their runs, and the control job.
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
    translation: Annotated[
        Translation | None,
        dg.Resolver(
            lambda context, given: given and given.within(context),
            model_field_type=Translation,
            description="What differs in the specs of the assets: {{ spec }} is the one that the batch says, {{ data }} has "
            "name, part (submission or results), output and partitions.",
        ),
    ] = None

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The YAML's model, which names unknown keys."""
        return _checked_model(cls, super().model())

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions that the YAML file describes.

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
        assets = self._assets(context.path, resource_key=key, control_job=own_control)
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

    def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
        """The spec of each asset: from its batch, then changed by ``translation``. Override it for other rules."""
        spec = BatchTranslator().get_asset_spec(data)
        return spec if self.translation is None else self.translation.applied(spec, data)

    def execute(self, context: dg.AssetExecutionContext, batch: Batch, folder: Path) -> BatchJob[Any, Any]:
        """The job of one partition of a batch: what its YAML says. A subclass may change or replace it.

        It is asked when the submission runs, and sends nothing itself.

        Args:
            context: Of the step that submits.
            batch: As the YAML describes it.
            folder: Of the YAML file, in which relative paths begin.
        """
        return batch.execute(context, folder)

    def _assets(self, folder: Path, *, resource_key: str, control_job: str | None = None) -> list[BatchAsset]:
        translator = _ComponentTranslator(self)
        return [
            batch.asset(
                folder,
                resource_key=resource_key,
                control_job=control_job,
                translator=translator,
                execute=self.execute,
            )
            for batch in self.batches
        ]

    def asked(self) -> Asked:
        """The component's settings for its resource."""
        return Asked(
            name=self.batches[0].key.to_python_identifier() if self.batches else "",
            settings=self.resource.model_dump() if self.resource is not None else None,
            key=self.resource_key,
        )

    def _sensors(
        self, sharing: Sequence["BatchComponent"], key: str, *, name: str
    ) -> list[dg.SensorDefinition]:
        """Its own sensor, or the shared one if it is the first of the components that share it."""
        if self.sensor_name is not None:
            together = [self]
        else:
            together = [one for one in sharing if one.sensor_name is None]
            if together[0] is not self:
                return []
        return [
            build_batch_sensor(
                # only their names and partitions count here, not where their sources lie
                assets=[asset for one in together for asset in one._assets(Path(), resource_key=key)],
                name=self.sensor_name or name,
                minimum_interval_seconds=min(one.sensor_interval_seconds for one in together),
                resource_key=key,
            )
        ]


class _ComponentTranslator(BatchTranslator):
    def __init__(self, component: BatchComponent) -> None:
        self._component = component

    def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
        return self._component.get_asset_spec(data)


@functools.cache
def _checked_model(component: type[BaseModel], derived: type[BaseModel]) -> type[BaseModel]:
    return checked(derived, component)


def _components_of(context: dg.ComponentLoadContext) -> list[BatchComponent]:
    """Every component of the project, in an order that is the same for all of them."""
    tree = getattr(context, "component_tree", None)
    found: list[BatchComponent] = tree.get_all_components(BatchComponent) if tree is not None else []
    return sorted((one for one in found if one.batches), key=lambda one: one.asked().name)
