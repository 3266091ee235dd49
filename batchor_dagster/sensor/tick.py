"""The data of a tick: its cursor, the runs it found, and its notes for operators."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import dagster as dg

from batchor_core import BatchRunner, RunSummary
from batchor_core.core.words import counted
from batchor_core.storage.state import RunListing
from batchor_dagster.facts import BatchFacts, partition_of
from batchor_dagster.revisions import newest_revisions
from batchor_dagster.run_states import is_active, is_finished

_SHOWN = 10


@dataclass(frozen=True)
class Cursor:
    """What one tick passes to the next. Only a hint: without it the order is lost and a few observations are repeated.

    Attributes:
        after: The run that had the last turn.
        tags_read_until: Dagster runs updated before this time have been searched for operators' tags; seconds since
            1970.
        shown: What was last shown of each run that is not finished, or whose results are not written.
        ended_until: Ended runs that were created up to this time and id have been shown.
        driven: How each run stood when a worker was last asked for, and when that was.
    """

    after: str = ""
    tags_read_until: float = 0.0
    shown: Mapping[str, str] = field(default_factory=dict)
    ended_until: tuple[float, str] = (0.0, "")
    driven: Mapping[str, tuple[str, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read a cursor; an unreadable one counts as empty."""
        try:
            stored = json.loads(text or "{}")
            created_at, run_id = stored.get("ended_until", (0.0, ""))
            return cls(
                after=str(stored.get("after", "")),
                tags_read_until=float(stored.get("tags_read_until", 0.0)),
                shown={str(run_id): str(what) for run_id, what in stored.get("shown", {}).items()},
                ended_until=(float(created_at), str(run_id)),
                driven={
                    str(run_id): (str(state), float(at))
                    for run_id, (state, at) in stored.get("driven", {}).items()
                },
            )
        except (ValueError, AttributeError, TypeError):
            return cls()

    def dump(self) -> str:
        """The cursor as Dagster keeps it."""
        return json.dumps(
            {
                "after": self.after,
                "tags_read_until": self.tags_read_until,
                "shown": dict(self.shown),
                "ended_until": list(self.ended_until),
                "driven": {run_id: list(last) for run_id, last in self.driven.items()},
            }
        )


@dataclass(frozen=True)
class Found:
    """A stored run that belongs to an asset of this sensor."""

    listing: RunListing
    asset: BatchFacts
    partition_key: str | None


@dataclass
class Tick:
    """What a tick collects.

    Attributes:
        context: Dagster's.
        runner: On the store.
        assets: Whose results are materialized.
        webserver_url: Put before links.
        notes: What went well, one line each.
        problems: What went wrong, one line each.
        held: Batch runs whose results an open backfill waits for, each with that backfill.
        given_up: Batch runs whose results are not written until a person has looked.
    """

    context: dg.SensorEvaluationContext
    runner: BatchRunner
    assets: Sequence[BatchFacts]
    webserver_url: str = ""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    held: Mapping[str, str] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    @property
    def results(self) -> list[dg.AssetKey]:
        """The keys of all results."""
        return [asset.key for asset in self.assets]

    def note(self, text: str) -> None:
        """Add a line for the operator, also to the tick's log."""
        self.notes.append(text)
        self.context.log.info(text)

    def problem(self, text: str) -> None:
        """Add a line about a problem."""
        self.problems.append(text)
        self.context.log.warning(text)

    def found(self, listings: Iterable[RunListing]) -> list[Found]:
        """Those of the runs that belong to an asset; superseded revisions belong to none."""
        return [
            Found(listing, asset, partition[0])
            for listing in newest_revisions(listings)
            for asset in self.assets
            if (partition := partition_of(asset, listing)) is not None
        ]

    def report(self, listings: Iterable[RunListing], *, next_look_sec: int) -> str:
        """All lines for the tick's page: the progress of the runs, then problems, then the rest."""
        lines = self.problems + self.notes
        shown = lines[:_SHOWN]
        if len(lines) > _SHOWN:
            shown.append(f"and {len(lines) - _SHOWN} more; the tick's log has them all")
        told = headline([listing.summary for listing in listings], next_look_sec=next_look_sec)
        return "\n· ".join([told, *shown])  # the UI shows it all in one line


def headline(summaries: Sequence[RunSummary], *, next_look_sec: int) -> str:
    """``3 runs active, 41,200 of 60,000 rows done, next look in 60 s``."""
    active = [summary for summary in summaries if is_active(summary)]
    paused = sum(not is_active(summary) and not is_finished(summary) for summary in summaries)
    parts = [f"{counted(len(active), 'run')} active" if active else "no active batch runs"]
    if paused:
        parts.append(f"{paused} paused")
    if active:
        done = sum(summary.completed_items + summary.failed_items for summary in active)
        failed = sum(summary.failed_items for summary in active)
        total = sum(summary.total_items for summary in active)
        so_far = "" if all(summary.ingestion_complete for summary in active) else " so far"
        parts.append(f"{done:,} of {total:,} rows{so_far} done")
        if failed:
            parts.append(f"{failed:,} failed")
    return ", ".join([*parts, f"next look in {next_look_sec} s"])


def in_turn(run_ids: Sequence[str], *, after: str) -> list[str]:
    """Run ids in the order of their turns: sorted, beginning after the one that had the last turn."""
    ordered = sorted(run_ids)
    return [run_id for run_id in ordered if run_id > after] + [
        run_id for run_id in ordered if run_id <= after
    ]
