"""A batch asset as one Dagster definition: the submission, the results and their checks.

Inside it is a graph with a step for each of them. Dagster can run each part alone: the sensor's run has only the step that
writes the results, and loads nothing that the submission reads. :attr:`BatchAsset.assets` and :attr:`BatchAsset.checks` are the
same steps as separate definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import BaseModel

from batchor_core import BatchJob, BatchRunner
from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import OutputSpec
from batchor_core.tables import ResultSink, ResultTable
from batchor_dagster.facts import BatchFacts
from batchor_dagster.resource import BatchorResource

_OUTPUT = "result"  # the name that Dagster gives the only output of an asset's op


@dataclass(frozen=True)
class _Parts:
    """What a batch asset is made of."""

    facts: BatchFacts
    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    build_job: Callable[..., BatchJob[Any, Any]]


class BatchAsset(dg.AssetsDefinition):
    """What ``@batch_asset`` returns: an ``AssetsDefinition`` with the submission, the results and their checks.

    Use it wherever Dagster accepts one. ``asset_check(asset=reviews)`` checks the results; ``deps=[reviews]`` depends on
    both assets, and ``deps=[reviews.key]`` on the results alone. Called like a function, it returns the job that the
    function under ``@batch_asset`` describes, and starts nothing.
    """

    _parts: _Parts | None = None

    @classmethod
    def of(
        cls,
        facts: BatchFacts,
        assets: Sequence[dg.AssetsDefinition],
        checks: dg.AssetChecksDefinition,
        build_job: Callable[..., BatchJob[Any, Any]],
    ) -> BatchAsset:
        """Build it from definitions with one step each."""
        graph, inputs, outputs = _graph(f"{facts.key.to_python_identifier()}__batch", assets, checks)
        made = cls(
            keys_by_input_name=inputs,
            keys_by_output_name=outputs,
            node_def=graph,
            specs=[spec for definition in assets for spec in definition.specs],
            check_specs_by_output_name={spec.get_python_identifier(): spec for spec in checks.check_specs},
            backfill_policy=assets[0].backfill_policy,
            can_subset=True,
        )
        made._parts = _Parts(facts, list(assets), [checks], build_job)
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> BatchJob[Any, Any]:
        """The job that the function under ``@batch_asset`` returns for these arguments. Nothing is sent."""
        return self._whole.build_job(*args, **kwargs)

    @property
    def key(self) -> dg.AssetKey:
        """Asset key of the results."""
        return super().key if self._parts is None else self._parts.facts.key

    @property
    def specs(self) -> list[dg.AssetSpec]:
        """The specs of all its assets, the submission's first."""
        return list(super().specs)

    @property
    def submission_key(self) -> dg.AssetKey | None:
        """Asset key of the submission; None with ``wait=True``."""
        return self.facts.submission_key

    @property
    def assets(self) -> list[dg.AssetsDefinition]:
        """Submission and results, or with ``wait=True`` the results, as separate definitions."""
        return self._whole.assets

    @property
    def checks(self) -> list[dg.AssetChecksDefinition]:
        """The checks as a separate definition."""
        return self._whole.checks

    @property
    def output(self) -> type[BaseModel] | OutputSpec | None:
        """What the answers are: an output, or the model of a structured job."""
        return self.facts.output

    @property
    def resource_key(self) -> str:
        """Name of the :class:`BatchorResource`."""
        return self.facts.resource_key

    @property
    def control_job(self) -> str | None:
        """Name of the control job that its links open; None for the resource's."""
        return self.facts.control_job

    @property
    def sink(self) -> ResultSink:
        """Where results go, and in which format."""
        return self.facts.sink

    def run_id(self, partition_key: str | None = None, revision: int = 1) -> str:
        """The batch run of a partition, in one of its revisions."""
        return self.facts.run_id(partition_key, revision)

    def newest_revision(self, runner: BatchRunner, partition_key: str | None = None) -> int:
        """The number of a partition's newest run; 0 if it has none."""
        return self.facts.newest_revision(runner, partition_key)

    def newest_run_id(self, runner: BatchRunner, partition_key: str | None = None) -> str:
        """The newest batch run of a partition; the id of the first if it has none yet."""
        return self.facts.newest_run_id(runner, partition_key)

    def result_path(self, resource: BatchorResource, partition_key: str | None = None) -> str:
        """Where a partition's results are: the path or URL of its file, or of the table that holds it."""
        return self.facts.result_path(resource, partition_key)

    def result_table(self, resource: BatchorResource) -> ResultTable:
        """The results of all partitions."""
        return self.facts.result_table(resource)

    @property
    def facts(self) -> BatchFacts:
        """What the steps and the sensor know of it."""
        return self._whole.facts

    @property
    def _whole(self) -> _Parts:
        if self._parts is None:  # Dagster copies definitions, and knows nothing of the parts
            raise InvalidInputError(
                f"{self} is Dagster's copy of a batch asset. Use the one that @batch_asset returned."
            )
        return self._parts


def checked_assets(assets: Iterable[BatchAsset]) -> list[BatchAsset]:
    """Batch assets that were passed as an argument, as a list.

    Raises:
        InvalidInputError: They are something else, such as other assets or a single one.
    """
    if isinstance(assets, BatchAsset) or not isinstance(assets, Iterable):
        raise InvalidInputError(f"assets must be a list of batch assets, not {shown(assets)}: assets=[...]")
    listed = list(assets)
    for asset in listed:
        if not isinstance(asset, BatchAsset):
            raise InvalidInputError(
                f"{shown(asset)} is no batch asset: give what @batch_asset returned, and other assets to other_assets=[...] or to "
                "Dagster itself"
            )
    return listed


def _graph(
    name: str, assets: Sequence[dg.AssetsDefinition], checks: dg.AssetChecksDefinition
) -> tuple[dg.GraphDefinition, dict[str, dg.AssetKey], dict[str, dg.AssetKey]]:
    """A graph with the op of each definition, and the asset keys behind its inputs and outputs."""
    makers = {definition.key: definition.op.name for definition in assets}
    dependencies: dict[str, dict[str, Any]] = {}
    inputs: dict[str, dg.AssetKey] = {}
    mappings: list[dg.InputMapping] = []
    for definition in (*assets, checks):
        op = definition.op.name
        for input_name, key in definition.keys_by_input_name.items():
            if key in makers:
                dependencies.setdefault(op, {})[input_name] = dg.DependencyDefinition(makers[key], _OUTPUT)
                continue
            outside = key.to_python_identifier()
            inputs[outside] = key
            mappings.append(
                dg.InputMapping(
                    graph_input_name=outside, mapped_node_name=op, mapped_node_input_name=input_name
                )
            )
    outputs = {op: key for key, op in makers.items()}
    graph = dg.GraphDefinition(
        name=name,
        node_defs=[definition.op for definition in (*assets, checks)],
        dependencies=dependencies,
        input_mappings=mappings,
        output_mappings=[
            *(
                dg.OutputMapping(graph_output_name=op, mapped_node_name=op, mapped_node_output_name=_OUTPUT)
                for op in outputs
            ),
            *(
                dg.OutputMapping(
                    graph_output_name=spec.get_python_identifier(),
                    mapped_node_name=checks.op.name,
                    mapped_node_output_name=spec.get_python_identifier(),
                )
                for spec in checks.check_specs
            ),
        ],
    )
    return graph, inputs, outputs
