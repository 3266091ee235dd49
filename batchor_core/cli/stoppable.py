"""A job that can be stopped between two rows while they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from batchor_core.core.models import BatchItem, BatchJob, PromptParts


def stoppable(job: BatchJob[Any, Any], check: Callable[[], None]) -> BatchJob[Any, Any]:
    """The job, with a call of ``check`` before each prompt. Stored rows stay, and reading continues after them."""
    build_prompt = job.build_prompt

    def build(item: BatchItem[Any]) -> PromptParts | str:
        check()
        return build_prompt(item)

    return replace(job, build_prompt=build)
