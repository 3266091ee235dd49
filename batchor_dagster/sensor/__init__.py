"""The sensor that drives a deployment's batch runs, and what one tick of it does.

A tick reads like its files: what operators asked for by tags (``operator_tags``), a turn for each active run (``active_runs``),
run requests for finished ones (``result_requests``), and where each run stands now, for the UI.
"""

from batchor_dagster.sensor.definition import build_batch_sensor

__all__ = ["build_batch_sensor"]
