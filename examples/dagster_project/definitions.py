"""Two batch assets per topic, a downstream asset, a schedule, a sensor and checks; and the same by days, in ``daily.py``.

It reads ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL`` from the environment; ``make ui`` sets both for the local server.
``EXAMPLE_PROVIDER=anthropic`` or ``gemini`` sends the cards there instead.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from batchor_core import (
    AnthropicProviderConfig,
    BatchItem,
    BatchJob,
    CsvItemSource,
    GeminiProviderConfig,
    OpenAIProviderConfig,
    PromptParts,
)
from batchor_core.providers import ProviderConfig
from batchor_dagster import BatchorResource, batch_asset, build_batch_definitions, build_results_io_manager
from examples.dagster_project import daily
from examples.dagster_project.models import Card

PROJECT = Path(__file__).resolve().parents[2]
DATA = PROJECT / "examples" / "data"
TOPICS = dg.StaticPartitionsDefinition(["event", "possession", "time"])

INSTRUCTIONS = "You write vocabulary cards for adults who learn English. Be brief, exact and friendly."


def ask_for_card(item: BatchItem[Any]) -> PromptParts:
    """The prompt of one gloss."""
    row = item.payload
    return PromptParts(
        prompt=f"Word: {row['term']}\nSynonyms: {row['synonyms'] or 'none'}\nDictionary: {row['gloss']}",
        system_prompt=INSTRUCTIONS,
    )


def provider_config() -> ProviderConfig:
    """Where the cards are made."""
    model = os.environ.get("EXAMPLE_MODEL")
    match os.environ.get("EXAMPLE_PROVIDER"):
        case "anthropic":
            return AnthropicProviderConfig(model=model or "claude-haiku-4-5", max_output_tokens=500)
        case "gemini":
            return GeminiProviderConfig(model=model or "gemini-2.5-flash-lite")
        case _:
            return OpenAIProviderConfig(model=model or "gpt-5-nano")


@batch_asset(partitions_def=TOPICS, output=Card, group_name="vocabulary")
def cards(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
    """A learner's card for every dictionary gloss of a topic."""
    source: CsvItemSource[Any] = CsvItemSource(
        DATA / f"{context.partition_key}.csv",
        item_id_from_row=lambda row: row["id"],
        payload_from_row=lambda row: {name: row[name] for name in ("term", "synonyms", "gloss")},
        metadata_from_row=lambda row: {"term": row["term"]},
    )
    return BatchJob(
        items=source,
        build_prompt=ask_for_card,
        provider_config=provider_config(),
    )


@dg.asset(
    deps=[cards.key],
    partitions_def=TOPICS,
    group_name="vocabulary",
    kinds={"parquet"},
    description="How many cards there are of each level.",
)
def card_levels(context: dg.AssetExecutionContext, batchor: BatchorResource) -> dg.MaterializeResult[Any]:
    path = cards.result_path(batchor, context.partition_key)
    levels = pq.read_table(path, columns=["level"]).column("level").to_pylist()
    counts = Counter(level or "failed" for level in levels)
    return dg.MaterializeResult(metadata={level: counts[level] for level in sorted(counts)})


@dg.schedule(
    cron_schedule="0 2 * * *",
    target=dg.AssetSelection.assets(cards.submission_key or cards.key),
    description="Submits every topic at night. A topic that was submitted before is found again, and costs nothing.",
)
def nightly(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    day = context.scheduled_execution_time.date().isoformat()
    for topic in TOPICS.get_partition_keys():
        yield dg.RunRequest(run_key=f"{topic}:{day}", partition_key=topic)


defs = build_batch_definitions(
    assets=[cards, daily.quizzes],
    other_assets=[card_levels, daily.todays_words, daily.quiz_sheet],
    schedules=[nightly, daily.submit_daily],
    sensors=[daily.automation],
    # a day-long batch needs no tick every few seconds; the local server does
    minimum_interval_seconds=int(os.environ.get("EXAMPLE_SENSOR_SECONDS", "30")),
    resources={
        "batchor": BatchorResource(root=os.environ.get("BATCHOR_ROOT", str(PROJECT / ".ui" / "batchor"))),
        "results": build_results_io_manager(),
    },
)
