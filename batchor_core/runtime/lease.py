"""Holding a run's lease for as long as it takes, and long enough before anything that costs money."""

from __future__ import annotations

import logging
import threading
import time

from batchor_core.core.exceptions import InvalidInputError, LeaseLostError
from batchor_core.core.models import ProviderConfig
from batchor_core.storage.session import DriverSession

log = logging.getLogger("batchor_core")

RENEWALS = 4
"""Renewals within one term of a lease: three may fail in a row before it is lost."""

MARGIN = 0.1
"""The share of a lease's term that must be left when a request that was sent in it has timed out."""


def request_timeout(config: ProviderConfig) -> float:
    """Seconds that one API call may take; 0 where the config does not say."""
    timeout = getattr(config, "request_timeout_sec", 0.0)
    return float(timeout) if isinstance(timeout, int | float) else 0.0


def spare_seconds(ttl_sec: float, config: ProviderConfig) -> float:
    """Seconds after taking a lease within which a request must leave, so that it is over before the lease is."""
    return ttl_sec * (1 - MARGIN) - request_timeout(config)


def check_lease_term(ttl_sec: float, config: ProviderConfig) -> None:
    """Refuse a lease that one slow API call could outlive: another driver would take over in the middle of it.

    Raises:
        InvalidInputError: Says by how much.
    """
    if spare_seconds(ttl_sec, config) <= 0:
        raise InvalidInputError(
            f"EngineSettings.lease_ttl_sec is {ttl_sec:g}, but one API call may take {request_timeout(config):g} seconds "
            f"(request_timeout_sec): set the lease to more than {request_timeout(config) / (1 - MARGIN):g} seconds"
        )


def uptime() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps where the system has such a one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LeaseKeeper:
    """Renews a lease in the background while HTTP calls and user callbacks take their time.

    Raises:
        LeaseLostError: On leaving the block, instead of a FileNotFoundError, if the lease has gone to somebody else: a
            driver that takes over removes what its predecessor was writing and reading.
    """

    def __init__(self, session: DriverSession, *, ttl_sec: float) -> None:
        self._session = session
        self._ttl_sec = ttl_sec
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="batchor-lease", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stop.set()
        self._thread.join()
        if isinstance(error, FileNotFoundError):
            self._session.renew(ttl_sec=self._ttl_sec)

    def _keep(self) -> None:
        while not self._stop.wait(self._ttl_sec / RENEWALS):
            try:
                self._session.renew(ttl_sec=self._ttl_sec)
            except LeaseLostError:
                return  # the next write of the driver finds it out by itself
            except Exception:
                log.warning(
                    "renewing the lease of run %s failed; trying again", self._session.run_id, exc_info=True
                )
