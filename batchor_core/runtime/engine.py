"""What runs are driven with: the collaborators of the engine, its settings, and a run's provider."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.core.arguments import check_seconds, check_whole_number
from batchor_core.core.exceptions import (
    InvalidInputError,
)
from batchor_core.core.lateness import Patience
from batchor_core.core.models import ProviderConfig, RunEvent
from batchor_core.core.outputs import VectorOutput
from batchor_core.core.price_book import PriceBook, rates_at
from batchor_core.core.pricing import Rates
from batchor_core.core.retry import (
    LONGEST_LEASE_SEC,
)
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.providers.api import BatchApi, WantedOutput
from batchor_core.providers.at_boundaries import ApiAtBoundaries
from batchor_core.providers.base import BatchProvider
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.runtime.event_log import log_event
from batchor_core.runtime.outputs import declared_output, stored_tools
from batchor_core.storage.records import PersistedRunConfig
from batchor_core.storage.state import StateStore

log = logging.getLogger("batchor_core")

CHUNK = 1_000
"""Rows per transaction of an ingestion, and of a page; larger ones bought nothing when measured."""

SWEEP_INTERVAL_SEC = 3_600.0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of the engine that are not part of a job.

    Attributes:
        lease_ttl_sec: Seconds after which a driver that gave no sign of life may be replaced; at most an hour. It has to
            outlast one API call of the provider by a tenth.
        grace_sec: How long a batch of unknown outcome is looked for before it counts as never created.
        look_ups: Complete listings without it that are needed in that time.
        list_page_cap: Pages read in one look-up before it counts as impossible.
        parallel_transfers: Uploads and downloads at the same time.
        on_unknown: What to do about a submission of unknown outcome when the provider offers no way to ask:
            ``resubmit`` it, or ``hold`` it for a person.
        patience: How long to wait for results that are late, and for batches that don't end, before a person is asked.
        content_addresses: Keep with each item a digest of what it asks (provider, endpoint and body), by which equal requests
            are found within and across runs. It takes some 5 % of the time that reading takes.
        model_modules: Packages and modules that output models of stored runs may be imported from; None allows any. The
            class that a job was given in this process is used without asking.
    """

    lease_ttl_sec: float = 120.0
    grace_sec: float = 120.0
    look_ups: int = 3
    list_page_cap: int = 200
    parallel_transfers: int = 4
    on_unknown: Literal["resubmit", "hold"] = "resubmit"
    patience: Patience = field(default_factory=Patience)
    model_modules: tuple[str, ...] | None = None
    content_addresses: bool = False

    def __post_init__(self) -> None:
        for name in ("lease_ttl_sec", "grace_sec"):
            check_seconds(f"EngineSettings.{name}", getattr(self, name))
        for name in ("look_ups", "list_page_cap", "parallel_transfers"):
            check_whole_number(f"EngineSettings.{name}", getattr(self, name), least=1)
        modules: Any = self.model_modules
        if modules is not None and (
            isinstance(modules, str) or not all(isinstance(module, str) for module in modules)
        ):
            raise InvalidInputError(
                f"EngineSettings.model_modules must be a tuple of module names or None, not {modules!r}"
            )
        if not 0 < self.lease_ttl_sec <= LONGEST_LEASE_SEC:
            raise ValueError(f"EngineSettings: lease_ttl_sec must lie between 0 and {LONGEST_LEASE_SEC:.0f}")
        if self.on_unknown not in ("resubmit", "hold"):
            raise ValueError(
                f"EngineSettings.on_unknown must be 'resubmit' or 'hold', not {self.on_unknown!r}"
            )


@dataclass(frozen=True, slots=True)
class Engine:
    """The collaborators of every run of a runner."""

    store: StateStore
    artifacts: ArtifactStore
    observer: Callable[[RunEvent], None] | None = None
    settings: EngineSettings = field(default_factory=EngineSettings)
    sleep: Callable[[float], None] = time.sleep
    prices: PriceBook = field(default_factory=PriceBook)

    def rates(self, config: ProviderConfig, *, at: float) -> Rates:
        """What answers cost in a batch that was created at this time by the store's clock; now, if that is not known."""
        return rates_at(self.prices, config, at or self.store.now())

    def emit(self, run_id: str, event_type: str, *, provider_kind: str | None = None, **data: object) -> None:
        """Log the event and call the observer. An exception of the observer is only logged: it must not end the run."""
        event = RunEvent(event_type=event_type, run_id=run_id, provider_kind=provider_kind, data=dict(data))
        log_event(event)
        if self.observer is None:
            return
        try:
            self.observer(event)
        except Exception:
            log.exception("observer failed on %s of run %s", event_type, run_id)


def wanted_output(config: PersistedRunConfig) -> WantedOutput | None:
    """What a run's requests ask for: JSON of a strict schema, vectors or a call; None for texts and bodies."""
    if (tools := stored_tools(config)) is not None:
        return tools
    if config.output_schema is None:
        declared = declared_output(config)
        return declared if isinstance(declared, VectorOutput) else None
    return StructuredOutputSchema(name=config.schema_name or "output", schema=config.output_schema)


class RunProvider:
    """A run's provider, built when it is first needed, so that reading a run needs no key.

    Attributes:
        config: What it is built from.
    """

    def __init__(self, build: Callable[[], BatchApi | BatchProvider], config: ProviderConfig) -> None:
        self.config = config
        self._build = build
        self._lock = threading.Lock()
        self._built: BatchApi | None = None

    def get(self) -> BatchApi:
        """The provider.

        Raises:
            MissingCredentialsError: There is no key for it.
        """
        with self._lock:
            if self._built is None:
                self._built = ApiAtBoundaries(as_batch_api(self._build()), self.config)
            return self._built

    def close(self) -> None:
        """Release its connections, if it was ever built."""
        with self._lock:
            built, self._built = self._built, None
        if built is not None:
            built.close()


@dataclass(slots=True)
class Sweeping:
    """When this process last looked for batches of a run that its store does not know, and which it has reported.

    Attributes:
        began_at: When this process first had to do with the run, by the monotonic clock.
        done_at: By the same clock; None if this process never looked.
        first_at: When it first looked, by the store's clock.
        orphans: Provider ids of the batches that were reported.
        has_tidied: Whether this process has removed unfinished files of the run.
        failing_since: Questions about submissions that are answered with errors only, and since when by the store's clock.
        owners: Marks of the submissions that batches without tags belong to, as far as their results have told; None for
            batches of others.
    """

    began_at: float = field(default_factory=time.monotonic)
    done_at: float | None = None
    first_at: float | None = None
    orphans: set[str] = field(default_factory=set)
    has_tidied: bool = False
    failing_since: dict[str, float] = field(default_factory=dict)
    owners: dict[str, str | None] = field(default_factory=dict)

    def is_due(self, *, to_submit: Callable[[], bool]) -> bool:
        """Before the first submission of a process that found the run there, and hourly in one that lives long."""
        if self.done_at is None and to_submit():
            return True
        since = self.began_at if self.done_at is None else self.done_at
        return time.monotonic() - since >= SWEEP_INTERVAL_SEC

    def done(self) -> None:
        """The list has been read, or can't be."""
        self.done_at = time.monotonic()
