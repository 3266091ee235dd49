"""The rows of leases: who drives a run, and the fencing token of everything that this driver writes."""

from __future__ import annotations

from dataclasses import asdict
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from batchor_core.core.exceptions import LeaseLostError
from batchor_core.core.retry import LONGEST_LEASE_SEC, is_due
from batchor_core.storage.columns import decode_text, encode_text
from batchor_core.storage.schema import run_leases
from batchor_core.storage.session import DriverIdentity, LeaseRecord, OwnerCheck
from batchor_core.storage.sql_engine import AnyRow, Database

_HELD = select(run_leases.c.session, run_leases.c.epoch).where(run_leases.c.run_key == bindparam("key"))
_SHARED, _EXCLUSIVE = _HELD.with_for_update(read=True), _HELD.with_for_update()
_LEASE = select(run_leases).where(run_leases.c.run_key == bindparam("key"))
_LOCKED_LEASE = _LEASE.with_for_update()
_CHANGE = run_leases.update().where(run_leases.c.run_key == bindparam("key"))
_GIVE_UP = _CHANGE.where(
    run_leases.c.session == bindparam("held_session"), run_leases.c.epoch == bindparam("held_token")
).values(session=None)


class Lease(NamedTuple):
    """What a driver holds.

    Attributes:
        session: The driver's name for this stretch of driving.
        fencing_token: Another one in the row means that another driver has taken the run over.
    """

    session: str
    fencing_token: int


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
    row = connection.execute(_LEASE, {"key": run_key}).one()
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
    """Take the lease if it is free; returns its fencing token, None while another live driver holds it."""
    row = connection.execute(_LOCKED_LEASE, {"key": run_key}).one()
    now = database.now(connection)
    mine = row.session == owner.session
    held = not mine and _is_live(database, connection, row)
    if held and not (owner_is_dead is not None and owner_is_dead(_owner(row))):
        return None
    token: int = row.epoch if mine else row.epoch + 1
    holder = {**asdict(owner), "host": encode_text(owner.host)}
    connection.execute(_CHANGE, {"key": run_key, **holder, "epoch": token, "expires_at": now + ttl_sec})
    return token


def check_lease(
    connection: Connection, run_key: int, lease: Lease, *, run_id: str, exclusive: bool = False
) -> None:
    """Hold the lease until the transaction ends, or raise LeaseLostError.

    The lock is what makes it a fence: without it, a takeover could commit between this look and our writes. A
    transaction that goes on to change the lease asks for it ``exclusive`` at once, since two that upgrade would block
    each other for ever.
    """
    row = connection.execute(_EXCLUSIVE if exclusive else _SHARED, {"key": run_key}).first()
    if row is None or (row.session, row.epoch) != lease:
        raise LeaseLostError(run_id)


def extend_lease(database: Database, connection: Connection, run_key: int, *, ttl_sec: float) -> None:
    """Move the expiry of a lease that is held."""
    expires_at = database.now(connection) + ttl_sec
    connection.execute(_CHANGE, {"key": run_key, "expires_at": expires_at})


def give_up_lease(connection: Connection, run_key: int, lease: Lease) -> None:
    """Free the lease, if it is still held."""
    held = {"held_session": lease.session, "held_token": lease.fencing_token}
    connection.execute(_GIVE_UP, {"key": run_key, **held})


def _is_live(database: Database, connection: Connection, row: AnyRow) -> bool:
    """Whether a driver holds the lease, according to the clock."""
    if row.session is None:
        return False
    return not is_due(row.expires_at, database.now(connection), longest=LONGEST_LEASE_SEC)


def fence_off(database: Database, connection: Connection, run_key: int, *, owner_is_dead: OwnerCheck) -> bool:
    """Take the run from a driver that is gone; False, and nothing done, while a live one holds it."""
    row = connection.execute(_LOCKED_LEASE, {"key": run_key}).one()
    if _is_live(database, connection, row) and not owner_is_dead(_owner(row)):
        return False
    # should it only have been slow, its next write finds another token
    connection.execute(_CHANGE, {"key": run_key, "session": None, "epoch": row.epoch + 1})
    return True
