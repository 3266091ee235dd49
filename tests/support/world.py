"""Everything that a run outlives its runner in: a store, a provider, a folder and a clock, and short names for the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.custom_ids import Attempt, parse
from batchor_core.core.models import BatchItem, BatchJob, ChunkPolicy, RetryPolicy, RunEvent
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.storage.postgres import PostgresStorage
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import StateStore
from batchor_core.testing.fake_clock import FakeClock
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import FakeProvider, register_fake_provider
from tests.postgres_server import lasting_schema, postgres_dsn, postgres_engine

RUN = "run-1"


class Verdict(BaseModel):
    """The answer of a structured run."""

    label: str
    score: float


class World:
    """What survives the death of a process, and what a test looks at afterwards.

    Attributes:
        clock: The store's clock and the runner's sleep.
        provider: The provider's books.
        store: One store object for all runners; :meth:`reopened` gives SQLite another one.
        artifacts: The artifact store.
        events: Every event of every runner.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: str = "memory",
        provider: FakeProvider | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.clock = FakeClock()
        self.provider = provider or FakeProvider(clock=self.clock)
        self.settings = settings or EngineSettings()
        self.events: list[RunEvent] = []
        self.artifacts: ArtifactStore = LocalArtifactStore(folder / "artifacts")
        self.schema: str | None = None
        self._stack = ExitStack()
        self._opened: list[StateStore] = []
        self.store = self.open_store()

    def registry(self) -> ProviderRegistry:
        return register_fake_provider(provider=self.provider)

    def open_store(self, *, behind_sec: float = 0.0) -> StateStore:
        """The store as another process opens it, whose clock may be behind."""
        if behind_sec:
            assert self.kind == "sqlite"
            late = timedelta(seconds=behind_sec)
            store: StateStore = SQLiteStorage(
                path=self.folder / "runs.sqlite3",
                now=lambda: self.clock() - late,
                provider_registry=self.registry(),
            )
            self._opened.append(store)
            return store
        if self.kind == "memory":
            store = self._opened[0] if self._opened else MemoryStateStore(now=self.clock)
        elif self.kind == "postgres":
            store = PostgresStorage(
                dsn=postgres_dsn(),
                schema=self._schema(),
                now=self.clock,
                engine=postgres_engine(),
                provider_registry=self.registry(),
            )
        else:
            store = SQLiteStorage(
                path=self.folder / "runs.sqlite3", now=self.clock, provider_registry=self.registry()
            )
        self._opened.append(store)
        return store

    def _schema(self) -> str:
        if self.schema is None:
            self.schema = self._stack.enter_context(lasting_schema())
        return self.schema

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self._stack.close()

    def runner(self, **changes: Any) -> BatchRunner:
        """A runner as a new process would make it."""
        options: dict[str, Any] = {
            "storage": self.store,
            "provider_registry": self.registry(),
            "artifact_store": self.artifacts,
            "observer": self.events.append,
            "sleep": self.clock.sleep,
            "settings": self.settings,
        }
        return BatchRunner(**(options | changes))

    def start(self, job: BatchJob[Any, Any] | None = None, *, run_id: str = RUN, **changes: Any) -> Run:
        return self.runner(**changes).start(job or text_job(), run_id=run_id)

    def summary(self, run_id: str = RUN) -> Any:
        return self.store.get_run_summary(run_id=run_id)

    def batch_ids(self) -> list[str]:
        """The provider's batches, oldest first."""
        return list(self.provider.batches)

    def lines(self) -> list[int]:
        """How many rows each of the provider's batches has."""
        return [len(batch.lines) for batch in self.provider.batches.values()]

    def names(self, *ignored: str) -> list[str]:
        """Event names in order."""
        return [event.event_type for event in self.events if event.event_type not in ignored]

    def data(self, event_type: str) -> list[JSONObject]:
        """What came with each event of this name."""
        return [event.data for event in self.events if event.event_type == event_type]


def items(count: int, *, start: int = 0) -> list[BatchItem[Any]]:
    return [
        BatchItem(f"item-{n}", {"n": n, "text": f"question {n}"}, {"row": n})
        for n in range(start, start + count)
    ]


def ask(item: BatchItem[Any]) -> str:
    return str(item.payload["text"])


def text_job(
    given: int | Iterable[BatchItem[Any]] = 3,
    *,
    per_batch: int | None = None,
    retry: RetryPolicy | None = None,
    **changes: Any,
) -> BatchJob[Any, Any]:
    """A plain job of ``given`` items; ``per_batch`` rows in a batch."""
    job: BatchJob[Any, Any] = BatchJob(
        items=items(given) if isinstance(given, int) else given,
        build_prompt=ask,
        provider_config=FakeProviderConfig(poll_interval_sec=1.0),
        chunk_policy=ChunkPolicy(max_requests=per_batch) if per_batch else ChunkPolicy(),
        retry_policy=retry or RetryPolicy(),
    )
    return replace(job, **changes) if changes else job


def structured_job(given: int | Iterable[BatchItem[Any]] = 3, **changes: Any) -> BatchJob[Any, Any]:
    return text_job(given, **({"structured_output": Verdict} | changes))


def index_of(line: BatchRequestLine) -> int:
    """The item of a request line, by its custom_id."""
    return _attempt(line).item_index


def attempt_of(line: BatchRequestLine) -> int:
    """Which generation of its item a request line is, from 0."""
    return _attempt(line).generation


def _attempt(line: BatchRequestLine) -> Attempt:
    found = parse(line["custom_id"])
    assert found is not None
    return found


Said: TypeAlias = "str | JSONObject | None"


def by_item(said: dict[int, Any], otherwise: Said = "fine") -> Callable[..., Said]:
    """An answer function: by item index, and where that gives a list, by attempt; the last one stays."""

    def answer(line: BatchRequestLine) -> Said:
        found: Any = said.get(index_of(line), otherwise)
        if isinstance(found, list):
            found = found[min(attempt_of(line), len(found) - 1)]
        answered: Said = found
        return answered

    return answer


def texts(run: Run) -> dict[str, str | None]:
    """Answers by item id."""
    return {result.item_id: result.output_text for result in run.results()}


def errors(run: Run) -> dict[str, str]:
    """Error classes of failed items by id."""
    return {result.item_id: result.error.error_class for result in run.results() if result.error is not None}


def attempts(run: Run) -> dict[str, int]:
    return {result.item_id: result.attempt_count for result in run.results()}
