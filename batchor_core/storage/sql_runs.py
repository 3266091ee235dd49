"""The rows of runs and of their leases."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select

from batchor_core.core.custom_ids import CustomIdFormat, CustomIds
from batchor_core.core.enums import IntentState, ItemStatus, RunControlState
from batchor_core.core.exceptions import LeaseLostError, RunNotFoundError
from batchor_core.core.lifecycle import IN_FLIGHT, run_status
from batchor_core.core.models import ArtifactPolicy, ChunkPolicy, RetryPolicy, RunSummary
from batchor_core.core.retry import LONGEST_LEASE_SEC, backoff_delay, is_due
from batchor_core.core.trouble import trouble
from batchor_core.core.types import JSONValue
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage
from batchor_core.core.usage import counts as billed
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
from batchor_core.storage.schema import (
    IN_DOUBT,
    batches,
    run_leases,
    runs,
    submission_intents,
)
from batchor_core.storage.sql_engine import AnyRow, Database
from batchor_core.storage.state import (
    DriverIdentity,
    IngestCheckpoint,
    LeaseRecord,
    OwnerCheck,
    PersistedRunConfig,
    RetryBackoffState,
)

# What every transaction of a driver runs is put together once: SQLAlchemy takes longer to build a statement than SQLite to
# run it, which over chunks of a thousand rows adds up to several microseconds a row.
_RUN = select(runs).where(runs.c.run_id == bindparam("run_id"))
_LOCKED_RUN = (
    select(runs.c.run_key, runs.c.run_id, runs.c.custom_id_format, runs.c.terminal_sequence)
    .where(runs.c.run_id == bindparam("run_id"))
    .with_for_update()
)
_COUNTED = (
    "terminal_sequence",
    *(f"{status.value}_items" for status in ItemStatus),
    *(f"{status.value}_tokens" for status in IN_FLIGHT),
    *(field.name for field in fields(TokenUsage)),
)
_CHANGE = runs.update().where(runs.c.run_key == bindparam("key"))
_COUNT = _CHANGE.values({name: runs.c[name] + bindparam(f"more_{name}") for name in _COUNTED})

ACTIVE_BATCH = or_(batches.c.is_terminal.is_(False), batches.c.submitted_items > 0)
"""Batches that may still change, or whose results are not all stored."""


class LockedRun:
    """A run whose row this transaction has locked: nobody else moves its items until it ends.

    Every transaction that moves items begins here. That keeps the counts right, gives terminal sequences in the order
    of the commits, so that a reader with a cursor misses none, and rules out deadlocks among items.

    Attributes:
        connection: The transaction.
        database: Where it happens.
        run_id: The run.
        run_key: Its key in the other tables.
        custom_ids: How the attempts of its items are named.
    """

    def __init__(self, database: Database, connection: Connection, row: AnyRow) -> None:
        self.database = database
        self.connection = connection
        self.run_key: int = row.run_key
        self.run_id: str = row.run_id
        self.custom_ids = custom_ids_from(row)
        self._sequence = self._first_sequence = int(row.terminal_sequence)
        self._deltas: Counter[str] = Counter()
        self._usage = [0] * len(TOKEN_KINDS)

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

    def bill(self, usage: TokenUsage | None) -> None:
        """An answer was paid for."""
        if usage is not None:
            total = self._usage  # a new TokenUsage for every answer would cost more than writing it
            for number, count in enumerate(billed(usage)):
                total[number] += count

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
        self._deltas.update(dict(zip(TOKEN_KINDS, self._usage, strict=True)))
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


def run_row(database: Database, connection: Connection, run_id: str) -> AnyRow:
    """A run's row, read only."""
    row = connection.execute(_RUN, {"run_id": run_id}).first()
    if row is None:
        raise RunNotFoundError(run_id, where=database.where)
    return row


def custom_ids_from(row: AnyRow) -> CustomIds:
    """How the attempts of a run's items are named."""
    return CustomIds(row.run_id, CustomIdFormat(row.custom_id_format))


def run_key_of(database: Database, connection: Connection, run_id: str) -> int:
    """The key of a run in the other tables."""
    key = connection.execute(select(runs.c.run_key).where(runs.c.run_id == run_id)).scalar()
    if key is None:
        raise RunNotFoundError(run_id, where=database.where)
    return int(key)


# --- the job ---------------------------------------------------------------------------------------------------------


