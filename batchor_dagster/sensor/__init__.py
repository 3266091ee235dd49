"""The sensor that drives a deployment's batch runs, and the steps of a tick.

Each file is a step of the tick: actions that operators requested by tags (``operator_tags``), a turn for each active
run (``active_runs``) or a worker for it (``drive_job``), run requests for the results of finished runs
(``result_requests``), and the state of each run (``shown_states``). ``definition`` combines them; ``tick`` is what they
share.
"""

from batchor_dagster.sensor.definition import build_batch_sensor
from batchor_dagster.sensor.drive_job import build_drive_job

__all__ = ["build_batch_sensor", "build_drive_job"]
