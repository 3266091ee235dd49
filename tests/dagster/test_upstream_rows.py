"""Whatever an upstream asset gives becomes the rows of a batch asset."""

import datetime as dt
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from batchor_core import BatchJob, FrameItemSource, OpenAIProviderConfig
from batchor_dagster import BatchorResource, RowItemSource, batch_asset

COLUMNS = {"id": [1, 2, 3], "text": ["a", "b", None], "day": [dt.date(2026, 1, day) for day in (1, 2, 3)]}


def table() -> pa.Table:
    return pa.table(COLUMNS)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        *((RowItemSource, kind) for kind in ("arrow", "polars", "pandas", "iterator")),
        *((FrameItemSource, kind) for kind in ("arrow", "polars", "pandas", "batches")),
    ],
)
def test_an_upstream_asset_gives_the_rows(
    source: Any, kind: str, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    def give() -> Any:
        match kind:
            case "arrow":
                return table()
            case "polars":
                return pl.DataFrame(COLUMNS)
            case "pandas":
                return pd.DataFrame(COLUMNS)
            case "batches":
                return table().to_reader()
            case _:
                return iter(table().to_pylist())

    @dg.asset
    def letters() -> Any:
        return give()

    @batch_asset(wait=True)
    def spoken(context: dg.AssetExecutionContext, letters: Any) -> BatchJob[Any, Any]:
        return BatchJob(
            items=source(letters, item_id_from_row=lambda row: str(row["id"])),
            build_prompt=lambda item: f"Say {item.payload['text']}",
            provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
        )

    result = dg.materialize(
        [letters, *spoken.assets],
        instance=instance,
        resources={"batchor": resource, "io_manager": dg.mem_io_manager},
    )
    assert result.success
    assert sorted(pl.read_parquet(spoken.result_path(resource))["item_id"]) == ["1", "2", "3"]
