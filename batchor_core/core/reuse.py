"""Reuse: which rows get an answer that is there already, and which of several equal requests is sent.

An index leads from the content address of a request to the one row of a scope that has asked it last. Whether that row is in
flight, answered or failed is looked up when an equal row comes along, so nothing has to be told when a row ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import Enum, auto
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from batchor_core.core.arguments import check_bool, shown
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.lifecycle import IN_FLIGHT
from batchor_core.core.spending import ASSET_EXTRA, PARTITION_EXTRA
from batchor_core.core.types import JSONObject

ReuseScope: TypeAlias = Literal["off", "partition", "asset", "store"]
"""Whose answers a run may reuse: nobody's, those of its partition, of its asset, or of every run in the store."""

SCOPES: tuple[ReuseScope, ...] = get_args(ReuseScope)

_NAMES = ((ASSET_EXTRA, "reuse_asset"), (PARTITION_EXTRA, "reuse_partition"))
"""Keys of a run's extras that name the asset and the partition that it belongs to, each with the one of earlier builds."""

_NAMED_BY: Mapping[ReuseScope, int] = {"off": 0, "store": 0, "asset": 1, "partition": 2}
"""By how many of these a scope is named."""

FLIGHT_PATIENCE_SEC = 48 * 3_600.0
"""How long a row waits for an equal one in flight in another run: twice the time that a batch may take."""

MAX_SALT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Reuse:
    """How a run reuses answers, as it is stored.

    Attributes:
        scope: Whose answers.
        key: Digest that distinguishes scopes: their name, the provider, server and account, the kind of output, the salt.
        max_age_sec: Seconds since its batch was created after which an answer is not reused; None for never.
        varying: Whether requests whose answers vary by their options are included.
    """

    scope: ReuseScope
    key: str
    max_age_sec: float | None = None
    varying: bool = False

    def to_payload(self) -> JSONObject:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: JSONObject | None) -> Reuse | None:
        """Read what :meth:`to_payload` wrote."""
        return None if payload is None else cls(**payload)


def check_reuse(*, reuse: Any, max_age: Any, salt: Any, reuse_varying: Any) -> None:
    """Check what a job says about reuse.

    Raises:
        InvalidInputError: A value is not usable.
    """
    if reuse not in SCOPES:
        raise InvalidInputError(f"reuse must be one of {', '.join(map(repr, SCOPES))}, not {shown(reuse)}")
    if max_age is not None and not (isinstance(max_age, timedelta) and max_age > timedelta(0)):
        raise InvalidInputError(
            f"max_age must be a timedelta of more than nothing or None, not {shown(max_age)}"
        )
    if not isinstance(salt, str) or len(salt) > MAX_SALT_CHARS:
        raise InvalidInputError(
            f"salt must be a string of at most {MAX_SALT_CHARS} characters, not {shown(salt)}"
        )
    check_bool("reuse_varying", reuse_varying)


def reuse_key(
    scope: ReuseScope,
    extras: Mapping[str, Any],
    *,
    asked_of: tuple[str | None, ...],
    output: JSONObject,
    salt: str,
) -> str:
    """The digest that runs which share answers have in common.

    Args:
        scope: Whose answers.
        extras: The run's, which name its asset and partition.
        asked_of: Provider, server and account.
        output: What the answers are, as ``core.outputs`` writes it.
        salt: The job's.

    Raises:
        InvalidInputError: The extras don't name what the scope is about.
    """
    name: list[Any] = [scope]
    for names in _NAMES[: _NAMED_BY[scope]]:
        given = next((extra for extra in reversed(names) if extra in extras), None)
        if given is None:
            raise InvalidInputError(
                f"reuse={scope!r} is for the assets of an orchestrator, and this run's extras have no {names[0]!r} to tell "
                "which; give reuse='store', or start(extras={...}) with it"
            )
        name.append(extras[given])
    told = json.dumps([name, *asked_of, output, salt], sort_keys=True, default=str)
    return sha256(told.encode()).hexdigest()


def varies(body: Any) -> bool:
    """Whether the options of a request make its answers differ from one time to the next."""
    if not isinstance(body, dict) or not ("temperature" in body or "n" in body):
        return False
    temperature, count = body.get("temperature"), body.get("n")
    return (isinstance(temperature, int | float) and temperature > 0) or (
        isinstance(count, int) and count > 1
    )


class Known(NamedTuple):
    """What the index knows of a request.

    Attributes:
        status: Status of the row that the index leads to.
        is_own_run: It is a row of the same run.
        since: Of a row in flight, when it was claimed; of an answered one, when its batch was created. None if unknown.
    """

    status: ItemStatus
    is_own_run: bool
    since: float | None


class Move(Enum):
    """What becomes of a row."""

    LEAD = auto()
    """It is sent, and equal rows follow it."""
    TAKE = auto()
    """It gets the other row's answer."""
    FOLLOW = auto()
    """It waits for the other row."""
    FAIL = auto()
    """It fails as the other row did."""


def decide(known: Known | None, *, now: float, max_age_sec: float | None) -> Move:
    """What becomes of a row that is not sent yet.

    Args:
        known: What there is of an equal request; None if there is nothing.
        now: The store's clock.
        max_age_sec: Beyond it, answers are not reused.
    """
    if known is None:
        return Move.LEAD
    age = None if known.since is None else now - known.since
    if known.status is ItemStatus.COMPLETED:
        # an answer of the same run is as old as the run wants it; of unknown age is older than any
        is_fresh = max_age_sec is None or known.is_own_run or (age is not None and age <= max_age_sec)
        return Move.TAKE if is_fresh else Move.LEAD
    if known.status in IN_FLIGHT:
        is_stuck = not known.is_own_run and age is not None and age > FLIGHT_PATIENCE_SEC
        return Move.LEAD if is_stuck else Move.FOLLOW
    if known.status is ItemStatus.FAILED_PERMANENT and known.is_own_run:
        return Move.FAIL  # equal rows of one run are asked once, whatever comes of it
    return Move.LEAD
