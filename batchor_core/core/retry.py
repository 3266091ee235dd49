"""Backoff arithmetic."""

from __future__ import annotations

UNCOUNTED_FAILURE_CEILING = 10
"""Failures in a row that cost no attempt (lost batches, missing rows) before the run pauses itself."""

POLL_FAILURE_CEILING = 30
"""Answered but useless polls of one batch in a row before the run pauses: over an hour at the default backoff."""

LONGEST_POLL_WAIT_SEC = 3_600.0
"""The longest wait before a batch is polled again, whatever the provider asks for."""

LONGEST_LEASE_SEC = 3_600.0
"""The longest time for which a lease may be taken without being renewed."""

FILE_PATIENCE_SEC = 900.0
"""How long after its upload an input file may be missing or unprocessed before a person is asked."""

FILE_RETRY_SEC = 60.0
"""The least wait after a batch that failed since its input file was not there; so the ceiling is ten minutes away."""

FILE_WAIT_SEC = (5.0, 60.0)
"""The shortest and the longest time until a create is tried again whose input file was not ready."""

LEAST_OF_DELAY = 0.75
"""The share of a delay that jitter leaves at least."""


def backoff_delay(*, failures: int, base_sec: float, max_sec: float, jitter: float = 0.0) -> float:
    """Seconds to wait after the n-th failure in a row: ``min(base * 2^(n-1), max)``, spread by ``jitter``.

    ``jitter`` in 0..1 is the caller's random number; the result lies between 75 % and 100 % of the plain delay, so
    that many runs that failed together don't come back together.
    """
    if failures < 1 or base_sec <= 0:
        return 0.0
    # the exponent is capped first: 2.0 ** 1100 overflows
    plain = min(base_sec * 2.0 ** min(failures - 1, 60), max_sec)
    return plain * (1.0 - (1.0 - LEAST_OF_DELAY) * min(max(jitter, 0.0), 1.0))


def file_wait(age_sec: float, *, retry_after: float = 0.0) -> float:
    """Seconds until a create is tried again whose input file was not ready at this age: about as long as it has been there."""
    shortest, longest = FILE_WAIT_SEC
    return max(min(retry_after, FILE_PATIENCE_SEC), min(longest, max(shortest, age_sec)))


def is_due(at: float, now: float, *, longest: float) -> bool:
    """Whether a stored moment has come.

    A moment further off than any wait allows was stored before the clock was set back: waiting for the clock to catch
    up could take a day. A second is allowed for rounding.
    """
    return at <= now or at - now > longest + 1.0
