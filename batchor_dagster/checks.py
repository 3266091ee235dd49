"""The checks of a result asset: were all rows answered, does the file hold what the model promises, did it cost what it may?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, assert_never

import dagster as dg
import pyarrow as pa
from pydantic import BaseModel

from batchor_core import RunSummary
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import ModelOutput, OutputSpec
from batchor_core.core.pricing import Cost, Unpriced, cost_text
from batchor_core.core.tools import ToolOutput
from batchor_core.core.words import dollars, usd_text
from batchor_core.tables import PartitionFacts
from batchor_core.tables.answer_columns import as_output
from batchor_dagster.facts import BatchFacts
from batchor_dagster.metadata import unknown_outcome

COMPLETION_CHECK = "all_items_completed"
SCHEMA_CHECK = "schema_conforms"
BUDGET_CHECK = "cost_within_budget"

_SHOWN = 5


def check_specs(
    asset: BatchFacts, *, threshold: float, blocking: bool, budget_usd: Decimal | None = None
) -> list[dg.AssetCheckSpec]:
    """The checks of a result asset, partitioned as the asset is, so that each partition has a result of its own."""
    described = {COMPLETION_CHECK: f"Every row was answered; a warning up to {threshold:.2%} failed rows."}
    if asset.output is not None:
        described[SCHEMA_CHECK] = (
            f"The results have the columns of {shown_output(asset.output)}, and every answer fits them; a warning up to "
            f"{threshold:.2%} answers that do not."
        )
    if budget_usd is not None:
        described[BUDGET_CHECK] = (
            f"The run has cost at most {usd_text(budget_usd)}; a warning if that is not known for certain."
        )
    with warnings.catch_warnings():
        # of partitions_def, which whoever uses a batch asset has not written and can't change
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                name,
                asset=asset.key,
                blocking=blocking,
                description=description,
                partitions_def=asset.partitions_def,
            )
            for name, description in described.items()
        ]


def shown_output(output: type[BaseModel] | OutputSpec) -> str:
    """An output by its name, a model by its own."""
    spec = as_output(output)
    if isinstance(spec, ToolOutput):
        return f"ToolOutput({', '.join(model.__name__ for model in spec.models or ())})"
    return spec.model.__name__ if isinstance(spec, ModelOutput) and spec.model is not None else repr(spec)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Attributes:
        passed: Nothing is wrong.
        severity: WARN up to the threshold, ERROR above it.
        message: One sentence for the UI.
    """

    passed: bool
    severity: dg.AssetCheckSeverity
    message: str


def judge(*, total: int, failed: int, threshold: float, unknown: str = "") -> Verdict:
    """Judge whether rows were answered.

    Args:
        total: Rows in the run.
        failed: Those that ended without an answer.
        threshold: Largest share of failed rows, 0 to 1, that is only a warning.
        unknown: What is known of submissions that may have been paid for without an answer; empty if there are none.
    """
    share = failed / total if total else 0.0
    severity = dg.AssetCheckSeverity.WARN if share <= threshold else dg.AssetCheckSeverity.ERROR
    if failed:
        compared = "within" if share <= threshold else "above"
        message = (
            f"{failed:,} of {total:,} rows failed ({share:.2%}), {compared} the threshold of {threshold:.2%}"
        )
    else:
        message = f"all {total:,} rows were answered"
    if unknown:
        message += f"; {unknown}"
    return Verdict(not failed and not unknown, severity, message)


def judge_schema(*, rows: int, unfitting: int, wrong_columns: Sequence[str], threshold: float) -> Verdict:
    """Judge whether files hold what the model promises.

    Args:
        rows: Answered rows.
        unfitting: Answers that the model, as it is now, does not take; they are in ``output_text`` alone.
        wrong_columns: What is wrong with the files, in words, answers aside.
        threshold: Largest share of unfitting answers, 0 to 1, that is only a warning.
    """
    if wrong_columns:
        more = f", and {len(wrong_columns) - _SHOWN} more" if len(wrong_columns) > _SHOWN else ""
        return Verdict(
            False,
            dg.AssetCheckSeverity.ERROR,
            f"what was written is not what the model promises: {'; '.join(wrong_columns[:_SHOWN])}{more}. "
            "Materialize the results again to rewrite it",
        )
    share = unfitting / rows if rows else 0.0
    severity = dg.AssetCheckSeverity.WARN if share <= threshold else dg.AssetCheckSeverity.ERROR
    if not unfitting:
        return Verdict(True, severity, f"all {rows:,} answers fit the model")
    return Verdict(
        False, severity, f"{unfitting:,} of {rows:,} answers ({share:.2%}) do not fit the model as it is now"
    )