def config_columns(config: PersistedRunConfig, registry: ProviderRegistry) -> dict[str, object]:
    """A job as columns. Secrets are left out here: nothing below ever sees them."""
    stored: dict[str, JSONValue] = {
        "provider": registry.dump_config(config.provider_config, include_secrets=False),
        "chunk_policy": asdict(config.chunk_policy),
        "retry_policy": asdict(config.retry_policy),
        "artifact_policy": config.artifact_policy.to_payload(),
        "batch_metadata": dict(config.batch_metadata),
        "schema_name": config.schema_name,
        "structured_output_module": config.structured_output_module,
        "structured_output_qualname": config.structured_output_qualname,
        "output_schema": config.output_schema,
        "output": config.output,
    }
    return {
        "config": encode_json(stored),
        "extras": encode_json(config.extras),
        "budget_key": encode_optional_text(config.budget_key),
    }


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


# --- summaries -------------------------------------------------------------------------------------------------------


class ActiveBatches(NamedTuple):
    """How many batches of a run are active, and what is wrong with them."""

    active: int = 0
    late: int = 0
    late_rows: int = 0
    overdue: int = 0
    poll_failures: int = 0
    """The most polls in a row that failed."""
    poll_error: str | None = None
    """What one of them said."""


def active_batches(
    connection: Connection, *, now: float, run_key: int | None = None
) -> dict[int, ActiveBatches]:
    """Active batches by run; runs without any are left out."""
    columns = batches.c
    is_overdue = and_(columns.is_terminal.is_(False), columns.due_at < now)
    wanted = (
        select(
            columns.run_key,
            func.count(),
            func.count(columns.ended_at),
            func.sum(columns.late_rows),
            func.sum(case((is_overdue, 1), else_=0)),
            func.max(columns.poll_failures),
            func.max(columns.poll_error),
        )
        .where(ACTIVE_BATCH)
        .group_by(columns.run_key)
    )
    if run_key is not None:
        wanted = wanted.where(columns.run_key == run_key)
    return {
        key: ActiveBatches(active, late, int(rows), int(overdue), failures, decode_optional_text(error))
        for key, active, late, rows, overdue, failures, error in connection.execute(wanted).all()
    }


def doubtful_counts(connection: Connection, run_key: int | None = None) -> dict[tuple[int, str], int]:
    """UNKNOWN and QUARANTINED intents by run and state."""
    intents = submission_intents.c
    wanted = (
        select(intents.run_key, intents.state, func.count())
        .where(IN_DOUBT)
        .group_by(intents.run_key, intents.state)
    )
    if run_key is not None:
        wanted = wanted.where(intents.run_key == run_key)
    return {(key, state): count for key, state, count in connection.execute(wanted).all()}


def summary_from(
    row: AnyRow, *, now: float, active: Mapping[int, ActiveBatches], doubtful: Mapping[tuple[int, str], int]
) -> RunSummary:
    """A run's summary, from its row and what was counted beside it."""
    counts = {status: getattr(row, f"{status.value}_items") for status in ItemStatus}
    total = sum(counts.values())
    # a run without a checkpoint got all its items when it was created; one without items either was interrupted
    # before its checkpoint was written, and must not look finished
    complete = total > 0 if row.ingestion_complete is None else bool(row.ingestion_complete)
    status, control_state = (
        run_status(counts, ingestion_complete=complete),
        RunControlState(row.control_state),
    )
    in_flight = active.get(row.run_key, ActiveBatches())
    return RunSummary(
        run_id=row.run_id,
        status=status,
        control_state=control_state,
        total_items=total,
        completed_items=counts[ItemStatus.COMPLETED],
        failed_items=counts[ItemStatus.FAILED_PERMANENT],
        status_counts=counts,
        active_batches=in_flight.active,
        backoff_remaining_sec=backoff_remaining(row, now),
        control_reason=decode_optional_text(row.control_reason),
        ingestion_complete=complete,
        usage=TokenUsage(*billed(row)),
        estimated_tokens=row.queued_local_tokens + row.submitted_tokens,
        unknown_batches=doubtful.get((row.run_key, IntentState.UNKNOWN.value), 0),
        quarantined_batches=doubtful.get((row.run_key, IntentState.QUARANTINED.value), 0),
        orphan_batches=row.orphan_batches,
        late_batches=in_flight.late,
        late_rows=in_flight.late_rows,
        overdue_batches=in_flight.overdue,
        created_at=row.created_at,
        trouble=trouble(
            status,
            control_state,
            submit_failures=row.consecutive_failures,
            submit_error=decode_optional_text(row.last_error_message),
            poll_failures=in_flight.poll_failures,
            poll_error=in_flight.poll_error,
        ),
    )


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


