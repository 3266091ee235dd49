"""``cost_within_budget``: a partition that cost more than it may fails the check, and an unknown cost is no pass."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest

from batchor_core import Cost, InvalidInputError
from batchor_core.core.pricing import Unpriced
from batchor_dagster import BatchAsset, BatchorResource
from batchor_dagster.checks import budget_of, judge_cost
from batchor_dagster.testing import materialize_batch

BUDGET = "cost_within_budget"
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize(
    ("cost", "is_finished", "passed", "severity", "said"),
    [
        (Cost(Decimal(2)), True, True, WARN, "$2.00 of the budget of $2.00"),
        (Cost(Decimal("2.5")), True, False, ERROR, "$2.50, over the budget of $2.00 by $0.50"),
        (Cost(Decimal("2.5")), False, False, ERROR, "over the budget"),
        (Cost(Decimal(1)), False, False, WARN, "the run is not finished"),
        (
            Cost(Decimal(1), ("calls of a tool",)),
            True,
            False,
            WARN,
            "at least $1.00 of the budget of $2.00; not included",
        ),
        (Cost(Decimal(3), ("calls of a tool",)), True, False, ERROR, "at least $3.00, over the budget"),
        (
            Unpriced("no price known"),
            True,
            False,
            WARN,
            "not known whether the run stayed within $2.00: no price known",
        ),
    ],
)
def test_a_cost_is_judged(
    cost: Any, is_finished: bool, passed: bool, severity: dg.AssetCheckSeverity, said: str
) -> None:
    verdict = judge_cost(cost, budget_usd=Decimal(2), is_finished=is_finished)
    assert verdict.passed is passed
    assert verdict.severity is severity or verdict.passed
    assert said in verdict.message


def test_a_budget_is_an_amount() -> None:
    assert [budget_of(given) for given in (None, 2, 0.5, Decimal("0.1"))] == [
        None,
        2,
        Decimal("0.5"),
        Decimal("0.1"),
    ]
    for wrong in (-1, "2", True, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="budget_usd is an amount of US dollars, 0 or more"):
            budget_of(wrong)


def test_each_partition_is_held_to_its_budget(
    make_asset: Callable[..., BatchAsset], priced_resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    found: dict[str | None, dg.AssetCheckEvaluation] = {}
    for topic, budget in (("birds", 1), ("fish", 0.000001)):
        asset = make_asset(budget_usd=budget)
        assert BUDGET in {key.name for key in asset.check_keys}
        landed = materialize_batch(
            asset, topic, resources={"batchor": priced_resource}, instance=instance
        ).landed
        found |= {
            one.partition: one for one in landed.get_asset_check_evaluations() if one.check_name == BUDGET
        }
    assert (found["birds"].passed, found["fish"].passed) == (True, False)
    assert found["fish"].severity is ERROR
    assert found["fish"].metadata["cost_usd"].value is not None
    assert "over the budget" in str(found["fish"].description)
    assert BUDGET not in {key.name for key in make_asset().check_keys}
