"""The checks of a result asset: were all rows answered, and does the file hold what the model promises?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dagster as dg
import pyarrow as pa

from batchor_core import RunSummary
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.tables import PartitionFacts
from batchor_dagster.metadata import unknown_outcome

COMPLETION_CHECK = "all_items_completed"
SCHEMA_CHECK = "schema_conforms"

_SHOWN = 5


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


def completion_result(summaries: Sequence[RunSummary], *, threshold: float) -> dg.AssetCheckResult:
    """``all_items_completed`` over the finished ones of the given runs; for the others it reports what is wrong."""
    finished = [summary for summary in summaries if summary.status is not RunLifecycleStatus.RUNNING]
    total = sum(summary.total_items for summary in finished)
    failed = sum(summary.failed_items for summary in finished)
    notes = [f"{summary.run_id}: {text}" for summary in summaries if (text := unknown_outcome(summary))]
    if summaries and not finished:
        notes.insert(0, f"{summaries[0].run_id} is not finished")
    verdict = judge(total=total, failed=failed, threshold=threshold, unknown="; ".join(notes[:_SHOWN]))
    # the UI's list of a check's executions has no column for the partition
    if len(summaries) == 1 and finished:
        verdict = replace(verdict, message=f"{finished[0].run_id}: {verdict.message}")
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
