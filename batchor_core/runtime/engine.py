"""What the stages of a cycle share: the engine's collaborators, and one driver's hold on one run."""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.core.admission import Allowance, Granted, Measure
from batchor_core.core.arguments import check_seconds, check_whole_number
from batchor_core.core.batching import BatchSize
from batchor_core.core.custom_ids import SUBMISSION_CHARS, CustomIds
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.enums import RunControlState
from batchor_core.core.exceptions import (
    InvalidInputError,
    ProviderError,
    ProviderErrorKind,
)
from batchor_core.core.lateness import Patience
from batchor_core.core.models import ProviderConfig, RunEvent
from batchor_core.core.outputs import OutputSpec, VectorOutput
from batchor_core.core.price_book import PriceBook, rates_at
from batchor_core.core.pricing import Rates
from batchor_core.core.prompt_cache import CACHE_KEY_BYTES
from batchor_core.core.queue_limits import REFUSED_FOR_TOKENS, with_room_for
from batchor_core.core.retry import (
    FILE_RETRY_SEC,
    LEAST_OF_DELAY,
    LONGEST_LEASE_SEC,
    UNCOUNTED_FAILURE_CEILING,
    backoff_delay,
)
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.trouble import dated
from batchor_core.providers.api import BatchApi, FoundBy, WantedOutput
from batchor_core.providers.at_boundaries import ApiAtBoundaries
from batchor_core.providers.base import BatchProvider
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.runtime.event_log import log_event
from batchor_core.runtime.outputs import checking_output, declared_output, stored_tools
from batchor_core.runtime.provider_errors import ProviderCodeError, advice
from batchor_core.runtime.queue_limit import queue_key, queue_limit
from batchor_core.storage.records import PersistedRunConfig
from batchor_core.storage.session import DriverSession
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


class JobInHand(ABC):
    """A job as requests are made of it: by a driver, which sends them, and for a plan, which does not.

    Attributes:
        run_id: The run; "" if it has no name yet.
        config: The job as it is stored.
    """

    run_id: str
    config: PersistedRunConfig
    _provider: RunProvider

    @property
    @abstractmethod
    def store(self) -> StateStore:
        """Where the run is kept, or would be."""

    @property
    @abstractmethod
    def settings(self) -> EngineSettings:
        """How to drive."""

    @property
    @abstractmethod
    def custom_ids(self) -> CustomIds:
        """Names the attempts of its items."""

    @property
    @abstractmethod
    def output(self) -> OutputSpec:
        """What answers are checked with."""

    @property
    def api(self) -> BatchApi:
        """The run's provider."""
        return self._provider.get()

    @property
    def wanted(self) -> WantedOutput | None:
        """What every request asks for, besides its prompt."""
        return wanted_output(self.config)

    def provider_config(self, model: str | None) -> ProviderConfig:
        """The provider's settings for rows that name this model, or none."""
        config = self.config.provider_config
        return config if model is None else config.of_model(model)

    def budget(self) -> EnqueueBudget | None:
        """The account's token limits, if any are configured."""
        return self.api.enqueue_budget()

    def allowances(self) -> list[Allowance]:
        """What the run shares with others and has to stay within."""
        limit = queue_limit(self.store, self.config.provider_config, api=self.api)
        if limit is None:
            return []
        return [Allowance(Measure.ENQUEUED_TOKENS, limit.key, limit.tokens, is_observed=limit.is_observed)]

    def batch_size(self) -> BatchSize:
        """What one batch may hold: the smaller of what the job says and what the provider takes."""
        policy, limits, budget = self.config.chunk_policy, self.api.limits, self.budget()
        return BatchSize(
            min(policy.max_requests, limits.max_requests or policy.max_requests),
            min(policy.max_file_bytes, limits.max_bytes or policy.max_file_bytes),
            budget.per_batch if budget else 0,
            row_bytes=SUBMISSION_CHARS * (limits.found_by is FoundBy.ROWS)
            + CACHE_KEY_BYTES * limits.has_cache_keys,
        )


