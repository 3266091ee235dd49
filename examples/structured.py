"""A structured run: dictionary glosses from a CSV file become instances of a Pydantic model.

``OPENAI_API_KEY=any python examples/structured.py --base-url http://127.0.0.1:8099/v1``
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import _arguments
from pydantic import BaseModel, Field

from batchor_core import BatchJob, BatchRunner, CsvItemSource, OpenAIProviderConfig, SQLiteStorage

GLOSSES = Path(__file__).parent / "data" / "time.csv"


class Word(BaseModel):
    """What we want to know of a word."""

    definition: str = Field(description="At most ten plain words")
    level: Literal["beginner", "intermediate", "advanced"]
    countable: bool


def main() -> None:
    """Run it. Interrupt it wherever you like: started again it goes on, and pays for nothing twice."""
    options = _arguments.parse(__doc__)
    job = BatchJob(
        items=CsvItemSource(
            GLOSSES,
            item_id_from_row=lambda row: row["id"],
            payload_from_row=lambda row: {"term": row["term"], "gloss": row["gloss"]},
        ),
        build_prompt=lambda item: f"{item.payload['term']}: {item.payload['gloss']}",
        provider_config=OpenAIProviderConfig(model="gpt-5-nano", base_url=options.base_url),
        structured_output=Word,
    )
    with BatchRunner(storage=SQLiteStorage(path=options.folder / "structured.sqlite3")) as runner:
        run = runner.run_and_wait(job, run_id="words-of-time")
        summary = run.summary()
        print(
            f"{summary.completed_items} of {summary.total_items} answered, {summary.usage.total_tokens} tokens"
        )
        for result, _ in zip(run.iter_results(), range(5), strict=False):
            print(f"{result.item_id}: {result.output!r}")


if __name__ == "__main__":
    main()
