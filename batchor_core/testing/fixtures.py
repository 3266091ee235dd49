"""Pytest fixtures for your own tests: ``pytest_plugins = ["batchor_core.testing.fixtures"]``."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from openai import OpenAI

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


@pytest.fixture
def openai_client(openai_server: OpenAIServer) -> Iterator[OpenAI]:
    """The official client, pointed at :func:`openai_server`; it tries every request once."""
    from openai import DefaultHttpxClient, OpenAI

    # the server speaks plain HTTP: without certificates a client is made a hundred times as quickly
    http = DefaultHttpxClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    options: dict[str, Any] = {"base_url": openai_server.base_url, "max_retries": 0, "timeout": 20}
    with OpenAI(api_key="local", http_client=http, **options) as client:
        yield client
