"""What a driver is asked to do, and what goes wrong at the provider meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

ROWS = 8
PER_BATCH = 5
"""Two batches, the second one smaller."""

RUN_ID = "chaos"

LEASE_TTL_SEC = 1.0
GRACE_SEC = 0.3
"""Long enough for three listings, short enough for a thousand rounds."""

RESULTS_SEC = 15.0
"""How long results are waited for that the provider states; far longer than a round makes them late."""

UNCONFIRMED_SEC = 0.3
"""How long those are waited for that nothing speaks of."""

HOLD_SEC = 1.5
"""A driver that has had nothing left to do for so long but to wait for what is in doubt goes home."""

SLOW_SEC = 20.0
"""The same where nothing can be left in doubt for good; not more than a machine under load may take for its next step."""

LIFETIME_OVER_SEC = 27 * 3_600.0
"""After so long no batch can come of what was sent."""

DRIVER_DEADLINE_SEC = 30.0
"""A driver that has nothing in its way and takes longer is stuck."""


class Source(StrEnum):
    """Where a run's rows come from. All but the first have other texts at each reading."""

    MEMORY = "memory"
    FRAME = "frame"
    QUERY = "query"
    MEMORY_THAT_CHANGES = "memory that changes"
    """No snapshot is made of these: a negative control."""


@dataclass(frozen=True)
class Scenario:
    """One way that a run may take.

    Attributes:
        name: What a table calls it.
        faults: The provider's faults, as its control route takes them.
        cancels: The driver cancels the run once a batch is there.
        retries_failed: The driver gives failed items another chance once they have all ended.
        breaks_source: The source raises after so many rows, once per driver process; 0 never.
        token_limit: Enqueue limit; the first item is too long for it.
        tolerates: Parts of errors that drivers may be shown, since somebody else is at fault.
        forgets: The store loses its memory, so that it can't account for every POST.
        exports_again: The driver exports the finished run a second time, over the first bundle.
        bulk: Characters that are added to each item.
        leaves: Why files may stay behind; "" if they may not.
        paid_again: The provider is at fault for a second execution, such as a row whose line it lost.
        needs: Requests that a provider must have for this, besides those that faults strike.
        source: Where its rows come from.
    """

    name: str = "plain"
    faults: tuple[Mapping[str, Any], ...] = ()
    cancels: bool = False
    retries_failed: bool = False
    breaks_source: int = 0
    token_limit: int = 0
    tolerates: tuple[str, ...] = ()
    forgets: bool = False
    exports_again: bool = False
    bulk: int = 0
    leaves: str = ""
    paid_again: bool = False
    needs: tuple[str, ...] = ()
    source: Source = Source.MEMORY

    def requests(self) -> tuple[str, ...]:
        """What a provider must have for this, by the names of :class:`~tests.chaos.profile.Request`."""
        return (*self.needs, *(fault["request"] for fault in self.faults if "request" in fault))

    def arrives_within_sec(self) -> float:
        """How long a request may be on its way."""
        return max(
            (fault.get("seconds", 0.0) for fault in self.faults if fault["kind"] == "delay"), default=0.0
        )

    def texts(self) -> dict[str, str]:
        """What each item asks, and is answered with: the provider says it again."""
        texts = {f"item-{number}": f"question number {number} of the run" for number in range(ROWS)}
        if self.bulk:
            texts = {name: f"{text} {'x' * self.bulk}" for name, text in texts.items()}
        if self.token_limit:
            texts["item-0"] += " and on" * self.token_limit
        return texts

    def may_fail(self, item_id: str, error_class: str) -> bool:
        """Whether an item may end without an answer."""
        if self.cancels:
            return error_class == "run_cancelled"
        return bool(self.token_limit) and item_id == "item-0"


@dataclass(frozen=True)
class Place:
    """Where one round happens.

    Attributes:
        folder: The round's own.
        provider: Its name.
        provider_url: The local server's root.
        store: ``sqlite`` or ``postgres``.
        dsn: Of Postgres.
        schema: Of Postgres.
    """

    folder: Path
    provider: str
    provider_url: str
    store: str
    dsn: str = ""
    schema: str = ""


