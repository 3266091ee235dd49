"""What batches have cost, added up by run, day, model, asset, partition or tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import NamedTuple

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.pricing import Cost, Unpriced, cost_of
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage

# as the Dagster integration stores them with a run
ASSET_EXTRA = "dagster_asset_key"
PARTITION_EXTRA = "dagster_partition_key"


class SpentRun(NamedTuple):
    """What runs are told apart by."""

    run_id: str
    provider: str
    model: str | None
    tags: Mapping[str, str]
    """The job's ``batch_metadata``."""
    extras: JSONObject


class SpentBatch(NamedTuple):
    """What one batch has cost so far."""

    run: SpentRun
    created_at: float
    cost: int
    """Picodollars."""
    unpriced_answers: int
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class Spending:
    """A line of :meth:`~batchor_core.BatchRunner.spending`.

    Attributes:
        key: What it is about: a run id, a day such as ``2026-11-29``, a tag's value and so on. None for what has none.
        cost: What the answers have cost.
        usage: Their tokens.
        runs: Runs that they belong to.
        batches: Batches that they came from.
    """

    key: str | None
    cost: Cost | Unpriced
    usage: TokenUsage
    runs: int
    batches: int


def add_up(batches: Iterable[SpentBatch], *, by: str) -> list[Spending]:
    """The sums by key, in the order of the keys; what has no key comes last.

    Raises:
        InvalidInputError: Nothing can be told apart by that.
    """
    key_of = _keys(by)
    found: dict[str | None, list[SpentBatch]] = {}
    for batch in batches:
        found.setdefault(key_of(batch), []).append(batch)
    return [_sum(key, found[key]) for key in sorted(found, key=lambda key: (key is None, key or ""))]


def _sum(key: str | None, batches: list[SpentBatch]) -> Spending:
    return Spending(
        key,
        cost_of(
            sum(batch.cost for batch in batches),
            unpriced=sum(batch.unpriced_answers for batch in batches),
        ),
        sum((batch.usage for batch in batches), TokenUsage()),
        len({batch.run.run_id for batch in batches}),
        len(batches),
    )


def _keys(by: str) -> Callable[[SpentBatch], str | None]:
    match by:
        case "run":
            return lambda batch: batch.run.run_id
        case "day":
            return lambda batch: f"{_moment(batch):%Y-%m-%d}"
        case "month":
            return lambda batch: f"{_moment(batch):%Y-%m}"
        case "model":
            return lambda batch: f"{batch.run.provider}/{batch.run.model or ''}"
        case "asset":
            return lambda batch: key_text(batch.run.extras.get(ASSET_EXTRA))
        case "partition":
            return lambda batch: key_text(batch.run.extras.get(PARTITION_EXTRA))
        case _ if isinstance(by, str) and by.startswith("tag:") and len(by) > 4:
            return lambda batch: key_text(batch.run.tags.get(by[4:]))
        case _:
            pass
    raise InvalidInputError(
        f"by must be run, day, month, model, asset, partition or tag:NAME (a key of batch_metadata), not {shown(by)}"
    )


def _moment(batch: SpentBatch) -> datetime:
    return datetime.fromtimestamp(batch.created_at, UTC)


def key_text(value: object) -> str | None:
    """What is stored of an asset, partition or tag, as a key; None for nothing."""
    return "/".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)


def seconds_of(name: str, moment: date | datetime | None) -> float | None:
    """A moment in seconds since the epoch; a date is its first moment in UTC.

    Raises:
        InvalidInputError: It is neither, or is a time without a time zone.
    """
    match moment:
        case None:
            return None
        case datetime() if moment.tzinfo is not None:
            return moment.timestamp()
        case datetime():
            raise InvalidInputError(f"{name} has no time zone; give it one, such as tzinfo=UTC")
        case date():
            return datetime.combine(moment, time(), UTC).timestamp()
    raise InvalidInputError(f"{name} must be a date or a time, not {shown(moment)}")
