"""The rows of runs: locking and counting, the job, the reading of the source, the backoff."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, select
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core.custom_ids import CustomIdFormat, CustomIds
from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.core.exceptions import RunNotFoundError
from batchor_core.core.lifecycle import IN_FLIGHT
from batchor_core.core.models import ArtifactPolicy, ChunkPolicy, RetryPolicy
from batchor_core.core.retry import backoff_delay, is_due
from batchor_core.core.reuse import Reuse
from batchor_core.core.types import JSONValue
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage.columns import (
    decode_json,
    decode_optional_json,
    decode_optional_text,
    decode_text,
    encode_json,
    encode_optional_json,
    encode_optional_text,
    encode_text,
)
from batchor_core.storage.records import IngestCheckpoint, PersistedRunConfig, RetryBackoffState
from batchor_core.storage.schema import runs
from batchor_core.storage.sql_engine import AnyRow, Database


def _of_run(*columns: ColumnElement[Any]) -> Select[Any]:
    return select(*columns).where(runs.c.run_id == bindparam("run_id"))


# What every transaction of a driver runs is put together once: SQLAlchemy takes longer to build a statement than SQLite to
# run it, which over chunks of a thousand rows adds up to several microseconds a row.
WHOLE_RUN = _of_run(*runs.c)
CONTROL = _of_run(runs.c.control_state, runs.c.control_reason)
BACKOFF = _of_run(runs.c.next_retry_at, runs.c.backoff_sec)
CHECKPOINT = _of_run(
    runs.c.source_kind,
    runs.c.source_ref,
    runs.c.source_fingerprint,
    runs.c.next_item_index,
    runs.c.checkpoint_payload,
    runs.c.ingestion_complete,
)
NAMES = _of_run(runs.c.run_key, runs.c.run_id, runs.c.custom_id_format)
_RUN_KEY = _of_run(runs.c.run_key)
_LOCKED_RUN = _of_run(
    runs.c.run_key,
    runs.c.run_id,
    runs.c.custom_id_format,
    runs.c.terminal_sequence,
    runs.c.reuse_scope_key,
).with_for_update()
_COUNTED = (
    "terminal_sequence",
    *(f"{status.value}_items" for status in ItemStatus),
    *(f"{status.value}_tokens" for status in IN_FLIGHT),
    *TOKEN_KINDS,
    "cost",
    "unpriced_answers",
    "reused_items",
    "deduplicated_items",
    "saved",
    "repairs",
    "repaired_items",
)
_CHANGE = runs.update().where(runs.c.run_key == bindparam("key"))
_COUNT = _CHANGE.values({name: runs.c[name] + bindparam(f"more_{name}") for name in _COUNTED})


class LockedRun:
    """A run whose row this transaction has locked: no other transaction changes its items until it ends.

    Every transaction that moves items begins here. That keeps the counts right, gives terminal sequences in the order
    of the commits, so that a reader with a cursor misses none, and rules out deadlocks among items.

    Attributes:
        connection: The transaction.
        database: Where it happens.
        run_id: The run.
        run_key: Its key in the other tables.
        custom_ids: How the attempts of its items are named.
        reuse_scope_key: The scope in which it shares answers; None if it shares none.
    """

    def __init__(self, database: Database, connection: Connection, row: AnyRow) -> None:
        self.database = database
        self.connection = connection
        self.run_key: int = row.run_key
        self.run_id: str = row.run_id
        self.custom_ids = custom_ids_from(row)
        self.reuse_scope_key: int | None = row.reuse_scope_key
        self._sequence = self._first_sequence = int(row.terminal_sequence)
        self._deltas: Counter[str] = Counter()

    def now(self) -> float:
        """The store's clock."""
        return self.database.now(self.connection)

    def add(self, status: ItemStatus, *, count: int, tokens: int) -> None:
        """Items have come to this status."""
        self._deltas[f"{status.value}_items"] += count
        if status in IN_FLIGHT:
            self._deltas[f"{status.value}_tokens"] += tokens

    def move(self, before: ItemStatus, after: ItemStatus, *, count: int = 1, tokens: int) -> None:
        """Items have gone from one status to another."""
        self.add(before, count=-count, tokens=-tokens)
        self.add(after, count=count, tokens=tokens)

    def bill(self, more: Mapping[str, int]) -> None:
        """Answers were paid for: ``sql_costs.Bill``."""
        self._deltas.update(more)

    def count_reused(self, saved: int | None, *, from_own_run: bool) -> None:
        """An item has got the answer of an equal one, which cost so many picodollars; None where no price is known."""
        self._deltas["deduplicated_items" if from_own_run else "reused_items"] += 1
        self._deltas["saved"] += saved or 0

    def count_repairs(self, *, asked: int = 0, completed: int = 0) -> None:
        """Items are asked again with the reason, or were answered well after that."""
        self._deltas["repairs"] += asked
        self._deltas["repaired_items"] += completed

    def next_sequence(self) -> int:
        """The next terminal sequence."""
        self._sequence += 1
        return self._sequence

    def change(self, **values: object) -> None:
        """Set columns of the run's row."""
        self.connection.execute(_CHANGE, {"key": self.run_key, **values})

    def flush(self) -> None:
        """Write the counts."""
        self._deltas["terminal_sequence"] = self._sequence - self._first_sequence
        if any(self._deltas.values()):
            more = {f"more_{name}": self._deltas[name] for name in _COUNTED}
            self.connection.execute(_COUNT, {"key": self.run_key, **more})


