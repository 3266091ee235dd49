"""What a plan reads of a store. Nothing of it writes, creates or migrates anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from batchor_core.core.caps import Cap, CapStanding
from batchor_core.core.reuse import Move
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.session import ReuseTerms

HISTORY_ROWS = 10_000
HISTORY_RUNS = 200
"""How far a plan looks back: answers, and runs, the newest first."""


@dataclass(frozen=True, slots=True)
class JobLikeness:
    """What earlier runs are compared with a job by.

    Attributes:
        provider: Kind of the provider.
        model: Its model.
        asset: The Dagster asset, as ``core.spending.key_text`` writes it; None for none.
        output: The answers, as ``core.outputs`` writes them.
        schema: Their schema; None for none.
    """

    provider: str
    model: str
    asset: str | None
    output: JSONObject
    schema: JSONObject | None


@dataclass(frozen=True, slots=True)
class History:
    """Answers that jobs like this one got.

    Attributes:
        basis: Whose they are, for people.
        usages: Tokens of each, the newest first; those that were reused are not in it.
    """

    basis: str = ""
    usages: Sequence[TokenUsage] = ()


class PlanningReads:
    """What a plan reads of a store; this one of a store that has none of it."""

    def accounts(self) -> list[str]:
        """Digests of the accounts that batches were sent from, the newest first."""
        return []

    def has_scope(self, reuse_key: str) -> bool:
        """Whether any run has shared answers under this key."""
        return False

    def moves(self, reuse_key: str, addresses: Collection[bytes], terms: ReuseTerms) -> dict[bytes, Move]:
        """What would become of requests with these content addresses; those that are not known are left out."""
        return {}

    def cap_standings(self, run_id: str, *, labels: Sequence[str], caps: Sequence[Cap]) -> list[CapStanding]:
        """The caps that would hold for a run, those of its job included, and how far they are used."""
        return []

    def history(self, like: JobLikeness) -> History:
        """The answers of the most similar runs: of the same asset, else of the same output, else of the same model."""
        return History()
