"""Functions whose annotations are strings, as `from __future__ import annotations` makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig

if TYPE_CHECKING:
    from decimal import Decimal


def from_words(words: list[str]) -> BatchJob[Any, Any]:
    return BatchJob(
        items=[BatchItem(word, word) for word in words],
        build_prompt=lambda item: item.payload,
        provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
    )


def with_context(here: dg.AssetExecutionContext, words: list[str]) -> BatchJob[Any, Any]:
    assert here.has_partition_key is False
    return from_words(words)


def returning_an_unknown_type() -> Decimal:
    raise AssertionError
