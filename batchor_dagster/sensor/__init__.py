"""The sensor that drives a deployment's batch runs, and what one tick of it does.

A tick reads like its files: what operators asked for by tags (``operator_tags``), a turn for each active run
(``active_runs``) or a worker for it (``drive_job``), run requests for the results of finished ones (``result_requests``), and
where each run stands now (``shown_states``). ``definition`` puts them together; ``tick`` is what they share.
"""

from batchor_dagster.sensor.definition import build_batch_sensor
from batchor_dagster.sensor.drive_job import build_drive_job

__all__ = ["build_batch_sensor", "build_drive_job"]