@contextmanager
def locked_run(database: Database, connection: Connection, run_id: str) -> Iterator[LockedRun]:
    """Lock a run's row, and write its counts when the block ends."""
    row = connection.execute(_LOCKED_RUN, {"run_id": run_id}).first()
    if row is None:
        raise RunNotFoundError(run_id, where=database.where)
    run = LockedRun(database, connection, row)
    yield run
    run.flush()


def run_row(
    database: Database, connection: Connection, run_id: str, wanted: Select[Any] = WHOLE_RUN
) -> AnyRow:
    """A run's row, or some of its columns, read only."""
    row = connection.execute(wanted, {"run_id": run_id}).first()
    if row is None:
        raise RunNotFoundError(run_id, where=database.where)
    return row


def custom_ids_from(row: AnyRow) -> CustomIds:
    """How the attempts of a run's items are named."""
    return CustomIds(row.run_id, CustomIdFormat(row.custom_id_format))


def run_key_of(database: Database, connection: Connection, run_id: str) -> int:
    """The key of a run in the other tables."""
    key = connection.execute(_RUN_KEY, {"run_id": run_id}).scalar()
    if key is None:
        raise RunNotFoundError(run_id, where=database.where)
    return int(key)


# --- the job ---------------------------------------------------------------------------------------------------------


def config_columns(config: PersistedRunConfig, registry: ProviderRegistry) -> dict[str, object]:
    """A job as columns. Secrets are left out here: nothing below ever sees them."""
    stored: dict[str, JSONValue] = {
        "provider": registry.dump_config(config.provider_config, include_secrets=False),
        "chunk_policy": asdict(config.chunk_policy),
        "retry_policy": _retry_columns(config.retry_policy),
        "artifact_policy": config.artifact_policy.to_payload(),
        "batch_metadata": dict(config.batch_metadata),
        "schema_name": config.schema_name,
        "structured_output_module": config.structured_output_module,
        "structured_output_qualname": config.structured_output_qualname,
        "output_schema": config.output_schema,
        "output": config.output,
        "reuse": None if config.reuse is None else config.reuse.to_payload(),
    }
    return {
        "config": encode_json(stored),
        "extras": encode_json(config.extras),
        "budget_key": encode_optional_text(config.budget_key),
    }


def _retry_columns(policy: RetryPolicy) -> dict[str, JSONValue]:
    """Without what earlier builds don't know, where it is off."""
    return {name: value for name, value in asdict(policy).items() if value or name != "repair"}


def config_from(row: AnyRow, registry: ProviderRegistry) -> PersistedRunConfig:
    """The job that :func:`config_columns` was given, but for the secrets."""
    stored = decode_json(row.config)
    return PersistedRunConfig(
        provider_config=registry.load_stored_config(stored["provider"]),
        chunk_policy=ChunkPolicy(**stored["chunk_policy"]),
        retry_policy=RetryPolicy(**stored["retry_policy"]),
        batch_metadata=stored["batch_metadata"],
        artifact_policy=ArtifactPolicy.from_payload(stored["artifact_policy"]),
        schema_name=stored["schema_name"],
        structured_output_module=stored["structured_output_module"],
        structured_output_qualname=stored["structured_output_qualname"],
        output_schema=stored["output_schema"],
        budget_key=decode_optional_text(row.budget_key),
        extras=decode_json(row.extras),
        output=stored.get("output"),
        reuse=Reuse.from_payload(stored.get("reuse")),
    )


