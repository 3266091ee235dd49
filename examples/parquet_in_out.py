"""Parquet in, Parquet out: a column is sent, and the typed answers come back as columns beside the row's id.

``OPENAI_API_KEY=any python examples/parquet_in_out.py --base-url http://127.0.0.1:8099/v1``
"""

from __future__ import annotations

from pathlib import Path

import _arguments
import pyarrow.parquet as pq
from pydantic import BaseModel

from batchor_core import BatchJob, BatchRunner, OpenAIProviderConfig, ParquetItemSource, SQLiteStorage

GLOSSES = Path(__file__).parent / "data" / "glosses.parquet"


class Translation(BaseModel):
    """One gloss in German."""

    german: str
    certain: bool


def main() -> None:
    """Run it; memory stays flat however large the file is."""
    options = _arguments.parse(__doc__)
    job = BatchJob(
        items=ParquetItemSource(
            GLOSSES,
            item_id_from_row=lambda row: row["id"],
            payload_from_row=lambda row: row["gloss"],
            metadata_from_row=lambda row: {"topic": row["topic"]},
            columns=["id", "gloss", "topic"],
        ),
        build_prompt=lambda item: f"Translate into German: {item.payload}",
        provider_config=OpenAIProviderConfig(model="gpt-5-nano", base_url=options.base_url),
        structured_output=Translation,
    )
    with BatchRunner(storage=SQLiteStorage(path=options.folder / "parquet.sqlite3")) as runner:
        run = runner.run_and_wait(job, run_id="glosses-in-german")
        report = run.to_parquet(options.folder / "german.parquet")
    print(f"{report.row_count} rows, {report.failed_count} failed: {report.uri}")
    print(pq.read_table(report.uri, columns=["item_id", "german", "certain"]).slice(0, 3).to_pylist())


if __name__ == "__main__":
    main()
