"""A provider's local server as a process of its own, for the examples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def local_server(
    *,
    batch_seconds: float,
    fault_rate: float = 0.0,
    state_dir: Path | None = None,
    provider: str = "openai",
) -> Iterator[str]:
    """Run the server for the length of a block; gives its base URL."""
    command = [sys.executable, "-m", f"batchor_core.testing.{provider}_server", "--port", "0"]
    command += ["--batch-seconds", str(batch_seconds), "--fault-rate", str(fault_rate)]
    if state_dir is not None:
        state_dir.mkdir(parents=True, exist_ok=True)
        command += ["--state-dir", str(state_dir)]
    # a session of its own: Ctrl-C reaches this process alone, which then stops what it started in the right order
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"the local server did not start: {line or 'see the message above'}")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.wait(timeout=20)
        if process.stdout is not None:
            process.stdout.close()
