"""What the answers of a stored run are, and whether a provider does what a job asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError, ModelResolutionError
from batchor_core.core.models import BatchJob
from batchor_core.core.outputs import (
    ModelOutput,
    OutputKind,
    OutputSpec,
    TextOutput,
    check_output,
    output_from_payload,
)
from batchor_core.core.structured import resolve_stored_model
from batchor_core.core.tools import ToolOutput, ToolSchema, WantedTools
from batchor_core.core.validation import ENGINE_METADATA_PAIRS
from batchor_core.providers.api import BatchLimits
from batchor_core.storage.records import PersistedRunConfig


def declared_output(config: PersistedRunConfig) -> OutputSpec:
    """What a run was started with, without importing its model. Runs of earlier builds have models or texts."""
    if config.output is not None:
        return output_from_payload(config.output)
    is_model = config.output_schema is not None or config.structured_output_qualname is not None
    return ModelOutput(None) if is_model else TextOutput()


def stored_output(config: PersistedRunConfig, *, allowed_modules: Sequence[str] | None = None) -> OutputSpec:
    """The same with its model, imported by name.

    Raises:
        ModelResolutionError: The model can't be imported, may not be, or has changed since.
    """
    declared = declared_output(config)
    if isinstance(declared, ToolOutput):
        return ToolOutput(_tool_models(config, allowed_modules))
    module, qualname = config.structured_output_module, config.structured_output_qualname
    if not isinstance(declared, ModelOutput) or module is None or qualname is None:
        return declared
    return ModelOutput(
        resolve_stored_model(
            module,
            qualname,
            output_schema=config.output_schema,
            schema_name=config.schema_name,
            allowed_modules=allowed_modules,
        )
    )


def stored_tools(config: PersistedRunConfig) -> WantedTools | None:
    """The tools that a run's requests offer; None if its answers are no calls."""
    stored = None if config.output is None else config.output.get("tools")
    if not isinstance(stored, list):
        return None
    return WantedTools(tuple(ToolSchema(one["name"], one["description"], one["schema"]) for one in stored))


def _tool_models(config: PersistedRunConfig, allowed_modules: Sequence[str] | None) -> list[type[BaseModel]]:
    stored: Any = (config.output or {}).get("tools")
    return [
        resolve_stored_model(
            one["module"],
            one["qualname"],
            output_schema=one["schema"],
            schema_name=None,
            allowed_modules=allowed_modules,
        )
        for one in stored
    ]


def output_of_model(config: PersistedRunConfig, model: type[BaseModel]) -> OutputSpec:
    """What reads the answers of a stored run with a model that the caller has.

    Raises:
        InvalidInputError: It is no model, or the answers are no texts.
    """
    given: Any = model
    if not (isinstance(given, type) and issubclass(given, BaseModel)):
        raise InvalidInputError(f"model must be a Pydantic model class, not {shown(given)}")
    kind = declared_output(config).kind
    if kind not in (OutputKind.TEXT, OutputKind.MODEL):
        raise InvalidInputError(
            f"the run's answers are of the kind {kind.value!r}, which has no model; leave out model"
        )
    return ModelOutput(model)


def chosen_output(
    config: PersistedRunConfig, output: type[BaseModel] | OutputSpec
) -> type[BaseModel] | OutputSpec:
    """The output that a caller reads a run's table with.

    Raises:
        InvalidInputError: It is neither an output nor a model, or of vectors that are not the run's.
    """
    if isinstance(output, type) and issubclass(output, BaseModel):
        return output
    declared = declared_output(config)
    if check_output("output", output).kind is OutputKind.VECTOR and output != declared:
        raise InvalidInputError(
            f"output is {output}, and the run's answers are of {declared}; leave out output to read them as they are"
        )
    return output


def checking_output(
    config: PersistedRunConfig, *, allowed_modules: Sequence[str] | None = None
) -> OutputSpec:
    """What answers are checked with: the same, or any JSON where the model can't be imported in this process."""
    try:
        return stored_output(config, allowed_modules=allowed_modules)
    except ModelResolutionError:
        # the provider enforces the strict schema, so JSON that parses will do until a typed read needs the class
        return declared_output(config)


def check_kept(given: PersistedRunConfig, stored: PersistedRunConfig, *, store: str) -> None:
    """Refuse a store of somebody else's that forgets what a run's answers are.

    Raises:
        InvalidInputError: It has forgotten.
    """
    if declared_output(stored) != declared_output(given):
        raise InvalidInputError(
            f"{store} does not keep PersistedRunConfig.output, so that a run of the kind {declared_output(given).kind.value!r} "
            "could not be read again; use a built-in store, or make this one store the field"
        )


def check_provided(job: BatchJob[Any, Any], limits: BatchLimits) -> None:
    """Refuse a job that asks for what the provider can't do, before anything is paid for or left out silently.

    Raises:
        InvalidInputError: The provider does not give answers of the job's kind, its settings contradict the output, or its batches
            can't carry the job's metadata.
    """
    allowed = max(0, limits.max_tags - ENGINE_METADATA_PAIRS)
    if len(job.batch_metadata) > allowed:
        raise InvalidInputError(
            f"batch_metadata has {len(job.batch_metadata)} pairs, but a batch of the provider "
            f"{job.provider_config.provider_kind} carries {allowed or 'none'}; leave them out"
        )
    job.provider_config.check_output(job.output_spec)
    kind = job.output_spec.kind
    if kind not in limits.outputs:
        given = ", ".join(known.value for known in OutputKind if known in limits.outputs)
        raise InvalidInputError(
            f"the job's output is of the kind {kind.value!r}, which the provider {job.provider_config.provider_kind} does "
            f"not support with this configuration; it supports {given}"
        )
