"""The state of each run, shown in the UI: only what is new since the last tick.

An observation on a run's asset, and the tag ``batchor/state`` of the Dagster run that submitted it, show that the run
is paused, cancelled or advancing, however that was requested.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import dagster as dg

from batchor_core import RunSummary
from batchor_core.storage.state import RunListing
from batchor_dagster.control import RUN_ID_TAG, STATE_TAG, is_control_run, tagged_run_ids
from batchor_dagster.dagster_runs import latest_materialization
from batchor_dagster.observations import in_flight, is_shown, observation
from batchor_dagster.run_states import is_finished, shown_as, state_of
from batchor_dagster.sensor.tick import Cursor, Found, Tick
from batchor_dagster.steps.links import links_to

_LATEST_RUNS = 10

_LOOKS = 50
"""Runs that one tick looks up in the event log: each took 25 ms on SQLite, and a lost cursor may mean thousands."""


@dataclass(frozen=True)
class Shown:
    """What a tick shows of the runs' states, and what the next tick has to know about it.

    Attributes:
        observations: Events for the partitions.
        states: As :attr:`Cursor.shown`.
        ended_until: As :attr:`Cursor.ended_until`.
    """

    observations: list[dg.AssetObservation]
    states: Mapping[str, str]
    ended_until: tuple[float, str]


class News(Enum):
    """Whether a run's state is the one last shown."""

    NONE = "none"
    CHANGED = "changed"
    UNKNOWN = "unknown"  # Dagster's event log has to be asked


def news(summary: RunSummary, before: str | None, *, is_behind: bool, is_lacking: bool) -> News:
    """Whether a run's state has to be shown.

    Args:
        summary: The run's state.
        before: What the last tick showed of it; None if it has not seen it, or has seen it finished.
        is_behind: Whether every ended run of its age has been shown.
        is_lacking: Whether its results are not written: it has ended, perhaps once more, since they were.
    """
    if before == shown_as(summary):
        return News.NONE
    if not is_finished(summary):
        return News.CHANGED if before is not None else News.UNKNOWN
    # the step that wrote the results of an ended run has shown its end too; a tick may have died before storing its cursor
    return News.NONE if before is None and is_behind and not is_lacking else News.UNKNOWN


def show(tick: Tick, cursor: Cursor, listings: Sequence[RunListing], *, lacking: Collection[str]) -> Shown:
    """Observations of what is new since the last tick: one for each run whose state has changed.

    New states are also written on the Dagster runs that submitted the batch runs. Runs that the cursor does not know
    are looked up in the event log, some in each tick, the oldest first.
    """
    observations: list[dg.AssetObservation] = []
    states: dict[str, str] = {}
    changed: list[Found] = []
    ended_until, looks, is_behind_all = cursor.ended_until, 0, True
    for found in sorted(tick.found(listings), key=lambda found: _age(found.listing)):
        summary, run_id = found.listing.summary, found.listing.run_id
        before, is_lacking = cursor.shown.get(run_id), run_id in lacking
        is_behind = _age(found.listing) <= cursor.ended_until
        if state_of(summary) == "paused":
            (tick.problem if summary.control_reason else tick.note)(
                f"{run_id} is paused: {summary.control_reason or 'an operator requested it'}"
            )
        what = news(summary, before, is_behind=is_behind, is_lacking=is_lacking)
        if what is News.UNKNOWN and looks >= _LOOKS:
            if before is not None:
                states[run_id] = before
            is_behind_all = is_behind_all and is_behind
            continue
        if is_behind_all:
            ended_until = max(ended_until, _age(found.listing))
        if not is_finished(summary) or is_lacking:
            states[run_id] = shown_as(summary)
        if what is News.NONE:
            continue
        is_told = False
        if what is News.UNKNOWN:
            looks += 1
            is_told = is_shown(tick.context.instance, found.asset, found.partition_key, summary)
        if not is_told:
            links = links_to(found.asset, summary, webserver_url=tick.webserver_url)
            observations.append(observation(found.asset, found.partition_key, summary, links))
            awaited = in_flight(found.asset, found.partition_key, summary, links)
            observations += [awaited] if awaited is not None else []
        is_known = before is not None and before.split(":")[0] == state_of(summary)
        if not is_known and not (is_told and state_of(summary) == "running"):
            changed.append(found)
    _tag_states(tick, changed, {one.run_id: state_of(one.summary) for one in listings})
    return Shown(observations, states, ended_until)


def _age(listing: RunListing) -> tuple[float, str]:
    return listing.created_at, listing.run_id


def _tag_states(tick: Tick, changed: Iterable[Found], states: Mapping[str, str]) -> None:
    """Write the states of these runs on the Dagster runs that submitted them, those of a range of partitions at once."""
    instance = tick.context.instance
    submitting = {run.run_id: run for found in changed if (run := _submitting_run(instance, found))}
    for dagster_run_id, run in submitting.items():
        named = [states[run_id] for run_id in tagged_run_ids(run.tags) if run_id in states]
        instance.add_run_tags(dagster_run_id, {STATE_TAG: _together(named)})


def _together(states: Iterable[str]) -> str:
    """The state of several runs: ``completed`` if all are, otherwise ``2 running, 1 paused``."""
    counts = Counter(states)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _submitting_run(instance: dg.DagsterInstance, found: Found) -> dg.DagsterRun | None:
    """The newest Dagster run that submitted a batch run."""
    run_id = found.listing.run_id
    named = instance.get_run_records(dg.RunsFilter(tags={RUN_ID_TAG: run_id}), limit=_LATEST_RUNS)
    # the sensor's own runs, and those of the control job, name the batch run too
    submitting = [
        record
        for record in [*named, *_last_submission(instance, found)]
        if not is_control_run(record.dagster_run)
        and "dagster/sensor_name" not in record.dagster_run.tags
        and run_id in tagged_run_ids(record.dagster_run.tags)
    ]
    newest = max(submitting, key=lambda record: record.create_timestamp, default=None)
    return None if newest is None else newest.dagster_run


def _last_submission(instance: dg.DagsterInstance, found: Found) -> Sequence[dg.RunRecord]:
    """One that submitted a range of partitions names several runs, and a tag is found by its whole value only."""
    key = found.asset.submission_key
    if key is None or found.partition_key is None:
        return []
    submitted = latest_materialization(instance, key, found.partition_key)
    return instance.get_run_records(dg.RunsFilter(run_ids=[submitted.run_id])) if submitted else []
