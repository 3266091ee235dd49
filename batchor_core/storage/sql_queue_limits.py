"""Queue limits that providers have shown, each for all runs of an account and model, whatever has become of the run that met it."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select

from batchor_core.core.queue_limits import QueueLimit, after_refusal, growth
from batchor_core.storage.columns import decode_text, encode_text
from batchor_core.storage.schema import queue_limits, runs, submission_intents
from batchor_core.storage.sql_engine import Database

_LIMIT = queue_limits.c
_IN_FLIGHT = runs.c.queued_local_tokens + runs.c.submitted_tokens


_LIMIT_OF = select(queue_limits).where(_LIMIT.budget_key == bindparam("key"))
_TOKENS = select(_LIMIT.budget_key, _LIMIT.tokens)
_TOKENS_OF = _TOKENS.where(_LIMIT.budget_key == bindparam("key"))


def observed(connection: Connection, key: str) -> QueueLimit | None:
    """The limit of an account and model; None if nothing was ever refused."""
    row = connection.execute(_LIMIT_OF, {"key": encode_text(key)}).first()
    if row is None:
        return None
    return QueueLimit(
        decode_text(row.budget_key), int(row.tokens), is_observed=True, refused_at=row.refused_at
    )


def tokens_by_key(connection: Connection) -> dict[str, int]:
    """All limits, by key as it is stored."""
    return {key: int(tokens) for key, tokens in connection.execute(_TOKENS).all()}


def tokens_of(connection: Connection, stored_key: str | None) -> dict[str, int]:
    """The same with the limit of this key alone."""
    if stored_key is None:
        return {}
    found = connection.execute(_TOKENS_OF, {"key": stored_key})
    return {key: int(tokens) for key, tokens in found.all()}


def refused(
    database: Database, connection: Connection, *, key: str, run_key: int, local_batch_id: str
) -> None:
    """A batch was refused, and its items still count as in flight. Doing it again after a crash changes nothing."""
    database.lock_budget(connection, key)
    stored, name = encode_text(key), encode_text(local_batch_id)
    row = connection.execute(_LIMIT_OF, {"key": stored}).first()
    if row is not None and row.refused_batch == name:
        return
    tried = _tokens_of(connection, run_key, name)
    in_flight = connection.execute(
        select(func.coalesce(func.sum(_IN_FLIGHT), 0)).where(runs.c.budget_key == stored)
    ).scalar_one()
    values = {
        "tokens": after_refusal(
            None if row is None else int(row.tokens), in_flight=max(0, int(in_flight) - tried), tried=tried
        ),
        "refused_at": database.now(connection),
        "refused_batch": name,
    }
    if row is None:
        connection.execute(queue_limits.insert().values(budget_key=stored, **values))
    else:
        connection.execute(queue_limits.update().where(_LIMIT.budget_key == stored).values(values))


def accepted(connection: Connection, *, key: str, run_key: int, local_batch_id: str) -> None:
    """A batch was run: there may be more room than was thought."""
    more = growth(_tokens_of(connection, run_key, encode_text(local_batch_id)))
    this = queue_limits.update().where(_LIMIT.budget_key == encode_text(key))
    connection.execute(this.values(tokens=_LIMIT.tokens + more))


def _tokens_of(connection: Connection, run_key: int, stored_name: str) -> int:
    submission = submission_intents.c
    wanted = select(submission.submission_tokens).where(
        submission.run_key == run_key, submission.local_batch_id == stored_name
    )
    return int(connection.execute(wanted).scalar() or 0)
