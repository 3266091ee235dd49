"""``make demo`` as it is run: a process of its own, three partitions from rows to Parquet."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.acceptance
def test_the_demo_takes_three_partitions_from_rows_to_parquet(tmp_path: Path) -> None:
    settings = {"DEMO_HOME": str(tmp_path), "DEMO_BATCH_SECONDS": "0.5", "LIVE": "0"}
    demo = subprocess.run(
        [sys.executable, "examples/demo.py"],
        cwd=PROJECT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    counts = {
        topic: pq.read_table(tmp_path / f"local/batchor/results/cards/{topic}.parquet").num_rows
        for topic in ("event", "possession", "time")
    }
    assert counts == {"event": 1074, "possession": 1061, "time": 1028}
    for topic, count in counts.items():
        assert re.search(rf"cards/{topic}\.parquet: {count} rows, \d+ failed", demo.stdout)
    assert demo.stdout.count("│ wn30-") == 4
