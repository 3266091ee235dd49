"""The tags of Dagster runs that request actions and identify batch runs."""

from collections.abc import Iterable, Mapping

import dagster as dg

RUN_ID_TAG = "batchor/run_id"
"""Names the batch run of a Dagster run; several are separated by commas."""

ACTION_TAG = "batchor/action"
"""The action that the operator requests."""

APPLIED_TAG = "batchor/applied"
"""``<action>@<start of the dagster run id>``, written when the action of that very Dagster run has been applied.

The run id is in it because executing a run again copies its tags.
"""

STATE_TAG = "batchor/state"
"""The state of the batch run that a Dagster run submitted, as the sensor last saw it: ``paused``, ``completed`` ..."""

CONTROL_TAG = "batchor/control"
"""Marks the Dagster runs of control jobs, whatever their names are."""

NO_RETRIES = {"dagster/max_retries": "0"}
"""Exempts Dagster runs from ``run_retries`` if the sensor, or a person, launches them again when needed."""


def tagged_run_ids(tags: Mapping[str, str]) -> list[str]:
    """The batch runs that a Dagster run's tags name."""
    return [run_id for part in tags.get(RUN_ID_TAG, "").split(",") if (run_id := part.strip())]


def contradicting(tags: Mapping[str, str], run_ids: Iterable[str], action: str) -> str | None:
    """The contradiction between a Dagster run's tags and its config or partition."""
    named, asked = tagged_run_ids(tags), tags.get(ACTION_TAG)
    others = [run_id for run_id in run_ids if named and run_id not in named]
    if others:
        return (
            f"This is about batch run {', '.join(others)}, and the tag {RUN_ID_TAG} names {', '.join(named)}. "
            "Nothing was done: leave the tag out, or make both the same."
        )
    if asked is not None and asked.strip().lower() != str(action).strip().lower():
        return (
            f"The run config says {action}, and the tag {ACTION_TAG} says {asked}. "
            "Nothing was done: leave one of them out."
        )
    return None


def add_run_id_tag(instance: dg.DagsterInstance, dagster_run_id: str, run_id: str) -> None:
    """Add a batch run to those that a Dagster run's tag names."""
    record = instance.get_run_by_id(dagster_run_id)
    known = tagged_run_ids(record.tags) if record is not None else []
    added = {} if run_id in known else {RUN_ID_TAG: ",".join([*known, run_id])}
    if record is not None and STATE_TAG in record.tags:
        added[STATE_TAG] = "submitted"  # copied from the run that is executed again
    if added:
        instance.add_run_tags(dagster_run_id, added)


def is_applied(tags: Mapping[str, str], dagster_run_id: str) -> bool:
    """Whether the action in these tags has been applied for this very Dagster run."""
    return tags.get(APPLIED_TAG) == _applied_value(tags.get(ACTION_TAG, ""), dagster_run_id)


def mark_applied(instance: dg.DagsterInstance, dagster_run_id: str, action: str) -> None:
    """Record on the Dagster run that its action has been applied."""
    instance.add_run_tags(dagster_run_id, {APPLIED_TAG: _applied_value(action, dagster_run_id)})


def _applied_value(action: str, dagster_run_id: str) -> str:
    return f"{action}@{dagster_run_id[:8]}"
