"""What is of the wrong type or out of bounds is refused where it is given, by an error that says what belongs there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

from batchor_core import (
    ArtifactPolicy,
    BatchItem,
    BatchJob,
    BatchRunner,
    ChunkPolicy,
    CsvItemSource,
    OpenAIProviderConfig,
    PromptParts,
    RetryPolicy,
    SQLiteStorage,
)
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.runtime.engine import EngineSettings

ITEM: BatchItem[str] = BatchItem("a", "b")
CONFIG = OpenAIProviderConfig(model="gpt-4.1-mini")


async def later(item: Any) -> str:
    return "hello"


class Model(BaseModel):
    text: str


@dataclass
class NoModel:
    text: str


def job(**fields: Any) -> BatchJob[Any, Any]:
    plain: dict[str, Any] = {"items": [ITEM], "build_prompt": lambda item: "hello", "provider_config": CONFIG}
    return BatchJob(**{**plain, **fields})


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("items", None, "items must be an iterable of BatchItem objects or a source, not None"),
        ("items", "rows.csv", "for a file: CsvItemSource, JsonlItemSource or ParquetItemSource"),
        ("items", Path("rows.csv"), "for a file: CsvItemSource"),
        ("items", b"rows", "for a file: CsvItemSource"),
        ("items", {"a": ITEM}, "not a dict; make an item of each entry"),
        ("items", ITEM, "is a single BatchItem; put it into a list"),
        ("items", 5, r"not 5 \(a int\)"),
        ("items", CsvItemSource, "not the class CsvItemSource"),
        ("items", pd.DataFrame({"id": [1]}), "not a table .*FrameItemSource"),
        ("items", pl.DataFrame({"id": [1]}), "not a table .*FrameItemSource"),
        ("items", pa.table({"id": [1]}), "not a table .*FrameItemSource"),
        ("build_prompt", None, "build_prompt must be a function, not None"),
        ("build_prompt", "Say {text}", "build_prompt must be a function, not 'Say {text}'"),
        ("build_prompt", later, "build_prompt is a coroutine function"),
        (
            "provider_config",
            None,
            r"provider_config must be a ProviderConfig, not None; such as OpenAIProviderConfig\(",
        ),
        ("provider_config", {"model": "gpt-4.1"}, r"OpenAIProviderConfig\(\*\*settings\)"),
        ("provider_config", "gpt-4.1", r"such as OpenAIProviderConfig\(model=...\)"),
        ("provider_config", OpenAIProviderConfig, r"is the class OpenAIProviderConfig; give an instance"),
        ("structured_output", Model(text="a"), "must be a Pydantic model class"),
        ("structured_output", NoModel, "must be a Pydantic model class"),
        ("structured_output", {"type": "object"}, "must be a Pydantic model class"),
        ("structured_output", BaseModel, "BaseModel"),
        ("schema_name", 5, "schema name 5 is not usable"),
        ("schema_name", "a b", "schema name 'a b' is not usable"),
        ("chunk_policy", {"max_requests": 5}, "chunk_policy must be a ChunkPolicy, not"),
        (
            "chunk_policy",
            ChunkPolicy,
            r"chunk_policy is the class ChunkPolicy; give an instance: ChunkPolicy\(...\)",
        ),
        ("retry_policy", 3, r"retry_policy must be a RetryPolicy, not 3 \(a int\)"),
        ("artifact_policy", True, "artifact_policy must be a ArtifactPolicy"),
        ("batch_metadata", None, "batch_metadata must be a dict of strings"),
        ("batch_metadata", [("a", "b")], "batch_metadata must be a dict of strings"),
        ("batch_metadata", {"a": 1}, "keys and values must be strings"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_job_refuses_what_can_not_work(field: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        job(**{field: value})


@pytest.mark.parametrize("items", [[], [ITEM], (ITEM,), iter([ITEM]), {ITEM.item_id: ITEM}.values()])
def test_any_iterable_of_items_will_do(items: Any) -> None:
    assert job(items=items).items is items


@pytest.mark.parametrize(
    ("prompt", "system"),
    [
        (5, None),
        (None, None),
        ("", None),
        (["hello"], None),
        (b"hello", None),
        ("hello", 5),
        ("hello", ["be brief"]),
        (pd.NA, None),
        ("hello", pd.NA),
        (np.array(["a", "b"]), None),
    ],
)
def test_prompt_parts_hold_text(prompt: Any, system: Any) -> None:
    with pytest.raises(InvalidInputError, match="a prompt must be a non-empty string and a system prompt"):
        PromptParts(prompt, system)


@pytest.mark.parametrize("name", ["max_requests", "max_file_bytes", "chars_per_token"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, 2.0, "5", None, 2**63])
def test_limits_of_a_batch_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"ChunkPolicy.{name} must be"):
        ChunkPolicy(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_attempts", value) for value in (0, -1, True, 2.5, "3", None)),
        *(
            (name, value)
            for name in ("base_backoff_sec", "max_backoff_sec")
            for value in (-1, True, "1", None, float("nan"), float("inf"))
        ),
    ],
)
def test_a_retry_policy_holds_numbers(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"RetryPolicy.{name} must"):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("value", [None, "no", 0])
def test_whether_artifacts_are_kept_is_true_or_false(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="persist_raw_output_artifacts must be True or False"):
        ArtifactPolicy(persist_raw_output_artifacts=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lease_ttl_sec", "120"),
        ("grace_sec", None),
        ("look_ups", 2.5),
        ("parallel_transfers", True),
        ("model_modules", "a"),
    ],
)
def test_engine_settings_are_of_their_types(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"EngineSettings.{name} must be"):
        EngineSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("storage", "runs.sqlite3", r"pass storage=SQLiteStorage\(path='runs.sqlite3'\)"),
        ("storage", "./runs", r"SQLiteStorage\(path='./runs'\)"),
        ("storage", "sqlite:///runs.db", r"SQLiteStorage\(path='runs.db'\)"),
        ("storage", Path("runs.db"), r"SQLiteStorage\(path='runs.db'\)"),
        ("storage", "postgresql://host/db", r"PostgresStorage\(dsn=...\)"),
        ("storage", "mysql", "known: 'memory', 'postgres', 'sqlite'"),
        ("storage", "", "storage is an empty string; pass a store or the name of a kind"),
        ("storage", SQLiteStorage, "storage is the class SQLiteStorage; give an instance"),
        ("storage", 5, "storage must be a StateStore"),
        ("provider_registry", {}, "provider_registry must be a ProviderRegistry"),
        ("storage_registry", "sqlite", "storage_registry must be a StorageRegistry"),
        ("provider_factory", CONFIG, "provider_factory must be a function"),
        ("observer", "print", "observer must be a function"),
        ("observer", later, "observer is a coroutine function"),
        ("sleep", 5, "sleep must be a function"),
        ("artifact_store", "artifacts", "for a folder give temp_root, or LocalArtifactStore"),
        ("artifact_store", 5, "artifact_store must be a ArtifactStore"),
        ("temp_root", 5, "temp_root must be the path of a folder"),
        ("settings", {"look_ups": 3}, "settings must be a EngineSettings"),
    ],
)
def test_a_runner_refuses_what_can_not_work(name: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        BatchRunner(**{"storage": "memory", name: value})


@pytest.mark.parametrize("given", [None, [ITEM], BatchJob])
def test_a_run_starts_with_a_job(given: Any) -> None:
    with BatchRunner(storage="memory") as runner, pytest.raises(InvalidInputError, match="job"):
        runner.start(given)
