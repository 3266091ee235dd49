"""What this process knows of a runner's runs beyond the store: live objects that a database can't hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from batchor_core.core.exceptions import MissingCredentialsError
from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.models import BatchJob, ProviderConfig
from batchor_core.core.outputs import OutputSpec
from batchor_core.providers.api import BatchApi
from batchor_core.providers.base import BatchProvider
from batchor_core.runtime.engine import Engine, RunProvider, Sweeping, wanted_output
from batchor_core.runtime.ingest import Reader
from batchor_core.runtime.outputs import output_of_model, stored_output
from batchor_core.runtime.row_comparison import BuildLine, KnownRows
from batchor_core.runtime.threads import Threads
from batchor_core.storage.state import IngestCheckpoint, PersistedRunConfig, StateStore


@dataclass(slots=True)
class LiveRun:
    """What this process knows of one run.

    Attributes:
        config: The job as it is stored.
        provider: The run's provider, made when it is needed.
        output: What the answers are, with their model; None while only the store knows.
        job: The job, if this process was given it.
        reader: Where this process stands in the job's items; None while it reads none.
        rows: How far the stored rows are known to be the job's; None without a job.
        sweeping: When batches were looked for that the store does not know.
    """

    config: PersistedRunConfig
    provider: RunProvider
    output: OutputSpec | None = None
    job: BatchJob[Any, Any] | None = None
    reader: Reader | None = None
    rows: KnownRows | None = None
    sweeping: Sweeping = field(default_factory=Sweeping)

    def check_rows(self, store: StateStore, run_id: str, checkpoint: IngestCheckpoint) -> None:
        """Raise RunItemsMismatchError if stored rows are not those of the job that this process has."""
        if self.rows is None:
            return
        if self.reader is not None:
            self.rows.note_own(self.reader)
        with collecting_less():
            self.rows.check(store, run_id, checkpoint, self._build_line)

    def _build_line(self) -> BuildLine | None:
        """How the provider builds lines; None without a key, which reading a run doesn't need."""
        try:
            api = self.provider.get()
        except MissingCredentialsError:
            return None
        wanted = wanted_output(self.config)
        return lambda custom_id, prompt: api.request_line(custom_id=custom_id, prompt=prompt, output=wanted)


class LiveRuns:
    """The engine of a runner, and the runs that it has had to do with.

    Attributes:
        engine: The collaborators of every run.
        threads: Where cycles run that an event loop waits for.
    """

    def __init__(self, engine: Engine, make_provider: Callable[[Any], BatchProvider | BatchApi]) -> None:
        self.engine = engine
        self._make_provider = make_provider
        self._runs: dict[str, LiveRun] = {}
        self._replaced: list[RunProvider] = []
        self.threads = Threads()

    def provider(self, config: ProviderConfig) -> RunProvider:
        """The provider of a config, not made yet."""
        return RunProvider(lambda: self._make_provider(config), config)

    def provider_of(self, before: LiveRun | None, config: ProviderConfig) -> RunProvider:
        """The same, or the one that the run has already, if it is of an equal config."""
        if before is not None and before.provider.config == config:
            return before.provider
        return self.provider(config)

    def get(self, run_id: str) -> LiveRun | None:
        """The run, if this process has had to do with it."""
        return self._runs.get(run_id)

    def of(self, run_id: str) -> LiveRun:
        """The run, from the store if it is new here."""
        live = self._runs.get(run_id)
        if live is None:
            config = self.engine.store.get_run_config(run_id=run_id)
            live = self._runs[run_id] = LiveRun(config, self.provider(config.provider_config))
        return live

    def put(self, run_id: str, live: LiveRun) -> None:
        """From now on, this is what is known of the run."""
        before = self._runs.get(run_id)
        self._runs[run_id] = live
        if before is not None and before.provider is not live.provider:
            before.provider.close()
            self._replaced.append(before.provider)  # a cycle under way may make it once more

    def drop(self, run_id: str) -> None:
        """Forget a run that was deleted."""
        self._runs.pop(run_id).provider.close()

    def forget(self, run_id: str) -> None:
        """Forget a run if this process knows it."""
        if run_id in self._runs:
            self.drop(run_id)

    def output(self, run_id: str, model: type[BaseModel] | None = None) -> OutputSpec:
        """What a run's answers are: with the model that is given, the job's own, or the one that can be imported by its name.

        Raises:
            ModelResolutionError: None is given, and the model can't be imported in this process.
            InvalidInputError: What is given is no model, or the run's answers are vectors or bodies.
        """
        live = self._runs.get(run_id)
        if model is None and live is not None and live.output is not None:
            return live.output
        config = self.engine.store.get_run_config(run_id=run_id)
        if model is not None:
            return output_of_model(config, model)
        return stored_output(config, allowed_modules=self.engine.settings.model_modules)

    def close(self) -> None:
        """Wait for cycles that have begun on behalf of event loops, and release the providers' connections."""
        self.threads.close()
        for provider in [*self._replaced, *(live.provider for live in self._runs.values())]:
            provider.close()
        self._runs.clear()
        self._replaced.clear()