def judge_cost(cost: Cost | Unpriced, *, budget_usd: Decimal, is_finished: bool) -> Verdict:
    """Judge whether a run has cost more than it may.

    Args:
        cost: What it has cost so far.
        budget_usd: What it may cost, in US dollars.
        is_finished: Whether it costs nothing more.
    """
    budget = usd_text(budget_usd)
    match cost:
        case Unpriced(reason):
            message = f"it is not known whether the run stayed within {budget}: {reason}"
            return Verdict(False, dg.AssetCheckSeverity.WARN, message)
        case Cost(usd, missing):
            if usd > budget_usd:
                over = f"{cost_text(cost)}, over the budget of {budget} by {usd_text(usd - budget_usd)}"
                return Verdict(False, dg.AssetCheckSeverity.ERROR, over)
            left_out = f"not included: {'; '.join(missing)}" if missing else ""
            unsure = "; ".join(filter(None, [left_out, "" if is_finished else "the run is not finished"]))
            message = f"{cost_text(cost)} of the budget of {budget}" + (f"; {unsure}" if unsure else "")
            return Verdict(not unsure, dg.AssetCheckSeverity.WARN, message)
        case _:
            assert_never(cost)


def budget_result(summary: RunSummary, *, budget_usd: Decimal) -> dg.AssetCheckResult:
    """``cost_within_budget`` of a run, whose cost includes every attempt."""
    is_finished = summary.status is not RunLifecycleStatus.RUNNING
    verdict = judge_cost(summary.cost, budget_usd=budget_usd, is_finished=is_finished)
    verdict = replace(verdict, message=f"{summary.run_id}: {verdict.message}")
    known = {"cost_usd": dollars(summary.cost.usd)} if isinstance(summary.cost, Cost) else {}
    return _result(BUDGET_CHECK, verdict, {"budget_usd": dollars(budget_usd), **known})


def budget_of(given: Any) -> Decimal | None:
    """A budget as it is given to an asset.

    Raises:
        InvalidInputError: It is no amount.
    """
    if given is None:
        return None
    is_number = isinstance(given, int | float | Decimal) and not isinstance(given, bool)
    amount = Decimal(str(given)) if is_number else Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise InvalidInputError(f"budget_usd is an amount of US dollars, 0 or more, not {given!r}")
    return amount


def completion_result(summary: RunSummary, *, threshold: float) -> dg.AssetCheckResult:
    """``all_items_completed`` of a run; for a run that is not finished it says so, and reports what else is wrong."""
    unknown = unknown_outcome(summary)
    if summary.status is RunLifecycleStatus.RUNNING:
        message = "; ".join(filter(None, [f"{summary.run_id} is not finished", unknown]))
        verdict = Verdict(False, dg.AssetCheckSeverity.WARN, message)
        return _result(COMPLETION_CHECK, verdict, {"rows": 0, "failed": 0, "threshold": threshold})
    total, failed = summary.total_items, summary.failed_items
    verdict = judge(total=total, failed=failed, threshold=threshold, unknown=unknown)
    verdict = replace(verdict, message=f"{summary.run_id}: {verdict.message}")
    return _result(COMPLETION_CHECK, verdict, {"rows": total, "failed": failed, "threshold": threshold})


def schema_result(
    partitions: Sequence[PartitionFacts], expected: pa.Schema, *, threshold: float
) -> dg.AssetCheckResult:
    """``schema_conforms`` over partitions that should have these columns."""
    wrong = []
    for facts in partitions:
        for field in expected:
            position = facts.schema.get_field_index(field.name)
            if position < 0:
                wrong.append(f"{field.name} is missing")
            elif facts.schema.field(position).type != field.type:
                wrong.append(f"{field.name} is {facts.schema.field(position).type}, not {field.type}")
    if not partitions:
        wrong.append("there are no results")
    rows = sum(facts.answered for facts in partitions)
    unfitting = sum(facts.unfitting for facts in partitions)
    verdict = judge_schema(rows=rows, unfitting=unfitting, wrong_columns=wrong, threshold=threshold)
    return _result(SCHEMA_CHECK, verdict, {"answers": rows, "unfitting": unfitting, "threshold": threshold})


def _result(name: str, verdict: Verdict, metadata: dict[str, float]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict.passed,
        severity=verdict.severity,
        description=verdict.message,
        metadata=metadata,
    )
