"""A partition pays for the rows that have changed, and what is downstream is out of date only if an answer has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchorResource, batch_asset
from batchor_dagster.answers_digest import ANSWERS_DIGEST
from batchor_dagster.testing import materialize_batch
from tests.dagster.conftest import with_setting

DAYS = dg.StaticPartitionsDefinition(["monday", "tuesday"])


class Table:
    """A table whose rows a test changes, as a batch asset."""

    def __init__(self, **settings: Any) -> None:
        self.rows = {f"row-{n}": f"text {n}" for n in range(10)}
        self.ask = "Judge"

        given: dict[str, Any] = {"name": "judged", "partitions_def": DAYS, **settings}

        @batch_asset(**given)
        def judged(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            return BatchJob(
                items=[BatchItem(key, text) for key, text in self.rows.items()],
                build_prompt=lambda item: f"{self.ask}: {item.payload}",
                provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
            )

        self.asset = judged


def materialize(
    table: Table, resource: BatchorResource, instance: dg.DagsterInstance, day: str | None, **config: Any
) -> dg.AssetMaterialization:
    """The materialization of the results."""
    result = materialize_batch(
        table.asset, resources={"batchor": resource}, instance=instance, partition_key=day, **config
    )
    event = instance.get_latest_materialization_event(table.asset.key)
    assert result is not None
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization


def counts(made: dg.AssetMaterialization) -> tuple[Any, ...]:
    return tuple(made.metadata[f"batchor/rows_{name}"].value for name in ("new", "reused", "deduplicated"))


def version(made: dg.AssetMaterialization) -> str:
    return str((made.tags or {})["dagster/data_version"])


def test_two_partitions_and_a_change_pay_for_what_is_new(
    resource: BatchorResource, instance: dg.DagsterInstance, openai_server: OpenAIServer
) -> None:
    table = Table()
    monday = materialize(table, resource, instance, "monday")
    assert counts(monday) == (10, 0, 0)
    table.rows |= {"row-3": "changed", "row-4": "changed"}
    tuesday = materialize(table, resource, instance, "tuesday")
    assert counts(tuesday) == (1, 8, 1)
    assert openai_server.books.rows_executed == 11
    assert version(monday) != version(tuesday)
    again = materialize(table, resource, instance, "monday")
    assert counts(again) == (0, 10, 0)
    assert version(again) == version(tuesday) == again.metadata[ANSWERS_DIGEST].value
    assert openai_server.books.rows_executed == 11
    rows = pq.read_table(str(again.metadata["dagster/uri"].value)).to_pylist()
    assert {row["item_id"]: row["reused_run_id"] for row in rows}["row-0"] == "judged--monday"


def test_another_prompt_asks_every_row(
    resource: BatchorResource, instance: dg.DagsterInstance, openai_server: OpenAIServer
) -> None:
    table = Table(partitions_def=None)
    materialize(table, resource, instance, None)
    table.ask = "Judge well"
    assert counts(materialize(table, resource, instance, None)) == (10, 0, 0)
    table.ask = "Judge"
    assert counts(materialize(table, resource, instance, None)) == (0, 10, 0)
    assert openai_server.books.rows_executed == 20


@pytest.mark.parametrize(("reuse", "paid"), [("off", 20), ("partition", 20), ("asset", 10), ("store", 10)])
def test_the_scope_can_be_set(
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
    reuse: Any,
    paid: int,
) -> None:
    table = Table(reuse=reuse, wait=True)
    materialize(table, resource, instance, "monday")
    materialize(table, resource, instance, "tuesday")
    assert openai_server.books.rows_executed == paid


@pytest.mark.parametrize(("reuse", "of_asset", "paid"), [("off", None, 20), ("off", "asset", 10)])
def test_the_scope_can_be_set_for_all_assets(
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
    reuse: Any,
    of_asset: Any,
    paid: int,
) -> None:
    table = Table(reuse=of_asset, wait=True)
    resource = with_setting(resource, reuse=reuse)
    materialize(table, resource, instance, "monday")
    materialize(table, resource, instance, "tuesday")
    assert openai_server.books.rows_executed == paid


def test_a_misspelt_scope_is_told() -> None:
    with pytest.raises(InvalidInputError, match="'partition', 'asset'"):
        Table(reuse="assets")
    with pytest.raises(InvalidInputError, match="'partition', 'asset'"):
        BatchorResource(reuse="assets")


def test_what_reuse_saves_is_in_the_metadata_of_the_partition_that_did_not_pay(
    resource: BatchorResource, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(
        '["openai/gpt-4.1-mini"]\ninput_tokens = 1000\noutput_tokens = 1000\n', encoding="utf-8"
    )
    resource = with_setting(resource, prices=str(prices))
    table = Table(wait=True)

    def paid_and_saved(day: str) -> tuple[Any, Any]:
        shown = materialize(table, resource, instance, day).metadata
        return shown["batchor/cost_usd"].value, shown["batchor/saved_usd"].value

    paid, saved = paid_and_saved("monday")
    assert (paid > 0, saved) == (True, 0.0)
    assert paid_and_saved("tuesday") == (0.0, paid)


def test_yaml_says_it_too(tmp_path: Path) -> None:
    from batchor_dagster.components.batch import Batch, OpenAI
    from batchor_dagster.components.source import Source

    (tmp_path / "rows.csv").write_text("id,text\na,b\n")
    batch = Batch(
        name="judged",
        openai=OpenAI(model="gpt-4.1-mini"),
        prompt="{text}",
        source=Source(path="rows.csv"),
        reuse="store",
        max_age_days=7,
        salt="2",
    )
    job = batch.job(tmp_path, None)
    assert job.max_age is not None
    assert (job.max_age.days, job.salt) == (7, "2")
