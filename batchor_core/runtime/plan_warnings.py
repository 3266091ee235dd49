"""What a plan warns of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchor_core.core.forecast import CACHED_FROM_TOKENS, AnswerTokens
from batchor_core.core.plan import Plan
from batchor_core.core.pricing import Unpriced
from batchor_core.core.words import counted

WORTH_CACHING_TOKENS = 256
"""A shorter common beginning would save next to nothing if it was cached."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known besides the figures of a plan.

    Attributes:
        notes: Warnings to begin with.
        reuses: Whether the job reuses answers.
        answer: What is expected of answers.
        has_bound: Whether requests limit the length of answers.
        shared_tokens: Tokens of text that all new rows begin with.
        writes_cost_more: Whether writing to the provider's cache costs more than reading from it saves.
        caches: Whether the model has a price for cached prompts.
    """

    notes: Sequence[str]
    reuses: bool
    answer: AnswerTokens
    has_bound: bool
    shared_tokens: int
    writes_cost_more: bool
    caches: bool


def warnings_of(plan: Plan, found: Findings) -> tuple[str, ...]:
    """Each of them as a sentence without a full stop."""
    return (
        *found.notes,
        *_about_rows(plan, found),
        *_about_money(plan, found),
        *_about_caps(plan),
        *_about_cache(plan, found),
    )


def _about_rows(plan: Plan, found: Findings) -> Iterator[str]:
    if plan.rows_refused:
        yield f"{counted(plan.rows_refused, 'row')} over the limits of a batch would fail without being sent"
    if plan.rows_duplicate and not found.reuses:
        equal = counted(
            plan.rows_duplicate, "row is equal to an earlier one", "rows are equal to earlier ones"
        )
        yield f"{equal}, and would be paid for again; with reuse, equal rows are sent once"


def _about_money(plan: Plan, found: Findings) -> Iterator[str]:
    if not plan.rows_new:
        return
    if isinstance(plan.cost, Unpriced):
        yield f"no list price: {plan.cost.reason}; give your own prices to have the cost planned"
    if found.answer.is_bound:
        yield f"the length of answers is not known; planned with {found.answer.basis}"
        if not found.has_bound:
            yield "nothing limits the length of an answer, so it may cost more than planned"


def _about_caps(plan: Plan) -> Iterator[str]:
    for cap in plan.caps:
        match cap.stops:
            case "yes":
                yield f"the run would stop at the cap of {cap.cap}, of which {cap.left} is left"
            case "perhaps":
                yield f"the run may stop at the cap of {cap.cap}, of which {cap.left} is left"
            case "unknown":
                yield f"the run would be refused: the cap of {cap.cap} is in dollars, and there is no price"
            case _:
                pass


def _about_cache(plan: Plan, found: Findings) -> Iterator[str]:
    if found.writes_cost_more:
        yield "in earlier answers, writing to the provider's prompt cache cost more than reading from it saved"
    shared = found.shared_tokens
    if (
        found.caches
        and WORTH_CACHING_TOKENS <= shared < CACHED_FROM_TOKENS
        and 0 < plan.input_tokens.low <= 2 * shared * plan.rows_new
    ):
        yield (
            f"the beginning that all prompts have in common, some {shared:,} tokens, is too short to be cached: providers cache "
            f"from {CACHED_FROM_TOKENS:,} tokens on"
        )
