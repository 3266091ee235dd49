"""A daily partition that a schedule submits, and an asset that runs by itself when the day's results have landed.

``todays_words`` picks the words of a day, ``quizzes`` asks for a question about each, and ``quiz_sheet`` makes a page of them.
The schedule materializes the first and submits the second. From there nobody has to do anything: the batch sensor writes
``quizzes`` when its run has ended, and the automation condition of ``quiz_sheet`` sees that.
"""

import datetime as dt
import os
import random
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as pads
from pydantic import BaseModel, Field

from batchor_core import BatchJob, OpenAIProviderConfig
from batchor_dagster import RowItemSource, batch_asset

DATA = Path(__file__).resolve().parents[1] / "data"
DAYS = dg.DailyPartitionsDefinition(start_date="2026-11-01")
WORDS_A_DAY = 20


class Quiz(BaseModel):
    """A multiple-choice question about a word."""

    question: str = Field(description="Asks for the word's meaning, without giving it away")
    choices: list[str] = Field(description="Four meanings, one of them right")
    answer: int = Field(description="Index of the right one, from 0")


@dg.asset(partitions_def=DAYS, group_name="daily", kinds={"arrow"})
def todays_words(context: dg.AssetExecutionContext) -> pa.Table:
    """Twenty words, other ones each day and the same ones whenever the day is run again."""
    glosses = pa.concat_tables([pyarrow.csv.read_csv(file) for file in sorted(DATA.glob("*.csv"))])
    chosen = random.Random(context.partition_key).sample(range(glosses.num_rows), WORDS_A_DAY)  # noqa: S311
    return glosses.take(chosen)


@batch_asset(partitions_def=DAYS, output=Quiz, group_name="daily", io_manager_key="results")
def quizzes(context: dg.AssetExecutionContext, todays_words: pa.Table) -> BatchJob[Any, Any]:
    """A question about each word of the day."""
    return BatchJob(
        items=RowItemSource(
            todays_words,
            item_id_from_row=lambda row: row["id"],
            metadata_from_row=lambda row: {"term": row["term"]},
            name="todays_words",
        ),
        build_prompt=lambda item: f"Word: {item.payload['term']}\nMeaning: {item.payload['gloss']}",
        provider_config=OpenAIProviderConfig(model=os.environ.get("EXAMPLE_MODEL", "gpt-5-nano")),
    )


@dg.asset(
    partitions_def=DAYS,
    group_name="daily",
    kinds={"markdown"},
    # a batch may take a day, and eager() alone looks at the latest partition only
    automation_condition=dg.AutomationCondition.eager().without(
        dg.AutomationCondition.in_latest_time_window()
    ),
)
def quiz_sheet(quizzes: pads.Dataset) -> dg.MaterializeResult[Any]:
    """The day's questions as a page. Made by itself as soon as the results are there."""
    asked = quizzes.to_table(
        columns=["question", "choices"], filter=pc.field("status") == "completed"
    ).to_pylist()
    page = "\n\n".join(
        "\n".join([f"**{row['question']}**", *(f"- {choice}" for choice in row["choices"])]) for row in asked
    )
    return dg.MaterializeResult(metadata={"questions": len(asked), "page": dg.MetadataValue.md(page)})


submit_quizzes = dg.define_asset_job(
    "submit_quizzes",
    selection=dg.AssetSelection.assets(todays_words, quizzes.submission_key or quizzes.key),
    description="Picks the words of a day and sends them off. The results come by themselves.",
)


@dg.schedule(cron_schedule="0 3 * * *", job=submit_quizzes)
def submit_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Submits the day that has just ended."""
    day = (context.scheduled_execution_time - dt.timedelta(days=1)).date().isoformat()
    return dg.RunRequest(run_key=day, partition_key=day)


automation = dg.AutomationConditionSensorDefinition(
    "automation", target=dg.AssetSelection.groups("daily"), default_status=dg.DefaultSensorStatus.RUNNING
)