class Drive(JobInHand):
    """One driver's hold on one run, for the length of one cycle.

    Attributes:
        engine: Store, artifacts, observer.
        run_id: The run.
        config: The stored job.
        session: The writes, under the run's lease.
        sweeping: What this process knows of batches that the store does not.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        run_id: str,
        config: PersistedRunConfig,
        session: DriverSession,
        provider: RunProvider,
        sweeping: Sweeping,
        output: OutputSpec | None = None,
        time_limit_sec: float | None = None,
    ) -> None:
        self.engine = engine
        self.run_id = run_id
        self.config = config
        self.session = session
        self.sweeping = sweeping
        self._provider = provider
        self._output = output
        self._stop_at = None if time_limit_sec is None else time.monotonic() + time_limit_sec

    @property
    def store(self) -> StateStore:
        """Where the run is kept."""
        return self.engine.store

    @property
    def artifacts(self) -> ArtifactStore:
        """Where its files are kept."""
        return self.engine.artifacts

    @property
    def settings(self) -> EngineSettings:
        """How to drive."""
        return self.engine.settings

    @property
    def max_attempts(self) -> int:
        """Answered attempts per item."""
        return self.config.retry_policy.max_attempts

    @property
    def custom_ids(self) -> CustomIds:
        """Names the attempts of its items."""
        return self.session.custom_ids

    @property
    def output(self) -> OutputSpec:
        """What answers are checked with."""
        if self._output is None:
            self._output = checking_output(self.config, allowed_modules=self.settings.model_modules)
        return self._output

    def granted(self) -> list[Granted]:
        """The same, and where the run stands under each; what a waiting run needs next always has room in itself."""
        granted = [Granted(allowance, self.session.standing(allowance)) for allowance in self.allowances()]
        needs = [one.standing.place.need for one in granted if one.standing.place is not None]
        return with_room_for(granted, max(needs, default=0))

    def queue_was(self, local_batch_id: str, *, error_class: str | None) -> None:
        """Learn from a batch that was refused for this reason, or that was run; where no limit is configured."""
        budget = self.budget()
        if budget is not None and budget.limit:
            return
        about = {
            "run_id": self.run_id,
            "key": queue_key(self.config.provider_config, api=self.api),
            "local_batch_id": local_batch_id,
        }
        if error_class is None:
            self.store.queue_accepted(**about)
        elif error_class in REFUSED_FOR_TOKENS:
            self.store.queue_refused(**about)

    def emit(self, event_type: str, **data: object) -> None:
        """Emit an event of this run."""
        kind = self.config.provider_config.provider_kind
        self.engine.emit(self.run_id, event_type, provider_kind=kind, **data)

    def in_time(self) -> bool:
        """Whether the cycle's time limit leaves room for another step."""
        return self._stop_at is None or time.monotonic() < self._stop_at

    def is_running(self) -> bool:
        """Whether the operator wants the run to continue; read each time."""
        return self.store.get_run_control_state(run_id=self.run_id) is RunControlState.RUNNING

    def is_cancelling(self) -> bool:
        """Whether the operator has cancelled the run; read each time."""
        return self.store.get_run_control_state(run_id=self.run_id) is RunControlState.CANCEL_REQUESTED

    def may_go_on(self) -> bool:
        """Whether to begin another step: the operator has not paused or cancelled, and there is time."""
        return self.in_time() and self.is_running()

    # failures of the control plane

    def control_plane_failed(self, error: ProviderError) -> None:
        """Back off, or pause the run if waiting can't help.

        Credentials, quota, requests that will never be accepted and mistakes in the provider's code need a person. The
        rest backs off; after a ceiling of failures in a row it needs a person too, unless nothing was answered at all or
        the account's queue is just full.
        """
        if isinstance(error, ProviderCodeError):
            self.pause(advice(error))
            return
        match error.kind:
            case ProviderErrorKind.CREDENTIALS | ProviderErrorKind.QUOTA | ProviderErrorKind.BAD_REQUEST:
                self.pause(f"{error.error_class}: {error}")
            case ProviderErrorKind.RETRY | ProviderErrorKind.CAPACITY | ProviderErrorKind.NOT_FOUND:
                answered = error.status_code is not None and error.kind is not ProviderErrorKind.CAPACITY
                self.hold_back(
                    error.error_class, str(error), retry_after=error.retry_after, has_ceiling=answered
                )
            case ProviderErrorKind.NO_ROUTE:
                # where it has worked before, a gateway may have lost its way for a moment
                if self.store.get_batches(run_id=self.run_id):
                    self.hold_back(error.error_class, str(error), retry_after=error.retry_after)
                else:
                    self.pause(f"{error.error_class}: {error}")
            case ProviderErrorKind.NOT_READY:
                # a new file will be as young as this one was, so the ceiling has to be some minutes away
                asked = max(error.retry_after or 0.0, FILE_RETRY_SEC)
                self.hold_back(error.error_class, str(error), retry_after=asked)
            case _:
                assert_never(error.kind)

    def hold_back(
        self, error_class: str, message: str, *, retry_after: float | None = None, has_ceiling: bool = True
    ) -> None:
        """Count a failure that cost no attempt and advance the run's backoff; pause the run at the ceiling."""
        policy = self.config.retry_policy
        asked = (retry_after or 0.0) / LEAST_OF_DELAY
        before = self.store.get_retry_backoff(run_id=self.run_id).last_error_message
        state = self.session.record_failure(
            error_class=error_class,
            base_delay_sec=max(policy.base_backoff_sec, asked),
            max_delay_sec=max(policy.max_backoff_sec, asked),
            message=dated(f"{error_class}: {message}", before=before, now=self.store.now()),
        )
        self.emit(
            "batch_submit_retry",
            error_class=error_class,
            message=message,
            consecutive_failures=state.consecutive_failures,
            backoff_sec=state.backoff_sec,
        )
        if has_ceiling and state.consecutive_failures >= UNCOUNTED_FAILURE_CEILING:
            self.pause(
                f"{state.consecutive_failures} failures in a row, the last one {error_class}: {message}"
            )

    def pause(self, reason: str) -> None:
        """Pause the run by the engine's own decision."""
        self.session.pause(reason=reason)
        self.emit("run_paused", reason=reason, by="engine")

    def delay_after(self, failures: int) -> float:
        """Seconds to wait after the n-th failure in a row of one batch."""
        policy = self.config.retry_policy
        return backoff_delay(
            failures=failures,
            base_sec=policy.base_backoff_sec,
            max_sec=policy.max_backoff_sec,
            jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
        )
