"""What may be sent now: one decision about all allowances that a run has to stay within.

An allowance is a limit that several runs share, such as the prompt tokens that may wait at a provider. Runs know of
each other only through the store: it reports a run's :class:`Standing` and keeps the :class:`Place` of a waiting run.
The rules:

- *Fill what is left.* A batch that does not fit is cut to the rows that do.
- *Shares.* While other runs wait, a run gets at most its equal share of what the runs that don't wait leave.
- *Turns.* A waiting run keeps its place in a queue. What the runs ahead of it need for their next batch is reserved for
  them, so that a large row gets its turn. Within a run, items are sent in order.
- *No slivers.* A cut batch has at least a tenth of the whole one, since providers limit how many batches may be created
  in an hour. After :data:`SLIVER_PATIENCE_SEC`, a waiting run takes what there is.
- *Waiting has an end.* After :data:`LONGEST_HOLD_SEC` every ordinary batch has ended, so what is still in flight needs
  a person. From then on a waiting run reserves nothing and sends its own smaller items first.

``claim`` of a store calls :func:`free` once more, under the lock that all claims under one key take.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, assert_never

from batchor_core.core.batching import BatchSize, Oversized, PlannedBatch, Sized, plan_batches
from batchor_core.core.enqueue_budget import smallest_limit

LEAST_SHARE_OF_A_BATCH = 10
"""A batch that is cut keeps at least one part in so many of its tokens."""

SLIVER_PATIENCE_SEC = 300.0
"""How long a run waits for room for more than a sliver."""

LONGEST_HOLD_SEC = 26 * 3_600.0
"""How long a batch in flight may take to end: a day at the provider, and a margin."""

PLACE_LIFETIME_SEC = 900.0
"""How long a place is kept for a run that does not ask again. Its driver may have died and must not block others."""

PLACE_REFRESH_SEC = PLACE_LIFETIME_SEC / 3


class Measure(StrEnum):
    """What an allowance counts."""

    ENQUEUED_TOKENS = "enqueued_tokens"
    """Estimated prompt tokens of the items that are claimed or submitted."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limit that all runs with one key share.

    Attributes:
        measure: What it counts.
        key: Names what shares it, such as an account and model.
        limit: The most that may be in flight; at least 1.
        is_observed: Whether the limit was learned from refusals, and is no certain one.
    """

    measure: Measure
    key: str
    limit: int
    is_observed: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A run's place in the queue for an allowance.

    Attributes:
        since: When it began to wait for its next batch, by the store's clock.
        need: The least that this batch takes; 0 while the run has its full share and only others may send.
        seen_at: When it last asked.
    """

    since: float
    need: int
    seen_at: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A run's standing under an allowance.

    Attributes:
        own: What the run has in flight.
        others: What all other runs have in flight.
        settled: How much of that belongs to runs that don't wait for more.
        waiting: Other runs that wait.
        ahead: What the runs that have waited longer than this one need.
        place: This run's own place, if it waits.
        now: The store's clock.
    """

    own: int = 0
    others: int = 0
    settled: int = 0
    waiting: int = 0
    ahead: int = 0
    place: Place | None = None
    now: float = 0.0

    @property
    def waited_sec(self) -> float:
        """How long the run has waited."""
        return 0.0 if self.place is None else max(0.0, self.now - self.place.since)


class Waiter(NamedTuple):
    """Another run that waits under the same key, as a store knows it."""

    place: Place
    order: int
    """Which of two runs that began to wait at the same moment goes first: the smaller one."""
    in_flight: int


class Granted(NamedTuple):
    """An allowance and where the run stands under it."""

    allowance: Allowance
    standing: Standing


@dataclass(frozen=True, slots=True)
class Wait:
    """What is left over has to wait for room.

    Attributes:
        need: See :class:`Place`.
        since: When the wait began, if the run keeps its place: larger items were skipped.
    """

    need: int
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What to do with the waiting items; those that it does not name stay where they are.

    Attributes:
        batches: To submit now, in item order.
        oversized: To fail permanently.
        wait: Set if items are left over that the allowances hold back.
    """

    batches: list[PlannedBatch]
    oversized: list[Oversized]
    wait: Wait | None = None


