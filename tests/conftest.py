"""Settings that every test shares: no accounts, no network beyond this machine, reproducible examples."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# as a user does, in the topmost conftest
pytest_plugins = ["batchor_core.testing.fixtures", "tests.support.fixtures"]

settings.register_profile("batchor", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("batchor")

_ACCOUNT_VARIABLES = ("OPENAI_", "BATCHOR_", "DAGSTER_HOME")
_TEST_VARIABLES = ("BATCHOR_TEST_",)
_HERE = ("localhost", "127.0.0.1", "::1", "", None)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through all modules and tests again and again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own keys and stores never reach a test."""
    for name in list(os.environ):
        if name.startswith(_ACCOUNT_VARIABLES) and not name.startswith(_TEST_VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Names resolve to this machine or not at all, at once, as on a machine without a network."""
    resolve = socket.getaddrinfo

    def resolve_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in _HERE:
            raise socket.gaierror(socket.EAI_NONAME, f"tests have no network: {name}")
        return resolve(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve_here)
        yield
