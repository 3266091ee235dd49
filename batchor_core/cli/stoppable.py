"""A job that can be stopped between two rows while they are read, and says when its first prompt is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from batchor_core.core.models import BatchItem, BatchJob, PromptParts


def stoppable(
    job: BatchJob[Any, Any], check: Callable[[], None], *, begun: Callable[[], None] | None = None
) -> BatchJob[Any, Any]:
    """The job, with a call of ``check`` before each prompt and one of ``begun`` after the first.

    Stored rows stay, and reading continues after them.
    """
    build_prompt = job.build_prompt
    pending = [] if begun is None else [begun]

    def build(item: BatchItem[Any]) -> PromptParts | str:
        check()
        prompt = build_prompt(item)
        if pending:
            pending.pop()()
        return prompt

    return replace(job, build_prompt=build)