def standing_of(
    *,
    own: int,
    others: int,
    place: Place | None,
    order: int,
    waiters: Sequence[Waiter],
    now: float,
) -> Standing:
    """Where a run stands, from what a store knows of all runs with one key.

    Args:
        own: What the run has in flight.
        others: What all other runs have in flight.
        place: The run's own place; a run without one stands behind all.
        order: See :class:`Waiter`.
        waiters: The other runs that have a place and items to send, and are not paused or cancelled.
        now: The store's clock.
    """
    live = [waiter for waiter in waiters if _is_kept(waiter.place, now)]
    if place is not None and not _is_kept(place, now):
        place = None
    return Standing(
        own=own,
        others=others,
        settled=others - sum(waiter.in_flight for waiter in live),
        waiting=len(live),
        ahead=sum(
            waiter.place.need
            for waiter in live
            if now - waiter.place.since < LONGEST_HOLD_SEC
            and (place is None or (waiter.place.since, waiter.order) < (place.since, order))
        ),
        place=place,
        now=now,
    )


def kept_place(known: Place | None, wait: Wait, *, now: float) -> Place:
    """The place to store for a run that waits: a new one, or its own with its age."""
    since = now if known is None or not _is_kept(known, now) else known.since
    return Place(since if wait.since is None else wait.since, wait.need, now)


def _is_kept(place: Place, now: float) -> bool:
    return abs(now - place.seen_at) <= PLACE_LIFETIME_SEC


def free(granted: Granted) -> int:
    """What is neither in flight nor needed by a run ahead; negative if too much is in flight."""
    allowance, standing = granted
    return allowance.limit - standing.own - standing.others - standing.ahead


def room(granted: Granted, *, need: int) -> int:
    """How much the run may send now. A run below its share gets ``need``, which may be more than the share."""
    left = _share(granted) - granted.standing.own
    if left > 0 or not granted.standing.own:
        left = max(left, need)
    return max(0, min(free(granted), left))


def may_send(granted: Sequence[Granted]) -> bool:
    """Whether it is worthwhile to look at the items: False if what the run waits for is certainly not there yet."""
    for one in granted:
        place = one.standing.place
        if place is None or _patience_changed(place, one.standing.now):
            continue
        if room(one, need=place.need) < max(1, place.need):
            return False
    return True


def still_waiting(granted: Sequence[Granted]) -> Wait | None:
    """The wait of a run that need not look at its items; None if it has no place yet."""
    places = [one.standing.place for one in granted if one.standing.place is not None]
    if not places:
        return None
    need = 0 if _has_share(granted, sent=0) else max(place.need for place in places)
    return Wait(need, min(place.since for place in places))


def must_keep(wait: Wait, standing: Standing) -> bool:
    """Whether a place has to be stored: it is new, has changed, or the run was last seen a while ago."""
    place = standing.place
    if place is None or place.need != wait.need or wait.since not in (None, place.since):
        return True
    return abs(standing.now - place.seen_at) >= PLACE_REFRESH_SEC or _patience_changed(place, standing.now)


def admit(
    candidates: Sequence[Sized],
    limits: BatchSize,
    granted: Sequence[Granted] = (),
    *,
    more_to_come: bool = False,
) -> Admission:
    """Decide which of the waiting items are sent now, in which batches.

    Args:
        candidates: Waiting items, in item order.
        limits: What one batch may hold.
        granted: The allowances, with where the run stands under each.
        more_to_come: More items are being read, so a last batch that is not full is held back.
    """
    caps = (_token_limit(one.allowance) for one in granted)
    limits = replace(limits, max_tokens=smallest_limit(limits.max_tokens, *caps))
    plan = plan_batches(candidates, limits, more_to_come=more_to_come)
    if not granted or not plan.batches:
        return Admission(plan.batches, plan.oversized)
    tokens_of = {item.item_index: item.submission_tokens for item in candidates}
    patience = min(one.standing.waited_sec for one in granted)
    need = _least(plan.batches[0], plan.batches[0].tokens, tokens_of, patience)
    left = min((room(one, need=need) for one in granted), default=sys.maxsize)
    admitted: list[PlannedBatch] = []
    for batch in plan.batches:
        if batch.tokens <= left:
            admitted.append(batch)
            left -= batch.tokens
            continue
        cut = _cut(batch, tokens_of, left, passes_over=patience >= LONGEST_HOLD_SEC)
        if cut is not None and cut.tokens >= _least(batch, batch.tokens, tokens_of, patience):
            admitted.append(cut)
        else:
            cut = None
        rest = batch if cut is None else _without(batch, cut, tokens_of)
        return Admission(admitted, plan.oversized, _wait(admitted, rest, batch, tokens_of, granted, patience))
    return Admission(admitted, plan.oversized)


