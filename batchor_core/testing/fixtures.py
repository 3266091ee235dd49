"""Pytest fixtures for your own tests: ``pytest_plugins = ["batchor_core.testing.fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from batchor_core.testing.openai_server import OpenAIServer


@pytest.fixture
def openai_server_options() -> dict[str, Any]:
    """Arguments for the server of :func:`openai_server`; override them, say with ``{"manual": True}``."""
    return {"batch_seconds": 0.0}


@pytest.fixture
def openai_server(openai_server_options: dict[str, Any]) -> Iterator[OpenAIServer]:
    """A running :class:`~batchor_core.testing.openai_server.OpenAIServer` of its own for every test.

    By default a batch is complete as soon as it is asked for, so tests need not wait.
    """
    from batchor_core.testing.openai_server import OpenAIServer

    with OpenAIServer(**openai_server_options) as server:
        yield server
