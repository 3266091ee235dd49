"""The check of a result asset: were all of its rows answered?"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

CHECK_NAME = "all_items_completed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a share of failed rows amounts to.

    Attributes:
        passed: No row failed.
        severity: WARN up to the threshold, ERROR above it.
        message: One sentence for the UI.
    """

    passed: bool
    severity: dg.AssetCheckSeverity
    message: str


def judge(*, total: int, failed: int, threshold: float) -> Verdict:
    """Judge a finished run.

    Args:
        total: Rows in the run.
        failed: Those that ended without an answer.
        threshold: Largest share of failed rows, 0 to 1, that is only a warning.
    """
    share = failed / total if total else 0.0
    severity = dg.AssetCheckSeverity.WARN if share <= threshold else dg.AssetCheckSeverity.ERROR
    if not failed:
        return Verdict(True, severity, f"all {total} rows were answered")
    compared = "within" if share <= threshold else "above"
    return Verdict(
        False,
        severity,
        f"{failed} of {total} rows failed ({share:.2%}), {compared} the threshold of {threshold:.2%}",
    )


def check_result(*, total: int, failed: int, threshold: float) -> dg.AssetCheckResult:
    """The verdict as Dagster takes it."""
    verdict = judge(total=total, failed=failed, threshold=threshold)
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=verdict.severity,
        description=verdict.message,
        metadata={"rows": total, "failed": failed, "threshold": threshold},
    )
