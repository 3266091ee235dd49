"""What a plan reads of a database: answers that may be reused, caps, and the tokens of earlier answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, func, select

from batchor_core.core.caps import Cap, CapStanding, active_caps
from batchor_core.core.enums import ItemStatus
from batchor_core.core.reuse import Move
from batchor_core.core.spending import ASSET_EXTRA, key_text
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage import sql_caps
from batchor_core.storage.columns import decode_text
from batchor_core.storage.planning_reads import (
    HISTORY_ROWS,
    HISTORY_RUNS,
    History,
    JobLikeness,
    PlanningReads,
)
from batchor_core.storage.records import PersistedRunConfig
from batchor_core.storage.schema import caps as caps_table
from batchor_core.storage.schema import item_results, reuse_scopes, runs, submission_intents
from batchor_core.storage.session import ReuseTerms
from batchor_core.storage.sql_engine import Database, plain_rows
from batchor_core.storage.sql_reuse import InScope, look_up_answers, moves_of
from batchor_core.storage.sql_runs import config_from

_NO_RUN = -1
"""The key of no run."""

_BASES = (
    "earlier answers of this asset",
    "earlier answers of the same model and output",
    "earlier answers of the same model",
)


class SQLPlanningReads(PlanningReads):
    """What a plan reads of a database, each in a transaction that only reads."""

    def __init__(self, database: Database, registry: ProviderRegistry) -> None:
        self._database = database
        self._registry = registry

    def accounts(self) -> list[str]:
        name, newest = submission_intents.c.key_fingerprint, func.max(submission_intents.c.intent_key)
        wanted = select(name).where(name.is_not(None)).group_by(name).order_by(newest.desc())
        with self._database.read() as connection:
            return list(connection.execute(wanted).scalars())

    def has_scope(self, reuse_key: str) -> bool:
        with self._database.read() as connection:
            return _scope(connection, reuse_key) is not None

    def moves(self, reuse_key: str, addresses: Collection[bytes], terms: ReuseTerms) -> dict[bytes, Move]:
        with self._database.read() as connection:
            scope = _scope(connection, reuse_key)
            if scope is None:
                return {}
            run = InScope(self._database, connection, _NO_RUN, scope)
            now = run.now()
            found = look_up_answers(run, addresses, now=now, terms=terms).entries
            wanted = {address: found[address] for address in addresses if address in found}
            return moves_of(wanted, now=now, terms=terms) if wanted else {}

    def cap_standings(self, run_id: str, *, labels: Sequence[str], caps: Sequence[Cap]) -> list[CapStanding]:
        with self._database.read() as connection:
            known = {_name(cap): cap for cap in sql_caps.all_caps(connection)}
            raised = _set_by_operators(connection)
            known |= {_name(cap): cap for cap in caps if _name(cap) not in raised}
            now = self._database.now(connection)
            run_key = connection.execute(select(runs.c.run_key).where(runs.c.run_id == run_id)).scalar()
            return [
                sql_caps.standing(connection, cap, _NO_RUN if run_key is None else run_key, now)
                for cap in active_caps(known.values(), labels)
            ]

    def history(self, like: JobLikeness) -> History:
        found: tuple[list[TokenUsage], ...] = ([], [], [])
        newest = select(runs).where(runs.c.completed_items > 0).order_by(runs.c.run_key.desc())
        with self._database.read() as connection:
            for row in connection.execute(newest.limit(HISTORY_RUNS)).all():
                nearness = _nearness(config_from(row, self._registry), like)
                if nearness is not None and (left := HISTORY_ROWS - len(found[nearness])) > 0:
                    found[nearness].extend(_usages(connection, row.run_key, left))
        for basis, usages in zip(_BASES, found, strict=True):
            if usages:
                return History(basis, usages)
        return History()


def _scope(connection: Connection, reuse_key: str) -> int | None:
    wanted = select(reuse_scopes.c.scope_key).where(reuse_scopes.c.reuse_key == reuse_key)
    return connection.execute(wanted).scalar()


def _name(cap: Cap) -> tuple[str, str, str]:
    return cap.scope, cap.measure.value, cap.per or ""


def _set_by_operators(connection: Connection) -> set[tuple[str, str, str]]:
    wanted = select(caps_table).where(caps_table.c.raised.is_not(None))
    return {(decode_text(row.scope), row.measure, row.per) for row in connection.execute(wanted).all()}


def _nearness(config: PersistedRunConfig, like: JobLikeness) -> int | None:
    """Index of the basis that a run belongs to; None if it is of another model."""
    provider = config.provider_config
    if (str(provider.provider_kind), str(getattr(provider, "model", ""))) != (like.provider, like.model):
        return None
    if like.asset is not None and key_text(config.extras.get(ASSET_EXTRA)) == like.asset:
        return 0
    return 1 if (config.output, config.output_schema) == (like.output, like.schema) else 2


def _usages(connection: Connection, run_key: int, limit: int) -> list[TokenUsage]:
    columns = item_results.c
    wanted = (
        select(*[columns[kind] for kind in TOKEN_KINDS])
        .where(
            columns.run_key == run_key,
            columns.status == ItemStatus.COMPLETED.value,
            columns.reused_run_id.is_(None),
            columns.output_tokens.is_not(None),
        )
        .order_by(columns.sequence.desc())
        .limit(limit)
    )
    return [TokenUsage(*[count or 0 for count in row]) for row in plain_rows(connection, wanted)]
