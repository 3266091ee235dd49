"""What the steps of a batch asset do when Dagster executes them.

``submit`` starts the run of each partition or attaches to it, and ``write_results`` writes the results of finished ones; in
between, the sensor drives them. With ``wait=True`` one step, ``submit_wait_write``, does all of it. ``judge_results`` is the
step of the checks, and ``show_plans`` shows what would be sent. Each handles its partitions one by one, and its errors say what to do.
"""

from batchor_dagster.steps.checking import CheckEvent, judge_results
from batchor_dagster.steps.planning import show_plans
from batchor_dagster.steps.results import write_results
from batchor_dagster.steps.submission import submit
from batchor_dagster.steps.task import Task
from batchor_dagster.steps.waiting import OnTermination, submit_wait_write

__all__ = [
    "CheckEvent",
    "OnTermination",
    "Task",
    "judge_results",
    "show_plans",
    "submit",
    "submit_wait_write",
    "write_results",
]
