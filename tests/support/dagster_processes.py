"""A Dagster deployment as operators run it: code server, daemon and webserver, each a process that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import dagster as dg
import yaml

from tests.support.waiting import until

Part = Literal["code", "daemon", "webserver"]
LOCATION = "shop"
ROOT = Path(__file__).parents[2]
_SETTINGS = {
    "telemetry": {"enabled": False},
    # an operator's nags would lie on top of what a test wants to click
    "nux": {"enabled": False},
}


class DagsterDeployment:
    """Processes around one ``DAGSTER_HOME`` and one file of definitions.

    Args:
        home: Its ``DAGSTER_HOME``; made if it is missing.
        definitions: The Python file of the code location.
        environment: What the code location finds in its environment.
        settings: Further settings of ``dagster.yaml``.
    """

    def __init__(
        self,
        home: Path,
        definitions: Path,
        environment: Mapping[str, str],
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.home = home
        self._source = ["-f", str(definitions), "-d", str(ROOT)]
        self._ports = {"code": free_port(), "webserver": free_port()}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")},
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._processes: dict[Part, subprocess.Popen[bytes]] = {}
        home.mkdir(parents=True, exist_ok=True)
        (home / "dagster.yaml").write_text(yaml.safe_dump({**_SETTINGS, **(settings or {})}))
        server = {"host": "127.0.0.1", "port": self._ports["code"], "location_name": LOCATION}
        (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        with (
            self.instance() as instance
        ):  # processes that make Dagster's SQLite files at the same time trip over each other
            instance.get_runs_count()
            instance.all_instigator_state()
            instance.get_asset_keys()

    @property
    def url(self) -> str:
        """The webserver's."""
        return f"http://127.0.0.1:{self._ports['webserver']}"

    def start(self, *parts: Part) -> None:
        """Start these parts, and return when they answer."""
        for part in parts:
            with (self.home / f"{part}.log").open("ab") as log:
                self._processes[part] = subprocess.Popen(
                    self._command(part),
                    cwd=self.home,
                    env=self._environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # what it starts belongs to it, and goes down with it
                )
            if part in self._ports:
                until(partial(self._answers, part), f"the {part} to answer", self.logs, seconds=90)

    def materialize(self, asset: str, partition: str) -> subprocess.Popen[bytes]:
        """A worker process that materializes a partition; the caller waits for it, or kills it."""
        with (self.home / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "dagster", "asset", "materialize", *self._source),
                    *("--select", asset, "--partition", partition),
                ],
                cwd=self.home,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, part: Part) -> None:
        """SIGKILL a part and everything that it started."""
        process = self._processes.pop(part)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End all parts, politely first."""
        for process in self._processes.values():
            process.terminate()
        give_up = time.monotonic() + 10
        for part, process in list(self._processes.items()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(give_up - time.monotonic(), 0))
            self.kill(part)  # the group, even where its leader has ended

    @contextlib.contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's own records, read and written as its API does."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance

    def logs(self) -> str:
        """The end of each part's log."""
        ends = []
        for log in sorted(self.home.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-15:]
            ends.append("\n".join([f"--- {log.name}", *lines]))
        return "\n".join(ends)

    def _command(self, part: Part) -> list[str]:
        python = [sys.executable, "-m"]
        workspace = ["-w", str(self.home / "workspace.yaml")]
        match part:
            case "code":
                port = str(self._ports["code"])
                return [*python, "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", port, *self._source]
            case "daemon":
                return [*python, "dagster._daemon", "run", *workspace]
            case "webserver":
                port = str(self._ports["webserver"])
                return [*python, "dagster_webserver", "-h", "127.0.0.1", "-p", port, *workspace]

    def _answers(self, part: Part) -> bool:
        process = self._processes[part]
        if process.poll() is not None:
            raise AssertionError(f"the {part} ended with {process.returncode}\n{self.logs()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._ports[part])) == 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
