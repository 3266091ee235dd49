"""What Dagster shows of a batch: the keys, group, owners, tags, kinds, description and metadata of its two assets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypedDict

import dagster as dg
from pydantic import BaseModel

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import OutputSpec


class AssetArguments(TypedDict, total=False):
    """The arguments that ``@batch_asset`` takes besides its own; each as in ``@dg.asset``."""

    # of the assets: the translator decides what becomes of them
    key_prefix: str | Sequence[str] | None
    group_name: str | None
    description: str | None
    metadata: Mapping[str, Any] | None
    tags: Mapping[str, str] | None
    kinds: Iterable[str] | None
    owners: Sequence[str] | None
    code_version: str | None
    deps: Iterable[Any] | None
    automation_condition: dg.AutomationCondition[Any] | None
    # of their steps
    ins: Mapping[str, dg.AssetIn] | None
    backfill_policy: dg.BackfillPolicy | None
    retry_policy: dg.RetryPolicy | None
    op_tags: Mapping[str, Any] | None
    pool: str | None
    io_manager_key: str | None


class BatchPart(StrEnum):
    """The assets of a batch: the one that starts its runs, and the one with their results."""

    submission = "submission"
    results = "results"


@dataclass(frozen=True)
class BatchTranslatorData:
    """One asset of a batch, as its function and the arguments of ``@batch_asset`` describe it.

    Attributes:
        name: The batch's name: that of the function, or ``name``.
        part: Which of its assets.
        starts_runs: Whether this asset starts the runs, and so gets ``deps`` and ``automation_condition``: the submission, or with
            ``wait=True`` the results.
        arguments: The given arguments; the description defaults to the function's docstring.
        output: What every answer must be, if the asset says so.
        sink: The kind of the sink, which is among the kinds of the results but not of the submission.
        partitions_def: The partitions of both assets.
    """

    name: str
    part: BatchPart
    starts_runs: bool
    arguments: AssetArguments
    output: type[BaseModel] | OutputSpec | None = None
    sink: str = "parquet"
    partitions_def: dg.PartitionsDefinition[str] | None = None


class BatchTranslator:
    """Makes the spec of each asset from the arguments of ``@batch_asset``. Subclass it for rules of your own::

        class ByTeam(BatchTranslator):
            def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
                spec = super().get_asset_spec(data)
                return spec.replace_attributes(key=spec.key.with_prefix("judged"), owners=["team:reviews"])


        @batch_asset(translator=ByTeam())
        def reviews() -> BatchJob: ...

    What it returns is final, and may override the arguments.
    """

    def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
        """The spec of one asset; called once for each when the definitions are made.

        Runs and result files are named after the key of the results, so with another key no partition has been run yet.
        Partitions and ``skippable`` can't be changed here. The results always depend on the submission.
        """
        given, is_results = data.arguments, data.part is BatchPart.results
        prefix = given.get("key_prefix") or []
        asked = given.get("kinds")
        kinds = {"openai", data.sink} if asked is None else set(asked)
        return dg.AssetSpec(
            key=[
                *([prefix] if isinstance(prefix, str) else prefix),
                data.name if is_results else f"{data.name}_submission",
            ],
            description=given.get("description")
            if is_results
            else f"Starts the batch run of {data.name}, or attaches to the existing one. The sensor then drives it.",
            metadata=given.get("metadata") if is_results else None,
            kinds=kinds if is_results else kinds - {data.sink},
            deps=given.get("deps") if data.starts_runs else None,
            automation_condition=given.get("automation_condition") if data.starts_runs else None,
            group_name=given.get("group_name"),
            owners=given.get("owners"),
            tags=given.get("tags"),
            code_version=given.get("code_version"),
            partitions_def=data.partitions_def,
        )


def translated(translator: BatchTranslator, data: BatchTranslatorData) -> dg.AssetSpec:
    """The translator's spec, checked.

    Raises:
        InvalidInputError: It is not a spec, or changes what can't be changed.
    """
    spec = translator.get_asset_spec(data)
    where = f"{type(translator).__name__}.get_asset_spec, {data.part} of {data.name}"
    if not isinstance(spec, dg.AssetSpec):
        raise InvalidInputError(f"{where}: it must return an AssetSpec, not {type(spec).__name__}")
    if spec.partitions_def != data.partitions_def:
        raise InvalidInputError(
            f"{where}: partitions can't be changed here, since each is a run: give them to @batch_asset"
        )
    if spec.skippable:
        raise InvalidInputError(f"{where}: an asset of a batch is never skippable")
    return spec
