"""What the SDKs' HTTP clients are given."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

from batchor_core.providers.http_errors import timestamp


def tls_context(http_client: type) -> ssl.SSLContext:
    """What an SDK's HTTP client makes for itself, shared by all clients.

    Loading the certificates takes 25 ms, and every run has a client of its own: most of a sensor's tick went there.
    """
    library = next(kind.__module__ for kind in http_client.__mro__ if "httpx" in kind.__module__)
    return _tls_context(
        library.partition(".")[0], os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    )


@lru_cache(maxsize=8)
def _tls_context(library: str, cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    context: ssl.SSLContext = import_module(library).create_ssl_context()
    return context


def date_reader(on_date: Callable[[float], None] | None) -> Iterator[Callable[[Any], None]]:
    """A hook that is given each response and gives its Date header on, as seconds since 1970."""

    def read_date(response: Any) -> None:
        date = timestamp(response.headers.get("date"))
        if date is not None and on_date is not None:
            on_date(date)

    if on_date is not None:
        yield read_date
