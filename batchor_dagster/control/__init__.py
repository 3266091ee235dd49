"""Pausing, resuming, cancelling and retrying a run, in all the ways that Dagster offers operators.

All of them call :func:`apply_control`, which is idempotent. An operator can use the ``batchor_control`` job (by run
config or by the tags ``batchor/run_id`` and ``batchor/action``), links that open its launchpad filled in, a
``batchor/action`` tag on the re-execution of a submission asset, and tags added to a run later, which the sensor finds.
"""

from batchor_dagster.control.actions import ControlAction, ControlOutcome, already_so, apply_control, offered
from batchor_dagster.control.job import (
    DEFAULT_RESOURCE,
    ControlConfig,
    apply_all,
    build_control_job,
    control_job_name,
    is_control_run,
    name_for,
    op_name,
)
from batchor_dagster.control.links import control_links, launchpad_url
from batchor_dagster.control.tags import (
    ACTION_TAG,
    APPLIED_TAG,
    CONTROL_TAG,
    NO_RETRIES,
    RUN_ID_TAG,
    STATE_TAG,
    add_run_id_tag,
    is_applied,
    mark_applied,
    tagged_run_ids,
)

__all__ = [
    "ACTION_TAG",
    "APPLIED_TAG",
    "CONTROL_TAG",
    "DEFAULT_RESOURCE",
    "NO_RETRIES",
    "RUN_ID_TAG",
    "STATE_TAG",
    "ControlAction",
    "ControlConfig",
    "ControlOutcome",
    "add_run_id_tag",
    "already_so",
    "apply_all",
    "apply_control",
    "build_control_job",
    "control_job_name",
    "control_links",
    "is_applied",
    "is_control_run",
    "launchpad_url",
    "mark_applied",
    "name_for",
    "offered",
    "op_name",
    "tagged_run_ids",
]