@dataclass(frozen=True)
class Life:
    """One driver process: the scenario, and how it is to end.

    Attributes:
        kill: Where it kills itself: as ``batchor_core.testing.kill`` reads it, or ``#n`` for the n-th boundary that it passes, whichever
            that is; "" nowhere.
        stop: Where it stops itself (SIGSTOP), in the same way.
        trace: Write down every boundary that is passed.
        notes_syncs: Write down what it has synced, for a power cut after its end.
        full_at: From the so-many-th boundary on its disk is full, until an error was shown or a moment has passed; 0 never.
        full_for_life: And then the process ends; else there is room again.
        spare_pages: How many pages its database may still grow by, until then; None for any number. SQLite's alone.
        naive: Drive in the documented order alone, without submissions, with the SDK's own retries: a negative control.
        fences: Whether what is not found is kept from coming, or waited for; without, it is a negative control.
        waits: Whether rows without a line are waited for; without, they are bought at once, and it is a negative control.
        overlaps: Drive all of the overlapping runs that reuse each other's answers, beginning with this one; None for the one run.
        diverts: Whether rows follow equal ones; without, it is a negative control.
        checks_caps: Whether claims check caps; without, it is a negative control.
        answer_tokens: Longest answer of the overlapping runs, which rows reserve.
        exports: Whether it exports and prunes the finished run: one driver's work, not a crowd's.
        decides: It settles what is in doubt by a look at the provider's books, as an operator does.
        clock_offset: Seconds by which this process's clock is wrong.
        grace_sec: How long a batch of unknown outcome is looked for.
        lease_ttl_sec: When a driver that gives no sign of life may be replaced.
        deadline_sec: When to give up.
    """

    scenario: Scenario = field(default_factory=Scenario)
    kill: str = ""
    stop: str = ""
    trace: bool = False
    notes_syncs: bool = False
    full_at: int = 0
    full_for_life: bool = False
    spare_pages: int | None = None
    naive: bool = False
    fences: bool = True
    waits: bool = True
    overlaps: int | None = None
    diverts: bool = True
    checks_caps: bool = True
    answer_tokens: int = 16
    exports: bool = True
    decides: bool = False
    clock_offset: float = 0.0
    grace_sec: float = GRACE_SEC
    lease_ttl_sec: float = LEASE_TTL_SEC
    deadline_sec: float = DRIVER_DEADLINE_SEC

    def as_json(self) -> dict[str, Any]:
        """For the way to another process."""
        return asdict(self)


def life_from_json(fields: Mapping[str, Any]) -> Life:
    """The inverse of :meth:`Life.as_json`."""
    given = fields["scenario"]
    tuples = {name: tuple(given[name]) for name in ("faults", "tolerates", "needs")}
    scenario = Scenario(**{**given, **tuples, "source": Source(given["source"])})
    return Life(**{**fields, "scenario": scenario})


def http(kind: str, request: str, **more: Any) -> dict[str, Any]:
    """A fault of a request, which is given by its name: see :class:`~tests.chaos.profile.Request`."""
    return {"scope": "http", "kind": kind, "request": request, **more}


def batch(kind: str, **more: Any) -> dict[str, Any]:
    """A fault of a batch."""
    return {"scope": "batch", "kind": kind, **more}


def row(kind: str, **more: Any) -> dict[str, Any]:
    """A fault of rows."""
    return {"scope": "row", "kind": kind, **more}


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain"),
        # the answer to a create is lost: the batch exists
        Scenario("answer-lost", (http("cut", "create", after_work=True),)),
        # the request is lost: it does not
        Scenario("request-lost", (http("cut", "create"),)),
        Scenario("upload-lost", (http("cut", "upload", after_work=True),)),
        Scenario("refused", (http("status", "create", status=429),)),
        # the request is on its way for longer than anybody looks for its batch
        Scenario("arrives-late", (http("delay", "create", seconds=1.0),)),
        # and then nobody may look it up: an operator decides
        Scenario(
            "quarantined",
            (http("cut", "create"), http("status", "list", status=403, times=1)),
        ),
        Scenario("paused", (http("status", "create", status=401),)),
        Scenario("polls-fail", (http("status", "poll", status=500, times=3),)),
        Scenario("expired", (batch("expire", after_rows=2),)),
        Scenario("rows-fail", (row("status", status=500, custom_id="*-0-????????????", rate=0.5),)),
        Scenario(
            "retried-by-hand",
            (row("status", status=400, custom_id="*-0-????????????", rate=0.5),),
            retries_failed=True,
        ),
        Scenario("cancelled", (batch("stuck", times=None, seconds=None),), cancels=True),
        Scenario("cancelled-in-doubt", (http("cut", "create", nth=2, after_work=True),), cancels=True),
        # what is answered comes later than the batch's end
        Scenario("late", (batch("late_files", polls=2, times=None),)),
        Scenario("oversized", token_limit=2_000),
        # one batch at a time fits the budget, and the next waits
        Scenario("waits-for-budget", token_limit=90),
        # the file is there, and the provider does not find it yet
        Scenario(
            "file-late",
            (http("status", "create", status=400, message="Cannot find file", times=2),),
            needs=("upload",),
        ),
        Scenario("exported-again", exports_again=True),
        Scenario("broken-source", breaks_source=3, tolerates=("the source's disk has gone",)),
    )
}
