"""What the store suite builds its tests from: backends, a clock, and short names for the steps of a run's life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from batchor_core.core.admission import Allowance, Measure
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.enums import ItemStatus
from batchor_core.core.models import ChunkPolicy, ItemFailure, ProviderConfig, RetryPolicy
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.storage.postgres import PostgresStorage
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import (
    BatchArtifactPointer,
    CompletedItemRecord,
    DriverIdentity,
    DriverSession,
    ItemFailureRecord,
    MaterializedItem,
    PersistedItemRecord,
    PersistedRunConfig,
    PreparedSubmission,
    ResultsWait,
    StateStore,
)
from tests.postgres_server import lasting_schema, postgres_dsn, postgres_engine
from tests.support.model_store.store import ModelStore

RUN = "run-1"
MAX = 3
"""``max_attempts`` of every test that does not say otherwise."""

ALICE = DriverIdentity(session="alice", host="h1", boot_id="b1", pid=11, pid_start="1", pid_namespace="n1")
BOB = DriverIdentity(session="bob", host="h1", boot_id="b1", pid=22, pid_start="2", pid_namespace="n1")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    @property
    def seconds(self) -> float:
        return self.time.timestamp()


# --- backends --------------------------------------------------------------------------------------------------------


class Backend(Protocol):
    """A place for runs: :meth:`open` may be called again, as another process would."""

    persistent: bool

    def open(self, clock: Clock) -> StateStore: ...


class MemoryBackend:
    """One store object; there is no second way to it."""

    persistent = False

    def __init__(self, make: Callable[..., StateStore]) -> None:
        self._make = make
        self._store: StateStore | None = None

    def open(self, clock: Clock) -> StateStore:
        self._store = self._store or self._make(now=clock)
        return self._store


class ThirdPartyBackend:
    """A store by somebody who knows the documented methods only."""

    persistent = False

    def __init__(self) -> None:
        self._store: StateStore | None = None

    def open(self, clock: Clock) -> StateStore:
        self._store = self._store or ThirdPartyStore(MemoryStateStore(now=clock))
        return self._store


@dataclass
class SQLiteBackend:
    """A database file."""

    path: Path
    stack: ExitStack
    persistent: bool = True

    def open(self, clock: Clock) -> StateStore:
        store = SQLiteStorage(path=self.path, now=clock, provider_registry=registry())
        self.stack.callback(store.close)
        return store


@dataclass
class PostgresBackend:
    """A schema of the test server."""

    stack: ExitStack
    persistent: bool = True
    schema: str = field(init=False)

    def __post_init__(self) -> None:
        self.schema = self.stack.enter_context(lasting_schema())

    def open(self, clock: Clock) -> StateStore:
        store = PostgresStorage(
            dsn=postgres_dsn(),
            schema=self.schema,
            now=clock,
            engine=postgres_engine(),
            provider_registry=registry(),
        )
        self.stack.callback(store.close)
        return store


def make_backend(name: str, stack: ExitStack, folder: Path) -> Backend:
    match name:
        case "memory":
            return MemoryBackend(MemoryStateStore)
        case "model":
            return MemoryBackend(ModelStore)
        case "third_party":
            return ThirdPartyBackend()
        case "sqlite":
            return SQLiteBackend(folder / "store.sqlite3", stack)
        case "postgres":
            return PostgresBackend(stack)
        case _:
            raise ValueError(name)


def _delegated(name: str) -> Callable[..., Any]:
    def call(self: Any, **arguments: Any) -> Any:
        return getattr(self.inner, name)(**_documented_only(arguments))

    return call


def _documented_only(arguments: dict[str, Any]) -> dict[str, Any]:
    """Items without the fields that the document does not know."""
    if name := next((key for key, value in arguments.items() if _are_items(value)), None):
        bare = [
            item._replace(request_line=None, submission_tokens=0, content_address=None, request_bytes=0)
            for item in arguments[name]
        ]
        return arguments | {name: bare}
    return arguments


def _are_items(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], MaterializedItem)


def _keep_inner(self: Any, inner: StateStore) -> None:
    self.inner = inner


DOCUMENTED_METHODS = sorted(StateStore.__abstractmethods__)
ThirdPartyStore: Any = type(
    "ThirdPartyStore",
    (StateStore,),
    {name: _delegated(name) for name in DOCUMENTED_METHODS} | {"__init__": _keep_inner},
)
"""The documented methods over a memory store, and nothing else: sessions come from the defaults."""


# --- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EchoConfig(ProviderConfig):
    """A provider config that a registry can store and load again."""

    model: str = "echo-1"
    api_key: str = "secret"

    @property
    def provider_kind(self) -> str:
        return "echo"

    def to_payload(self) -> JSONObject:
        return {"model": self.model, "api_key": self.api_key}

    def to_public_payload(self) -> JSONObject:
        return {"model": self.model}


def _no_provider(config: Any) -> Any:
    raise AssertionError("a store builds no providers")


def registry() -> ProviderRegistry:
    providers = ProviderRegistry()
    providers.register(
        kind="echo", factory=_no_provider, loader=lambda payload: EchoConfig(str(payload["model"]))
    )
    return providers


def config(**changes: Any) -> PersistedRunConfig:
    plain = PersistedRunConfig(EchoConfig(), ChunkPolicy(), RetryPolicy(max_attempts=MAX))
    return replace(plain, **changes)


def item(index: int, **changes: Any) -> MaterializedItem:
    plain = MaterializedItem(
        item_id=f"item-{index}",
        item_index=index,
        payload={"n": index},
        metadata={"row": index},
        prompt=f"prompt {index}",
        system_prompt="be brief",
        submission_tokens=10,
    )
    return plain._replace(**changes)


def items(*indexes: int) -> list[MaterializedItem]:
    return [item(index) for index in indexes]


def good(custom_id: str, **changes: Any) -> CompletedItemRecord:
    return CompletedItemRecord(custom_id, output_text=f"answer to {custom_id}")._replace(**changes)


def bad(custom_id: str, *, retryable: bool = True, **changes: Any) -> ItemFailureRecord:
    return replace(ItemFailureRecord(custom_id, failure(retryable=retryable)), **changes)


def failure(error_class: str = "provider_item_error", *, retryable: bool = True) -> ItemFailure:
    return ItemFailure(error_class, "no luck", retryable=retryable, raw_error={"code": 7})


def wait(**changes: Any) -> ResultsWait:
    """Two items of a batch that is over are waited for."""
    given = ResultsWait(
        status="completed", ended_at=40.0, late_rows=2, looks=3, reason="late", next_poll_at=60.0
    )
    return replace(given, **changes)


def usage(tokens: int) -> TokenUsage:
    return TokenUsage(input_tokens=tokens, cached_tokens=1, output_tokens=2, reasoning_tokens=1)


def tokens(key: str, limit: int) -> Allowance:
    return Allowance(Measure.ENQUEUED_TOKENS, key, limit)


# --- steps through the documented methods ----------------------------------------------------------------------------


def create(store: StateStore, count: int = 0, *, run_id: str = RUN, **changes: Any) -> None:
    store.create_run(run_id=run_id, config=config(**changes), items=items(*range(count)))


def claim(
    store: StateStore, limit: int | None = None, *, run_id: str = RUN, max_attempts: int = MAX
) -> list[str]:
    """Claim through the documented method; returns the ids."""
    claimed = store.claim_items_for_submission(run_id=run_id, max_attempts=max_attempts, limit=limit)
    return [one.item_id for one in claimed]


def hand_over(
    store: StateStore, item_ids: Sequence[str], *, batch: str = "p1", tokens: int = 10, run_id: str = RUN
) -> list[str]:
    """Register a batch of claimed items through the documented methods; returns the custom_ids."""
    custom_ids = [f"{item_id}_{batch}" for item_id in item_ids]
    store.register_batch(
        run_id=run_id,
        local_batch_id=f"local-{batch}",
        provider_batch_id=batch,
        status="validating",
        custom_ids=custom_ids,
    )
    store.mark_items_submitted(
        run_id=run_id,
        provider_batch_id=batch,
        submissions=[
            PreparedSubmission(item_id, name, tokens)
            for item_id, name in zip(item_ids, custom_ids, strict=True)
        ],
    )
    return custom_ids


def submitted_run(store: StateStore, count: int, *, batch: str = "p1") -> list[str]:
    """A run of ``count`` items, all of them in one batch; returns their custom_ids in item order."""
    create(store, count)
    return hand_over(store, claim(store), batch=batch)


def complete(store: StateStore, custom_ids: Sequence[str]) -> None:
    store.mark_items_completed(run_id=RUN, completions=[good(custom_id) for custom_id in custom_ids])


def fail(store: StateStore, custom_ids: Sequence[str], *, max_attempts: int = MAX, **changes: Any) -> None:
    failures = [bad(custom_id, **changes) for custom_id in custom_ids]
    store.mark_items_failed(run_id=RUN, failures=failures, max_attempts=max_attempts)


def records(store: StateStore, *, run_id: str = RUN) -> dict[str, PersistedItemRecord]:
    return {record.item_id: record for record in store.get_item_records(run_id=run_id)}


def statuses(store: StateStore, *, run_id: str = RUN) -> list[ItemStatus]:
    """Statuses in item order."""
    return [record.status for record in store.get_item_records(run_id=run_id)]


def terminal(store: StateStore, after: int = 0, limit: int | None = None) -> list[PersistedItemRecord]:
    return store.get_terminal_item_records(run_id=RUN, after_sequence=after, limit=limit)


def active(store: StateStore) -> list[str]:
    return [batch.provider_batch_id for batch in store.get_active_batches(run_id=RUN)]


# --- steps through a session -----------------------------------------------------------------------------------------


def drive(
    store: StateStore, *, owner: DriverIdentity = ALICE, run_id: str = RUN, ttl: float = 60.0
) -> DriverSession:
    session = store.open_session(run_id=run_id, owner=owner, ttl_sec=ttl)
    assert session is not None
    return session


def take(session: DriverSession, *indexes: int, local: str = "b1", **changes: Any) -> list[str]:
    """Show candidates and claim these; returns the custom_ids in line order."""
    session.candidates(max_attempts=MAX, limit=10_000)
    arguments: dict[str, Any] = {"artifact_key": f"requests/{local}.jsonl", "max_attempts": MAX} | changes
    submission = session.claim(local_batch_id=local, item_indexes=indexes, **arguments)
    assert submission is not None
    return [draft.custom_id for draft in session.drafts(local_batch_id=local)]


def upload(session: DriverSession, local: str = "b1") -> None:
    session.mark_written(local_batch_id=local, sha256=f"sha-{local}", size_bytes=100)
    session.mark_uploaded(local_batch_id=local, input_file_id=f"file-{local}")


def send(session: DriverSession, *indexes: int, local: str = "b1") -> list[str]:
    """Claim, write, upload and begin to send; returns the custom_ids."""
    custom_ids = take(session, *indexes, local=local)
    upload(session, local)
    session.mark_sending(local_batch_id=local, ttl_sec=60.0)
    return custom_ids


def submit(session: DriverSession, *indexes: int, local: str = "b1", batch: str = "p1") -> list[str]:
    """Bring items into a registered batch; returns their custom_ids."""
    custom_ids = send(session, *indexes, local=local)
    session.register(local_batch_id=local, provider_batch_id=batch, status="validating")
    return custom_ids


def submission_states(store: StateStore) -> dict[str, str]:
    return {
        submission.local_batch_id: submission.state.value for submission in store.list_submissions(run_id=RUN)
    }


def engine_ids(item_ids: Sequence[str], *, generation: int = 0) -> list[str]:
    """custom_ids as the engine makes them, for items that :func:`item` made."""
    return [
        custom_id_for(RUN, item_id, int(item_id.removeprefix("item-")), generation) for item_id in item_ids
    ]


def custom_id_for(run_id: str, item_id: str, item_index: int, generation: int) -> str:
    """The name that the engine gives to an attempt."""
    return CustomIds(run_id).of(item_id, item_index, generation)


def keep_files(store: StateStore, batch: str, output: str | None, error: str | None) -> None:
    """Say where a batch's raw files lie."""
    store.record_batch_artifacts(run_id=RUN, pointers=[BatchArtifactPointer(batch, output, error)])
