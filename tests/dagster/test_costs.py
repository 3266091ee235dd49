"""What a partition has cost, in the metadata of its results."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from batchor_core import Cap, Cost, InvalidInputError, RunPausedError
from batchor_core.core.words import dollars
from batchor_dagster import BatchAsset, BatchorResource
from tests.dagster.conftest import with_setting
from tests.dagster.test_assets import materialize, metadata_of


def test_the_results_say_why_there_is_no_figure(
    make_asset: Callable[..., BatchAsset], resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = make_asset(wait=True)
    metadata = metadata_of(materialize(asset.assets, resource, instance))
    assert "batchor/cost_usd" not in metadata
    assert metadata["batchor/cost_note"] == "no batch price known for the server 127.0.0.1"


def test_a_partition_costs_what_its_rows_cost_at_your_own_prices(
    make_asset: Callable[..., BatchAsset], priced_resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = make_asset(wait=True)
    metadata = metadata_of(materialize(asset.assets, priced_resource, instance))
    with priced_resource.runner() as runner:
        [line] = runner.spending("partition")
        usage = line.usage
        assert (line.key, runner.spending("asset")[0].key) == ("birds", "facts")
        table = pq.read_table(metadata["dagster/uri"])
    assert usage.total_tokens > 0
    million = Decimal(1_000_000)
    assert line.cost == Cost(usage.total_tokens / million)
    assert metadata["batchor/cost_usd"] == dollars(usage.total_tokens / million)
    assert sum(table.column("cost_usd").to_pylist()) == pytest.approx(usage.total_tokens / 1_000_000)


def test_prices_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    resource = BatchorResource(root=str(tmp_path), prices=str(tmp_path / "prices.toml"))
    with pytest.raises(InvalidInputError, match=r"the prices can't be read: .*prices.toml"):
        resource.get_runner()


def test_a_run_pauses_at_the_cap_of_its_asset(
    make_asset: Callable[..., BatchAsset], resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    capped = with_setting(resource, caps=[{"rows": 2, "scope": "asset", "per": "day"}])
    asset = make_asset(wait=False)
    assert materialize([asset.assets[0]], capped, instance).success
    with capped.runner() as runner:
        run = runner.get_run(asset.newest_run_id(runner, "birds"))
        with pytest.raises(RunPausedError, match="the cap of 2 rows for asset:facts a day is reached"):
            run.wait(timeout=60, poll_interval=0.01)
        runner.set_cap(Cap(rows=5, scope="asset:facts", per="day"))
        run.resume()
        assert run.wait(timeout=60, poll_interval=0.01).summary().completed_items == 3


@pytest.mark.parametrize(
    ("cap", "message"),
    [({"usd": -1}, "must be a number from 0"), ({"dollars": 1}, "unexpected keyword argument 'dollars'")],
)
def test_what_is_no_cap_is_refused(tmp_path: Path, cap: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"BatchorResource.caps\[0\], .*{message}"):
        BatchorResource(root=str(tmp_path), caps=[cap])
