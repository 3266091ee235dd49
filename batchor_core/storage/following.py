"""What a driver's session is told about reuse, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReuseTerms:
    """Which answers of its scope a run takes.

    Attributes:
        max_age_sec: Seconds since its batch was created after which an answer is not taken; None for never.
        accepts: Whether the job's output accepts an answer's text; None if it accepts any.
    """

    max_age_sec: float | None = None
    accepts: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of items that followed equal ones.

    Attributes:
        completed: They have the answer.
        failed: They failed as an equal item of their run did.
        released: They are to be sent themselves.
    """

    completed: int = 0
    failed: int = 0
    released: int = 0

    def __add__(self, other: Followed) -> Followed:
        return Followed(
            self.completed + other.completed, self.failed + other.failed, self.released + other.released
        )