# --- reading of the source -------------------------------------------------------------------------------------------


def checkpoint_columns(checkpoint: IngestCheckpoint) -> dict[str, object]:
    """A checkpoint as columns."""
    return {
        "source_kind": encode_text(checkpoint.source_kind),
        "source_ref": encode_text(checkpoint.source_ref),
        "source_fingerprint": encode_text(checkpoint.source_fingerprint),
        **progress_columns(
            checkpoint.next_item_index, checkpoint.checkpoint_payload, checkpoint.ingestion_complete
        ),
    }


def progress_columns(
    next_item_index: int, checkpoint_payload: JSONValue | None, ingestion_complete: bool
) -> dict[str, object]:
    """The part of a checkpoint that moves."""
    return {
        "next_item_index": next_item_index,
        "checkpoint_payload": encode_optional_json(checkpoint_payload),
        "ingestion_complete": ingestion_complete,
    }


def checkpoint_from(row: AnyRow) -> IngestCheckpoint | None:
    """The checkpoint, None when nothing was ever said about the source."""
    if row.ingestion_complete is None:
        return None
    return IngestCheckpoint(
        source_kind=decode_text(row.source_kind or ""),
        source_ref=decode_text(row.source_ref or ""),
        source_fingerprint=decode_text(row.source_fingerprint or ""),
        next_item_index=row.next_item_index,
        checkpoint_payload=decode_optional_json(row.checkpoint_payload),
        ingestion_complete=row.ingestion_complete,
    )


def pause(connection: Connection, run_key: int, *, reason: str) -> None:
    """Pause a run unless it is being cancelled."""
    pausable = and_(runs.c.run_key == run_key, runs.c.control_state != RunControlState.CANCEL_REQUESTED.value)
    paused = {"control_state": RunControlState.PAUSED.value, "control_reason": encode_text(reason)}
    connection.execute(runs.update().where(pausable).values(paused))


# --- backoff ---------------------------------------------------------------------------------------------------------


def backoff_remaining(row: AnyRow, now: float) -> float:
    """Seconds until the next submission may leave."""
    at = row.next_retry_at or 0.0
    return 0.0 if is_due(at, now, longest=row.backoff_sec) else float(at - now)


def backoff_from(row: AnyRow) -> RetryBackoffState:
    """The backoff's state."""
    return RetryBackoffState(
        consecutive_failures=row.consecutive_failures,
        total_failures=row.total_failures,
        backoff_sec=row.backoff_sec,
        next_retry_at=row.next_retry_at,
        last_error_class=decode_optional_text(row.last_error_class),
        last_error_message=decode_optional_text(row.last_error_message),
    )


def count_failure(
    run: LockedRun,
    *,
    error_class: str,
    base_delay_sec: float,
    max_delay_sec: float,
    message: str | None = None,
) -> RetryBackoffState:
    """Advance the backoff by one failure of the control plane."""
    before = run_row(run.database, run.connection, run.run_id)
    failures = before.consecutive_failures + 1
    jitter = random.random()  # noqa: S311 - it spreads load, it guards nothing
    delay = backoff_delay(failures=failures, base_sec=base_delay_sec, max_sec=max_delay_sec, jitter=jitter)
    after = RetryBackoffState(
        consecutive_failures=failures,
        total_failures=before.total_failures + 1,
        backoff_sec=delay,
        next_retry_at=run.now() + delay,
        last_error_class=error_class,
        last_error_message=message,
    )
    texts = {
        "last_error_class": encode_text(error_class),
        "last_error_message": encode_optional_text(message),
    }
    run.change(**asdict(after) | texts)
    return after


def clear_backoff(connection: Connection, run_key: int) -> None:
    """Forget the failures in a row; writes nothing when there were none."""
    failing = and_(runs.c.run_key == run_key, runs.c.consecutive_failures > 0)
    cleared = {
        "consecutive_failures": 0,
        "backoff_sec": 0.0,
        "next_retry_at": None,
        "last_error_class": None,
        "last_error_message": None,
    }
    connection.execute(runs.update().where(failing).values(cleared))


def submission_works(connection: Connection, run_key: int) -> None:
    """Forget what the last failure said. The failures in a row still count: a batch may yet fail as a whole."""
    said = and_(runs.c.run_key == run_key, runs.c.last_error_message.is_not(None))
    connection.execute(runs.update().where(said).values(last_error_message=None))