def _token_limit(allowance: Allowance) -> int:
    """The most tokens that one batch may have under an allowance, 0 for no limit."""
    match allowance.measure:
        case Measure.ENQUEUED_TOKENS:
            return allowance.limit
        case _:
            assert_never(allowance.measure)


def _share(granted: Granted) -> int:
    """The most that the run may have in flight while others wait; all of it if none do."""
    allowance, standing = granted
    if not standing.waiting:
        return allowance.limit
    return max(0, allowance.limit - standing.settled) // (standing.waiting + 1)


def _patience_changed(place: Place, now: float) -> bool:
    """Whether the run has waited so long since it last asked that other rules apply."""
    return any(
        place.seen_at < place.since + after <= now for after in (SLIVER_PATIENCE_SEC, LONGEST_HOLD_SEC)
    )


def _least(rest: PlannedBatch, whole: int, tokens_of: dict[int, int], waited_sec: float) -> int:
    """The least tokens that the items of ``rest`` may leave with; ``whole`` is what their batch would have."""
    if waited_sec >= LONGEST_HOLD_SEC:
        return min(tokens_of[index] for index in rest.item_indexes)
    first = tokens_of[rest.item_indexes[0]]
    if waited_sec >= SLIVER_PATIENCE_SEC:
        return first
    return min(rest.tokens, max(first, -(-whole // LEAST_SHARE_OF_A_BATCH)))


def _cut(
    batch: PlannedBatch, tokens_of: dict[int, int], left: int, *, passes_over: bool
) -> PlannedBatch | None:
    """The items of a batch that fit, up to the first that does not, unless larger ones are skipped."""
    kept, tokens = [], 0
    for index in batch.item_indexes:
        if tokens + tokens_of[index] <= left:
            kept.append(index)
            tokens += tokens_of[index]
        elif not passes_over:
            break
    return PlannedBatch(tuple(kept), tokens) if kept else None


def _without(batch: PlannedBatch, cut: PlannedBatch, tokens_of: dict[int, int]) -> PlannedBatch:
    gone = set(cut.item_indexes)
    rest = tuple(index for index in batch.item_indexes if index not in gone)
    return PlannedBatch(rest, batch.tokens - cut.tokens)


def _wait(
    admitted: Sequence[PlannedBatch],
    rest: PlannedBatch,
    batch: PlannedBatch,
    tokens_of: dict[int, int],
    granted: Sequence[Granted],
    waited_sec: float,
) -> Wait:
    sent = sum(one.tokens for one in admitted)
    # a larger item that was skipped keeps the run's place; otherwise a new wait begins
    passed_over = bool(admitted) and rest.item_indexes[0] < admitted[-1].item_indexes[-1]
    if admitted and not passed_over:
        waited_sec = 0.0
    need = 0 if _has_share(granted, sent=sent) else _least(rest, batch.tokens, tokens_of, waited_sec)
    places = [one.standing.place for one in granted if one.standing.place is not None]
    return Wait(need, min(place.since for place in places) if passed_over and places else None)


def _has_share(granted: Sequence[Granted], *, sent: int) -> bool:
    """Whether the run has as much in flight as it may while others wait."""
    own = [(one.standing.own + sent, one) for one in granted if one.standing.waiting]
    return any(amount and amount >= _share(one) for amount, one in own)
