"""A process that has lost what only POSIX systems have: ``python -m tests.support.without_posix PACKAGE FOLDER``.

What other libraries need is imported before. Then the package is imported anew, every module of it, and a run goes from start to
end. ``os.name`` stays, since paths and much else of the standard library hang on it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios")
MISSING: dict[Any, tuple[str, ...]] = {
    os: (
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC"),
        *(
            "chown",
            "fchmod",
            "fchown",
            "fork",
            "forkpty",
            "fwalk",
            "getegid",
            "geteuid",
            "getgid",
            "getuid",
            "killpg",
        ),
        *(
            "mkfifo",
            "openpty",
            "pread",
            "pwrite",
            "register_at_fork",
            "setsid",
            "statvfs",
            "sync",
            "sysconf",
            "uname",
        ),
    ),
    signal: (
        "SIGALRM",
        "SIGCHLD",
        "SIGCONT",
        "SIGHUP",
        "SIGKILL",
        "SIGSTOP",
        "SIGUSR1",
        "alarm",
        "setitimer",
    ),
    time: ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "clock_gettime", "tzset"),
}


def imported(package: str) -> list[str]:
    """Imports every module of a package but its migrations, which alembic runs, and the programs."""
    root = importlib.import_module(package)
    names = [package]
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        if "migrations" not in found.name and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            names.append(found.name)
    return names


def lose(package: str) -> None:
    """Take away what only POSIX has, and the package itself."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("batchor_core", package)]:
        del sys.modules[name]
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in MISSING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.supports_dir_fd.clear()
    sys.platform = "win32"


def run(folder: Path) -> None:
    """A run whose files are in an object store, and the refusal of a folder of files."""
    import batchor_core as batchor
    from batchor_core.artifacts import ObjectStoreArtifactStore
    from batchor_core.testing import FakeProviderConfig, register_fake_provider

    registry = register_fake_provider()
    job = batchor.BatchJob(
        items=[batchor.BatchItem(str(n), "hello") for n in range(3)],
        build_prompt=lambda item: item.payload,
        provider_config=FakeProviderConfig(poll_interval_sec=0.0),
    )
    store = batchor.SQLiteStorage(path=folder / "runs.sqlite3", provider_registry=registry)
    files = ObjectStoreArtifactStore("memory://files")
    with batchor.BatchRunner(storage=store, provider_registry=registry, artifact_store=files) as runner:
        ended = runner.run_and_wait(job, run_id="here").summary()
    print(ended.status.value, ended.completed_items)
    try:
        batchor.BatchRunner(storage=store)
    except batchor.StorageError as error:
        print(error)
    store.close()


def main() -> None:
    package, folder = sys.argv[1:]
    before = imported(package)
    lose(package)
    assert imported(package) == before
    print(len(before))
    run(Path(folder))


if __name__ == "__main__":
    main()
