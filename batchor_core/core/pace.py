"""How often a waiting process asks after batches: the younger the youngest of them, the more often."""

from __future__ import annotations

from batchor_core.core.models import ProviderConfig

PACES = ((60.0, 1.0), (600.0, 10.0), (3_600.0, 30.0))
"""Age of the youngest batch in flight up to which a pause holds, and that pause, both in seconds."""

SLOWEST_SEC = 120.0
"""The pause of older ones."""

UNSETTLED_SEC = 10.0
"""The longest pause while something is to be settled in minutes: a submission in doubt, a file, a cancellation."""

FOLLOW_SEC = 10.0
"""The pause of a run whose rows all wait for those of other runs."""

LOOK_SEC = 5.0
"""How often a waiting process looks into the store in such a pause, so that it hears of an operator or another process."""


def own_pause(config: ProviderConfig) -> float | None:
    """The pause that a job's config asks for; None for the default, which leaves it to the age of the batches."""
    given = config.poll_interval_sec
    return None if given == ProviderConfig.poll_interval_sec else given


def pause_at_age(age_sec: float | None) -> float:
    """Seconds until the batches are asked after again.

    Args:
        age_sec: How old the youngest batch in flight is; None if there is none, so that only the store is looked at.
    """
    if age_sec is None:
        return PACES[0][1]
    return next((pause for until, pause in PACES if age_sec < until), SLOWEST_SEC)
