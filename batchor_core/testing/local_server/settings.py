"""How the server behaves: its pace, its limits and its habits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DAY = 86_400.0

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """How many seconds a batch stays in each phase. The default ends a batch one second after its creation.

    ``running`` longer than a day makes the completion window close first, so the batch expires.
    """

    validating: float = 0.1
    running: float = 0.8
    finalizing: float = 0.1
    cancelling: float = 0.1

    @classmethod
    def of_batch_seconds(cls, seconds: float) -> Timing:
        """Share ``seconds``, from creation to completion, among the phases: most of it goes to running."""
        return cls(
            validating=seconds * 0.1,
            running=seconds * 0.8,
            finalizing=seconds * 0.1,
            cancelling=seconds * 0.1,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """The published limits of the Batch API; lower them to meet them in a test.

    Attributes:
        max_requests: Lines in one input file.
        max_file_bytes: Size of one input file.
        creates_per_hour: Batches created in any hour; the next one is answered 429.
        enqueued_tokens: Prompt tokens that may wait per model. A number holds for every model, a mapping for
            the models it names. None, the default, sets no limit.
        models: The models this account may use in batches. None, the default, allows any.
    """

    max_requests: int = 50_000
    max_file_bytes: int = 200 * MEGABYTE
    creates_per_hour: int = 2_000
    enqueued_tokens: int | Mapping[str, int] | None = None
    models: frozenset[str] | None = None

    def enqueued_tokens_of(self, model: str | None) -> int | None:
        """The number of prompt tokens that may wait for ``model``, None if there is no limit."""
        if isinstance(self.enqueued_tokens, Mapping):
            return self.enqueued_tokens.get(model or "")
        return self.enqueued_tokens


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of a ``LocalServer`` that stay the same while it runs, as they are described there."""

    timing: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    api_keys: frozenset[str] | None = None
    latency: float = 0.0
