"""The local server in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def local_server(home: Path, *, batch_seconds: float) -> Iterator[tuple[str, int]]:
    """Its base URL and process id."""
    command = [sys.executable, "-m", "batchor_core.testing.openai_server", "--port", "0"]
    command += ["--batch-seconds", str(batch_seconds), "--state-dir", str(home / "server")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "listening on " not in line:
            raise SystemExit("the local server did not start; is the emulator extra installed?")
        yield line.split()[-1], process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)