# --- leases ----------------------------------------------------------------------------------------------------------


_HELD = select(run_leases.c.session, run_leases.c.epoch).where(run_leases.c.run_key == bindparam("key"))
_SHARED, _EXCLUSIVE = _HELD.with_for_update(read=True), _HELD.with_for_update()


def _lease(run_key: int) -> Select[Any]:
    return select(run_leases).where(run_leases.c.run_key == run_key)


def _owner(row: AnyRow) -> DriverIdentity:
    return DriverIdentity(
        session=row.session,
        host=decode_text(row.host),
        boot_id=row.boot_id,
        pid=row.pid,
        pid_start=row.pid_start,
        pid_namespace=row.pid_namespace,
    )


def lease_record(database: Database, connection: Connection, run_key: int) -> LeaseRecord | None:
    """Who holds the run now."""
    row = connection.execute(_lease(run_key)).one()
    if not _is_live(database, connection, row):
        return None
    return LeaseRecord(_owner(row), row.epoch, row.expires_at)


def take_lease(
    database: Database,
    connection: Connection,
    run_key: int,
    *,
    owner: DriverIdentity,
    ttl_sec: float,
    owner_is_dead: OwnerCheck | None,
) -> int | None:
    """Take the lease if it is free; returns its epoch, None while another live driver holds it."""
    row = connection.execute(_lease(run_key).with_for_update()).one()
    now = database.now(connection)
    mine = row.session == owner.session
    held = not mine and _is_live(database, connection, row)
    if held and not (owner_is_dead is not None and owner_is_dead(_owner(row))):
        return None
    epoch: int = row.epoch if mine else row.epoch + 1
    holder = {**asdict(owner), "host": encode_text(owner.host)}
    taken = run_leases.update().where(run_leases.c.run_key == run_key)
    connection.execute(taken.values(**holder, epoch=epoch, expires_at=now + ttl_sec))
    return epoch


def check_lease(
    connection: Connection, run_key: int, *, run_id: str, session: str, epoch: int, exclusive: bool = False
) -> None:
    """Hold the lease until the transaction ends, or raise LeaseLostError.

    The lock is what makes it a fence: without it, a takeover could commit between this look and our writes. A
    transaction that goes on to change the lease asks for it ``exclusive`` at once, since two that upgrade would block
    each other for ever.
    """
    row = connection.execute(_EXCLUSIVE if exclusive else _SHARED, {"key": run_key}).first()
    if row is None or row.session != session or row.epoch != epoch:
        raise LeaseLostError(run_id)


def extend_lease(database: Database, connection: Connection, run_key: int, *, ttl_sec: float) -> None:
    """Move the expiry of a lease that is held."""
    expires_at = database.now(connection) + ttl_sec
    connection.execute(
        run_leases.update().where(run_leases.c.run_key == run_key).values(expires_at=expires_at)
    )


def give_up_lease(connection: Connection, run_key: int, *, session: str, epoch: int) -> None:
    """Free the lease, if it is still held."""
    held = and_(run_leases.c.run_key == run_key, run_leases.c.session == session, run_leases.c.epoch == epoch)
    connection.execute(run_leases.update().where(held).values(session=None))


def _is_live(database: Database, connection: Connection, row: AnyRow) -> bool:
    """Whether somebody holds the lease, as far as the clock can tell."""
    if row.session is None:
        return False
    return not is_due(row.expires_at, database.now(connection), longest=LONGEST_LEASE_SEC)


def fence_off(database: Database, connection: Connection, run_key: int, *, owner_is_dead: OwnerCheck) -> bool:
    """Take the run from a driver that is gone; False, and nothing done, while a live one holds it."""
    row = connection.execute(_lease(run_key).with_for_update()).one()
    if _is_live(database, connection, row) and not owner_is_dead(_owner(row)):
        return False
    # should it only have been slow, its next write finds another epoch
    connection.execute(
        run_leases.update().where(run_leases.c.run_key == run_key).values(session=None, epoch=row.epoch + 1)
    )
    return True
