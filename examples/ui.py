"""The Dagster UI with the example project and the local server behind it: ``make ui``.

Everything lives in ``.ui`` at the root of the repository, so that it goes on where it stopped. ``LIVE=1`` with
``OPENAI_API_KEY`` uses OpenAI instead of the local server.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from examples._local_server import local_server  # noqa: E402

HOME = PROJECT / ".ui"
# `dagster dev` recommends `dg dev` at every start, which would want a project layout of its own
NO_ADVERTISEMENT = "ignore:Function `dev_command` is superseded"
LIVE = os.environ.get("LIVE", "") not in ("", "0")
BATCH_SECONDS = 20.0
SENSOR_SECONDS = 5
FAULT_RATE = 0.01


def main() -> int:
    """Serve until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ.get("PORT", "0")) or _free_port(3000)
    with _provider() as environment, _dagster(port, environment) as process:
        url = f"http://127.0.0.1:{port}"
        if not _wait_for(port, process):
            print("error: dagster dev ended before its UI was there", file=sys.stderr)
            return 1
        print(f"\nDagster UI at {url}\n  assets   {url}/asset-groups\n  sensor   {url}/automation")
        print(
            "Materialize cards_submission: its run ends within seconds, and the batch goes on at the server."
        )
        print(f"{_patience()}\nCtrl-C ends it.", flush=True)
        try:
            return process.wait()
        except KeyboardInterrupt:
            print("\nstopping ...", flush=True)
            return 0


def _patience() -> str:
    if LIVE:
        return "The sensor materializes cards when OpenAI has finished the batch, which may take hours."
    soon = BATCH_SECONDS + SENSOR_SECONDS
    return f"The sensor looks every {SENSOR_SECONDS} s and materializes cards when the batch has ended, about {soon:.0f} s later."


@contextlib.contextmanager
def _provider() -> Iterator[dict[str, str]]:
    if LIVE:
        if not os.environ.get("OPENAI_API_KEY"):
            raise SystemExit("error: LIVE=1 needs OPENAI_API_KEY")
        yield {"BATCHOR_ROOT": str(HOME / "live")}
        return
    state = HOME / "server"
    with local_server(batch_seconds=BATCH_SECONDS, fault_rate=FAULT_RATE, state_dir=state) as url:
        print(f"local OpenAI-compatible server at {url}; a batch takes {BATCH_SECONDS:.0f} s there")
        yield {
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "local",
            "BATCHOR_ROOT": str(HOME / "batchor"),
            "EXAMPLE_SENSOR_SECONDS": str(SENSOR_SECONDS),
        }


@contextlib.contextmanager
def _dagster(port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    home = HOME / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT / "workspace.yaml")]
    command += ["-h", "127.0.0.1", "-p", str(port), "--log-level", os.environ.get("LOG_LEVEL", "warning")]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={
            **os.environ,
            **environment,
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONWARNINGS": NO_ADVERTISEMENT,
        },
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops things in order
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(
                signal.SIGINT
            )  # dagster dev shuts its webserver, daemon and code servers down
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> bool:
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/server_info")
            return connection.getresponse().status == http.HTTPStatus.OK
        time.sleep(0.3)
    return False


def _free_port(wanted: int) -> int:
    """``wanted`` if nobody listens there, else one that the system picks."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SystemExit("error: no free port")


if __name__ == "__main__":
    sys.exit(main())
