"""A job as its stages have it in hand: for a driver, which sends it, and for a plan, which does not."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from typing import assert_never

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.core.admission import Allowance, Granted, Measure
from batchor_core.core.batching import BatchSize
from batchor_core.core.custom_ids import SUBMISSION_CHARS, CustomIds
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.enums import RunControlState
from batchor_core.core.exceptions import (
    ProviderError,
    ProviderErrorKind,
)
from batchor_core.core.models import ProviderConfig
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.prompt_cache import CACHE_KEY_BYTES
from batchor_core.core.queue_limits import REFUSED_FOR_TOKENS, with_room_for
from batchor_core.core.retry import (
    FILE_RETRY_SEC,
    LEAST_OF_DELAY,
    UNCOUNTED_FAILURE_CEILING,
    backoff_delay,
)
from batchor_core.core.trouble import dated
from batchor_core.providers.api import BatchApi, FoundBy, WantedOutput
from batchor_core.runtime.engine import Engine, EngineSettings, RunProvider, Sweeping, wanted_output
from batchor_core.runtime.outputs import checking_output
from batchor_core.runtime.provider_errors import ProviderCodeError, advice
from batchor_core.runtime.queue_limit import queue_key, queue_limit
from batchor_core.storage.records import PersistedRunConfig
from batchor_core.storage.session import DriverSession
from batchor_core.storage.state import StateStore


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
