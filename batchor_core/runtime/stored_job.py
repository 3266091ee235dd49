"""A job as it is stored, and the check that a resumed run is still the same job."""

from __future__ import annotations

from functools import partial
from typing import Any

from batchor_core.core.exceptions import RunConfigMismatchError
from batchor_core.core.models import BatchJob, ProviderConfig
from batchor_core.core.outputs import ModelOutput, TextOutput
from batchor_core.core.reuse import Reuse
from batchor_core.core.tools import ToolOutput
from batchor_core.core.types import JSONObject
from batchor_core.runtime.outputs import declared_output, stored_tools
from batchor_core.storage.records import PersistedRunConfig


def persisted_config(
    job: BatchJob[Any, Any],
    *,
    budget_key: str | None = None,
    extras: JSONObject | None = None,
    reuse: Reuse | None = None,
) -> PersistedRunConfig:
    """What is stored of a job; raises StructuredOutputSchemaError as building the job does."""
    spec, schema = job.output_spec, job.output_schema()
    model = spec.model if isinstance(spec, ModelOutput) else None
    return PersistedRunConfig(
        provider_config=job.provider_config,
        chunk_policy=job.chunk_policy,
        retry_policy=job.retry_policy,
        batch_metadata=dict(job.batch_metadata),
        artifact_policy=job.artifact_policy,
        schema_name=schema.name if schema else None,
        structured_output_module=model.__module__ if model else None,
        structured_output_qualname=model.__qualname__ if model else None,
        output_schema=schema.schema if schema else None,
        budget_key=budget_key,
        extras=extras or {},
        output=spec.to_payload() | _tools(job),
        reuse=reuse,
    )


def check_same_job(run_id: str, stored: PersistedRunConfig, given: PersistedRunConfig) -> None:
    """Compare what changes results: provider, model, endpoint, request options, kind of output, schema.

    Raises:
        RunConfigMismatchError: Names what differs.
    """
    differing = []
    if stored.provider_config.provider_kind != given.provider_config.provider_kind:
        differing.append("provider")
    else:
        shaping = partial(_shaping, operational=given.provider_config.operational_settings)
        before, now = shaping(stored.provider_config), shaping(given.provider_config)
        differing += sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    outputs = [declared_output(stored), declared_output(given)]
    if outputs[0] != outputs[1] and not all(isinstance(one, TextOutput | ModelOutput) for one in outputs):
        differing.append("output")
    elif stored_tools(stored) != stored_tools(given):
        differing.append("tools")
    elif stored.output_schema != given.output_schema or stored.schema_name != given.schema_name:
        differing.append("structured_output")
    if differing:
        raise RunConfigMismatchError(run_id, differing)


def _tools(job: BatchJob[Any, Any]) -> JSONObject:
    """The tools of a job with the names of their models, by which they are imported again."""
    spec, wanted = job.output_spec, job.wanted_tools()
    if not isinstance(spec, ToolOutput) or wanted is None:
        return {}
    return {
        "tools": [
            {**tool.to_payload(), "module": model.__module__, "qualname": model.__qualname__}
            for tool, model in zip(wanted.tools, spec.by_name.values(), strict=True)
        ]
    }


def _shaping(config: ProviderConfig, *, operational: frozenset[str]) -> JSONObject:
    return {name: value for name, value in config.to_public_payload().items() if name not in operational}
